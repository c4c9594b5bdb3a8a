"""`clickserve explain` against a running service: what people and machines are told, and whose fault a failure is."""

from __future__ import annotations

import json
import math

import pytest

from service import cli, exit_codes
from tests.artifacts import ServedProject
from tests.e2e.service_process import service


def test_an_answer_is_explained_to_people_and_machines(
    arguments: list[str], project: ServedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers either way, and what was typed wrong is a usage error."""
    with service(*arguments) as process:
        asked = ["explain", "--url", process.url, "--user", "u5", "--context", "device=phone"]

        explained = cli.run([*asked, "--ad", "a7", "--json"])
        document = json.loads(capsys.readouterr().out)
        shown = cli.run([*asked, "--ad", "a7", "--top", "2"])
        screen = capsys.readouterr().out
        mistyped = cli.run([*asked, "--ad", "a7", "--context", "devcie=phone", "--json"])
        warned = capsys.readouterr()
        without_ad = cli.run(asked)
        said_of_ad = capsys.readouterr().err
        unknown_model = cli.run([*asked, "--ad", "a7", "--model", "nobody"])
    gone = cli.run([*asked, "--ad", "a7"])
    said_of_nobody = capsys.readouterr().err

    codes = (explained, shown, without_ad, unknown_model, gone)
    assert codes == (0, 0, exit_codes.USAGE, exit_codes.FAILURE, exit_codes.DEPENDENCY_DOWN)
    total = document["baseline"] + math.fsum(entry["contribution"] for entry in document["contributions"])
    assert total == pytest.approx(document["raw_logit"], abs=1e-9)
    assert document["said"] in " ".join(screen.split())
    assert document["said"].startswith("User u5 clicks ad a7 with ")
    ctr = next(entry for entry in document["contributions"] if entry["feature"] == "ad_profile.ctr_7d")
    assert ctr["value"] == pytest.approx(float(project.ads.floats[7, 1]), rel=1e-6)
    assert (ctr["odds_change"] > 0) == (ctr["contribution"] > 0)
    first, _, third = (entry["feature"] for entry in document["contributions"][:3])
    table = screen.partition("model default")[2]
    assert first in table
    assert third not in table
    assert f"{len(document['contributions']) - 2} more, together:" in screen
    assert mistyped == 0
    assert json.loads(warned.out)["p_click"] == document["p_click"]
    assert "default does not read the context key 'devcie'; it reads " in warned.err
    assert "device" in warned.err.partition("it reads")[2]
    assert "'device'" not in warned.err
    assert "instances[0].ad_id: required, but missing" in said_of_ad
    assert "is it running? clickserve serve starts it" in said_of_nobody
