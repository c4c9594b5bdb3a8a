"""What looks wrong with a log that can be learnt from all the same: said in words, and left to its owner.

Each of these is allowed, and most often a mistake upstream: an export that lost a day, a table of other ids, a column
that was never filled, clicks that stopped arriving, an impression that was sent twice. In a log that streams, columns
that never change and repeated impressions are not looked for. Cost: one pass over the columns, and a sort of the
impressions that share a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from models.logs.frame import TrainingFrame
from models.logs.stored_frame import StoredFrame
from models.registry.manifest import FIRST_PLAUSIBLE_MS

DAY_MS = 86_400_000
N_SHOWN = 5
N_FOLDS = 5


def doubts(frame: TrainingFrame | StoredFrame) -> tuple[str, ...]:
    """Everything about the impressions of a frame that their owner should look at."""
    in_memory = (frame,) if isinstance(frame, TrainingFrame) else ()
    return (
        *frame.warnings(),
        *_views_without_rows(frame),
        *(doubt for columns in in_memory for doubt in _constant_columns(columns)),
        *_empty_days(frame.time_ms),
        *_folds_of_one_class(frame.clicked),
        *(doubt for impressions in in_memory for doubt in _repeated_impressions(impressions)),
    )


def _views_without_rows(frame: TrainingFrame | StoredFrame) -> Iterator[str]:
    for view, n_found in frame.found.items():
        if not n_found:
            yield (
                f"view {view!r} has no row for any of {len(frame):,} impressions, so its features are all defaults; "
                "do its ids match the log's, and are its rows earlier than the impressions and younger than its ttl?"
            )


def _constant_columns(frame: TrainingFrame) -> Iterator[str]:
    inputs = frame.inputs
    sides = ((inputs.user_views, frame.user), (inputs.ad_views, frame.ad))
    names: list[str] = []
    for views, block in sides:
        answered = [view for view in views if frame.found.get(view.name)]  # the others are doubted already
        float_at = id_at = 0
        for view in views:
            for feature in view.features:
                if feature.dtype == "id":
                    same, id_at = _is_constant(block.ids[:, id_at]), id_at + 1
                else:
                    end = float_at + feature.width
                    same, float_at = _is_constant(block.floats[:, float_at:end]), end
                if same and view in answered:
                    names.append(f"{view.name}.{feature.name}")
    for dtype, values in (("float32", frame.context.floats), ("id", frame.context.ids)):
        of_type = [feature for feature in inputs.context if feature.dtype == dtype]
        names += [f"context.{feature.name}" for i, feature in enumerate(of_type) if _is_constant(values[:, i])]
    if names:
        shown = ", ".join(names[:N_SHOWN]) + (f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else "")
        yield f"{shown}: the same value in all {len(frame):,} impressions, so nothing can be learnt from it"


def _is_constant(columns: npt.NDArray[np.float32] | npt.NDArray[np.uint32]) -> bool:
    """Whether all rows are alike; a missing number is like another one."""
    if not len(columns):
        return False
    same = columns == columns[0]
    if columns.dtype.kind == "f":
        same |= np.isnan(columns) & np.isnan(columns[0])
    return bool(same.all())


def _empty_days(time_ms: npt.NDArray[np.int64]) -> Iterator[str]:
    if not len(time_ms) or time_ms[0] < FIRST_PLAUSIBLE_MS:
        return  # the order of a file, and no time
    first, last = int(time_ms[0]) // DAY_MS, int(time_ms[-1]) // DAY_MS
    begin = np.searchsorted(time_ms, np.arange(first, last + 2) * DAY_MS)  # ordered, and perhaps a file
    empty = first + np.flatnonzero(np.diff(begin) == 0)
    if len(empty):
        shown = ", ".join(str(datetime.fromtimestamp(int(day) * DAY_MS / 1000, UTC).date()) for day in empty[:N_SHOWN])
        more = f" and {len(empty) - N_SHOWN} more" if len(empty) > N_SHOWN else ""
        yield (
            f"{len(empty)} of {last - first + 1} days (UTC) hold no impression: {shown}{more}; if rows are lost, "
            "counts over those days are too low"
        )


def _folds_of_one_class(clicked: npt.NDArray[np.bool_]) -> Iterator[str]:
    """The fifths of a log that training learns and judges by (`training.py`) one after the other."""
    folds = [fold for fold in np.array_split(clicked, N_FOLDS) if len(fold)]
    clicks = [int(np.count_nonzero(fold)) for fold in folds]
    alike = [i for i, (seen, fold) in enumerate(zip(clicks, folds, strict=True), 1) if seen in (0, len(fold))]
    if alike:
        yield (
            f"of the {N_FOLDS} fifths of the log, number {', '.join(map(str, alike))} holds impressions of one class "
            f"alone (clicks in each: {clicks}); did clicks stop arriving, or come late?"
        )


def _repeated_impressions(frame: TrainingFrame) -> Iterator[str]:
    names = frame.log.project.log
    if names.impression_id is not None or names.time is None or names.user_id is None or names.ad_id is None:
        return  # told apart, or nothing by which two could be called the same
    time_ms = frame.time_ms
    beside = np.zeros(len(time_ms) + 1, dtype=np.bool_)
    beside[1:-1] = time_ms[1:] == time_ms[:-1]
    rows = np.flatnonzero(beside[:-1] | beside[1:])
    if not len(rows):
        return
    keys = np.stack([time_ms[rows], frame.users.codes[rows], frame.ads.codes[rows], frame.clicked[rows]], axis=1)
    keys = keys[np.lexsort(keys.T)]
    n_repeated = int(np.count_nonzero((keys[1:] == keys[:-1]).all(axis=1)))
    if n_repeated:
        yield (
            f"{n_repeated:,} of {len(frame):,} impressions repeat an earlier one: same user, ad, time and label. Where "
            "times are coarse that may be so; where impressions were sent twice, name their id as log.impression_id, "
            "and repeats are left out"
        )
