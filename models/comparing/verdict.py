"""The verdict of a ladder in words that a manager reads: which model to choose, what it gains, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from models.comparing.figures import Contender, Ladder, Standing
from models.comparing.front import STEP, chosen
from models.trainers import LEARNERS

TITLES = {
    "base-rate": "base rate",
    "smoothed-ctr": "smoothed click rate",
    "logistic": "logistic regression",
    "ftrl": "FTRL logistic regression",
    "fm": "factorisation machine",
    "gbdt": "LightGBM trees",
    "xgboost": "XGBoost trees",
    "gbdt-lr": "trees + logistic regression",
    "two-tower": "two towers",
    "dcn": "deep cross network",
}
"""What a learner is called before people; one without a title is called as on the command line."""


def title(learner: str) -> str:
    """A learner's name for people."""
    return TITLES.get(learner, learner)


def verdict(ladder: Ladder, places: Sequence[Standing]) -> tuple[str, ...]:
    """A headline, then sentences of what stands behind it."""
    best = ladder.contender(chosen(tuple(places)))
    place = next(each for each in places if each.learner == best.learner)
    base = ladder.contenders[0]
    if not useful(best):
        return (
            "Choose none: no model is better than the base rate beyond doubt.",
            f"The end of the ladder is {title(best.learner)}, NE {_span(best)}; below 1 would beat always guessing the "
            f"mean click rate of the {ladder.impressions:,} impressions with {ladder.clicks:,} clicks that judge. More "
            "clicks, or features that tell more, would be needed.",
        )
    said = [f"Choose {title(best.learner)}: {_gain(best, base, ladder)}."]
    if place.over is not None and place.price is not None:
        said.append(_cost(best, ladder.contender(place.over), place))
    said.append(_rivals(best, ladder))
    said.append(_promise(best))
    return tuple(said)


def useful(contender: Contender) -> bool:
    """Whether it beats always guessing the mean beyond doubt."""
    return contender.entropy.high < 1.0 and contender.learner != LEARNERS[0]


def _gain(best: Contender, base: Contender, ladder: Ladder) -> str:
    share = best.share_of_attainable_gain
    if share is not None:
        return (
            f"it knows {100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %) of what can be "
            f"known here about clicks, NE {_span(best)}"
        )
    if base.learner == best.learner:
        return f"NE {_span(best)}"
    found = ladder.difference(best.learner, base.learner).entropy
    return (
        f"its log loss is {100 * -found.value:.1f} % ({100 * -found.high:.1f} to {100 * -found.low:.1f} %) of the base "
        f"entropy below that of {title(base.learner)}, NE {_span(best)}"
    )


def _cost(best: Contender, simpler: Contender, place: Standing) -> str:
    assert place.price is not None
    extras = [
        f"{best.wall_s - simpler.wall_s:+,.1f} s of training",
        f"{(best.trained.graph_bytes - simpler.trained.graph_bytes) / 1e6:+,.3f} MB",
    ]
    if best.latency is not None and simpler.latency is not None:
        extra = f"{best.latency.p50_us - simpler.latency.p50_us:+,.0f} µs at p50"
        extras.insert(0, extra if place.price.p50_clear else "no clear difference in p50")
    return (
        f"Against the next simpler model worth having, {title(simpler.learner)}, it gains "
        f"{STEP * place.price.steps:.4f} NE. That costs: {', '.join(extras)}."
    )


def _rivals(best: Contender, ladder: Ladder) -> str:
    others = [ladder.difference(each.learner, best.learner) for each in ladder.contenders if each is not best]
    better = [title(each.learner) for each in others if each.better]
    level = [title(each.learner) for each in others if not each.better and not each.worse]
    if better:
        return f"{_listed(better)} has a lower NE beyond doubt, but gains nothing over a simpler model on the front."
    if level:
        return (
            f"Nothing is better beyond doubt; with the {ladder.clicks:,} clicks that judge, {_listed(level)} cannot be "
            "told apart from it."
        )
    return "Every other model is worse beyond doubt."


def _promise(best: Contender) -> str:
    ratio = best.metrics["calibration_ratio"]
    span = f"promised / seen clicks {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    if ratio.low <= 1.0 <= ratio.high:
        return f"Its probabilities keep their promise: {span}."
    return (
        f"Its probabilities promise too {'much' if ratio.low > 1.0 else 'little'}: {span}; recalibrate before bidding."
    )


def _span(contender: Contender) -> str:
    ne = contender.entropy
    return f"{ne.value:.4f} ({ne.low:.4f} to {ne.high:.4f})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
