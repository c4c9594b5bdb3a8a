"""The report one shows around: its page holds at two widths, and two reports tell a planted slow-down from none.

Two checkouts serve the same demo in turns: this one, and a clone of it with one commit more, which burns a fifth of a
request's CPU time in the hot path. Each round starts its own service, so that a fortunate start is not compared with an
unfortunate one; the order within pairs alternates. Wants a quiet machine: where the generator is late in every round
there is nothing to compare, and that is an error here.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtest.comparing.sides import judged
from loadtest.report import Report
from tests.loadtest.page_layout import CHROMIUM, WIDTHS_PX, faults
from tests.proofs.claim import REPOSITORY, Claim, Outcome

SLOWER = 0.2
PLANTED = """

# Planted by a proof: burns this thread's CPU time before each ranking.
_NS = {ns}
_unburdened = HotPath.__call__


async def _burdened(self: HotPath, scope: Message, receive: Receive, send: Send) -> None:
    import time

    end_ns = time.thread_time_ns() + _NS
    while time.thread_time_ns() < end_ns:
        pass
    await _unburdened(self, scope, receive, send)


HotPath.__call__ = _burdened  # type: ignore[method-assign]
"""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    equal_tries: int
    slow_tries: int
    rounds: int
    seconds: int
    rate_per_s: int
    sweep_s: int
    budgets: str = ""
    """Of the generator's punctuality, in place of ours; empty for those of loadtest/budgets.toml."""

    @property
    def most_false_alarms(self) -> int:
        """One in twenty."""
        return self.equal_tries // 20


FULL = Effort(equal_tries=20, slow_tries=3, rounds=3, seconds=6, rate_per_s=300, sweep_s=5)
ON_ANY_MACHINE = "[rank]\np99_ms = 200.0\n[generator]\nlateness_p99_ms = 1000.0\n"
SHORT = Effort(equal_tries=1, slow_tries=1, rounds=2, seconds=4, rate_per_s=200, sweep_s=1, budgets=ON_ANY_MACHINE)


def _clickserve(checkout: Path, folder: Path, *arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    """A command of one checkout's code; settings of the environment are left out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLICKSERVE_", "REDIS_"))}
    command = [sys.executable, "-m", "service", *map(str, arguments), "--json"]
    return subprocess.run(
        command, cwd=folder, env=kept | {"PYTHONPATH": str(checkout)}, capture_output=True, text=True, check=False
    )


def _demo(folder: Path) -> Path:
    """Makes what is served; answers its configuration."""
    done = _clickserve(
        REPOSITORY, folder, "demo", "--impressions", 50_000, "--out", "demo", "--rate", 50, "--duration", 1
    )
    if done.returncode != 0:
        raise RuntimeError(f"the demo failed: {done.stderr[-2000:]}")
    return folder / "demo" / "clickserve.toml"


def _budgets(folder: Path, effort: Effort) -> list[str | Path]:
    """The option that names other budgets, where there are any."""
    if not effort.budgets:
        return []
    path = folder / "budgets.toml"
    path.write_text(effort.budgets)
    return ["--budgets", path]


def _bench(checkout: Path, config: Path, out: Path, effort: Effort) -> Report:
    """One round of one checkout; the verdict on its budgets is not asked for."""
    done = _clickserve(
        checkout, config.parent, "bench", "--config", config, "--engine", "open-loop", "--warmup", 1, "--out", out,
        "--rate", effort.rate_per_s, "--duration", effort.seconds, *_budgets(config.parent, effort),
    )  # fmt: skip
    if not (out / "report.json").exists():
        raise RuntimeError(f"no report: {done.stderr[-2000:]}")
    return msgspec.json.decode((out / "report.json").read_bytes(), type=Report)


def _cpu_us(report: Report) -> float:
    seconds = [second for second in judged(report).timeline if second.server is not None and second.n_requests]
    return statistics.median(s.server.ran_ms / s.n_requests * 1000 for s in seconds if s.server is not None)


def _slow_checkout(folder: Path, cpu_us: float) -> Path:
    """A clone with one commit more, in which a ranking costs a fifth more CPU time."""
    slow = folder / "slow"
    _git(folder, "clone", "--quiet", "--shared", str(REPOSITORY), str(slow))
    for built in REPOSITORY.glob("*/**/*.so"):
        if ".venv" not in built.parts:
            shutil.copy(built, slow / built.relative_to(REPOSITORY))
    path = slow / "service" / "hot_path.py"
    path.write_text(path.read_text() + PLANTED.format(ns=round(SLOWER * cpu_us * 1000)))
    _git(slow, "-c", "user.name=proof", "-c", "user.email=proof@example.org", "commit", "-qam", "a planted slow-down")
    return slow


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def _try(a: Path, b: Path, config: Path, out: Path, effort: Effort) -> tuple[int, dict[str, Any]]:
    """Measures both checkouts in turns and compares; answers the exit code and the document."""
    for number in range(effort.rounds):
        order = [("a", a), ("b", b)]
        for name, checkout in order if number % 2 == 0 else reversed(order):
            _bench(checkout, config, out / name / str(number), effort)
    done = _clickserve(REPOSITORY, out, "bench", "compare", "a", "b", "--out", "compared")
    if done.returncode not in (0, 3):
        raise RuntimeError(f"not compared: {done.stderr[-2000:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def _told(tries: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is kept of each try."""
    return [
        {
            "exit": code,
            "notes": document["notes"],
            **{f["name"]: [round(f[part], 3) for part in ("low", "ratio", "high")] for f in document["figures"]},
        }
        for code, document in tries
    ]


def planted_slow_down(scratch: Path, effort: Effort) -> Outcome:
    """Reports of two commits, the second with a fifth more CPU time per request."""
    config = _demo(scratch)
    cpu_us = _cpu_us(_bench(REPOSITORY, config, scratch / "pilot", effort))
    slow = _slow_checkout(scratch, cpu_us)
    tries = [_try(REPOSITORY, slow, config, scratch / str(number), effort) for number in range(effort.slow_tries)]
    found = sum(code == 3 for code, _ in tries)
    return Outcome(
        f"{found} of {len(tries)} comparisons with {SLOWER * cpu_us:.0f} µs more CPU on {cpu_us:.0f} µs exit 3",
        found == len(tries),
        {"cpu_us": round(cpu_us, 1), "tries": _told(tries)},
    )


def equal_commits(scratch: Path, effort: Effort) -> Outcome:
    """Reports of the same commit against itself."""
    config = _demo(scratch)
    tries = [
        _try(REPOSITORY, REPOSITORY, config, scratch / str(number), effort) for number in range(effort.equal_tries)
    ]
    passed = sum(code == 0 for code, _ in tries)
    return Outcome(
        f"{passed} of {len(tries)} comparisons of a commit with itself exit 0",
        len(tries) - passed <= effort.most_false_alarms,
        {"tries": _told(tries)},
    )


def page(scratch: Path, effort: Effort) -> Outcome:
    """A real report with a sweep past saturation, laid out at two widths."""
    if CHROMIUM is None:
        return Outcome("no Chromium here", False, {})
    config = _demo(scratch)
    done = _clickserve(
        REPOSITORY, scratch, "bench", "--config", config, "--out", "swept", "--rate", effort.rate_per_s,
        "--duration", effort.seconds, "--sweep", "--sweep-duration", effort.sweep_s, *_budgets(scratch, effort),
    )  # fmt: skip
    html = (scratch / "swept" / "report.html").read_text()
    found: dict[str, list[str]] = {}
    for width_px in WIDTHS_PX:
        folder = scratch / f"width-{width_px}"
        folder.mkdir()
        found[f"{width_px} px"] = faults(html, width_px, folder)
    sweep = json.loads(done.stdout)["sweep"]
    kept = sweep["highest_kept_per_s"]
    checks = {
        **{f"nothing is cut or overlaps at {width}": not said for width, said in found.items()},
        "the sweep ended past saturation": sweep["ended_by"] == "goodput",
        "some rate keeps the promise": kept is not None,
        "nothing is fetched": "http-equiv" not in html and 'src="' not in html and "@import" not in html,
        "the service's stages are in it": 'id="time"' in html,
    }
    return Outcome.judged(
        f"promise kept up to {kept}/s, {len(sweep['points'])} rates; layout faults: {sum(map(len, found.values()))}",
        checks,
        {"sweep": sweep, "faults": found},
    )


def claims(effort: Effort) -> list[Claim]:
    """The claims, measured with this effort."""
    return [
        Claim(
            "report-page",
            "python -m tests.proofs stack --only report-page",
            "a bench of the demo with a sweep past saturation: one page without anything fetched, nothing cut, beyond "
            "the edge or overlapping at 390 and 1280 px in headless Chromium",
            lambda scratch: page(scratch, effort),
        ),
        Claim(
            "report-slow-down",
            "python -m tests.proofs stack --only report-slow-down",
            f"reports of two commits, the second with a planted {SLOWER:.0%} more CPU time per request, in "
            f"{effort.rounds} alternating rounds each: bench compare exits 3, {effort.slow_tries} tries of "
            f"{effort.slow_tries}",
            lambda scratch: planted_slow_down(scratch, effort),
        ),
        Claim(
            "report-equal",
            "python -m tests.proofs stack --only report-equal",
            f"reports of a commit and itself in {effort.rounds} alternating rounds each: bench compare exits 0 in at "
            f"least {effort.equal_tries - effort.most_false_alarms} of {effort.equal_tries} tries",
            lambda scratch: equal_commits(scratch, effort),
        ),
    ]


CLAIMS = claims(FULL)
SHORT_CLAIMS = claims(SHORT)
