"""Workload: which requests are sent, described in a small JSON file and built as bytes before the clock starts.

    {"path": "/v1/rank",                              where ranking requests go
     "n_candidates": 100,                             distinct ads per request
     "users": {"prefix": "u", "count": 20000},        u0 … u19999, or {"ids": ["u17", 4, …]}
     "ads": {"ids": ["a3", "a9", …]},                 either form; first = most popular
     "context": {"placement": ["p0", "p1"],           one of a list,
                 "hour": {"low": 0, "high": 23, "integer": true}},   or a number from a closed range
     "top_k": null,                                   results wanted; null leaves it to the service (all)
     "zipf_exponent": 1.1,                            popularity of the r-th id ∝ r^-exponent; 0 is uniform
     "predict_share": 0.05,                           Locust only: share of calls that go to /v1/predict
     "distinct_bodies": 2000,                         prepared requests; the generators cycle through them
     "seed": 7}

`users` and `ads` are required, the rest has the defaults shown (`context` is empty, `n_candidates` 100). Unknown keys
are errors. The same file and seed give the same bytes on every machine.

Candidates of one request are distinct: where a popular ad is drawn twice, the repeat becomes the next less popular ad
that is free. This keeps the head as hot as real traffic makes it, for any catalogue size and exponent, at the cost of
one sort per request. Building 2 000 bodies of 100 candidates takes well under a second.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from loadtest.errors import WorkloadError
from loadtest.strict import StrictReadError, read_strict

PREDICT_PATH = "/v1/predict"
PREDICT_INSTANCES = 10
"""Instances of a predict body (fewer where there are fewer ads): a page of results, not a candidate set."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
ContextValue = str | int | float | bool | None


class Ids(msgspec.Struct, frozen=True):
    """The ids of one entity, most popular first: either listed, or counted behind a prefix."""

    ids: list[str | int] | None = None
    prefix: str | None = None
    count: Positive | None = None
    first: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the first id behind the prefix."""

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.ids) if self.ids is not None else self.count or 0

    def at(self, rank: int) -> str | int:
        """The id of popularity rank `rank`, 0 being the most popular."""
        return self.ids[rank] if self.ids is not None else f"{self.prefix}{self.first + rank}"


class NumberRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A context number drawn uniformly from [low, high], both ends included."""

    low: float
    high: float
    integer: bool = False


class Workload(msgspec.Struct, frozen=True):
    """A checked workload description; the fields are explained in the module's example."""

    users: Ids
    ads: Ids
    path: str = "/v1/rank"
    n_candidates: Positive = 100
    context: dict[str, list[ContextValue] | NumberRange] = {}
    top_k: Positive | None = None
    zipf_exponent: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.1
    predict_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    distinct_bodies: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 2_000
    seed: Annotated[int, msgspec.Meta(ge=0)] = 7

    def describe(self) -> str:
        """One line for a report."""
        return (
            f"POST {self.path}, {self.n_candidates} candidates of {self.ads.size} ads, {self.users.size} users, "
            f"Zipf exponent {self.zipf_exponent:g}, {self.distinct_bodies} distinct requests, seed {self.seed}"
        )

    def sha256(self) -> str:
        """Identity of the description, independent of the file's spacing and key order."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def read_workload(path: Path) -> Workload:
    """Read and check a workload file.

    Raises:
        WorkloadError: not there, not JSON, or a field is wrong; the message holds the file and the field's path.
    """
    try:
        workload = read_strict(msgspec.json.decode(path.read_bytes()), Workload)
        _check_ids(workload.users, "users")
        _check_ids(workload.ads, "ads")
        _check_request(workload)
        _check_context(workload)
    except OSError as error:
        raise WorkloadError(f"workload {path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise WorkloadError(f"workload {path}: not JSON: {error}") from error
    except StrictReadError as error:
        raise WorkloadError(f"workload {path}: {error}") from error
    return workload


def _check_ids(ids: Ids, path: str) -> None:
    listed, counted = ids.ids is not None, ids.prefix is not None and ids.count is not None
    if listed == counted or (listed and (ids.prefix is not None or ids.count is not None)):
        raise StrictReadError(f"{path}: expected either 'ids', or both 'prefix' and 'count'")
    if ids.ids is None:
        return
    if not ids.ids:
        raise StrictReadError(f"{path}.ids: expected at least one id, got an empty list")
    if len(set(map(str, ids.ids))) != len(ids.ids):
        raise StrictReadError(f"{path}.ids: expected distinct ids, got {len(ids.ids)} of which some are equal")


def _check_request(workload: Workload) -> None:
    path = workload.path
    if not path.startswith("/") or not path.isascii() or any(c.isspace() or not c.isprintable() for c in path):
        raise StrictReadError(f"path: expected an absolute HTTP path without spaces, got {path!r}")
    if workload.n_candidates > workload.ads.size:
        raise StrictReadError(
            f"n_candidates: expected at most the {workload.ads.size} ads there are, got {workload.n_candidates}"
        )


def _check_context(workload: Workload) -> None:
    for name, values in workload.context.items():
        path = f"context.{name}"
        if isinstance(values, list):
            if not values:
                raise StrictReadError(f"{path}: expected at least one value, got an empty list")
        elif not (math.isfinite(values.low) and math.isfinite(values.high) and values.low <= values.high):
            raise StrictReadError(f"{path}: expected finite low <= high, got low {values.low}, high {values.high}")
        elif values.integer and math.ceil(values.low) > math.floor(values.high):
            raise StrictReadError(f"{path}: no whole number lies between low {values.low} and high {values.high}")


def rank_bodies(workload: Workload) -> list[bytes]:
    """Build the distinct ranking requests as JSON bytes; the same workload gives the same bytes."""
    rng = np.random.default_rng(workload.seed)
    bodies = []
    for user_id, ad_ids, context in _draw(workload, workload.n_candidates, rng):
        request: dict[str, object] = {"user_id": user_id, "candidates": ad_ids, "context": context}
        if workload.top_k is not None:
            request["top_k"] = workload.top_k
        bodies.append(msgspec.json.encode(request))
    return bodies


def predict_bodies(workload: Workload) -> list[bytes]:
    """Build as many predict requests over the same users, ads and context: one user with a page of ads each."""
    rng = np.random.default_rng([workload.seed, 1])  # a stream of its own, so that ranking bodies do not depend on it
    n_instances = min(PREDICT_INSTANCES, workload.ads.size)
    return [
        msgspec.json.encode(
            {"instances": [{"user_id": user_id, "ad_id": ad_id, "context": context} for ad_id in ad_ids]}
        )
        for user_id, ad_ids, context in _draw(workload, n_instances, rng)
    ]


def _draw(
    workload: Workload, n_ads: int, rng: np.random.Generator
) -> list[tuple[str | int, list[str | int], dict[str, ContextValue]]]:
    """Draw user, distinct ads in random order, and context for each distinct body."""
    n = workload.distinct_bodies
    user_ranks = zipf_ranks(rng, workload.users.size, workload.zipf_exponent, (n,))
    ad_ranks = distinct_zipf_ranks(rng, workload.ads.size, workload.zipf_exponent, n, n_ads)
    contexts = {name: _draw_context(values, n, rng) for name, values in workload.context.items()}
    return [
        (
            workload.users.at(int(user_ranks[i])),
            [workload.ads.at(int(rank)) for rank in ad_ranks[i]],
            {name: values[i] for name, values in contexts.items()},
        )
        for i in range(n)
    ]


def zipf_ranks(rng: np.random.Generator, n_ids: int, exponent: float, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Draw ranks in [0, n_ids) with P(rank r) ∝ (r + 1)^-exponent, by the inverse of the distribution function."""
    cumulative = np.cumsum(np.arange(1, n_ids + 1, dtype=np.float64) ** -exponent)
    ranks: npt.NDArray[np.int64] = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1], side="right")
    return ranks


def distinct_zipf_ranks(
    rng: np.random.Generator, n_ids: int, exponent: float, n_rows: int, n_columns: int
) -> npt.NDArray[np.int64]:
    """Draw (n_rows, n_columns) Zipf ranks, distinct within a row and in random order; n_columns <= n_ids."""
    ranks = np.sort(zipf_ranks(rng, n_ids, exponent, (n_rows, n_columns)), axis=1)
    place = np.arange(n_columns)
    # Sorted ranks minus their place must not fall, or two are equal: the running maximum moves repeats to free ranks.
    ranks = np.maximum.accumulate(ranks - place, axis=1) + place
    ranks = np.minimum(ranks, n_ids - n_columns + place)  # the tail may have been pushed past the last id
    return rng.permuted(ranks, axis=1)


def _draw_context(values: Sequence[ContextValue] | NumberRange, n: int, rng: np.random.Generator) -> list[ContextValue]:
    if not isinstance(values, NumberRange):
        return [values[i] for i in rng.integers(len(values), size=n)]
    if values.integer:
        drawn: list[ContextValue] = rng.integers(math.ceil(values.low), math.floor(values.high) + 1, size=n).tolist()
        return drawn
    return [float(value) for value in rng.uniform(values.low, values.high, size=n)]
