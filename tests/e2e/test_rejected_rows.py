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
