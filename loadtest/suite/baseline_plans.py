"""The baselines as servers of the suite: every module of `loadtest/baselines` that can be run.

What a baseline is, it says itself: the first line of its module's docstring. The module is read, not imported, because
importing it would load what it serves with.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from loadtest.suite.servers import ServerPlan

BASELINES = Path(__file__).parents[1] / "baselines"
ECHO = "echo"


def baseline_plans(workload_dir: Path, baselines: Path = BASELINES) -> list[ServerPlan]:
    """How to start each baseline on a workload, by name."""
    return [_plan(path, workload_dir) for path in sorted(baselines.glob("*.py")) if _can_be_run(path)]


def _can_be_run(path: Path) -> bool:
    return '__name__ == "__main__"' in path.read_text(encoding="utf-8")


def _plan(path: Path, workload_dir: Path) -> ServerPlan:
    name = path.stem
    says = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or name).split("\n\n")[0].replace("\n", " ")
    command = (sys.executable, "-m", f"loadtest.baselines.{name}", "--workload", str(workload_dir), "--port", "{port}")
    return ServerPlan(name, says.rstrip("."), command, "echo" if name == ECHO else "baseline")
