"""The manifest of a model artifact: everything a server must know to load, prove and describe a model.

An artifact is a folder that never changes once published:

    model.onnx       inputs `features` float32 (n, d), `ids` int64 (n, k), each where it has columns;
                     outputs `raw_logit` and `p_click`, float64 (n,)
    golden.npz       inputs and answers of a few hundred rows, replayed at load
    reference.json   histograms of columns and scores, for drift
    learner_state.npz  where there is one: from where the learner goes on with newer rows
    card.md, card.html
    manifest.sha256  checksum of the manifest, for `sha256sum -c`
    manifest.json    this file, written last: an artifact without it does not exist

Metrics carry their sample and interval, or they are not metrics.
"""

from __future__ import annotations

import msgspec

from models.encoder import ModelInputs

LAYOUT = 1
"""Version of the artifact's layout; a server refuses one it does not know."""


class Interval(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval and the sample behind it."""

    value: float
    low: float
    high: float
    n: int
    clicks: int
    unit: str = ""
    """What chance was taken to draw: `users`, or `rows` (see `models/evaluation/units.py`). Empty: it was not told, as
    in versions of before, or there is no interval."""
    why_rows: str = ""
    """What kept users from being the unit, in words; empty where nothing did."""

    def by_row(self) -> str:
        """Why the interval is by row, in words; empty where it is not, or where it always is."""
        return f"by row, because {self.why_rows}" if self.why_rows else ""

    def caution(self) -> str:
        """The same as a sentence, with what it means for whoever reads the interval."""
        doubt = "where impressions of one user depend on each other they may be too narrow"
        return f"Intervals are {self.by_row()}; {doubt}." if self.why_rows else ""


class Label(msgspec.Struct, frozen=True):
    """What counted as a click."""

    name: str
    window_ms: int | None = None
    """Attribution window: a click later than this after its impression did not count; None: any click counts."""

    def described(self) -> str:
        """What counts, in words."""
        if self.window_ms is None:
            return f"{self.name}, counted whenever it came"
        return f"{self.name}, counted if it came within {_span(self.window_ms)} of the impression"


class ClickDelay(msgspec.Struct, frozen=True):
    """How long the log's clicks took to arrive, also those that came too late to count."""

    clicks: int
    late: int
    """After the attribution window; their impressions count as not clicked."""
    median_ms: int
    p90_ms: int
    p99_ms: int

    def described(self) -> str:
        """One line: how many came too late, and how long the others took."""
        median, p90, p99 = (_span(ms) for ms in (self.median_ms, self.p90_ms, self.p99_ms))
        return (
            f"of {self.clicks:,} clicks in the log half arrived within {median}, 90 % within {p90}, 99 % within {p99}; "
            f"{self.late:,} came too late to count"
        )


class Segment(msgspec.Struct, frozen=True):
    """A kind of impressions with a calibrator line of its own."""

    number: int
    fitted_on: int
    clicks: int
    scale: float
    shift: float
    """Calibrated log-odds y become scale * y + shift."""


class Calibrator(msgspec.Struct, frozen=True):
    """The strictly increasing map from corrected log-odds to probability, as it is written into the graph."""

    kind: str
    """`identity`, `platt`, `beta`, `piecewise` or `isotonic`."""
    fitted_on: int = 0
    clicks: int = 0
    segment_column: str = ""
    """The column that names a row's segment (see `models/segments.py`); empty where there is none."""
    segments: tuple[Segment, ...] = ()
    """Those with enough clicks for a line; rows of any other are calibrated by the map of all rows alone."""


def _span(duration_ms: int) -> str:
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if duration_ms >= size_ms:
            return f"{duration_ms / size_ms:.3g} {unit}"
    return f"{duration_ms} ms"


class Proof(msgspec.Struct, frozen=True):
    """The graph in ONNX Runtime against the trainer's float64 prediction (see `models/export/proof.py`)."""

    rows: int
    threshold_rows: int
    max_p_error: float
    max_logit_error: float
    inversions: int
    p_bound: float
    logit_bound: float
    core_sha256: str

    @property
    def holds(self) -> bool:
        """Whether every error is within its bound and no two clearly different scores changed places."""
        return self.max_p_error <= self.p_bound and self.max_logit_error <= self.logit_bound and self.inversions == 0

    def described(self) -> str:
        """Errors beside their bounds, for a message."""
        return (
            f"|Δp| {self.max_p_error:.2g} (bound {self.p_bound:.2g}), |Δlogit| {self.max_logit_error:.2g} "
            f"(bound {self.logit_bound:.2g}), {self.inversions} inversions"
        )


FIRST_PLAUSIBLE_MS = 86_400_000_000
"""September 1972: earlier "times" are row numbers of a log without time."""


class TrainedOn(msgspec.Struct, frozen=True):
    """The log behind a model."""

    source: str
    impressions: int
    clicks: int
    first_ms: int
    last_ms: int
    negative_sampling_rate: float = 1.0
    """Share of the non-clicks that the learner saw; the graph adds ln(rate) to the log-odds."""
    pending_impressions: int = 0
    """Of the log, left out because the label's window had not passed."""

    @property
    def has_times(self) -> bool:
        """False where `first_ms` and `last_ms` count the rows of a log without time."""
        return self.first_ms >= FIRST_PLAUSIBLE_MS


class Suspect(msgspec.Struct, frozen=True):
    """A column, and how well it orders the held-out impressions all by itself."""

    column: str
    auc: Interval


class Suspicion(msgspec.Struct, frozen=True):
    """Figures too good to be true (see `models/evaluation/suspicion.py`)."""

    reasons: tuple[str, ...]
    columns: tuple[Suspect, ...]
    """The most telling ones, most telling first."""

    def described(self) -> str:
        """One line: what is too good, and which columns to look at."""
        columns = ", ".join(
            f"{suspect.column} (AUC {suspect.auc.value:.4f} [{suspect.auc.low:.4f}, {suspect.auc.high:.4f}] alone)"
            for suspect in self.columns
        )
        return f"too good to be true, a leak until proven otherwise: {'; '.join(self.reasons)}; look first at {columns}"


class Challenge(msgspec.Struct, frozen=True):
    """The model against the champion of its day, on impressions held out from both (see `models/challenge.py`)."""

    champion: str
    """Its version."""
    entropy_difference: Interval | None = None
    """NE of this model minus NE of the champion, paired; below 0 this one is better. None: not comparable."""
    why_not: str = ""

    def described(self) -> str:
        """One line: by how much, on what; or why nobody can say."""
        found = self.entropy_difference
        if found is None:
            return f"champion {self.champion} was not measured on the same impressions: {self.why_not}"
        return (
            f"NE {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] relative to champion {self.champion}, on the "
            f"same {found.n:,} impressions with {found.clicks:,} clicks, held out from both"
        )


class Recalibrated(msgspec.Struct, frozen=True):
    """Where a calibrator came from that was fitted after the training (see `models/recalibration.py`)."""

    version: str
    """The model whose core this one shares."""
    source: str
    impressions: int
    clicks: int
    first_ms: int
    last_ms: int
    before: dict[str, Interval]
    """What `metrics` were with the old calibrator, on the same impressions."""
    pending_impressions: int = 0
    """Of the log, left out because the label's window had not passed."""


class Search(msgspec.Struct, frozen=True):
    """How settings were found that are not the learner's own (see `models/search.py`)."""

    budget_minutes: float | None
    budget_trials: int | None
    trials: int
    cut_short: int
    """Of the trials, given up after some blocks because half of the others had done better by then."""
    seconds: float
    """What the trials took, over all runs."""
    settings: dict[str, float | int]
    """The chosen ones; those of the learner itself where nothing better was found."""
    loss: float | None = None
    """Held-out log loss of the fit part with them, in nats: the best of many, so it flatters. None: no trial ended."""
    loss_of_defaults: float | None = None

    def described(self) -> str:
        """One line: how many were tried under which budget, and what it gained where it was looked for."""
        budgets = (
            "" if self.budget_minutes is None else f"{self.budget_minutes:.3g} minutes",
            "" if self.budget_trials is None else f"{self.budget_trials:,} trials",
        )
        words = f"{self.trials:,} trials ({self.cut_short:,} cut short), budget {' or '.join(filter(None, budgets))}"
        if self.loss is None or self.loss_of_defaults is None:
            return f"{words}; none came to its end, so the settings are the learner's own"
        if self.loss == self.loss_of_defaults:
            return f"{words}; nothing was better than the learner's own settings, held-out log loss {self.loss:.5f}"
        chosen = ", ".join(f"{name} {value:.4g}" for name, value in self.settings.items())
        return (
            f"{words}; chosen: {chosen}; held-out log loss of the fit part {self.loss:.5f} instead of "
            f"{self.loss_of_defaults:.5f} with the learner's own settings"
        )


class Continued(msgspec.Struct, frozen=True):
    """From where a learner went on that had learnt earlier rows (see `models/continuing.py`)."""

    version: str
    """The parent. `trained_on` and `metrics` of its child speak of the newer rows alone."""
    source: str
    """The parent's log."""
    impressions: int
    clicks: int
    """Of the parent and all before it."""
    first_ms: int
    last_ms: int
    """Of the same, as far as their times can be compared."""

    def described(self) -> str:
        """One line: whose weights these are, and what they had seen."""
        return (
            f"goes on from version {self.version}, which had learnt {self.impressions:,} earlier impressions with "
            f"{self.clicks:,} clicks; data and figures are of the newer ones alone"
        )


class Imported(msgspec.Struct, frozen=True):
    """Where a model came from that was not trained here (see `models/importing.py`)."""

    source: str
    """Name of the file."""
    sha256: str
    """Of the file, so that nobody need guess which export this was."""
    producer: str
    """Who wrote it, by its own words."""
    output: str
    column: int
    """Of that output, from 0: the probability of a click."""
    click_class: str
    """What the original calls that column; empty where it has no names."""
    form: str
    """`trees` or `linear`: written anew from the original's numbers; `original`: its own operators."""
    why_original: str
    """What kept it from being written anew; empty where it was."""
    columns: dict[str, tuple[str, ...]]
    """Our columns in the original's order, by its inputs."""
    filled: dict[str, float]
    """What stands for a missing number, by our column: those that the original has no answer without."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`; unknown fields are kept out by `layout`."""

    layout: int = LAYOUT
    name: str
    version: str
    created_ms: int
    learner: str
    inputs: ModelInputs
    label: Label
    trained_on: TrainedOn | None
    """None: nobody said (an imported model)."""
    reference_position: str | None
    """The position that `p_click` speaks of, in words (`mean over the log's positions`)."""
    calibrator: Calibrator
    metrics: dict[str, Interval] | None
    """None: nobody measured."""
    seed: int | None
    parameters: dict[str, float | int | str | bool]
    core_sha256: str
    """Hash of the graph up to `raw_logit`: what plans and their tables are keyed by."""
    calibrator_sha256: str
    proof: Proof
    files: dict[str, str]
    """SHA-256 of every other file of the artifact."""
    libraries: dict[str, str]
    better_than_base_rate: bool | None
    suspicion: Suspicion | None = None
    """The alarm on figures that look like a leak; None where they are credible."""
    challenge: Challenge | None = None
    """None where there was no champion."""
    importance: dict[str, float] = {}
    """Share of each column in the model's decisions; empty where nobody knows."""
    recalibrated: Recalibrated | None = None
    """None where the calibrator is the training's own; otherwise `metrics` speak of later impressions."""
    click_delay: ClickDelay | None = None
    """Of the whole log behind the model; None where it has no click times."""
    search: Search | None = None
    """None where the learner's own settings were taken without a search."""
    continued: Continued | None = None
    """None where the learner began anew."""
    imported: Imported | None = None
    """None where the model was trained here."""

    @property
    def figures(self) -> dict[str, Interval]:
        """`metrics`; none of an imported model that nobody measured."""
        return self.metrics or {}
