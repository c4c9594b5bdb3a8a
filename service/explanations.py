"""From contributions of columns to what an answer says of a result: features by name, values as a person sent them.

Ids are stored as hashes, and their text is gone; the text of an id in the context came with the request. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.ids import MISSING_ID, hash_id
from models.calibrator import p_click_of
from models.encoder import Encoded, ModelInputs
from models.errors import ExplanationError
from models.explanation.contributions import explained
from models.explanation.features import ExplainedFeature, by_feature, explained_features
from models.plans.agreement import LOGIT_BOUND
from models.registry.predictor import Predictor
from models.specs import Float64s
from service.wire import Contribution, Explanation, Scalar

MAX_SHOWN = 64
"""Characters of a context value that are answered; its caller knows the rest."""
CONTEXT = "context."


class Explainer:
    """Explains rows that one model has scored; reads nothing but what it is given."""

    def __init__(self, predictor: Predictor) -> None:
        """Raises ExplanationError where the model cannot be explained. The first one of a model takes its time."""
        if predictor.source is None:
            raise ExplanationError(predictor.unexplainable or "its graph cannot be read")
        encoder = predictor.encoder
        self._source, self._contributions = predictor.source, predictor.contributions
        self._inputs: ModelInputs = encoder.inputs
        self._defaults = {f"{CONTEXT}{feature.name}": feature.default for feature in encoder.inputs.context}
        self._n_floats = len(encoder.float_names)
        self._features = explained_features(encoder.float_names, encoder.id_names)

    def explain(
        self, rows: Encoded, served_logit: Float64s, contexts: Sequence[Mapping[str, Scalar]]
    ) -> list[Explanation]:
        """One explanation for each of n rows.

        Args:
            served_logit: (n,) `raw_logit` as it was answered.
            contexts: (n,) as the caller sent them.
        Raises:
            ExplanationError: the graph, as it was read, does not answer what was served.
        """
        found = explained(self._contributions, rows)
        if not np.all(np.abs(found.raw_logit - served_logit) <= LOGIT_BOUND * np.maximum(1.0, np.abs(served_logit))):
            off = np.abs(found.raw_logit - served_logit).max()
            raise ExplanationError(f"what was read of its graph differs from what it answers, by up to {off:.2g}")
        calibrator, correction = self._source.calibrator, self._source.correction
        baselines = np.full(len(served_logit), found.baseline)
        baseline_p_click = p_click_of(baselines, correction, calibrator, calibrator.segments_of(rows.features))
        sums = by_feature(found.contributions, self._features)
        return [
            Explanation(
                found.baseline,
                float(baseline_p_click[i]),
                float(found.raw_logit[i]),
                correction,
                self._listed(rows, i, sums[i], context),
            )
            for i, context in enumerate(contexts)
        ]

    def _listed(self, rows: Encoded, i: int, sums: Float64s, context: Mapping[str, Scalar]) -> list[Contribution]:
        """The features of row i that add something, largest magnitude first."""
        order = np.argsort(-np.abs(sums), kind="stable")
        return [
            Contribution(feature.name, self._value(feature, rows, i, context), float(sums[at]))
            for at in order.tolist()
            if sums[at] and (feature := self._features[at])
        ]

    def _value(
        self, feature: ExplainedFeature, rows: Encoded, i: int, context: Mapping[str, Scalar]
    ) -> float | str | None:
        """What the model read."""
        if len(feature.columns) > 1:
            return f"{len(feature.columns)} numbers"
        (column,) = feature.columns
        if column < self._n_floats:
            number = rows.features[i, column]
            return None if np.isnan(number) else float(str(number))  # 0.1, not the double next to its float32
        hashed = int(rows.ids[i, column - self._n_floats])
        if hashed == MISSING_ID:
            return None
        if feature.name not in self._defaults:
            return f"#{hashed:08x}"
        sent = context.get(feature.name.removeprefix(CONTEXT))
        is_used = hash_id(sent, self._inputs.hash_seed) == hashed
        return str(sent if is_used else self._defaults[feature.name])[:MAX_SHOWN]
