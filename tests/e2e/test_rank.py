"""`clickserve rank` against a running service: whose fault an answer is decides the exit code."""

from __future__ import annotations

import json

import pytest

from service import cli, exit_codes
from tests.e2e.service_process import service


def test_what_was_typed_wrong_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A script must be able to tell its own mistake from a service in trouble."""
    with service(*arguments) as process:
        asked = ["rank", "--url", process.url, "--user", "u1", "--json"]

        ranked = cli.run([*asked, "a1=1", "a2=2"])
        answer = json.loads(capsys.readouterr().out)
        mixed = cli.run([*asked, "a1=1", "a2"])
        said_of_mixed = capsys.readouterr().err
        twice = cli.run([*asked, "a1", "a1"])
        unknown_model = cli.run([*asked, "--model", "nobody", "a1"])

    assert ranked == 0
    assert len(answer["results"]) == 2
    assert (mixed, twice, unknown_model) == (exit_codes.USAGE, exit_codes.USAGE, exit_codes.FAILURE)
    assert "send a bid for all candidates or for none" in said_of_mixed
