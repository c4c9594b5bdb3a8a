"""The results of a ranking as JSON, without an object per candidate.

100 results take 3 µs compiled (`_results.c`), against 27 to 47 for 100 structs and their encoding, which is the way
where no compiler was there. Numbers have 12 significant digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from service.telemetry import Reals
from service.wire import DegradedCode, Result

try:
    from service import _results
except ImportError:  # no compiler where it was installed
    COMPILED = False
else:
    COMPILED = True

DIGITS = 12


def results_json(
    ad_ids: list[str],
    order: npt.NDArray[np.intp],
    p_click: Reals,
    scores: Reals | None,
    own_codes: dict[int, list[DegradedCode]],
    *,
    compiled: bool = COMPILED,
) -> msgspec.Raw:
    """The value of `results` in an answer.

    Args:
        ad_ids: the n candidates.
        order: (k,) places of those to answer, best first.
        p_click: (m,) of the first m candidates; the others were not scored in time and get null.
        scores: (m,) bid x p_click, None where no bids were sent.
        own_codes: codes of single candidates, by place.
    """
    if compiled:
        return msgspec.Raw(_results.results(ad_ids, order, p_click, scores, own_codes))
    return explained_results_json(ad_ids, order, p_click, scores, own_codes, [UNSET] * len(order))


def explained_results_json(
    ad_ids: list[str],
    order: npt.NDArray[np.intp],
    p_click: Reals,
    scores: Reals | None,
    own_codes: dict[int, list[DegradedCode]],
    explanations: Sequence[msgspec.Raw | UnsetType | None],
) -> msgspec.Raw:
    """The same with an explanation for each of the k results, written already; null where there is none."""
    p_clicks, values = _shown(p_click, len(ad_ids)), None if scores is None else _shown(scores, len(ad_ids))
    results = [
        Result(
            ad_ids[i],
            p_clicks[i],
            UNSET if values is None else values[i],
            own_codes.get(i, UNSET),
            explanation,  # type: ignore[arg-type]
        )
        for i, explanation in zip(order.tolist(), explanations, strict=True)
    ]
    return msgspec.Raw(msgspec.json.encode(results))


def _shown(numbers: Reals, n: int) -> list[float | None]:
    """n numbers of 12 digits, null where there is none."""
    shown: list[float | None] = [float(f"{number:.{DIGITS}g}") for number in numbers.tolist()]
    return shown + [None] * (n - len(shown))
