"""Where a number was measured: processor, cores, load before the run, versions, and the commit of this checkout.

A latency without these is not a measurement. Nothing here identifies a person or a host name.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import msgspec

REPOSITORY = Path(__file__).parents[1]
_VERSIONS_OF = ("uvloop", "httptools", "msgspec", "numpy", "locust", "uvicorn", "fastapi", "onnxruntime", "redis")
_GIT_TIMEOUT_S = 10


class Machine(msgspec.Struct, frozen=True):
    """The machine the generators ran on (and the server, where the URL is a loopback address)."""

    cpu_model: str
    cores: int
    """Cores of the machine."""
    cores_allowed: int
    """Cores this process may use; fewer in a container or under taskset."""
    cpu_quota: float | None
    """Cores' worth of CPU time the control group grants, or None for no limit."""
    load_average_1m: float
    """Before the run. On an idle machine it is near 0; other work shows here first."""
    memory_bytes: int
    os: str
    python: str
    versions: dict[str, str]


def read_machine() -> Machine:
    """Describe this machine now."""
    return Machine(
        cpu_model=_cpu_model(),
        cores=os.cpu_count() or 1,
        cores_allowed=len(os.sched_getaffinity(0)),
        cpu_quota=_cpu_quota(),
        load_average_1m=round(os.getloadavg()[0], 2),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        os=f"{_distribution()}, Linux {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=dict(sorted(_installed().items())),
    )


def read_commit(checkout: Path = REPOSITORY) -> str:
    """Commit of the checkout, with `+dirty` where tracked files differ from it, or the reason why it is not known."""
    git = shutil.which("git")
    if git is None:
        return "unknown (no git)"

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [git, "--no-optional-locks", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)

    try:
        head = ask("rev-parse", "--verify", "HEAD")
        if head.returncode != 0:
            return "unknown (not a git checkout with a commit)"
        changed = ask("status", "--porcelain", "--untracked-files=no").stdout.strip()
    except subprocess.TimeoutExpired:
        return "unknown (git did not answer)"
    return head.stdout.strip() + ("+dirty" if changed else "")


def _cpu_model() -> str:
    """The processor's name; ARM kernels give none, there the architecture has to do."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _cpu_quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):  # control groups of version 1, or none
        return None
    return None if quota == "max" else int(quota) / int(period)


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        return "unknown distribution"


def _installed() -> dict[str, str]:
    found = {}
    for name in _VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the generators run where the service is not installed
    return found
