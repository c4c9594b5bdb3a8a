"""Every learner's model as it is served: proven, and in the order that its own graph gives in ONNX Runtime.

A learner is trained through the command line on one simulated log, and its model served by `clickserve serve`. Each
request is ranked over HTTP; the vectors that the service scored come from the served log, go through the artifact's
graph in a session of ONNX Runtime made here, and the answer is held against that: of two candidates whose graph's
probabilities differ by more than the proof's bound, the better one must not stand below the other where either is
among the first ten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

from feature_store.online.embedded import EmbeddedServer
from models.errors import TrainingError
from models.registry.registry import Registry
from models.trainers import LEARNERS, trainer_named
from tests.proofs.claim import Claim, Outcome, clickserve
from tests.proofs.learning_service import Caller, logging_service

IMPRESSIONS = 150_000
REQUESTS, CANDIDATES, TOP = 1_000, 100, 10
CHECKOUT = 8
"""Learners that need no extra."""
DEEP = frozenset({"dcn", "two-tower"})
P_BOUND, DEEP_P_BOUND = 1e-6, 1e-5
KNOWN_LESS = frozenset({"user_missing", "ad_missing"})
"""Codes of entities that the log never saw: their defaults are scored like other rows."""
PRINTED = 1e-9
"""Probabilities are answered with this precision."""


def exports_served(scratch: Path) -> Outcome:
    """Trains, serves and compares each learner; one whose library is missing is named with the reason."""
    data = scratch / "sim"
    clickserve("simulate", "--out", data, "--impressions", IMPRESSIONS, "--seed", 3, cwd=scratch)
    seen: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    with EmbeddedServer(scratch / "valkey") as store:
        log = ("--data", f"simulated:{data}", "--workdir", scratch / "work")
        clickserve("materialize", *log, "--as-of", "log-end", "--redis-url", store.url, cwd=scratch)
        requests = _requests(data)
        for learner in LEARNERS:
            try:
                trainer_named(learner)
            except (TrainingError, ImportError) as error:
                skipped[learner] = str(error)
                continue
            registry = scratch / f"registry-{learner}"
            clickserve("train", *log, "--model", learner, "--registry", registry, "--seed", 1, cwd=scratch)
            seen[learner] = _served(learner, registry, store.url, scratch, requests)
    inversions = {learner: found["inversions"] for learner, found in seen.items()}
    return Outcome.judged(
        f"{len(seen)} learners ({', '.join(seen)}), {REQUESTS:,} requests of {CANDIDATES} candidates each: "
        f"{sum(inversions.values())} inversions in the top {TOP}; largest |Δp| of the proofs "
        f"{max(found['proof']['max_p_error'] for found in seen.values()):.2g}, of the answers "
        f"{max(found['largest_p_difference'] for found in seen.values()):.2g}"
        + "".join(f"; without {learner}: {reason}" for learner, reason in skipped.items()),
        {
            "every proof holds": all(found["proof"]["holds"] for found in seen.values()),
            "within the bounds of the claim": all(
                found["proof"]["max_p_error"] <= _bound(learner) for learner, found in seen.items()
            ),
            "no inversion": not any(inversions.values()),
            "every answer within the bound": all(
                found["largest_p_difference"] <= _bound(learner) + PRINTED for learner, found in seen.items()
            ),
            "every request answered whole": all(
                found["requests"] == REQUESTS and found["degraded"] == 0 for found in seen.values()
            ),
            "at least the learners of a checkout": len(seen) >= CHECKOUT,
        },
        {"learners": seen, "skipped": skipped},
    )


def _bound(learner: str) -> float:
    return DEEP_P_BOUND if learner in DEEP else P_BOUND


def _served(
    learner: str, registry: Path, redis_url: str, scratch: Path, requests: list[dict[str, Any]]
) -> dict[str, Any]:
    """One model's proof, and its answers over HTTP against its graph."""
    models = Registry(registry)
    version = models.newest()
    if models.champion() is None:  # the base rate passes no gate, and can be served all the same
        (registry / "default" / "champion").write_text(f"{version}\n")
    artifact = models.get(version)
    served = scratch / f"served-{learner}"
    answers: dict[str, dict[str, Any]] = {}
    with logging_service(registry, redis_url, scratch, served) as process, Caller(process.port) as caller:
        for number, request in enumerate(requests):
            answers[f"r{number}"] = caller.post("/v1/rank", request, f"r{number}")
    graph = _graph_answers(artifact.files["model.onnx"], served)
    inverted, largest = 0, 0.0
    for request_id, answer in answers.items():
        reference = np.array([graph[request_id][result["ad_id"]] for result in answer["results"]])
        inverted += inversions(reference, _bound(learner))
        answered = np.array([result["p_click"] for result in answer["results"]])
        largest = max(largest, float(np.abs(answered - reference).max()))
    proof = artifact.manifest.proof
    return {
        "version": version,
        "proof": {"max_p_error": proof.max_p_error, "inversions": proof.inversions, "holds": proof.holds},
        "requests": sum(len(answer["results"]) == CANDIDATES for answer in answers.values()),
        "degraded": sum(not KNOWN_LESS.issuperset(answer["degraded"]) for answer in answers.values()),
        "inversions": inverted,
        "largest_p_difference": largest,
    }


def inversions(reference: np.ndarray[Any, Any], bound: float) -> int:
    """Candidates of the first ten that stand above a clearly better one; `reference` is in the answer's order."""
    best_from_here = np.maximum.accumulate(reference[::-1])[::-1]
    best_below = np.append(best_from_here[1:], -np.inf)
    return int(np.count_nonzero(best_below[:TOP] > reference[:TOP] + bound))


def _graph_answers(graph: bytes, served: Path) -> dict[str, dict[str, float]]:
    """What the graph says of each served vector, by request and ad."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    widths = {tensor.name: tensor.shape[1] for tensor in session.get_inputs()}
    found: dict[str, dict[str, float]] = {}
    for path in sorted(served.glob("served-*.parquet")):
        rows = pq.read_table(path, columns=["request_id", "ad_id", "features", "ids"])
        inputs = {
            name: rows[name].combine_chunks().flatten().to_numpy().reshape(len(rows), width)
            for name, width in widths.items()
        }
        (p_click,) = session.run(["p_click"], inputs)
        names = zip(rows["request_id"].to_pylist(), rows["ad_id"].to_pylist(), strict=True)
        for (request_id, ad_id), p in zip(names, p_click.ravel().tolist(), strict=True):
            found.setdefault(request_id, {})[ad_id] = p
    return found


def _requests(data: Path) -> list[dict[str, Any]]:
    """Users, ads and contexts as they occur in the log, drawn one by one."""
    random = np.random.default_rng(17)
    log = pq.read_table(data / "impressions.parquet", columns=["user_id", "placement", "device", "hour"])
    ads = pq.read_table(data / "ads.parquet", columns=["ad_id"])["ad_id"].to_pylist()
    seen = log.take(random.integers(len(log), size=REQUESTS)).to_pylist()
    return [
        {
            "user_id": row.pop("user_id"),
            "candidates": random.choice(ads, CANDIDATES, replace=False).tolist(),
            "context": row,
        }
        for row in seen
    ]


CLAIMS = [
    Claim(
        "exports-served",
        "python -m tests.proofs learning --only exports-served",
        f"every learner's model whose library is there: proof within |Δp| ≤ {P_BOUND:g} (deep {DEEP_P_BOUND:g}), "
        f"served over HTTP, no inversion in the top {TOP} of {REQUESTS:,} requests of {CANDIDATES} against its graph "
        "in ONNX Runtime",
        exports_served,
    )
]
