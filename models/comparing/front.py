"""The Pareto front of a ladder, and the price of climbing it.

A model is on the front when it is better beyond doubt than every simpler model on it, and no model that is better
beyond doubt costs at most as much in training, bytes and (where measured) p50. Its price is what it costs more than the
next simpler model on the front, for each 0.001 of NE that it gains over it. A gain that chance explains has no price:
there is nothing to pay for. Pure arithmetic over `figures.py`.
"""

from __future__ import annotations

from models.comparing.figures import Contender, Ladder, Price, Standing

STEP = 0.001
"""Of normalized entropy: what a price is for."""


def standings(ladder: Ladder) -> tuple[Standing, ...]:
    """Each learner's place and price, in the order of the ladder."""
    outdone = {each.learner: _outdone_by(each, ladder) for each in ladder.contenders}
    front: list[str] = []
    found = []
    for contender in ladder.contenders:
        name = contender.learner
        over = front[-1] if front else None
        joins = outdone[name] is None and all(ladder.difference(name, simpler).better for simpler in front)
        difference = None if over is None else ladder.difference(name, over)
        price = (
            _price(contender, ladder.contender(over), -difference.entropy.value)
            if over is not None and difference is not None and difference.better
            else None
        )
        found.append(Standing(name, joins, over, difference, price, outdone[name]))
        if joins:
            front.append(name)
    return tuple(found)


def chosen(places: tuple[Standing, ...]) -> str:
    """The end of the front: better beyond doubt than all that is simpler on it, and nothing complex adds to it."""
    return next(place.learner for place in reversed(places) if place.on_front)


def _outdone_by(contender: Contender, ladder: Ladder) -> str | None:
    """A model that is better beyond doubt and nowhere dearer."""
    for other in ladder.contenders:
        cheap = all(cost <= ours for cost, ours in zip(other.costs, contender.costs, strict=False))
        if other.learner != contender.learner and cheap and ladder.difference(other.learner, contender.learner).better:
            return other.learner
    return None


def _price(contender: Contender, simpler: Contender, gain: float) -> Price:
    """For a gain in NE above 0."""
    steps = gain / STEP
    p50_us, clear = None, False
    if contender.latency is not None and simpler.latency is not None:
        p50_us = (contender.latency.p50_us - simpler.latency.p50_us) / steps
        clear = contender.latency.apart(simpler.latency)
    return Price(
        steps=steps,
        p50_us=p50_us,
        p50_clear=clear,
        graph_bytes=(contender.trained.graph_bytes - simpler.trained.graph_bytes) / steps,
        train_s=(contender.wall_s - simpler.wall_s) / steps,
    )
