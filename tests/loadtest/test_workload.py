"""A workload file gives skewed, distinct, reproducible requests, and says where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import WorkloadError
from loadtest.workload import distinct_zipf_ranks, predict_bodies, rank_bodies, read_workload, zipf_ranks

BASE: dict[str, Any] = {
    "users": {"ids": ["u9", 4, "u1"]},
    "ads": {"prefix": "a", "count": 500},
    "n_candidates": 100,
    "context": {"placement": ["p0", None, 3], "hour": {"low": 0, "high": 23, "integer": True}},
    "distinct_bodies": 200,
}


def write(path: Path, /, **changes: object) -> Path:
    """The base workload with some fields replaced; `...` removes a field."""
    content = {key: value for key, value in {**BASE, **changes}.items() if value is not ...}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the workload is written."""
    return tmp_path / "w.json"


def test_bodies_are_ranking_requests_with_distinct_candidates(path: Path) -> None:
    """A duplicate candidate would be answered with 422, and measured as a fast service."""
    bodies = [json.loads(body) for body in rank_bodies(read_workload(write(path)))]

    assert len(bodies) == 200
    assert all(len(set(body["candidates"])) == len(body["candidates"]) == 100 for body in bodies)
    assert {body["user_id"] for body in bodies} <= {"u9", 4, "u1"}
    assert {body["context"]["placement"] for body in bodies} == {"p0", None, 3}
    assert all(body["context"]["hour"] in range(24) for body in bodies)
    assert not any("top_k" in body for body in bodies)


def test_popular_ids_are_asked_for_more_often(path: Path) -> None:
    """Uniform traffic would flatter no cache and starve none; real traffic has a head."""
    ranks = zipf_ranks(np.random.default_rng(1), 1000, 1.0, (200_000,))

    counts = np.bincount(ranks, minlength=1000)

    harmonic = (1 / np.arange(1, 1001)).sum()
    expected = 200_000 / harmonic / np.array([1, 2, 10, 100])
    assert counts[[0, 1, 9, 99]] == pytest.approx(expected, rel=0.1)


@given(st.integers(1, 60), st.integers(0, 100), st.floats(0, 10), st.integers(0, 2**32))
def test_candidates_are_distinct_ids_for_any_catalogue_and_exponent(
    n_columns: int, n_spare: int, exponent: float, seed: int
) -> None:
    """Also where a steep exponent draws the same ad a hundred times, or every ad must be a candidate."""
    n_ids = n_columns + n_spare

    ranks = distinct_zipf_ranks(np.random.default_rng(seed), n_ids, exponent, 5, n_columns)

    assert ranks.shape == (5, n_columns)
    assert ((ranks >= 0) & (ranks < n_ids)).all()
    assert all(len(set(row)) == n_columns for row in ranks.tolist())


def test_the_same_file_gives_the_same_bytes(path: Path) -> None:
    """A number can be compared with last month's because the requests were the same."""
    workload = read_workload(write(path))
    other = read_workload(write(path, seed=8))

    assert rank_bodies(workload) == rank_bodies(workload)
    assert rank_bodies(workload) != rank_bodies(other)
    assert workload.sha256() != other.sha256()


def test_top_k_is_sent_where_it_is_given(path: Path) -> None:
    """Otherwise the service's own default holds."""
    bodies = rank_bodies(read_workload(write(path, top_k=5)))

    assert all(json.loads(body)["top_k"] == 5 for body in bodies)


def test_predict_bodies_are_a_page_of_instances(path: Path) -> None:
    """Locust sends a few of them beside the ranking requests."""
    bodies = [json.loads(body) for body in predict_bodies(read_workload(write(path)))]

    assert all(len(body["instances"]) == 10 for body in bodies)
    assert all(set(instance) == {"user_id", "ad_id", "context"} for body in bodies for instance in body["instances"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"n_candidate": 5}, "n_candidate: unknown key; did you mean 'n_candidates'?"),
        ({"users": ...}, "users: required, but not there"),
        ({"users": {"prefix": "u"}}, "users: expected either 'ids', or both 'prefix' and 'count'"),
        ({"users": {"ids": ["u1"], "count": 3}}, "users: expected either 'ids', or both 'prefix' and 'count'"),
        ({"users": {"prefx": "u", "count": 3}}, "users.prefx: unknown key; did you mean 'prefix'?"),
        ({"users": {"ids": []}}, "users.ids: expected at least one id, got an empty list"),
        ({"ads": {"ids": ["a1", 2.5]}}, "ads.ids[1]: expected int | str, got float"),
        ({"ads": {"ids": ["1", 1]}, "n_candidates": 1}, "ads.ids: expected distinct ids, got 2"),
        ({"n_candidates": 501}, "n_candidates: expected at most the 500 ads there are, got 501"),
        ({"n_candidates": "many"}, "n_candidates: expected int, got str"),
        ({"context": {"hour": {"low": 5, "high": 2}}}, "context.hour: expected finite low <= high, got low 5.0"),
        ({"context": {"hour": {"low": 0.2, "high": 0.8, "integer": True}}}, "context.hour: no whole number lies"),
        ({"context": {"hour": {"low": 0}}}, "context.hour: object missing required field high"),
        ({"context": {"placement": []}}, "context.placement: expected at least one value"),
        ({"context": {"placement": [["p0"]]}}, "context.placement[0]: expected"),
        ({"path": "v1/rank"}, "path: expected an absolute HTTP path"),
        ({"path": "/v1/rank\r\nX-Evil: 1"}, "path: expected an absolute HTTP path"),
        ({"zipf_exponent": -1}, "zipf_exponent: expected float >= 0"),
        ({"top_k": 0}, "top_k: expected int >= 1"),
    ],
)
def test_a_wrong_field_is_named_with_its_path(path: Path, change: dict[str, object], complaint: str) -> None:
    """A workload that is silently read otherwise than meant is a wrong measurement."""
    write(path, **change)

    with pytest.raises(WorkloadError) as raised:
        read_workload(path)

    assert str(raised.value).startswith(f"workload {path}: {complaint}")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_a_file_that_is_no_json_object_is_refused(path: Path, content: bytes) -> None:
    """A torn file must not end in a traceback."""
    path.write_bytes(content)

    with pytest.raises(WorkloadError, match=r"not JSON|expected an object"):
        read_workload(path)


def test_a_missing_file_is_named(path: Path) -> None:
    """The most common mistake of all."""
    with pytest.raises(WorkloadError, match=r"w\.json: cannot be read: No such file"):
        read_workload(path)
