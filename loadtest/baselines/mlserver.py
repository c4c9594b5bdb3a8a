"""MLServer with the workload's ONNX model, fed with ready-made matrices (`matrices.py`).

Started by its own `mlserver start`, in one process (`parallel_workers` 0, faster on one core) and without metrics.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from loadtest.baselines.becoming import become, free_port, require
from loadtest.baselines.serving import Given, run

NAME = "mlserver"


def serve(given: Given) -> None:
    """Becomes MLServer."""
    require("mlserver")
    require("onnxruntime")
    port = free_port(given.port)
    folder = (given.folder / "mlserver").absolute()
    folder.mkdir(exist_ok=True)
    model = {
        "name": "ranker",
        "implementation": "loadtest.baselines.mlserver_model.Ranker",
        "parameters": {"uri": str(given.folder.absolute())},
    }
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(0),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "model-settings.json").write_bytes(msgspec.json.encode(model))
    (folder / "settings.json").write_bytes(msgspec.json.encode(server))
    program = Path(sys.executable).with_name("mlserver")
    become(NAME, [str(program), "start", str(folder)], {}, port, "/v2/models/ranker/ready")


if __name__ == "__main__":
    run(NAME, "MLServer with the ONNX model, fed with ready-made matrices.", serve)
