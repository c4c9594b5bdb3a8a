"""The report one shows around: its page holds at two widths, and a comparison tells a planted slow-down from none.

Two checkouts serve the same demo and are measured in turns: this one, and a clone of it with one commit more, which
burns a fifth of what its thread used since the last ranking: a fifth more CPU time for each request, in whatever state
the machine is. Each try starts both services anew; generator and services have a core each, where there are two. On a
busy machine CPU time is all that a try tells; where not even that can be compared, it counts as missed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.sweep import FALLEN
from tests.loadtest.page_layout import CHROMIUM, WIDTHS_PX, faults
from tests.proofs.claim import REPOSITORY, Claim, Outcome

SLOWER = 0.2
PAGE_PER_S = 300
"""Rate of the page's report."""
PLANTED = """

# Planted by a proof: each ranking burns a share of the CPU time that its thread used since the last one.
_SHARE = {share}
_unburdened = HotPath.__call__
_burnt_until_ns = 0


async def _burdened(self: HotPath, scope: Message, receive: Receive, send: Send) -> None:
    import time

    global _burnt_until_ns
    now_ns = time.thread_time_ns()
    end_ns = now_ns + int(_SHARE * (now_ns - (_burnt_until_ns or now_ns)))
    while (_burnt_until_ns := time.thread_time_ns()) < end_ns:
        pass
    await _unburdened(self, scope, receive, send)


HotPath.__call__ = _burdened  # type: ignore[method-assign]
"""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    equal_tries: int
    slow_tries: int
    turns: int
    """Pairs of seconds a try."""
    rate_per_s: int
    page_s: int
    """Measured seconds of the page's report."""
    sweep_s: int
    budgets: str = ""
    """Of the generator's punctuality, in place of ours; empty for those of loadtest/budgets.toml."""

    @property
    def most_false_alarms(self) -> int:
        """One in twenty."""
        return self.equal_tries // 20


FULL = Effort(equal_tries=20, slow_tries=3, turns=40, rate_per_s=1000, page_s=6, sweep_s=5)
ON_ANY_MACHINE = "[rank]\np99_ms = 200.0\n[generator]\nlateness_p99_ms = 1000.0\n"
SHORT = Effort(1, 1, turns=10, rate_per_s=200, page_s=4, sweep_s=1, budgets=ON_ANY_MACHINE)


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


def _slow_checkout(folder: Path) -> Path:
    """A clone with one commit more, in which a ranking costs a fifth more CPU time."""
    slow = folder / "slow"
    _git(folder, "clone", "--quiet", "--shared", str(REPOSITORY), str(slow))
    for built in REPOSITORY.glob("*/**/*.so"):
        if ".venv" not in built.parts:
            shutil.copy(built, slow / built.relative_to(REPOSITORY))
    path = slow / "service" / "hot_path.py"
    path.write_text(path.read_text() + PLANTED.format(share=SLOWER))
    _git(slow, "-c", "user.name=proof", "-c", "user.email=proof@example.org", "commit", "-qam", "a planted slow-down")
    return slow


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def _try(a: Path, b: Path, config: Path, out: Path, effort: Effort) -> dict[str, Any]:
    """Measures both checkouts in turns and compares; what is kept of it: exit code, figures, what was said."""
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["--cpu", cores[0], "--server-cpu", cores[-1]] if len(cores) > 1 else []
    done = _clickserve(
        REPOSITORY, config.parent, "bench", "turns", a, b, "--config", config, "--out", out, "--turns", effort.turns,
        "--rate", effort.rate_per_s, *pinned, *_budgets(config.parent, effort),
    )  # fmt: skip
    if done.returncode not in (0, 3):
        return {"exit": done.returncode, "said": done.stderr[-2000:]}
    document: dict[str, Any] = json.loads(done.stdout)
    return {
        "exit": done.returncode,
        "notes": document["notes"],
        **{f["name"]: [round(f[part], 3) for part in ("low", "ratio", "high")] for f in document["figures"]},
    }


def planted_slow_down(scratch: Path, effort: Effort) -> Outcome:
    """Two commits, the second with a fifth more CPU time per request."""
    config = _demo(scratch)
    slow = _slow_checkout(scratch)
    tries = [_try(REPOSITORY, slow, config, scratch / str(number), effort) for number in range(effort.slow_tries)]
    found = sum(seen["exit"] == 3 for seen in tries)
    return Outcome(
        f"{found} of {len(tries)} comparisons with {SLOWER:.0%} more CPU time a request exit 3",
        found == len(tries),
        {"tries": tries},
    )


def equal_commits(scratch: Path, effort: Effort) -> Outcome:
    """The same commit against itself."""
    config = _demo(scratch)
    tries = [
        _try(REPOSITORY, REPOSITORY, config, scratch / str(number), effort) for number in range(effort.equal_tries)
    ]
    passed = sum(seen["exit"] == 0 for seen in tries)
    return Outcome(
        f"{passed} of {len(tries)} comparisons of a commit with itself exit 0",
        len(tries) - passed <= effort.most_false_alarms,
        {"tries": tries},
    )


def page(scratch: Path, effort: Effort) -> Outcome:
    """A real report with a sweep past saturation, laid out at two widths."""
    if CHROMIUM is None:
        return Outcome("no Chromium here", False, {})
    config = _demo(scratch)
    done = _clickserve(
        REPOSITORY, scratch, "bench", "--config", config, "--out", "swept", "--rate", PAGE_PER_S,
        "--duration", effort.page_s, "--sweep", "--sweep-duration", effort.sweep_s, *_budgets(scratch, effort),
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
        "the sweep went past saturation": _went_past_saturation(sweep["points"]),
        "some rate keeps the promise": kept is not None,
        "nothing is fetched": "http-equiv" not in html and 'src="' not in html and "@import" not in html,
        "the service's stages are in it": 'id="time"' in html,
    }
    return Outcome.judged(
        f"promise kept up to {kept}/s, {len(sweep['points'])} rates; layout faults: {sum(map(len, found.values()))}",
        checks,
        {"sweep": sweep, "faults": found},
    )


def _went_past_saturation(points: list[dict[str, Any]]) -> bool:
    """Whether at a rate above the best one, offered by a punctual generator, a tenth was not answered in time."""
    best = max(points, key=lambda point: point["goodput_per_s"])
    return any(
        point["rate_per_s"] > best["rate_per_s"]
        and point["goodput_per_s"] < FALLEN * point["rate_per_s"]
        and not point["generator_late"]
        for point in points
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
            f"two commits, the second with a planted {SLOWER:.0%} more CPU time per request, measured in turns of a "
            f"second, {effort.turns} each: bench turns exits 3, {effort.slow_tries} tries of {effort.slow_tries}",
            lambda scratch: planted_slow_down(scratch, effort),
        ),
        Claim(
            "report-equal",
            "python -m tests.proofs stack --only report-equal",
            f"a commit and itself, measured in turns of a second, {effort.turns} each: bench turns exits 0 in at least "
            f"{effort.equal_tries - effort.most_false_alarms} of {effort.equal_tries} tries",
            lambda scratch: equal_commits(scratch, effort),
        ),
    ]


CLAIMS = claims(FULL)
SHORT_CLAIMS = claims(SHORT)
