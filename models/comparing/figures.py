"""What is known of each model of a ladder: plain records, as `compare.json` holds them.

A learner was trained with several seeds; the model of its median seed stands for it (with an even number, the worse of
the middle two), so that its quality, bytes and latency are those of one real model. Times of training are medians over
the seeds. Times end in their unit; NE is normalized entropy, smaller is better.
"""

from __future__ import annotations

import msgspec

from models.registry.manifest import Interval

ROUNDS_TO_TELL = 4
"""With 4 rounds each, those of two equally fast models lie apart by chance once in 35 times; with 3, once in 10."""


class Trained(msgspec.Struct, frozen=True):
    """One published model, and what making it took: from joined rows to the proven artifact."""

    learner: str
    seed: int
    version: str
    folder: str
    """Of the artifact, as seen from the folder of the comparison."""
    graph_bytes: int
    wall_s: float
    cpu_s: float
    """Of all threads."""


class Latency(msgspec.Struct, frozen=True):
    """Ranking requests to the real service with this model, from the scheduled moment to the whole answer.

    Figures are medians over rounds. In each round every model has its turn, so that what else the machine does for a
    while does not fall on one model alone.
    """

    p50_us: float
    p99_us: float | None
    """None where a round answered fewer than 100 requests."""
    p50_by_round_us: tuple[float, ...]
    server_cpu_us: float | None
    """CPU of the service per request."""
    requests: int
    """Of all rounds."""
    errors: int
    degraded_share: float | None
    believable: bool
    """False where the load generator itself was late in a round."""

    def apart(self, other: Latency) -> bool:
        """Whether every round of the one was faster than every round of the other, and there were enough to tell."""
        ours, theirs = self.p50_by_round_us, other.p50_by_round_us
        if min(len(ours), len(theirs)) < ROUNDS_TO_TELL:
            return False
        return max(ours) < min(theirs) or max(theirs) < min(ours)


class LeftOut(msgspec.Struct, frozen=True):
    """A learner that could not take part, and why."""

    learner: str
    why: str


class Contender(msgspec.Struct, frozen=True):
    """A learner, represented by the model of its median seed."""

    learner: str
    trained: Trained
    metrics: dict[str, Interval]
    entropy_by_seed: dict[int, float]
    wall_s: float
    cpu_s: float
    gauc_users: int = 0
    """Users with clicks and non-clicks, over whom `gauc` is the mean."""
    share_of_attainable_gain: Interval | None = None
    """Only a simulated log has one."""
    latency: Latency | None = None

    @property
    def entropy(self) -> Interval:
        """NE with its interval."""
        return self.metrics["normalized_entropy"]

    @property
    def costs(self) -> tuple[float, ...]:
        """Seconds of training, bytes and, where measured, µs of p50: what another model may be cheaper in."""
        served = () if self.latency is None else (self.latency.p50_us,)
        return (self.wall_s, float(self.trained.graph_bytes), *served)


class Difference(msgspec.Struct, frozen=True):
    """NE of one learner minus NE of another on the same impressions, in pairs."""

    learner: str
    other: str
    entropy: Interval
    seeds_agree: bool
    """Whether the difference has the same sign with every seed."""

    @property
    def better(self) -> bool:
        """Beyond doubt: the whole interval lies below 0, and every seed says so."""
        return self.entropy.high < 0.0 and self.seeds_agree

    @property
    def worse(self) -> bool:
        """Beyond doubt."""
        return self.entropy.low > 0.0 and self.seeds_agree

    @property
    def verdict(self) -> str:
        """In words."""
        return "better" if self.better else "worse" if self.worse else "cannot be told apart"


class Price(msgspec.Struct, frozen=True):
    """What one step of 0.001 NE costs more than the next simpler model on the front; negative where it costs less."""

    steps: float
    """NE gained, in steps of 0.001."""
    p50_us: float | None
    """None where latency was not measured."""
    p50_clear: bool
    """Whether the rounds of both models lie apart; else their latencies cannot be told apart."""
    graph_bytes: float
    train_s: float


class Standing(msgspec.Struct, frozen=True):
    """Where a learner stands on the ladder."""

    learner: str
    on_front: bool
    over: str | None
    """The next simpler model on the front, with which it is compared; None where there is none."""
    difference: Difference | None
    price: Price | None
    """None where there is no gain beyond doubt to pay for."""
    outdone_by: str | None
    """A model that is better beyond doubt and costs no more in anything."""


class Ladder(msgspec.Struct, frozen=True):
    """All of it: contenders from simple to complex, and how they differ."""

    impressions: int
    clicks: int
    contenders: tuple[Contender, ...]
    differences: tuple[Difference, ...]
    """Of every learner to every other one."""
    attainable: Interval | None
    """NE of the oracle that knows what serving may see; only for a simulated log."""

    def contender(self, learner: str) -> Contender:
        """The one of that name."""
        return next(each for each in self.contenders if each.learner == learner)

    def difference(self, learner: str, other: str) -> Difference:
        """NE of `learner` minus NE of `other`."""
        return next(each for each in self.differences if (each.learner, each.other) == (learner, other))
