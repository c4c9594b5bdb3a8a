"""What commands say to people and machines while they work."""

from __future__ import annotations

import json

import pytest

from service.console import Console


def test_the_document_tells_what_each_stage_took(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order they began, added up where a stage comes again; the figures are of the work, not of the printing."""
    now = [0.0]
    console = Console(json_only=True, clock=lambda: now[0])
    with console.progress() as on_progress:
        for stage, at in (("reading", 10.0), ("learning", 11.5), ("reading", 13.5)):
            now[0] = at
            on_progress(stage, 0.0)
            on_progress(stage, 1.0)
        now[0] = 17.5

    console.result({"rows": 3}, lambda screen: None)

    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 3
    assert list(document["seconds"].items()) == [("reading", 1.5 + 4.0), ("learning", 2.0)]


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


def test_a_stage_whose_words_change_is_one_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """A search tells the best so far with every trial: one sum in the document, a line each on the screen."""
    now = [0.0]
    console = Console(json_only=True, clock=lambda: now[0])
    with console.progress() as on_progress:
        for at, text in enumerate(("searching | trial 1", "searching | trial 2", "training")):
            now[0] = float(at)
            on_progress(text, 0.5)
        now[0] = 5.0
    spoken = Console(json_only=False)
    with spoken.progress() as on_progress:
        for text in ("searching | trial 1", "searching | trial 1", "searching | trial 2"):
            on_progress(text, 0.5)

    console.result({}, lambda screen: None)

    captured = capsys.readouterr()
    assert json.loads(captured.out)["seconds"] == {"searching": 2.0, "training": 3.0}
    assert [line.split("|")[1].strip() for line in captured.err.splitlines()] == ["trial 1", "trial 2"]
