"""Why each result has its probability, for requests that ask: beside the event loop, and bounded.

Taking trees apart takes a millisecond a row, which no other request may wait for. So it happens in a thread of low
priority, for at most two requests of a worker at once (more are refused, because each holds a place behind the door)
and at most `wire.MAX_EXPLAINED` results, and the thread looks at the clock every few rows: what is not ready when
`deadline.explain_ms` or the caller's `X-Deadline-Ms` is over stays null, with the code `deadline_partial`.

An explanation is read from the graph and adds up to the margin that was served, or there is none: where the two differ
by more than the bounds of a proof, the request is refused rather than misled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from models.encoder import Encoded
from models.errors import ExplanationError
from service.deadline import Deadline, MonotonicClock
from service.errors import InvalidRequest, Overloaded
from service.explanations import Explainer
from service.model_slots import ServedModel
from service.quiet_threads import Run, quietly
from service.scoring import Scored
from service.wire import Scalar, encode

MAX_AT_ONCE = 2
"""Requests of one worker that are being explained: few of the places of `admission.max_inflight`."""
CHUNK_ROWS = 4
"""Rows between two looks at the clock."""
RETRY_AFTER_S = 1

logger = logging.getLogger(__name__)


def check_explainable(model: ServedModel, form_explains: bool) -> None:
    """Raises InvalidRequest where the answer's form has no place for explanations, or the model cannot be explained."""
    if not form_explains:
        raise InvalidRequest("frames carry no explanations; accept application/json, or ask without explain", "explain")
    if model.predictor.unexplainable is not None:
        raise _refusal(model, model.predictor.unexplainable)


class Explaining:
    """Explains results of requests that were scored."""

    def __init__(self, explain_ms: float, clock: MonotonicClock, run: Run = quietly) -> None:
        """`explain_ms` bounds one request; `run` takes work off the event loop."""
        self._explain_ms = explain_ms
        self._clock = clock
        self._run = run
        self._running: set[asyncio.Future[None]] = set()

    async def explain(
        self,
        model: ServedModel,
        scored: Scored,
        places: npt.NDArray[np.intp],
        contexts: Sequence[Mapping[str, Scalar]],
        deadline: Deadline,
    ) -> list[msgspec.Raw | None]:
        """(k,) explanations as JSON, None where time ran out or nothing was scored.

        Args:
            places: (k,) which of the n pairs; those that were scored come first.
            contexts: (k,) what the request said of each.
        Raises:
            InvalidRequest: the graph, as it was read, does not answer what was served.
            Overloaded: enough others are being explained.
        """
        if len(self._running) >= MAX_AT_ONCE:
            raise Overloaded("explain_busy", RETRY_AFTER_S)
        left_s = deadline.left_for_more_ms(self._explain_ms) / 1000
        served_logit = scored.scores.raw_logit
        asked = places[places < len(served_logit)]
        rows = scored.pairs.rows(model.predictor.encoder, asked)
        ends_s = self._clock() + left_s
        ready: list[msgspec.Raw | None] = []

        def work() -> None:
            explainer = Explainer(model.predictor)
            for start in range(0, len(asked), CHUNK_ROWS):
                if self._clock() >= ends_s:
                    return
                at = slice(start, start + CHUNK_ROWS)
                some = Encoded(rows.features[at], rows.ids[at])
                found = explainer.explain(some, served_logit[asked[at]], contexts[start : start + len(some.features)])
                ready.extend([msgspec.Raw(encode(explanation)) for explanation in found])

        running = asyncio.ensure_future(self._run(work))
        self._running.add(running)
        running.add_done_callback(self._running.discard)  # gives the place free, also where the caller is long gone
        try:
            await asyncio.wait_for(asyncio.shield(running), max(0.0, left_s))
        except TimeoutError:
            running.add_done_callback(_told)
        except asyncio.CancelledError:
            running.add_done_callback(_told)
            raise
        except ExplanationError as error:
            raise _refusal(model, str(error)) from error
        in_time = ready.copy()
        return in_time + [None] * (len(places) - len(in_time))


def _told(running: asyncio.Future[None]) -> None:
    """Reads how work ended that nobody waits for any longer."""
    if not running.cancelled() and (error := running.exception()) is not None:
        logger.warning("an explanation failed after its time", exc_info=error)


def _refusal(model: ServedModel, reason: str) -> InvalidRequest:
    return InvalidRequest(f"model {model.name!r} cannot be explained: {reason}", "explain")
