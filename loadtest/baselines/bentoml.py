"""BentoML with the workload's ONNX model, fed with ready-made matrices (`matrices.py`); started by its own `serve`."""

from __future__ import annotations

import sys
from pathlib import Path

from loadtest.baselines.becoming import become, free_port, require
from loadtest.baselines.serving import Given, run

NAME = "bentoml"


def serve(given: Given) -> None:
    """Becomes BentoML's server."""
    require("bentoml")
    require("onnxruntime")
    port = free_port(given.port)
    program = Path(sys.executable).with_name("bentoml")
    service = "loadtest.baselines.bentoml_service:Ranker"
    environment = {
        "BASELINE_WORKLOAD": str(given.folder.absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    become(
        NAME, [str(program), "serve", service, "--host", "127.0.0.1", "--port", str(port)], environment, port, "/readyz"
    )


if __name__ == "__main__":
    run(NAME, "BentoML with the ONNX model, fed with ready-made matrices.", serve)
