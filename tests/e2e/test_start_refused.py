"""A service that cannot begin says why in one line, and its exit status says whose fault it is."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from tests.artifacts import ServedProject
from tests.e2e.service_process import ServiceProcess, service

FAILURE, USAGE, DEPENDENCY_DOWN = 1, 2, 69


def last_words(process: ServiceProcess) -> str:
    """The message of the last line; fails where any line holds a traceback, or stdout anything."""
    assert process.stdout() == ""
    assert "Traceback" not in "".join(process.lines)
    assert process.log[-1]["level"] == "error"
    return str(process.log[-1]["msg"])


def test_a_port_in_use_ends_the_start(arguments: list[str]) -> None:
    """Restarting would not free it; the operator must know which port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with service(*arguments, "--port", str(port)) as process:
            assert process.wait() == FAILURE
            assert f"cannot listen on 127.0.0.1:{port}: address already in use" in last_words(process)


def test_a_registry_without_a_model_ends_the_start(arguments: list[str], tmp_path: Path) -> None:
    """With nothing to serve, a service that waits looks healthy to nobody and is of use to nobody."""
    with service(*arguments, "--registry", str(tmp_path / "empty")) as process:
        assert process.wait() == USAGE
        assert str(tmp_path / "empty") in last_words(process)


def test_a_damaged_model_ends_the_start(arguments: list[str], project: ServedProject, tmp_path: Path) -> None:
    """One byte is enough; both workers find it, one message tells, and nobody tries again."""
    registry_dir = tmp_path / "damaged"
    shutil.copytree(project.registry_dir, registry_dir, symlinks=True)
    (graph,) = registry_dir.rglob("model.onnx")
    damaged = bytearray(graph.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    graph.chmod(0o644)
    graph.write_bytes(damaged)

    with service(*arguments, "--registry", str(registry_dir), "--workers", "2") as process:
        assert process.wait() == FAILURE
        assert "model.onnx" in last_words(process)
        assert [line["level"] for line in process.log].count("error") == 1


def test_a_store_that_is_down_ends_the_first_start(project: ServedProject, tmp_path: Path) -> None:
    """Without a snapshot on disk there is no item to score; the exit status says: a dependency, not you."""
    with service(
        *("--registry", str(project.registry_dir)),
        *("--set", f"redis.url=unix://{tmp_path / 'nobody.sock'}"),
        *("--set", f"items.snapshot_dir={tmp_path / 'items'}"),
    ) as process:
        assert process.wait() == DEPENDENCY_DOWN
        assert "nobody.sock" in last_words(process)


def test_settings_that_contradict_end_the_start(tmp_path: Path) -> None:
    """Before anything is opened, and in words instead of log lines: a person has just typed them."""
    with service("--set", "deadline.features_ms=40", "--set", "deadline.total_ms=30") as process:
        assert process.wait() == USAGE
        assert "deadline.features_ms = 40 must be less than deadline.total_ms = 30" in "".join(process.lines)


def test_a_token_file_that_cannot_be_read_ends_the_start(arguments: list[str], tmp_path: Path) -> None:
    """An admin port without its token would be open to everybody."""
    with service(*arguments, "--set", f"admin.token_file={tmp_path / 'absent'}") as process:
        assert process.wait() == USAGE
        assert "admin.token_file" in last_words(process)
