"""What a score plan costs: ONNX Runtime beside the factorised plans, for a request of 100, 500 and 1 000 candidates.

    python -m loadtest.micro.plans [--json] [--rounds N]

The model is that of the reference workload: 20 numbers of the user, 16 of the ad, 4 of the context; 200 trees of 31
leaves learnt by LightGBM from made clicks (random trees where it is not installed), and a logistic regression.

Every request has a user, a context and candidates of its own, or the processor would learn the branches. ONNX Runtime
(one thread) is given the finished matrix, and, beside it, lays it out itself as it does in service, in new memory or
(up to 128 rows) in memory that is reused; a factorised plan works out user and context, and joins them to the parts of
10 000 ads, so its time holds all that a request costs. Turns are interleaved, because the machine's other work comes
and goes; each begins with a pass that is not timed, because a server's caches hold its own tables and not those of its
competitor. Before anything is timed, all plans must agree.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from feature_store.schema import ContextFeature, EntityName, Feature, FeatureView, TableSource
from models.calibrator import CalibratorMap
from models.encoder import Block, Encoded, Encoder, ModelInputs, Side, n_rows
from models.export.graph import export_graph
from models.plans.agreement import agreement
from models.plans.factorised import COMPILED_STRIDE, NUMPY_STRIDE, FactorisedPlan, factorised_plan
from models.plans.generic import GenericPlan
from models.plans.kernel import KernelName, compiled_kernels_trouble
from models.plans.parts import AdParts
from models.plans.plan import Scores
from models.plans.source import PlanSource, plan_source
from models.plans.tree_tables import tree_tables
from models.specs import ModelSpec, TreeEnsembleSpec
from models.trainers import trainer_named
from models.trainers.trainer import TrainingSet

USER, AD, CONTEXT = 20, 16, 4
N_FEATURES = USER + AD + CONTEXT
N_TREES, N_LEAVES = 200, 31
N_ADS, N_REQUESTS, N_IMPRESSIONS = 10_000, 100, 40_000
CANDIDATES = (100, 500, 1_000)
KERNELS: tuple[KernelName, ...] = ("numpy",) if compiled_kernels_trouble() else ("compiled", "numpy")


def view(entity: EntityName, n_features: int) -> FeatureView:
    """So many numbers of users or ads."""
    names = tuple(f"f{i}" for i in range(n_features))
    features, source = tuple(Feature(name=name) for name in names), TableSource(columns=names)
    return FeatureView(name=entity, entity=entity, features=features, source=source, hash_seed=0, ttl_ms=86_400_000)


ENCODER = Encoder(
    ModelInputs(
        project="micro",
        views=(view("user", USER), view("ad", AD)),
        context=tuple(ContextFeature(name=f"f{i}") for i in range(CONTEXT)),
        pairs=(),
        hash_seed=0,
    )
)
LAYOUT = ENCODER.layout

Work = Callable[[int], object]
"""Answers the request of that number."""


@dataclass(frozen=True, slots=True)
class Requests:
    """users: (r, 20), contexts: (r, 4), candidates: (r, n) rows of ads: (10 000, 16)."""

    users: np.ndarray
    contexts: np.ndarray
    candidates: np.ndarray
    ads: np.ndarray

    def matrix(self, number: int) -> Encoded:
        """The whole rows of one request, (n, 40)."""
        rows = self.candidates[number]
        features = np.empty((len(rows), N_FEATURES), dtype=np.float32)
        features[:, :USER] = self.users[number]
        features[:, USER : USER + AD] = self.ads[rows]
        features[:, USER + AD :] = self.contexts[number]
        return Encoded(features, np.empty((len(rows), 0), dtype=np.int64))


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the tables")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each plan (default 7)")
    options = parser.parse_args()
    measured = {name: measure(spec, options.rounds) for name, spec in made_models()}
    machine = {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()}
    if options.json:
        sys.stdout.write(json.dumps({"machine": machine, "models": measured}, indent=2) + "\n")
        return
    for name, model in measured.items():
        sys.stdout.write(table(name, model))


def made_models() -> Iterator[tuple[str, ModelSpec]]:
    """The reference trees, and a logistic regression of the same columns."""
    log = made_log()
    trained = importlib.util.find_spec("lightgbm") is not None
    trees = learnt_trees(log) if trained else random_trees()
    origin = "LightGBM" if trained else "random"
    yield f"{N_TREES} trees of {N_LEAVES} leaves ({origin})", trees
    yield "logistic regression", trainer_named("logistic").fit(log, 0, 1.0, seed=1).spec


def made_log() -> TrainingSet:
    """Impressions whose click depends on products and thresholds of many columns, so that trees have work to do."""
    random = np.random.default_rng(1)
    features = random.normal(size=(N_IMPRESSIONS, N_FEATURES)).astype(np.float32)
    log_odds = (np.sin(features) * np.roll(features, 7, axis=1)).sum(axis=1) / 4 - 1
    clicked = random.random(N_IMPRESSIONS) < 1 / (1 + np.exp(-log_odds))
    encoded = Encoded(features, np.empty((N_IMPRESSIONS, 0), dtype=np.int64))
    names = tuple(f"context.f{i}" for i in range(N_FEATURES))
    return TrainingSet(encoded, clicked, np.arange(N_IMPRESSIONS, dtype=np.int64), names, ())


def learnt_trees(log: TrainingSet) -> TreeEnsembleSpec:
    """200 trees, whatever they are worth."""
    from models.trainers.gbdt import GbdtTrainer

    trainer = GbdtTrainer(overrides={"num_leaves": N_LEAVES, "min_data_in_leaf": 20})
    return trainer.fit(log, N_TREES - 1, 1.0, seed=1).spec


def random_trees(n_trees: int = N_TREES) -> TreeEnsembleSpec:
    """Trees grown leaf by leaf, at random columns and thresholds."""
    random = np.random.default_rng(1)
    n_nodes = 2 * N_LEAVES - 1
    shape = (n_trees, n_nodes)
    column, left = np.full(shape, -1), np.zeros(shape, dtype=np.int64)
    for tree in range(n_trees):
        leaves = [0]
        for first_child in range(1, n_nodes, 2):
            split = leaves.pop(random.integers(len(leaves)))
            column[tree, split], left[tree, split] = random.integers(N_FEATURES), tree * n_nodes + first_child
            leaves += [first_child, first_child + 1]
    is_leaf = column < 0
    return TreeEnsembleSpec(
        n_features=N_FEATURES,
        code_maps=(),
        tree=np.repeat(np.arange(n_trees), n_nodes),
        column=column.ravel(),
        threshold=np.where(is_leaf, 0.0, random.normal(size=shape)).ravel(),
        left=left.ravel(),
        right=np.where(is_leaf, 0, left + 1).ravel(),
        missing_left=(~is_leaf & (random.random(shape) < 0.5)).ravel(),
        leaf_value=np.where(is_leaf, random.normal(size=shape) / n_trees, 0.0).ravel(),
    )


def made_requests(n_candidates: int) -> Requests:
    """Distinct users, contexts and draws of candidates."""
    random = np.random.default_rng(2)
    return Requests(
        *(random.normal(size=(N_REQUESTS, width)).astype(np.float32) for width in (USER, CONTEXT)),
        candidates=np.array([random.choice(N_ADS, n_candidates, replace=False) for _ in range(N_REQUESTS)]),
        ads=random.normal(size=(N_ADS, AD)).astype(np.float32),
    )


def measure(spec: ModelSpec, rounds: int) -> dict[str, object]:
    """Times of each number of candidates, and the memory that an ad costs."""
    graph = export_graph(spec, 0.0, CalibratorMap.identity(), N_FEATURES, 0)
    generic, source = GenericPlan(graph), plan_source(graph)
    plans = {kernel: factorised_plan(source, LAYOUT, kernel) for kernel in KERNELS}
    n_bytes = {kernel: plan.width * plan.dtype.itemsize for kernel, plan in plans.items()}
    shared = {kernel: table_bytes_per_tree(source, kernel) for kernel in KERNELS}
    by_candidates = {n: measure_requests(generic, plans, made_requests(n), rounds) for n in CANDIDATES}
    return {"part_bytes_per_ad": n_bytes, "table_bytes_per_tree": shared, "us_per_request": by_candidates}


def table_bytes_per_tree(source: PlanSource, kernel: KernelName) -> int:
    """What a tree adds to the tables that all requests share; 0 for a model without trees."""
    if not isinstance(source.spec, TreeEnsembleSpec):
        return 0
    stride = NUMPY_STRIDE if kernel == "numpy" else COMPILED_STRIDE
    tables = tree_tables(source.spec, 0, source.correction, source.calibrator, stride=stride)
    arrays = (getattr(tables, field.name) for field in fields(tables))
    return round(sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)) / tables.n_trees)


def measure_requests(
    generic: GenericPlan, plans: dict[KernelName, FactorisedPlan], requests: Requests, rounds: int
) -> dict[str, dict[str, float]]:
    """Median and 90th percentile in microseconds, and how many times faster than ONNX Runtime the median is."""
    matrices = [requests.matrix(number) for number in range(N_REQUESTS)]
    works: dict[str, Work] = {"onnxruntime": lambda number: generic.score(*matrices[number])}
    works |= laid_out(generic, requests)
    for kernel, plan in plans.items():
        works |= {f"{kernel}{suffix}": work for suffix, work in works_of(plan, requests).items()}
        for number in range(20):
            found = agreement(generic.score(*matrices[number]), works[kernel](number))  # type: ignore[arg-type]
            if not found.holds:
                raise SystemExit(f"{plan.name} answers otherwise than ONNX Runtime: {found}")
    seconds = interleaved(works, rounds)
    reference = float(np.median(seconds["onnxruntime"]))
    return {
        name: {
            "median": round(float(np.median(times)) * 1e6, 1),
            "p90": round(float(np.quantile(times, 0.9)) * 1e6, 1),
            "times_faster": round(reference / float(np.median(times)), 1),
        }
        for name, times in seconds.items()
    }


def laid_out(generic: GenericPlan, requests: Requests) -> dict[str, Work]:
    """What a request costs where ONNX Runtime serves: its rows are laid out, too, in new matrices or in reused ones."""
    users, contexts = ([block(row[None]) for row in side] for side in (requests.users, requests.contexts))
    ads = [block(requests.ads[rows]) for rows in requests.candidates]

    def in_new(number: int) -> Scores:
        return generic.score(*ENCODER.encode(users[number], ads[number], contexts[number]))

    def in_reused(number: int) -> Scores:
        sides = users[number], ads[number], contexts[number]
        return generic.score_filled(n_rows(*sides), lambda matrices: ENCODER.encode_into(*sides, matrices))

    for number in range(20):
        np.testing.assert_array_equal(in_new(number).p_click, in_reused(number).p_click)
    return {"onnxruntime, new matrices": in_new, "onnxruntime, reused matrices": in_reused}


def works_of(plan: FactorisedPlan, requests: Requests) -> dict[str, Work]:
    """The whole request, and its two halves apart."""
    ads = plan.part(Side.AD, block(requests.ads))
    nothing = ads[:0]
    rows = [np.ascontiguousarray(drawn) for drawn in requests.candidates]
    users, contexts = ([block(row[None]) for row in side] for side in (requests.users, requests.contexts))

    def shared(number: int) -> np.ndarray:
        return plan.part(Side.CONTEXT, contexts[number], onto=plan.part(Side.USER, users[number]))

    ready = [shared(number) for number in range(N_REQUESTS)]

    def join(number: int, part: np.ndarray) -> object:
        return plan.join(part, AdParts(ads, nothing, len(ads), rows[number]))

    return {
        "": lambda number: join(number, shared(number)),
        ", user and context": shared,
        ", join": lambda number: join(number, ready[number]),
    }


def block(floats: np.ndarray) -> Block:
    """Numbers without hashes."""
    return Block(np.ascontiguousarray(floats), np.empty((len(floats), 0), dtype=np.uint32))


def interleaved(works: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds of each request of each work; in a turn a work answers all requests twice and is timed once."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            for number in range(N_REQUESTS):
                work(number)
            for number in range(N_REQUESTS):
                started = time.perf_counter()
                work(number)
                seconds[name].append(time.perf_counter() - started)
    return seconds


def table(name: str, model: dict[str, object]) -> str:
    """One model's measurements for people."""
    lines = [f"{name}\n"]
    for what in ("part_bytes_per_ad", "table_bytes_per_tree"):
        shown = ", ".join(f"{kernel} {n:,}" for kernel, n in model[what].items())  # type: ignore[attr-defined]
        lines.append(f"  {what.replace('_', ' ')}: {shown}\n")
    for n, by_plan in model["us_per_request"].items():  # type: ignore[attr-defined]
        lines.append(f"  {n} candidates {'median us':>28} {'p90 us':>10} {'x ONNX Runtime':>16}\n")
        lines += [
            f"    {plan:<30} {seen['median']:>10.1f} {seen['p90']:>10.1f} {seen['times_faster']:>16.1f}\n"
            for plan, seen in by_plan.items()
        ]
    return "".join(lines) + "\n"


if __name__ == "__main__":
    main()
