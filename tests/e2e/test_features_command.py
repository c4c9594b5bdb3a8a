"""`clickserve materialize` and `clickserve features` as a person types them, on a store that they start themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command_line import document, log_of


def test_rows_are_written_shown_and_erased(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the log into a store that the command itself starts, and out again."""
    monkeypatch.setenv("CLICKSERVE_REDIS__EMBEDDED_DIR", str(tmp_path / "valkey"))
    where = ["--registry", str(trained / "registry")]

    written = document(capsys, ["materialize", *log_of(trained), "--as-of", "log-end"])
    again = document(capsys, ["materialize", *log_of(trained), "--as-of", "log-end"])
    before = document(capsys, ["features", "inspect", "ad", "a0", *where])
    erased = document(capsys, ["features", "delete", "ad", "a0", *where])
    after = document(capsys, ["features", "inspect", "ad", "a0", *where])
    pruned = document(capsys, ["features", "prune", *where])

    assert [view["written"] for view in written["views"]] == [view["written"] for view in again["views"]]
    assert all(view["found"] for view in before["views"])
    assert sorted(erased["erased_from"]) == sorted(view["view"] for view in before["views"])
    assert not any(view["found"] for view in after["views"])
    assert pruned["views"] == []
