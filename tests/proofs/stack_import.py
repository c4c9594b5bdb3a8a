"""A stranger's model: exports of six trainers and LightGBM, imported by the command, answer as their trainers do.

CatBoost is no dependency of ours: install it beside (`pip install --target DIR catboost`, `PYTHONPATH=DIR`); without it
the claim fails and says so.
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from models.registry.registry import Registry
from tests.foreign import TRAINERS, Exported, answered, catboost, listing, refused_graphs, rows
from tests.proofs.claim import REPOSITORY, Claim, Outcome, clickserve

ROWS = 10_000
BOUND = 1e-6


def trainers(scratch: Path) -> Outcome:
    """Every trainer in every dress that its converter knows."""
    warnings.simplefilter("ignore")  # trainers and converters warn about each other
    cases: dict[str, Exported] = {}
    for name, export in TRAINERS.items():
        cases[f"{name}, two columns"] = export(zipmap=False)
        if name != "XGBoost":  # its converter writes no ZipMap
            cases[f"{name}, ZipMap"] = export(zipmap=True)
    missing = ""
    try:
        cases["CatBoost, ZipMap"] = catboost(scratch)
    except ImportError as error:
        missing = str(error)
    found = {name: _imported(name, exported, scratch) for name, exported in cases.items()}
    worst = max(found, key=lambda name: found[name]["max_p_difference"])
    planned = sum(not case["plan"].startswith("generic") for case in found.values())
    return Outcome.judged(
        f"{len(found)} exports, |Δp| up to {found[worst]['max_p_difference']:.2g} ({worst}) on {ROWS:,} rows each; "
        f"{planned} with a score plan",
        {
            f"every |Δp| ≤ {BOUND:g}": all(case["max_p_difference"] <= BOUND for case in found.values()),
            f"CatBoost is there ({missing})": not missing,
            "only forests are without a plan": all(
                case["plan"].startswith("generic") == name.startswith("RandomForest") for name, case in found.items()
            ),
        },
        {"exports": found},
    )


def refusals(scratch: Path) -> Outcome:
    """What is no probability of a click, or not run, is refused with its reason, and nothing is published."""
    warnings.simplefilter("ignore")
    (scratch / "features.toml").write_text(listing(default=0.0))
    said = {}
    for reason, content in refused_graphs().items():
        (scratch / "stranger.onnx").write_bytes(content)
        command = [REPOSITORY / ".venv/bin/clickserve", "models", "import", "stranger.onnx",
                   "--features", "features.toml", "--registry", "registry"]  # fmt: skip
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=300, check=False)
        said[reason] = {"exit": done.returncode, "said": done.stderr.strip()}
    return Outcome.judged(
        f"{len(said)} graphs refused: {'; '.join(said)}",
        {
            "each exit 1": all(case["exit"] == 1 for case in said.values()),
            "each with its reason": all(reason in case["said"] for reason, case in said.items()),
            "nothing published": not Registry(scratch / "registry").versions(),
        },
        {"refusals": said},
    )


def _imported(name: str, exported: Exported, scratch: Path) -> dict[str, Any]:
    """What the command said of one export, and how far it is from its trainer."""
    folder = scratch / name.replace(", ", "-").replace(" ", "-")
    folder.mkdir()
    (folder / "stranger.onnx").write_bytes(exported.content)
    (folder / "features.toml").write_text(listing(default=None if exported.takes_missing else 0.0))
    said = clickserve(
        "models", "import", "stranger.onnx", "--features", "features.toml", "--registry", "registry", cwd=folder
    )
    asked = rows(ROWS, 77, missing=0.1 if exported.takes_missing else 0.0)
    predictor = Registry(folder / "registry").load(said["version"])
    wanted = exported.predict(asked)
    return {
        "plan": said["plan"],
        "why_generic": said["why_generic"],
        "form": said["imported"]["form"],
        "missing_numbers": exported.takes_missing,
        "proof": said["proof"],
        "max_p_difference": max(
            float(np.abs(answered(predictor, asked, generic=generic) - wanted).max()) for generic in (False, True)
        ),
    }


COMMAND = "make prove PART=stack"
CLAIMS = (
    Claim(
        "import-trainers",
        f"{COMMAND}, or: python -m tests.proofs stack --only import-trainers",
        f"|Δp| ≤ {BOUND:g} against predict_proba on {ROWS:,} rows, with NaN where the trainer takes it, by the plan "
        "and by ONNX Runtime: LogisticRegression, GradientBoosting, RandomForest, HistGradientBoosting, XGBoost, "
        "LightGBM, CatBoost; ZipMap and (n, 2)",
        trainers,
    ),
    Claim(
        "import-refusals",
        f"{COMMAND}, or: python -m tests.proofs stack --only import-refusals",
        "a raw margin, three classes and a custom operator are refused, each with reason and exit 1; none is published",
        refusals,
    ),
)
