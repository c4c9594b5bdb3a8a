"""What an ad costs in memory, and what it buys: masks kept of every ad, beside masks worked out for each request.

    python -m loadtest.micro.ad_memory [--json] [--rounds N]

An ad has 16 numbers and an id; a plan of T trees of 31 leaves keeps one word per tree of it. Where the words of all ads
would take more than `items.derived_max_mb`, a request works them out from rows instead: the same answers, for more
time. Trees are random; their number alone decides the bytes.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys

import msgspec
import numpy as np

from feature_store.online.item_base import build_item_base
from feature_store.online.store import CataloguePosition, CatalogueRows
from feature_store.rows import Rows
from feature_store.schema import Feature, FeatureView, TableSource
from loadtest.command_line import count
from loadtest.intervals import Spread
from loadtest.micro.plans import AD, KERNELS, LAYOUT, N_FEATURES, block, interleaved, made_requests, random_trees
from models.calibrator import CalibratorMap
from models.encoder import Side
from models.export.graph import export_graph
from models.plans.factorised import COMPILED_STRIDE, FactorisedPlan, factorised_plan
from models.plans.parts import AdParts
from models.plans.source import plan_source
from models.plans.tree_tables import tree_tables
from models.specs import TreeEnsembleSpec
from service.settings import ItemsSettings

TREES = (50, 100, 200, 500, 1_000)
N_CANDIDATES, N_ADS = 100, 10_000
NAMES = tuple(f"f{i}" for i in range(AD))
VIEW = FeatureView(
    name="ad_profile",
    entity="ad",
    features=tuple(Feature(name=name) for name in NAMES),
    source=TableSource(columns=NAMES),
    hash_seed=0,
    ttl_ms=86_400_000,
)


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--rounds", type=count, default=5, help="turns of each way (default 5)")
    options = parser.parse_args()
    budget_mb = ItemsSettings().derived_max_mb
    measured = {
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "kernel": KERNELS[0],
        "n_candidates": N_CANDIDATES,
        "n_ads": N_ADS,
        "derived_max_mb": budget_mb,
        "row_bytes_per_ad": round(row_bytes_per_ad(), 1),
        "plans": [measure(n_trees, int(budget_mb * 2**20), options.rounds) for n_trees in TREES],
    }
    sys.stdout.write(json.dumps(measured, indent=2) + "\n" if options.json else table(measured))


def row_bytes_per_ad() -> float:
    """All arrays of an item table of 10 000 ads, ids and their index included, divided by the ads."""
    times = np.full(N_ADS, 1_000, dtype=np.int64)
    floats = np.zeros((N_ADS, AD), dtype=np.float32)
    rows = Rows(floats, np.empty((N_ADS, 0), dtype=np.uint32), times, np.ones(N_ADS, dtype=np.bool_))
    catalogue = CatalogueRows(CataloguePosition(1, 0), [f"a{i}" for i in range(N_ADS)], rows)
    base = build_item_base([VIEW], [catalogue], 1_000, max_ads=N_ADS)
    return sum(array.nbytes for array in base.arrays().values()) / N_ADS


def measure(n_trees: int, budget_bytes: int, rounds: int) -> dict[str, object]:
    """One size of ensemble."""
    spec = random_trees(n_trees)
    source = plan_source(export_graph(spec, 0.0, CalibratorMap.identity(), N_FEATURES, 0))
    plan = factorised_plan(source, LAYOUT, KERNELS[0])
    mask_bytes = plan.width * plan.dtype.itemsize
    seconds = {way: Spread.of([1e6 * s for s in taken]) for way, taken in times(plan, rounds).items()}
    return {
        "trees": n_trees,
        "mask_bytes_per_ad": mask_bytes,
        "table_bytes_per_tree": round(table_bytes(spec) / n_trees),
        "switches_at_ads": budget_bytes // mask_bytes,
        "us_per_request": msgspec.to_builtins({way: round(spread.median, 1) for way, spread in seconds.items()}),
    }


def table_bytes(spec: TreeEnsembleSpec) -> int:
    """What the plan itself takes, whatever the number of ads."""
    tables = tree_tables(spec, 0, 0.0, CalibratorMap.identity(), stride=COMPILED_STRIDE)
    parts = (tables.cuts, tables.test_tree, tables.test_mask, tables.column_start, tables.rows, tables.leaves)
    return sum(part.nbytes for part in parts)


def times(plan: FactorisedPlan, rounds: int) -> dict[str, list[float]]:
    """Seconds of each request, user and context included, from kept masks and from rows."""
    requests = made_requests(N_CANDIDATES)
    kept = plan.part(Side.AD, block(requests.ads))
    users, contexts = ([block(row[None]) for row in side] for side in (requests.users, requests.contexts))
    rows = [np.ascontiguousarray(drawn) for drawn in requests.candidates]

    def shared(number: int) -> np.ndarray:
        return plan.part(Side.CONTEXT, contexts[number], onto=plan.part(Side.USER, users[number]))

    def from_masks(number: int) -> object:
        return plan.join(shared(number), AdParts(kept, kept[:0], len(kept), rows[number]))

    def from_rows(number: int) -> object:
        ads = plan.part(Side.AD, block(requests.ads[rows[number]]))
        return plan.join(shared(number), AdParts.of(ads))

    np.testing.assert_array_equal(from_masks(0).p_click, from_rows(0).p_click)  # type: ignore[attr-defined]
    return interleaved({"from_masks": from_masks, "from_rows": from_rows}, rounds)


def table(measured: dict[str, object]) -> str:
    """The measurements for people."""
    lines = [
        f"row of an ad: {measured['row_bytes_per_ad']} bytes\n"
        f"{'trees':>7}{'mask bytes an ad':>18}{'bytes a tree':>14}{'masks up to ads':>17}{'us from masks':>15}"
        f"{'us from rows':>14}\n"
    ]
    for seen in measured["plans"]:  # type: ignore[attr-defined]
        us = seen["us_per_request"]
        lines.append(
            f"{seen['trees']:>7,}{seen['mask_bytes_per_ad']:>18,}{seen['table_bytes_per_tree']:>14,}"
            f"{seen['switches_at_ads']:>17,}{us['from_masks']:>15.1f}{us['from_rows']:>14.1f}\n"
        )
    return "".join(lines)


if __name__ == "__main__":
    main()
