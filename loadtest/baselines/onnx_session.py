"""A session of ONNX Runtime as all baselines use it: one thread, no spinning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtest.baselines.facts import read_baseline


def open_session(folder: Path) -> Any:
    """The workload's model. Imports ONNX Runtime, so call it once telemetry is switched off (`serving.run` does)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = folder / read_baseline(folder).files.onnx
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
