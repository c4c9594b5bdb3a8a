"""Redis stands still for 50 ms, ten times, while requests keep coming.

The stalls are SIGSTOP and SIGCONT on a Redis that this proof started, so its connections stay open and nothing fails:
there is only silence, the worst that a store can do. Every answer's codes are read and held against the service's own
count; therefore no answer counts as warm-up, the comparison before it has been one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtest.generator_process import run_generator
from loadtest.results import EngineResult
from loadtest.suite.servers import Server
from service.settings import DeadlineSettings
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import ECHO, OURS, Arena, arena, baselines, service, w100
from tests.proofs.hot_path_pace import Pace
from tests.proofs.hot_path_processes import counter
from tests.proofs.hot_path_steady import figures, is_punctual

STALL_S = 0.05
RATE_PER_S = 1_000.0
SLACK_MS = 2.0
GENERATOR_STARTS_S = 1.0
"""About what a generator takes to start and prepare."""
GIVE_UP_S = 10.0
CODES = ("store_timeout", "store_down")
COUNTED = "clickserve_degraded_answers_total"
COUNTED_WITHIN_S = 3.0
"""Metrics are flushed four times a second."""


@dataclass
class Stalls:
    """Stops a process again and again, in a thread of its own."""

    pid: int
    n: int
    first_after_s: float
    apart_s: float
    lasted_ms: list[float] = field(default_factory=list)
    """How long each stall really was."""

    def run(self) -> None:
        """The stalls, in time; the process runs in the end whatever happens."""
        time.sleep(self.first_after_s)
        for _ in range(self.n):
            try:
                os.kill(self.pid, signal.SIGSTOP)
                began = time.perf_counter()
                time.sleep(STALL_S)
            finally:
                os.kill(self.pid, signal.SIGCONT)
            self.lasted_ms.append((time.perf_counter() - began) * 1e3)
            time.sleep(self.apart_s)


def redis_stalls(pace: Pace, scratch: Path) -> Outcome:
    """Latency, codes and errors of a run with stalls, beside the echo server's run without."""
    folder = w100()
    duration_s = pace.stalls * (pace.between_stalls_s + STALL_S) + pace.between_stalls_s
    with arena(folder, [service(folder), *baselines(folder, ECHO)], scratch, pace.warmup_s) as one:
        ours, log = one.server(OURS), scratch / f"{OURS}.log"
        echo = _open_loop(one, one.server(ECHO), duration_s)
        before = _counted(ours, log)
        stalls = Stalls(one.redis_pid, pace.stalls, pace.between_stalls_s + GENERATOR_STARTS_S, pace.between_stalls_s)
        thread = threading.Thread(target=stalls.run)
        thread.start()
        try:
            run = _open_loop(one, ours, duration_s)
        finally:
            thread.join()
        seen = sum(run.degraded.codes.get(code, 0) for code in CODES)
        counted = _counted_at_last(ours, log, before + seen) - before
    deadline_ms = DeadlineSettings().features_ms
    latency, echo_max_ms = run.latency, echo.latency.max_ms or 0.0
    p999_ms, max_ms = latency.p999_ms, latency.max_ms
    return Outcome.judged(
        f"deadline {deadline_ms:g} ms: p99 {_ms(latency.p99_ms)}, p99.9 {_ms(p999_ms)}, maximum {_ms(max_ms)} "
        f"(echo's {echo_max_ms:.2f}); {seen} of {run.n_ok} answers degraded {run.degraded.codes}, the service counted "
        f"{counted:.0f}",
        {
            "the generator was punctual": is_punctual(run),
            f"p99.9 ≤ {deadline_ms + SLACK_MS:g} ms": p999_ms is not None and p999_ms <= deadline_ms + SLACK_MS,
            "maximum ≤ that + the echo's": max_ms is not None and max_ms <= deadline_ms + SLACK_MS + echo_max_ms,
            "an answer was degraded in each stall": seen >= pace.stalls,
            "the service counted the same": counted == seen,
            f"no errors (got {run.errors})": not run.errors,
        },
        {"stalls_ms": stalls.lasted_ms, "ours": figures(run), "echo": figures(echo), "counted": counted},
    )


def _open_loop(one: Arena, server: Server, duration_s: float) -> EngineResult:
    """An open-loop run that reads the codes of every answer."""
    generators = one.generators
    questions = generators.questions.own(server.plan)
    out = generators.folder / "open-loop.json"
    command = [
        *(sys.executable, "-m", "loadtest.open_loop", "--url", server.target.url, "--prepared", str(questions.file)),
        *("--rate", repr(RATE_PER_S), "--duration", repr(duration_s), "--warmup", "0"),
        *("--sample-every", "1", "--out", str(out)),
    ]
    run_generator(
        "the open loop",
        command,
        expected_s=duration_s,
        limit_s=duration_s + GIVE_UP_S,
        cpu=generators.client_core,
        on_progress=lambda _fraction: None,
    )
    return msgspec.json.decode(out.read_bytes(), type=EngineResult)


def _counted(server: Server, log: Path) -> float:
    return sum(counter(server, log, COUNTED, code=code) for code in CODES)


def _counted_at_last(server: Server, log: Path, wanted: float) -> float:
    """The service's count once it is what was seen, or whatever it is at the deadline."""
    give_up = time.monotonic() + COUNTED_WITHIN_S
    while (counted := _counted(server, log)) != wanted and time.monotonic() < give_up:
        time.sleep(0.05)
    return counted


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} ms"
