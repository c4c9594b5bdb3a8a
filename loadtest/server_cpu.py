"""CPU time and memory of the server's processes, read from /proc: what one answer costs, whatever the clock says.

Latency depends on what else the machine does; CPU seconds per answer hardly do. The kernel counts in ticks of 10 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of CPU, in the program and in the kernel on its behalf."""

    user_s: float
    system_s: float

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.user_s + self.system_s

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.user_s - earlier.user_s, self.system_s - earlier.system_s)


def cpu_time(process_ids: Iterable[int]) -> CpuTime | None:
    """CPU time spent so far by these processes together; children are not followed.

    Returns None where there are none, or one of them no longer exists: a sum that silently lost a process would be
    wrong in the flattering direction.
    """
    user_ticks, system_ticks, n_processes = 0, 0, 0
    for process_id in process_ids:
        try:
            status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = status.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
        user_ticks += int(fields[11])  # utime and stime, fields 14 and 15 of proc(5)
        system_ticks += int(fields[12])
        n_processes += 1
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return CpuTime(user_ticks / ticks_per_s, system_ticks / ticks_per_s) if n_processes else None


def cpu_seconds(process_ids: Iterable[int]) -> float | None:
    """User and system time together, in seconds; None as in `cpu_time`."""
    spent = cpu_time(process_ids)
    return None if spent is None else spent.total_s


class ScheduledTime(msgspec.Struct, frozen=True):
    """What the scheduler did with a set of processes."""

    ran_ms: float
    """On a core."""
    waited_ms: float
    """Ready to run, but other work had the cores: how much the machine was disturbed, as these processes felt it."""

    def __sub__(self, earlier: ScheduledTime) -> ScheduledTime:
        return ScheduledTime(self.ran_ms - earlier.ran_ms, self.waited_ms - earlier.waited_ms)


def scheduled_time(process_ids: Iterable[int]) -> ScheduledTime | None:
    """The scheduler's own account of the living threads of these processes so far.

    Exact where `cpu_time` counts ticks of 10 ms, so it tells what one second cost; a thread that ends takes its time
    with it. None as in `cpu_time`, and where the kernel keeps no such account.
    """
    ran_ns, waited_ns, n_threads = 0, 0, 0
    for process_id in process_ids:
        try:
            for thread in Path(f"/proc/{process_id}/task").iterdir():
                ran, waited, *_ = (thread / "schedstat").read_bytes().split()
                ran_ns += int(ran)
                waited_ns += int(waited)
                n_threads += 1
        except (OSError, ValueError):
            return None
    return ScheduledTime(ran_ns / 1e6, waited_ns / 1e6) if n_threads else None


def process_tree(process_id: int) -> tuple[int, ...]:
    """A process and its descendants as they are now, parents first; ended ones nobody waited for are left out."""
    found = [process_id]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):  # a child belongs to the thread that made it
            try:
                found += map(int, listed.read_text(encoding="ascii").split())
            except OSError:  # that thread ended meanwhile
                continue
    return tuple(pid for pid in found if not _has_ended(pid))


def _has_ended(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def memory_bytes(process_ids: Iterable[int]) -> int | None:
    """Proportional set size of these processes together: shared pages count once. None as in `cpu_time`."""
    kibibytes, n_processes = 0, 0
    for process_id in process_ids:
        try:
            rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            return None
        kibibytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        n_processes += 1
    return kibibytes * 1024 if n_processes else None
