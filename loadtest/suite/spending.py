"""Spending: where a server's time goes.

Three views that need nothing from the server's author: the stages it reports of itself in its `Server-Timing` header
(median over requests sent one at a time, so without queueing); the libraries its CPU samples fall into, by `perf` while
a closed loop keeps it busy; and the memory of all its processes, shared pages counted once. The split of CPU into user
and system time stands in every run's bill.

perf samples 499 times a second and costs a few percent, so no other figure is taken from those runs. It is not part of
Python; where it is not installed or not allowed, that view is left out.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from loadtest.child_process import child_process, terminate
from loadtest.server_cpu import memory_bytes
from loadtest.suite.generators import Generators
from loadtest.suite.results import Spending
from loadtest.suite.servers import Server
from loadtest.target import PROBE_TIMEOUT_S, Target

_STAGE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*;[^,]*?\bdur=([0-9.]+)")
_SHARE = re.compile(r"^\s*([0-9.]+)%\s+(\S.*?)\s*$")
_SAMPLES_PER_S = 499
"""Not 500: a server that does something every 2 ms must not always be seen doing it."""
_SMALLEST_SHARE = 0.01
_PERF_TIMEOUT_S = 60
STAGE_REQUESTS = 200


def stages_us(headers: Iterable[str]) -> dict[str, float]:
    """Median microseconds of each stage over `Server-Timing` values such as `features;dur=0.21, model;dur=0.1`."""
    durations_us: dict[str, list[float]] = {}
    for header in headers:
        for stage, duration_ms in _STAGE.findall(header):
            durations_us.setdefault(stage, []).append(float(duration_ms) * 1e3)
    return {stage: statistics.median(values) for stage, values in durations_us.items()}


def libraries_of(report: str) -> dict[str, float]:
    """Shares by library from `perf report --sort dso --stdio`, the largest first; below 1 % they are `other`."""
    shares: dict[str, float] = {}
    for line in report.splitlines():
        found = _SHARE.match(line)
        if found:
            name = _short(found[2])
            shares[name] = shares.get(name, 0.0) + float(found[1]) / 100
    shown = {name: share for name, share in shares.items() if share >= _SMALLEST_SHARE}
    rest = sum(shares.values()) - sum(shown.values())
    ordered = dict(sorted(shown.items(), key=lambda item: -item[1]))
    return {**ordered, "other": rest} if rest > 1e-9 else ordered


def _short(library: str) -> str:
    """`loop.cpython-311-x86_64-linux-gnu.so` is `loop`; `[kernel.kallsyms]` is `kernel`."""
    if library.startswith("[kernel"):
        return "kernel"
    library = library.removesuffix(" (deleted)")  # replaced on disk while it runs
    name = re.sub(r"(\.cpython-[^.]*|\.abi3)?\.so(\.[0-9.]+)?$", "", library)
    return re.sub(r"-[0-9a-f]{8,}$", "", name)


def measure_spending(generators: Generators, server: Server, n_candidates: int) -> Spending:
    """Look at one server: its own stages, its CPU samples, its memory."""
    requests = generators.questions.own(server.plan).requests
    stages = stages_us(_server_timings(server.target, requests.path, requests.bodies[:STAGE_REQUESTS]))
    with tempfile.TemporaryDirectory(prefix="clickserve-perf-") as folder:
        samples = Path(folder) / "perf.data"
        with _sampled(server.process_ids(), samples):
            generators.closed(server, n_candidates, generators.plan.spending_s)
        libraries = libraries_of(_report(samples)) if samples.exists() else {}
    process_ids = server.process_ids()
    return Spending(server.name, stages, libraries, memory_bytes(process_ids), len(process_ids))


def _server_timings(target: Target, path: str, bodies: Sequence[bytes]) -> Iterator[str]:
    connection = HTTPConnection(target.host, target.port, timeout=PROBE_TIMEOUT_S)
    try:
        for body in bodies:
            connection.request("POST", target.base_path + path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            yield response.getheader("Server-Timing") or ""
    finally:
        connection.close()


@contextmanager
def _sampled(process_ids: Sequence[int], samples: Path) -> Iterator[None]:
    """Let perf watch these processes meanwhile; without perf nothing is written."""
    perf = shutil.which("perf")
    if perf is None:
        yield
        return
    watched = ",".join(map(str, process_ids))
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(_SAMPLES_PER_S), "-p", watched, "-o", str(samples)]
    with child_process(command, lambda process: terminate(process, _PERF_TIMEOUT_S)):  # it writes its file and goes
        yield


def _report(samples: Path) -> str:
    command = ["perf", "report", "-i", str(samples), "--sort", "dso", "--stdio", "-q"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PERF_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""
