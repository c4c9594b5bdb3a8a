"""One big simulated log for every promise that needs many impressions, and small ones made on request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation import N_LOG, N_SMALL, SEED, SimulatedLog


@pytest.fixture(scope="session")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the big log lies."""
    return tmp_path_factory.mktemp("simulated") / "log"


@pytest.fixture(scope="session")
def log(log_folder: Path) -> SimulatedLog:
    """The big log; read, never changed."""
    return SimulatedLog.made(log_folder, n_impressions=N_LOG, seed=SEED)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., SimulatedLog]:
    """Makes small logs, each in a folder of its own."""

    def make(name: str = "log", n_impressions: int = N_SMALL, seed: int = SEED, **arguments: object) -> SimulatedLog:
        return SimulatedLog.made(tmp_path / name, n_impressions=n_impressions, seed=seed, **arguments)

    return make
