"""A claim, its outcome, and the file that keeps them.

A claim names the command a stranger types to see the same, the bound fixed beforehand, and the value seen. The verdict
is computed, never written by hand. The machine and commit stand beside each value, because a number without them is not
a measurement.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen: the value in words, whether it is within the bound, and the figures behind it."""

    value: str
    holds: bool
    details: dict[str, Any]

    @classmethod
    def judged(cls, value: str, checks: Mapping[str, bool], details: dict[str, Any]) -> Outcome:
        """Holds where every check does; the value names those that do not."""
        broken = [check for check, holds in checks.items() if not holds]
        return cls(value + (f"; not so: {', '.join(broken)}" if broken else ""), not broken, details)


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of what must be shown."""

    name: str
    command: str
    bound: str
    measure: Callable[[Path], Outcome]
    """Runs the claim in an empty scratch folder."""


def machine() -> str:
    """Processor, cores, memory and system in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {system}"


def commit() -> str:
    """The commit that was measured, with `+dirty` where the tree had changes."""
    head = _git("rev-parse", "HEAD")
    return head + (
        "+dirty" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/proofs") else ""
    )


def record(path: Path, claim: Claim, outcome: Outcome, seconds: float) -> None:
    """Writes one outcome into the proof file, keeping what stands there of other claims."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[claim.name] = {
        "command": claim.command,
        "bound": claim.bound,
        "value": outcome.value,
        "verdict": "holds" if outcome.holds else "fails",
        "details": outcome.details,
        "seconds": round(seconds, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "commit": commit(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def clickserve(*arguments: str | Path | int, cwd: Path, timeout_s: float = 1800, expect: int = 0) -> dict[str, Any]:
    """Runs one `clickserve … --json` as a user would and answers its document.

    The environment's settings are left out: a proof writes into stores of its own only.

    Raises:
        RuntimeError: another exit code than expected; carries what the command said.
    """
    command = [str(REPOSITORY / ".venv/bin/clickserve"), *map(str, arguments), "--json"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CLICKSERVE_", "REDIS_"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != expect:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def timed(command: list[str], cwd: Path, timeout_s: float = 1800) -> tuple[float, str]:
    """Wall seconds of a command that must succeed, and what it printed."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return time.monotonic() - started, done.stdout


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()
