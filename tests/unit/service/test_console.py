"""What commands say to people and machines while they work."""

from __future__ import annotations

import json
import time

import pytest

from service.console import Console


def test_the_document_tells_what_each_stage_took(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order they began, added up where a stage comes again; the figures are of the work, not of the printing."""
    console = Console(json_only=True)
    started = time.monotonic()
    with console.progress() as on_progress:
        for stage in ("reading", "learning", "reading"):
            on_progress(stage, 0.0)
            on_progress(stage, 1.0)
            time.sleep(0.01)
    whole = time.monotonic() - started

    console.result({"rows": 3}, lambda screen: None)

    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 3
    assert list(document["seconds"]) == ["reading", "learning"]
    assert 0.02 <= document["seconds"]["reading"] <= whole
    assert sum(document["seconds"].values()) <= whole + 0.002


def test_a_command_without_stages_has_no_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """And one that tells seconds of its own keeps them."""
    quick, own = Console(json_only=True), Console(json_only=True)
    with own.progress() as on_progress:
        on_progress("reading", 0.0)

    quick.result({"rows": 3}, lambda screen: None)
    own.result({"seconds": 7}, lambda screen: None)

    first, second = (json.loads(text + "}") for text in capsys.readouterr().out.split("}\n")[:2])
    assert "seconds" not in first
    assert second == {"seconds": 7}
