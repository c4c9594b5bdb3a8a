"""Fixtures that any test may use: where the repository is, and the real logs that only some machines have."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as the command line sets it; before the first import
for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    # There is a test process a core. Idle threads of the linear algebra spin: a tenth of the suite's CPU time.
    os.environ.setdefault(pool, "1")

settings.register_profile("clickserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clickserve")  # no example is timed: a busy machine is slow, and that is not a failure

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spark's tests come first, in one process: at the end, idle processes would take some, and start a Java each."""
    items.sort(key=lambda item: item.path.name != "test_spark.py")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def default_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP as in a shell, for a test and what it starts: under `nohup` all would be deaf to SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_log() -> Callable[[str], Path]:
    """Path of a real log below `../shared/data`; skips where it is absent, because its licence keeps it out of here."""

    def find(name: str) -> Path:
        path = REPOSITORY.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"real log {name} is not on this machine; the same claim is tested on made data beside it")
        return path

    return find
