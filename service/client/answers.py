"""What the service answers, read by its field names. What a newer service adds is left unread.

A field that an answer may lack is None or empty here; encoded again, an answer lacks it again. Codes are plain text, so
that one which did not exist when this was written arrives all the same. `tests/integration/service/test_client.py`
holds every field against `service/wire.py`, which says what it means.
"""

from __future__ import annotations

from msgspec import Struct


class ModelReference(Struct, frozen=True):
    """The model that answered."""

    name: str
    version: str
    variant: str


class FeatureCounts(Struct, frozen=True):
    """How well the entities of this request were known."""

    missing: int
    """Rows that were not there; defaults stood in."""
    stale: int
    """Rows past their time-to-live, used all the same."""
    age_ms_max: int | None
    """Age of the oldest row used; None where none was."""


class Contribution(Struct, frozen=True):
    """What one feature adds to the raw logit."""

    feature: str
    value: float | str | None
    contribution: float


class Explanation(Struct, frozen=True):
    """Where a probability comes from: `baseline` and all contributions add up to `raw_logit`."""

    baseline: float
    baseline_p_click: float
    raw_logit: float
    correction: float
    contributions: list[Contribution]


class Result(Struct, frozen=True, omit_defaults=True):
    """One candidate, ranked."""

    ad_id: str
    p_click: float | None
    """None where the deadline passed first."""
    score: float | None = None
    """bid x p_click; where bids were sent."""
    degraded: tuple[str, ...] = ()
    """Codes of this candidate's own rows; nobody should bid on a default row unknowingly."""
    explanation: Explanation | None = None
    """Where `explain` was asked and time sufficed."""


class RankAnswer(Struct, frozen=True):
    """The candidates, best first."""

    request_id: str
    model: ModelReference
    results: list[Result]
    degraded: list[str]
    """Codes of what was unknown, late or down; empty where nothing was."""
    features: FeatureCounts


class Prediction(Struct, frozen=True, omit_defaults=True):
    """One instance's click probability."""

    p_click: float | None
    """None where the deadline passed first."""
    degraded: tuple[str, ...] = ()
    explanation: Explanation | None = None


class PredictAnswer(Struct, frozen=True):
    """The predictions, in the order of the instances."""

    request_id: str
    model: ModelReference
    predictions: list[Prediction]
    degraded: list[str]
    features: FeatureCounts


class ModelSlot(Struct, frozen=True):
    """One slot and the model in it."""

    name: str
    version: str
    variant: str
    state: str
    plan: str
    """How it is scored."""
    ad_parts: str
    """Where what scoring needs of each ad comes from."""
    context: list[str] | None = None
    """Keys of a request's context that the model reads; None where the service is too old to say."""


class ModelsAnswer(Struct, frozen=True):
    """All slots."""

    models: list[ModelSlot]


class ReadyAnswer(Struct, frozen=True):
    """Whether the worker that answered wants requests."""

    ready: bool
    degraded: list[str]
    """Codes that every answer carries now."""
