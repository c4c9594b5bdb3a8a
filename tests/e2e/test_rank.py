"""`clickserve rank` against a running service: whose fault an answer is decides the exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from service import cli, exit_codes
from tests.conftest import REPOSITORY
from tests.e2e.service_process import service


def test_what_was_typed_wrong_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A script must be able to tell its own mistake from a service in trouble."""
    with service(*arguments) as process:
        asked = ["rank", "--url", process.url, "--user", "u1", "--json"]

        ranked = cli.run([*asked, "a1=1", "a2=2"])
        answer = json.loads(capsys.readouterr().out)
        assert cli.run([*asked, "--context", "devcie=phone", "a1"]) == 0
        warned = capsys.readouterr().err
        mixed = cli.run([*asked, "a1=1", "a2"])
        said_of_mixed = capsys.readouterr().err
        twice = cli.run([*asked, "a1", "a1"])
        unknown_model = cli.run([*asked, "--model", "nobody", "a1"])

    assert ranked == 0
    assert len(answer["results"]) == 2
    assert "does not read the context key 'devcie'" in warned
    assert (mixed, twice, unknown_model) == (exit_codes.USAGE, exit_codes.USAGE, exit_codes.FAILURE)
    assert "send a bid for all candidates or for none" in said_of_mixed


def test_without_httpx_one_line_says_what_to_install() -> None:
    """The serving image leaves it out; a traceback would look like a defect."""
    without = "import sys; sys.modules['httpx'] = None; from service import cli; sys.exit(cli.run(sys.argv[1:]))"

    done = subprocess.run(
        [sys.executable, "-c", without, "rank", "--user", "u1", "a1"], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert done.returncode == exit_codes.USAGE
    assert done.stderr == "clickserve: asking a service needs httpx; pip install 'clickserve[client]'\n"


def test_a_bid_that_is_no_number_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no such number, so it cannot even be refused by the service."""
    asked = cli.run(["rank", "--url", "http://127.0.0.1:1", "--user", "u1", "a1=nan"])

    assert asked == exit_codes.USAGE
    assert "candidates[0].bid: expected a finite number" in capsys.readouterr().err
