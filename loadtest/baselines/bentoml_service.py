"""The service that BentoML loads; imported by BentoML only."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np

from loadtest.baselines.onnx_session import open_session


@bentoml.service(workers=1, metrics={"enabled": False})
class Ranker:
    """features (n, 40) in, p_click (n,) out."""

    def __init__(self) -> None:
        self._session = open_session(Path(os.environ["BASELINE_WORKLOAD"]))

    @bentoml.api
    async def rank(self, features: np.ndarray) -> np.ndarray:
        """Scores one matrix, on the event loop: there is one core."""
        p_click: np.ndarray = self._session.run(["p_click"], {"features": features.astype(np.float32)})[0]
        return p_click
