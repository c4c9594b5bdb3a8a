"""Scoring alone: W100's own model with the compiled kernel, with NumPy, and in ONNX Runtime with one thread.

Every request has a user, a context and candidates of its own, so that no processor learns the branches. ONNX Runtime is
given finished matrices; a factorised plan works out user and context and joins them to the parts of ads that the item
table keeps, as the service has it do. Rounds go through all requests with each plan in turn, in alternating order.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.baselines.facts import feature_values, read_baseline
from models.encoder import Block, Side
from models.plans.agreement import agreement
from models.plans.choice import PlanChoice
from models.plans.kernel import KernelChoice, compiled_kernels_trouble
from models.plans.parts import AdParts
from models.plans.plan import Scores
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.specs import Int64s
from tests.proofs.claim import Outcome
from tests.proofs.hot_path_arena import W100_CANDIDATES, w100
from tests.proofs.hot_path_pace import Pace

COMPILED_BOUND, NUMPY_BOUND = 10.0, 2.0
AGREEMENT_REQUESTS = 500
"""Scored by all plans and compared before anything is timed."""


@dataclass(frozen=True, slots=True)
class KeptAds:
    """Some rows of a table of ads, with what a plan keeps of all of them."""

    table: Block
    kept: AdParts

    def __len__(self) -> int:
        return len(self.kept.rows)

    def block(self) -> Block:
        return Block(self.table.floats[self.kept.rows], self.table.ids[self.kept.rows])

    def parts(self) -> AdParts:
        return self.kept

    def unlisted_rows(self) -> None:
        """The table holds all of them."""


@dataclass(frozen=True, slots=True)
class Requests:
    """users: (r, 20), contexts: (r, 4) float32; candidates: (r, 100) rows of ads: (10 000, 16) float32."""

    users: np.ndarray
    contexts: np.ndarray
    candidates: list[Int64s]
    ads: np.ndarray

    @classmethod
    def drawn(cls, folder: Path, n: int) -> Requests:
        """n requests of the workload's users and ads, uniformly drawn."""
        users, ads = feature_values(folder, read_baseline(folder))
        random = np.random.default_rng(1)
        return cls(
            users=users[random.choice(len(users), n, replace=False)],
            contexts=random.uniform(-2, 2, (n, 4)).astype(np.float32),
            candidates=[random.choice(len(ads), W100_CANDIDATES, replace=False) for _ in range(n)],
            ads=ads,
        )

    def __len__(self) -> int:
        return len(self.users)


def _numbers(floats: np.ndarray) -> Block:
    return Block(np.ascontiguousarray(floats), np.empty((len(floats), 0), dtype=np.uint32))


def _factorised(predictor: Predictor, requests: Requests) -> Callable[[int], Scores]:
    """Scores the request of a number with the predictor's plan."""
    plan = predictor.factorised
    if plan is None:
        raise RuntimeError(f"the model has no factorised plan: {predictor.fallback}")
    table = _numbers(requests.ads)
    parts = plan.part(Side.AD, table)
    users = [_numbers(row[None]) for row in requests.users]
    contexts = [_numbers(row[None]) for row in requests.contexts]
    ads = [KeptAds(table, AdParts(parts, parts[:0], len(parts), rows)) for rows in requests.candidates]
    return lambda number: predictor.score_ads(users[number], contexts[number], ads[number])


def _onnx(predictor: Predictor, requests: Requests) -> Callable[[int], Scores]:
    """Scores the request of a number in ONNX Runtime, from a finished matrix."""
    matrices = [
        predictor.encoder.encode(_numbers(user[None]), _numbers(requests.ads[rows]), _numbers(context[None]))
        for user, rows, context in zip(requests.users, requests.candidates, requests.contexts, strict=True)
    ]
    return lambda number: predictor.generic.score(*matrices[number])


def scoring_speed(pace: Pace, scratch: Path) -> Outcome:
    """Median microseconds of a request with each plan, and how many times faster than ONNX Runtime."""
    if compiled_kernels_trouble():
        return Outcome("the compiled kernels were not built, half of the claim cannot run", False, {})
    folder = w100()
    registry = Registry(folder / "registry")
    artifact = registry.get(registry.champion() or "")
    kernels: tuple[KernelChoice, ...] = ("compiled", "numpy")
    predictors = {kernel: Predictor(artifact, PlanChoice(kernel=kernel)) for kernel in kernels}
    requests = Requests.drawn(folder, pace.scoring_requests)
    works = {"onnxruntime": _onnx(predictors["compiled"], requests)}
    works |= {kernel: _factorised(predictor, requests) for kernel, predictor in predictors.items()}
    disagreement = _disagreement(works, min(AGREEMENT_REQUESTS, len(requests)))
    if disagreement is not None:
        return Outcome(disagreement, False, {})
    medians: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(pace.rounds):
        for name in works if turn % 2 == 0 else reversed(works):
            medians[name].append(_median_us(works[name], len(requests)))
    faster = {
        kernel: statistics.median(onnx / own for onnx, own in zip(medians["onnxruntime"], medians[kernel], strict=True))
        for kernel in kernels
    }
    us = {name: statistics.median(values) for name, values in medians.items()}
    return Outcome.judged(
        f"ONNX Runtime {us['onnxruntime']:.0f} µs; compiled {us['compiled']:.1f} µs, {faster['compiled']:.1f} × "
        f"faster; NumPy {us['numpy']:.0f} µs, {faster['numpy']:.1f} ×; answers and order agree",
        {
            f"compiled ≥ {COMPILED_BOUND:g} ×": faster["compiled"] >= COMPILED_BOUND,
            f"NumPy ≥ {NUMPY_BOUND:g} ×": faster["numpy"] >= NUMPY_BOUND,
        },
        {"requests": len(requests), "median_us_of_rounds": medians, "times_faster": faster},
    )


def _disagreement(works: dict[str, Callable[[int], Scores]], n: int) -> str | None:
    """What two plans answer otherwise, and by how much; None where they agree within the bounds of a proof."""
    for number in range(n):
        wanted = works["onnxruntime"](number)
        for name, work in works.items():
            found = agreement(wanted, work(number))
            if not found.holds:
                return f"{name} answers request {number} otherwise than ONNX Runtime: {found}"
    return None


def _median_us(work: Callable[[int], Scores], n: int) -> float:
    """Median time of n distinct requests, after as many that are not timed."""
    for number in range(n):
        work(number)
    times_ns = np.empty(n, dtype=np.int64)
    for number in range(n):
        started_ns = time.perf_counter_ns()
        work(number)
        times_ns[number] = time.perf_counter_ns() - started_ns
    return float(np.median(times_ns)) / 1e3
