"""Workers die; the service does not."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from tests.artifacts import ServedProject
from tests.e2e.load import Load
from tests.e2e.service_process import ServiceProcess, is_running, service, until

ROUTE = "/v1/rank"


def ready_workers(process: ServiceProcess) -> dict[int, int]:
    """Process id of each worker that is ready, by number."""
    return {worker["worker"]: worker["pid"] for worker in process.workers() if worker["state"] == "ready"}


async def test_a_killed_worker_costs_only_its_requests_in_flight(arguments: list[str], project: ServedProject) -> None:
    """The other one takes the connections that wait, and the parent replaces the dead."""
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        before = ready_workers(process)
        load = Load(process.port, project.rank_request(), n_connections=8)

        async with load:
            await load.has_answered(500)
            counted = await asyncio.to_thread(process.counter, "clickserve_requests_total", route=ROUTE)
            os.kill(before[0], signal.SIGKILL)
            await asyncio.to_thread(
                until, lambda: ready_workers(process).get(0, before[0]) != before[0], "a new worker is ready"
            )
            counted_after_death = await asyncio.to_thread(process.counter, "clickserve_requests_total", route=ROUTE)
            await load.has_answered(500)

        assert set(load.statuses) == {200}
        assert load.refused == 0
        assert len(load.lost) <= load.n_connections
        assert counted_after_death >= counted
        total = process.counter("clickserve_requests_total", route=ROUTE)
        assert load.answered <= total <= load.answered + len(load.lost)
        assert process.counter("clickserve_worker_restarts_total") == 1
        assert process.counter("clickserve_workers") == 2


async def test_a_hanging_worker_is_replaced(arguments: list[str], project: ServedProject) -> None:
    """It lives for the system and is dead for its callers: only its silence tells."""
    with service(*arguments, "--workers", "2", "--set", "server.hang_ms=1000") as process:
        process.wait_for("ready")
        before = ready_workers(process)
        os.kill(before[0], signal.SIGSTOP)

        hung = process.wait_for("a worker hangs and is killed")
        process.wait_for("ready", count=2)
        async with Load(process.port, project.rank_request(), n_connections=8) as load:
            await load.has_answered(100)

        after = ready_workers(process)
        assert (hung["worker"], hung["hanging_pid"], hung["silent_ms"]) == (0, before[0], 1000.0)
        assert after[0] != before[0]
        assert after[1] == before[1]
        assert (set(load.statuses), load.lost) == ({200}, [])
        assert process.counter("clickserve_worker_hangs_total") == 1
        assert process.counter("clickserve_worker_restarts_total") == 1


async def test_counts_survive_a_worker_exactly(arguments: list[str], project: ServedProject) -> None:
    """A worker that dies at rest takes no count with it, and its successor counts on."""
    with service(*arguments) as process:
        process.wait_for("ready")
        load = Load(process.port, project.rank_request(), n_connections=4)
        for n_deaths in range(2):
            async with load:
                await load.has_answered(100)
            assert process.counter("clickserve_requests_total", route=ROUTE) == load.answered
            os.kill(ready_workers(process)[0], signal.SIGKILL)
            process.wait_for("ready", count=n_deaths + 2)

        assert process.counter("clickserve_requests_total", route=ROUTE) == load.answered
        assert load.lost == []


async def test_both_workers_get_connections(arguments: list[str], project: ServedProject) -> None:
    """They accept from one socket; neither may take all of a burst."""
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        load = Load(process.port, project.rank_request(), n_connections=32)

        async with load:
            await load.has_answered(1000)
            held = [_connections_of(pid, process.port) for pid in ready_workers(process).values()]

        assert sum(held) == load.n_connections
        assert min(held) >= load.n_connections // 3


async def test_workers_do_not_outlive_their_parent(arguments: list[str]) -> None:
    """An orphan would hold the port against the next start."""
    with service(*arguments, "--workers", "2") as process:
        process.wait_for("ready")
        pids = ready_workers(process).values()

        process.signal(signal.SIGKILL)
        process.wait()

        until(lambda: not any(is_running(pid) for pid in pids), "the workers end by themselves")


async def test_a_worker_that_keeps_dying_is_replaced_with_pauses(arguments: list[str]) -> None:
    """The first time at once, then slower and slower: a crash loop must not eat the machine."""
    with service(*arguments) as process:
        process.wait_for("ready")
        for n_deaths in range(1, 4):
            os.kill(ready_workers(process)[0], signal.SIGKILL)
            process.wait_for("ready", count=n_deaths + 1)

        pauses = [line["pause_s"] for line in process.log if line["msg"] == "a worker ended and is replaced"]

        assert pauses == [0.0, 0.25, 0.5]


async def test_a_replacement_that_cannot_begin_is_tried_again(
    arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """A model that was damaged on disk while it serves costs no answer, and no restart of the service once mended."""
    registry_dir = tmp_path / "registry"
    shutil.copytree(project.registry_dir, registry_dir)
    (graph,) = registry_dir.rglob("model.onnx")
    whole = graph.read_bytes()
    with service(*arguments, "--registry", str(registry_dir), "--workers", "2") as process:
        process.wait_for("ready")
        graph.write_bytes(whole[:-1])

        os.kill(ready_workers(process)[0], signal.SIGKILL)
        refused = process.wait_for("a worker ended and is replaced", count=2)
        async with Load(process.port, project.rank_request(), n_connections=2) as load:
            await load.has_answered(50)
        graph.write_bytes(whole)
        process.wait_for("ready", count=2)

        assert "model.onnx" in refused["error"]
        assert (set(load.statuses), load.lost) == ({200}, [])


async def test_a_replacement_without_champion_names_what_is_gone(
    arguments: list[str], project: ServedProject, tmp_path: Path
) -> None:
    """One was served, so it is not the gate that says no; where nothing was ever promoted, it is."""
    registry_dir = tmp_path / "registry"
    shutil.copytree(project.registry_dir, registry_dir)
    champion = registry_dir / "default" / "champion"
    named = champion.read_text()
    with service(*arguments, "--registry", str(registry_dir)) as process:
        process.wait_for("ready")
        champion.unlink()
        process.wait_for("the registry names no champion, the old one keeps serving")

        os.kill(ready_workers(process)[0], signal.SIGKILL)
        refused = process.wait_for("a worker ended and is replaced", count=2)
        champion.write_text(named)
        process.wait_for("ready", count=2)

        assert f"{champion} is not there any more" in refused["error"]
        assert "no model passed the gate" not in refused["error"]


async def test_a_signal_meant_for_the_service_does_not_end_a_worker(arguments: list[str]) -> None:
    """systemd and terminals signal every process of a service; the order of the end is the parent's."""
    with service(*arguments) as process:
        process.wait_for("ready")
        pid = ready_workers(process)[0]

        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        process.signal(signal.SIGTERM)

        assert process.wait() == 0
        assert not any(line["msg"] == "a worker ended and is replaced" for line in process.log)


def _connections_of(pid: int, port: int) -> int:
    """Accepted connections to a port that a process holds."""
    open_files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]  # noqa: PTH115
    inodes = {name.removeprefix("socket:[").rstrip("]") for name in open_files if name.startswith("socket:[")}
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    return sum(
        fields[1].endswith(f":{port:04X}") and fields[3] == established and fields[9] in inodes for fields in sockets
    )
