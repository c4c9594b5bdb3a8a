"""The model that MLServer loads; imported by MLServer only."""

from __future__ import annotations

from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtest.baselines.onnx_session import open_session


class Ranker(MLModel):
    """features (n, 40) FP32 in, p_click (n,) FP64 out."""

    async def load(self) -> bool:
        """Opens the session."""
        self._session = open_session(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Scores one matrix, on the event loop: there is one core."""
        features = NumpyCodec.decode_input(payload.inputs[0])
        p_click = self._session.run(["p_click"], {"features": features})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("p_click", p_click)])
