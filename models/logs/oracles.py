"""Two oracles for a simulated log: the best that can be known, and the best that serving can attain.

*True*: the probability the click was drawn with. It knows the slot and the single user's taste.

*Attainable*: E[true probability | what serving may see, reference position]. Serving may see the ad, the user's
segment, the ad's category, placement, device, hour and the drift of that hour. It cannot see the user's own taste, and
it cannot know the slot, because the slot is decided from the score. The **reference position** is the log's own mix of
positions: every slot in the share it has in the log. Slots are drawn independently of everything else, so this mean is
also what a model learns that is never told the position, and its mean over the log equals the true mean. No model that
sees no more than this has a smaller expected log loss. (A feature made of one user's own clicks sees a little more;
with 0.2 clicks per user in a million impressions of `sim-v1`, very little.)

The expectation over slot and taste is exact up to rounding: a sum over slots x Gauss-Hermite nodes of the normal taste.
All quantities of a log are gathered while it is made, in memory that does not grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.logs.simulated_world import Floats, World

TASTE_NODES = 9
"""Gauss-Hermite nodes; for the taste of `sim-v1` (log-odds sd 0.42) 40 of them change no probability by 1e-11 of it."""

LOG_ODDS_BINS = 40_000
LOG_ODDS_BIN_WIDTH = 0.001
"""AUC counts two probabilities within one bin as equal, which moves it by less than 1e-5."""


@dataclass(frozen=True, slots=True)
class HiddenLogOdds:
    """Distribution of what serving cannot see: slot + taste."""

    offsets: Floats  # (nodes,) log-odds
    weights: Floats  # (nodes,) sum to 1

    @classmethod
    def of(cls, world: World) -> HiddenLogOdds:
        """Every slot with every node of the taste."""
        nodes, node_weights = np.polynomial.hermite_e.hermegauss(TASTE_NODES)
        taste = nodes * world.preset.component_sd(world.preset.shares.taste)
        n_positions = world.preset.n_positions
        return cls(
            offsets=np.add.outer(world.position_effect, taste).ravel(),
            weights=np.outer(np.full(n_positions, 1 / n_positions), node_weights / node_weights.sum()).ravel(),
        )


def attainable_probability(visible_log_odds: Floats, hidden: HiddenLogOdds) -> Floats:
    """Mean click probability over slot and taste.

    Args:
        visible_log_odds: (n,) intercept + every component that serving may see.
    Returns:
        (n,) probabilities.
    """
    # sigmoid(v + h) = 1 / (1 + exp(-v) exp(-h)): one exponential per row instead of one per row and node.
    odds_against = np.exp(-visible_log_odds)
    expected = np.zeros_like(visible_log_odds)
    for weight, factor in zip(hidden.weights, np.exp(-hidden.offsets), strict=True):
        expected += weight / (1.0 + factor * odds_against)
    return expected


@dataclass(frozen=True, slots=True)
class OracleQuality:
    """How good an oracle is on one part of a log; None where that part lacks clicks or lacks non-clicks."""

    normalized_entropy: float | None
    """Log loss over the log loss of always guessing that part's own mean CTR."""
    auc: float | None


def _no_counts() -> npt.NDArray[np.int64]:
    return np.zeros((2, LOG_ODDS_BINS), dtype=np.int64)


@dataclass(slots=True)
class OracleScore:
    """Log loss and AUC of one oracle, added up batch by batch."""

    counts: npt.NDArray[np.int64] = field(default_factory=_no_counts)  # (not clicked | clicked, bins of log-odds)
    log_loss_sum: float = 0.0

    def add(self, clicked: npt.NDArray[np.bool_], probability: Floats) -> None:
        """Take in a batch: (n,) labels and (n,) probabilities strictly between 0 and 1."""
        self.log_loss_sum -= float(np.log(np.where(clicked, probability, 1.0 - probability)).sum())
        log_odds = np.log(probability) - np.log1p(-probability)
        middle = LOG_ODDS_BINS // 2
        bins = np.clip(np.floor(log_odds / LOG_ODDS_BIN_WIDTH).astype(np.int64) + middle, 0, LOG_ODDS_BINS - 1)
        for label in (0, 1):
            self.counts[label] += np.bincount(bins[clicked == label], minlength=LOG_ODDS_BINS)

    @property
    def n_impressions(self) -> int:
        """Rows added so far."""
        return int(self.counts.sum())

    @property
    def n_clicks(self) -> int:
        """Clicks among them."""
        return int(self.counts[1].sum())

    def quality(self) -> OracleQuality:
        """Normalized entropy and AUC of everything added so far."""
        n, n_clicks = self.n_impressions, self.n_clicks
        n_misses = n - n_clicks
        if not n_misses or not n_clicks:
            return OracleQuality(normalized_entropy=None, auc=None)
        entropy = -(n_clicks * np.log(n_clicks / n) + n_misses * np.log(n_misses / n))
        misses, clicks = self.counts
        misses_below = np.cumsum(misses) - misses
        pairs_won = (clicks * (misses_below + misses / 2)).sum()
        return OracleQuality(
            normalized_entropy=float(self.log_loss_sum / entropy), auc=float(pairs_won / (n_clicks * n_misses))
        )
