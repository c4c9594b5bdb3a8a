"""Metrics that are collected and added later are the metrics that were observed."""

from __future__ import annotations

import subprocess
import sys
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.batched_histogram import STEP_VALUES, BatchedHistogram
from service.telemetry import P_CLICK_BUCKETS, SupervisorTelemetry, Telemetry, exposition
from tests.conftest import REPOSITORY


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of an exposition by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.floats(0, 3, allow_nan=False), max_size=30), st.lists(st.floats(0, 3), max_size=30))
def test_a_batch_equals_single_observations(singles: list[float], many: list[float]) -> None:
    """On the bounds of buckets, above the last one, and with nothing at all."""
    bounds = (0.5, 1.0, 2.0)
    batched, plain = (
        Histogram("h", "text", buckets=bounds, registry=CollectorRegistry()),
        Histogram("h", "text", buckets=bounds, registry=CollectorRegistry()),
    )
    batch = BatchedHistogram(batched)

    for value in singles:
        batch.add(value)
    batch.add_all(np.array(many))
    for _ in batch.flushing():
        pass
    for value in [*singles, *many]:
        plain.observe(value)

    got, wanted = ({s.labels.get("le", s.name): s.value for s in h.collect()[0].samples} for h in (batched, plain))
    assert got.pop("h_sum") == pytest.approx(wanted.pop("h_sum"))
    got.pop("h_created"), wanted.pop("h_created")
    assert got == wanted


def test_requests_count_at_once_and_the_rest_at_the_flush() -> None:
    """A killed worker may lose detail, never the number of its answers."""
    telemetry = Telemetry()
    telemetry.answered("/v1/rank", 200, 0.001)
    telemetry.scored("default", np.array([0.25, 0.5]))
    telemetry.degraded(["store_down"])

    before = samples(exposition(telemetry.registry).decode())
    telemetry.flush()
    after = samples(exposition(telemetry.registry).decode())

    requests = ("clickserve_requests_total", (("code", "200"), ("route", "/v1/rank")))
    candidates = ("clickserve_candidates_total", ())
    assert (before[requests], before[candidates]) == (1, 0)
    assert (after[requests], after[candidates]) == (1, 2)
    assert after["clickserve_degraded_answers_total", (("code", "store_down"),)] == 1
    assert after["clickserve_p_click_sum", (("model", "default"),)] == 0.75


def test_a_flush_goes_in_steps_and_one_that_is_called_off_loses_nothing() -> None:
    """Between two steps requests are answered, and the process may end."""
    telemetry = Telemetry()
    for _ in range(3):
        telemetry.scored("default", np.full(STEP_VALUES, 0.5))

    called_off = telemetry.flushing()
    next(called_off), next(called_off)
    half_way = samples(exposition(telemetry.registry).decode())
    telemetry.flush()
    after = samples(exposition(telemetry.registry).decode())

    count = ("clickserve_p_click_count", (("model", "default"),))
    assert (half_way[count], after[count]) == (STEP_VALUES, 3 * STEP_VALUES)


def test_what_should_not_happen_is_counted_from_zero() -> None:
    """A series that begins with its first event has no rate of it, and nobody finds its name before."""
    seen = samples(exposition(Telemetry().registry).decode())

    assert seen["clickserve_shed_total", (("reason", "queue_time"),)] == 0
    assert seen["clickserve_degraded_answers_total", (("code", "store_down"),)] == 0
    assert seen["clickserve_store_errors_total", (("op", "snapshot"),)] == 0
    assert seen["clickserve_served_log_dropped_total", (("reason", "no_room"),)] == 0
    assert seen["clickserve_served_log_rows_total", ()] == 0


def test_a_model_that_left_its_slot_shows_zero() -> None:
    """One is what serves."""
    telemetry = Telemetry()
    for version, serves in (("v1", True), ("v1", False), ("v2", True)):
        telemetry.model_serves(
            name="default", version=version, variant="champion", core_sha256="c", plan="trees", serves=serves
        )

    info = {
        dict(labels)["version"]: value
        for (name, labels), value in samples(exposition(telemetry.registry).decode()).items()
        if name == "clickserve_model_info"
    }

    assert info == {"v1": 0, "v2": 1}


def test_figures_that_a_new_model_lacks_do_not_stay_those_of_the_old_one() -> None:
    """An imported model promises nothing; the promise of the one before it would be a lie."""
    telemetry = Telemetry()
    telemetry.model_figures("default", {"calibration_ratio": 1.02}, [1.0] * len(P_CLICK_BUCKETS))
    told = samples(exposition(telemetry.registry).decode())
    telemetry.model_figures("default", {"click_rate": 0.1}, [])

    then = samples(exposition(telemetry.registry).decode())

    default = (("model", "default"),)
    share = "clickserve_model_reference_p_click_share", (("bound", "0.01"), *default)
    assert (told["clickserve_model_calibration_ratio", default], told[share]) == (1.02, 1)
    assert isnan(then["clickserve_model_calibration_ratio", default])
    assert isnan(then[share])
    assert then["clickserve_model_click_rate", default] == 0.1


def test_a_model_without_figures_tells_none() -> None:
    """NaN on a panel where nothing ever was is a question; an empty one is an answer."""
    telemetry = Telemetry()

    telemetry.model_figures("default", {}, [])

    assert not [name for name, _ in samples(exposition(telemetry.registry).decode()) if "clickserve_model_" in name]


def test_the_parent_counts_workers_and_restarts() -> None:
    """Operators are woken by these two."""
    telemetry = SupervisorTelemetry()
    telemetry.workers(2)
    telemetry.worker_restarted()

    got = samples(exposition(telemetry.registry).decode())

    assert got["clickserve_workers", ()] == 2
    assert got["clickserve_worker_restarts_total", ()] == 1


def test_processes_add_up_and_the_dead_keep_their_counts(tmp_path: Path) -> None:
    """Two workers count in files of their own; one is forgotten, and only its gauges go."""
    code = """
import os, sys
from service.telemetry import Telemetry
telemetry = Telemetry()
telemetry.answered("/v1/rank", 200, 0.001)
telemetry.levels(inflight=3, table_rows=int(sys.argv[1]), table_age_s=0.0)
telemetry.flush()
print(os.getpid())
"""
    summing = """
import sys
from prometheus_client import CollectorRegistry
from service.telemetry import exposition, forget_process
forget_process(int(sys.argv[1]))
print(exposition(CollectorRegistry()).decode())
"""

    def run(*arguments: str) -> str:
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        command = [sys.executable, "-c", *arguments]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
        ).stdout

    dead = run(code, "10").strip()
    run(code, "20")
    got = samples(run(summing, dead))

    assert got["clickserve_requests_total", (("code", "200"), ("route", "/v1/rank"))] == 2
    assert got["clickserve_inflight_requests", ()] == 3
    assert got["clickserve_item_table_rows", ()] == 20
