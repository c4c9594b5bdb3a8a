"""The machine and the interpreter: what makes every request a little slower.

Reads /proc and /sys; where a file is absent (another system, another version of control groups) nothing is claimed.
"""

from __future__ import annotations

import importlib
import math
import os
import platform
from importlib import metadata
from pathlib import Path

from service.checkup.finding import Finding, ok, warning
from service.settings import Settings

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
CGROUP = Path("/sys/fs/cgroup")
WANTED_OPEN_FILES = 4_096

_FAST_PARTS = {
    "uvloop": "the event loop; without it a request costs about twice the time",
    "httptools": "the HTTP parser; without it the server does not start",
    "hiredis": "the parser of Redis answers; without it every read costs several times more",
}


def check_machine(settings: Settings, cgroup: Path = CGROUP) -> list[Finding]:
    """All findings about this machine."""
    return [
        _python(tuple(int(part) for part in platform.python_version_tuple()[:2])),
        *(_fast_part(name, purpose) for name, purpose in _FAST_PARTS.items()),
        _workers(settings.server.workers, cores_to_use(cgroup)),
        *_throttling(cgroup),
        *_listen_queue(settings.server.backlog),
        _open_files(),
    ]


def cores_to_use(cgroup: Path = CGROUP) -> float:
    """Cores this process may use at a time: the smaller of its CPU mask and its control group's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = _cpu_quota(cgroup)
    return cores if quota is None else min(cores, quota)


def _cpu_quota(cgroup: Path) -> float | None:
    """Quota over period, in cores; None where there is no limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
    except OSError:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _python(version: tuple[int, ...]) -> Finding:
    seen = platform.python_version()
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return ok("python", seen)
    return warning("python", seen, "clickserve is tested on Python 3.11 to 3.14; use one of these")


def _fast_part(name: str, purpose: str) -> Finding:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return warning(name, f"cannot be imported: {error}", f"install it: pip install {name} ({purpose})")
    return ok(name, metadata.version(name))


def _workers(workers: int, cores: float) -> Finding:
    seen = f"{workers} worker{'s' * (workers != 1)} on {cores:g} core{'s' * (cores != 1)}"
    if workers > cores:
        fitting = max(1, math.floor(cores))
        return warning("workers", seen, f"set server.workers = {fitting}: more of them only wait for one another")
    return ok("workers", seen)


def _throttling(cgroup: Path) -> list[Finding]:
    """Whether the control group has stopped this process for using up its quota."""
    try:
        text = (cgroup / "cpu.stat").read_text()
    except OSError:
        return []
    counts = dict(line.split() for line in text.splitlines())
    throttled, periods = int(counts.get("nr_throttled", 0)), int(counts.get("nr_periods", 0))
    if throttled:
        return [
            warning(
                "cpu quota",
                f"throttled in {throttled} of {periods} periods",
                "raise the CPU limit or remove it: each time all requests stop for up to 100 ms",
            )
        ]
    return [ok("cpu quota", f"not throttled in {periods} periods")]


def _listen_queue(backlog: int) -> list[Finding]:
    try:
        somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except OSError:
        return []
    if somaxconn < backlog:
        advice = f"sysctl net.core.somaxconn={backlog}, or bursts of new connections wait a second and try again"
        return [warning("listen queue", f"net.core.somaxconn is {somaxconn}, server.backlog is {backlog}", advice)]
    return [ok("listen queue", f"{backlog} connections")]


def _open_files() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED_OPEN_FILES:
        return warning(
            "open files", f"limit {soft}", f"raise it (ulimit -n {WANTED_OPEN_FILES}): every connection is an open file"
        )
    return ok("open files", "no limit" if soft == resource.RLIM_INFINITY else f"limit {soft}")
