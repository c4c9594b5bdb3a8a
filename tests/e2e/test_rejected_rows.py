"""Rows that cannot be used, as the documents of `train`, `evaluate` and `materialize` tell of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service import cli

FEATURES = """
[project]
name = "torn"
[log]
user_id = "user"
ad_id = "ad"
time = { column = "at", unit = "ms" }
[context.place]
dtype = "id"
[views.ad_rates]
entity = "ad"
ttl = "3650d"
step = "1h"
[views.ad_rates.features]
clicks = { clicks = "all" }
"""
N_GOOD = 400
SCORES = """
[project]
name = "torn"
[log]
user_id = "user_id"
ad_id = "ad_id"
time = { column = "at", unit = "timestamp" }
[views.scores]
entity = "user"
ttl = "3650d"
from = "external"
event_time = { column = "at", unit = "timestamp" }
[views.scores.features]
x = {}
"""


def test_every_document_says_why_rows_were_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler reads only the document; a number without its reasons would send somebody to the machine."""
    monkeypatch.setenv("CLICKSERVE_REDIS__EMBEDDED_DIR", str(tmp_path / "valkey"))
    random = np.random.default_rng(4)
    good = [f"u1,a{i % 5},{1_700_000_000_000 + i},{random.integers(2)},p{i % 3}" for i in range(N_GOOD)]
    bad = ["u1,a1,noon,1,p1", *["u1,a1,1700000000000,maybe,p1"] * 11]
    (tmp_path / "log.csv").write_text("\n".join(["user,ad,at,clicked,place", *good, *bad]) + "\n")
    (tmp_path / "features.toml").write_text(FEATURES)
    log = ["--data", f"csv:{tmp_path / 'log.csv'}", "--features", str(tmp_path / "features.toml")]
    log += ["--workdir", str(tmp_path / "work"), "--json"]
    registry = ["--registry", str(tmp_path / "registry")]

    documents = []
    for command in (["train", "--model", "logistic", *registry], ["evaluate", *registry], ["materialize"]):
        assert cli.run([*command, *log]) == 0
        documents.append(json.loads(capsys.readouterr().out))

    for document in documents:
        told = document["rejects"]["log"]
        assert document["rejected_rows"] == told["rows"] == 12
        assert told["reasons"] == {"clicked is neither 0/1 nor true/false": 11, "at is not a time": 1}
        assert len(told["first"]) == 10
        assert told["first"][0] == {"line": N_GOOD + 2, "reason": "at is not a time", "value": "noon"}
        assert Path(told["report"]).is_file()


@pytest.mark.parametrize(
    ("ids", "year", "n_rejected"), [(["{a}", "b b"], 2023, 2), (["{a}", "b"], 2100, 1)], ids=["rejected", "later"]
)
def test_where_no_row_is_left_the_rejected_ones_are_told_all_the_same(
    ids: list[str],
    year: int,
    n_rejected: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error that says only that nothing is left would leave its reader to search the file by hand."""
    monkeypatch.setenv("CLICKSERVE_REDIS__EMBEDDED_DIR", str(tmp_path / "valkey"))
    (tmp_path / "features.toml").write_text(SCORES)
    rows = [f"{entity_id},{year}-01-01T00:00:00Z,1" for entity_id in ids]
    (tmp_path / "scores.csv").write_text("\n".join(["user_id,at,x", *rows]) + "\n")
    command = ["materialize", "--features", str(tmp_path / "features.toml"), "--workdir", str(tmp_path / "work")]
    command += ["--view", "scores", "--from", str(tmp_path / "scores.csv"), "--as-of", "2026-01-01T00:00:00Z"]

    code_of_text = cli.run(command)
    text = capsys.readouterr().err
    code_of_json = cli.run([*command, "--json"])
    document = json.loads(capsys.readouterr().out)

    assert (code_of_text, code_of_json) == (1, 1)
    assert "line 2: user_id holds a brace, space or control character: {a}" in text
    assert document["rejected_rows"] == document["rejects"]["scores"]["rows"] == n_rejected
    assert document["error"] in text
