"""Two judges of replayed impressions: the rows that training would be given, and counting by hand.

A distance is in steps of float32 (ulp); columns that must be equal are told apart by `is_exact`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from feature_store.definition import load_project
from models.encoder import Encoder, ModelInputs
from models.evaluation.skew import ulps_apart
from models.logs.reader import read_log
from models.logs.stored_frame import store_frame
from tests.proofs.parity_oracle import expected
from tests.proofs.parity_project import AS_OF_HOURS, HOUR_MS, MIDNIGHT_MS, ParityLog

REPLAY = "replay-"
"""Begins the id of a request for impressions of the log; the number of the first one follows."""


class Served(NamedTuple):
    """m served impressions. rows: (m,) their numbers in the log; features: (m, d); ids: (m, k); as_of_ms: (m, V)."""

    inputs: ModelInputs
    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    as_of_ms: npt.NDArray[np.int64]
    all_rows: int
    """Of the served log, those that were only ranked among them."""


def read_replayed(folder: Path) -> Served:
    """The replayed rows of a served log, in order of the impressions."""
    paths = sorted(folder.glob("served-*.parquet"))
    rows, features, ids, as_of, total = [], [], [], [], 0
    for path in paths:
        table = pq.read_table(path, columns=["request_id", "place", "features", "ids", "as_of_ms"])
        total += len(table)
        names = table["request_id"].to_pylist()
        replayed = np.array([name.startswith(REPLAY) for name in names])
        first = np.array([int(name.removeprefix(REPLAY)) if name.startswith(REPLAY) else 0 for name in names])
        rows.append((first + table["place"].to_numpy())[replayed])  # neighbours in time are neighbours in the log
        for name, into in (("features", features), ("ids", ids), ("as_of_ms", as_of)):
            into.append(table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)[replayed])
    about = pq.read_schema(paths[0]).metadata[b"clickserve.inputs"]
    at = np.concatenate(rows)
    order = np.argsort(at)
    return Served(
        msgspec.json.decode(about, type=ModelInputs),
        at[order],
        np.concatenate(features)[order],
        np.concatenate(ids)[order],
        np.concatenate(as_of)[order],
        total,
    )


def against_training(folder: Path, log: ParityLog, served: Served) -> tuple[dict[str, int], dict[str, int]]:
    """Of exact columns how many rows differ, of rounded ones the largest distance, to what training would be given."""
    project = load_project(folder / "features.toml")
    read = read_log(f"parquet:{folder / 'log.parquet'}", project, workdir=folder / "work")
    encoder = Encoder(ModelInputs.of(project.schema))
    if encoder.inputs != served.inputs:
        raise RuntimeError("the service read other columns than training does")
    with store_frame(read) as frame:
        if not np.array_equal(frame.time_ms, log.time_ms):
            raise RuntimeError("the rows of the frame are not those of the log")
        trained = frame.encode(encoder, slice(0, len(frame)))
    features, ids = trained.features[served.rows], trained.ids[served.rows]
    apart = ulps_apart(served.features.ravel(), features.ravel()).reshape(features.shape)
    exact, rounded = {}, {}
    for name, column in zip(encoder.float_names, apart.T, strict=True):
        if is_exact(name):
            exact[name] = int(np.count_nonzero(column))
        else:
            rounded[name] = int(column.max())
    for name, mine, theirs in zip(encoder.id_names, served.ids.T, ids.T, strict=True):
        exact[name] = int(np.count_nonzero(mine != theirs))
    return exact, rounded


def against_counting(log: ParityLog, served: Served) -> dict[str, int]:
    """The largest distance of each windowed column to counting by hand; also of the moments that rows speak of."""
    names = Encoder(served.inputs).float_names
    found: dict[str, int] = {}
    for hour in AS_OF_HOURS:
        mine = np.isin(served.rows, log.replayed(hour))
        for i, view in enumerate(served.inputs.views):
            moments = served.as_of_ms[mine, i]
            if view.name.endswith(("_clicks", "_taste")) and set(moments) - {0} != {MIDNIGHT_MS + hour * HOUR_MS}:
                raise RuntimeError(
                    f"{view.name} was served as of {sorted(set(moments))} for impressions of hour {hour}"
                )
        for name, wanted in expected(log, served.rows[mine], hour).items():
            apart = ulps_apart(served.features[mine, names.index(name)], wanted.astype(np.float32))
            found[name] = max(found.get(name, 0), int(apart.max()))
    return found


def is_exact(column: str) -> bool:
    """Whether a column may not be rounded in two ways: all but rates, decayed counts and the pairs made of them."""
    return not ("ctr" in column or "decayed" in column or column == "pair.segment_category")
