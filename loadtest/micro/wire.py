"""What the two forms of `/v1/rank` cost: reading a request, writing its ranking, reading that ranking as its caller.

    python -m loadtest.micro.wire [CANDIDATES] [--json] [--rounds N]

JSON and frames take turns in short rounds over different requests, so that the machine's other work hits both; each is
given by its best round, because that work only ever adds time. Before anything is timed, both forms must say the same.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from loadtest.command_line import count
from loadtest.rank_frame import rank_frame, received_ranking
from service.binary_frame import FRAME
from service.knowledge import Knowledge
from service.rank_form import JSON, Ranking
from service.results_json import COMPILED
from service.wire import ModelReference

REQUESTS = 40
N_ADS = 10_000
STEPS = {
    "read_request": "service reads the request",
    "write_ranking": "service writes the ranking",
    "caller_reads_ranking": "caller reads the ranking",
}
CONTEXT = {"c0": "top", "c1": "mobile", "c2": 13, "c3": 0.5}
MODEL = ModelReference("default", "v000001-3f9c2a71", "champion")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request in both forms, and the ranking that answers it."""

    json: bytes
    frame: bytes
    ranking: Ranking


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("candidates", type=candidates, nargs="?", default=100, help="of a request (default 100)")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the tables")
    parser.add_argument("--rounds", type=count, default=51, help="turns of each form (default 51)")
    options = parser.parse_args()
    n = options.candidates
    cases = {
        "ids": exchanges(n, with_bids=False, unknown_ads=0),
        "bids": exchanges(n, with_bids=True, unknown_ads=0),
        "ids, one ad unknown": exchanges(n, with_bids=False, unknown_ads=1),
    }
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
        "n_candidates": n,
        "rounds": options.rounds,
        "compiled_json_results": COMPILED,
        "requests": {name: measured(case, options.rounds) for name, case in cases.items()},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else tables(result))


def candidates(text: str) -> int:
    """A whole number of candidates, no more than there are ads."""
    n = count(text)
    if n > N_ADS:
        raise argparse.ArgumentTypeError(f"expected at most {N_ADS} candidates, each ad once, got {text}")
    return n


def exchanges(n: int, *, with_bids: bool, unknown_ads: int) -> list[Exchange]:
    """Requests for n ads out of ten thousand, and rankings of random probabilities."""
    random = np.random.default_rng(1)
    made = []
    for i in range(REQUESTS):
        ids = [f"a{ad}" for ad in random.choice(N_ADS, n, replace=False)]
        bids = random.random(n).round(2) if with_bids else None
        objects = ids if bids is None else [{"ad_id": a, "bid": b} for a, b in zip(ids, bids.tolist(), strict=True)]
        p_click = random.random(n) / 20
        scores = None if bids is None else p_click * bids
        order = np.argsort(-(p_click if scores is None else scores))
        known = Knowledge(set(), {place: ["ad_missing"] for place in range(unknown_ads)}, [], unknown_ads, 0, 5_400_000)
        body = {"user_id": f"u{i}", "candidates": objects, "context": CONTEXT}
        made.append(
            Exchange(
                msgspec.json.encode(body),
                rank_frame(ids, user_id=f"u{i}", context=CONTEXT, bids=bids),
                Ranking(f"5f2b9c-{i}", MODEL, ids, order, p_click, scores, [], known),
            )
        )
    return made


def measured(case: Sequence[Exchange], rounds: int) -> dict[str, object]:
    """Both forms of every step, and the bytes of the first request and of its ranking."""
    check_that_both_say_the_same(case)
    answers = {form: [form.write(exchange.ranking) for exchange in case] for form in (JSON, FRAME)}
    n = len(case[0].ranking.ad_ids)
    return {
        "read_request": in_turns(
            lambda: [JSON.read(exchange.json, n) for exchange in case],
            lambda: [FRAME.read(exchange.frame, n) for exchange in case],
            rounds,
        ),
        "write_ranking": in_turns(
            lambda: [JSON.write(exchange.ranking) for exchange in case],
            lambda: [FRAME.write(exchange.ranking) for exchange in case],
            rounds,
        ),
        "caller_reads_ranking": in_turns(
            lambda: [msgspec.json.decode(answer) for answer in answers[JSON]],
            lambda: [received_ranking(answer) for answer in answers[FRAME]],
            rounds,
        ),
        "request_bytes": {"json": len(case[0].json), "frame": len(case[0].frame)},
        "ranking_bytes": {"json": len(answers[JSON][0]), "frame": len(answers[FRAME][0])},
    }


def in_turns(as_json: Callable[[], object], as_frame: Callable[[], object], rounds: int) -> dict[str, float]:
    """Microseconds of each for one request, and how many times longer JSON took."""
    best_s = {as_json: math.inf, as_frame: math.inf}
    for _ in range(rounds):
        for work in best_s:
            started = time.perf_counter()
            work()
            best_s[work] = min(best_s[work], time.perf_counter() - started)
    json_us, frame_us = (seconds / REQUESTS * 1e6 for seconds in best_s.values())
    return {"json_us": round(json_us, 2), "frame_us": round(frame_us, 2), "ratio": round(json_us / frame_us, 2)}


def check_that_both_say_the_same(case: Sequence[Exchange]) -> None:
    """Raises AssertionError where a form says anything else than the other."""
    for exchange in case:
        n = len(exchange.ranking.ad_ids)
        plain, framed = JSON.read(exchange.json, n), FRAME.read(exchange.frame, n)
        assert (plain.ad_ids, plain.user_id, plain.context) == (framed.ad_ids, framed.user_id, framed.context)
        np.testing.assert_array_equal(plain.bids, framed.bids)
        results = json.loads(JSON.write(exchange.ranking))["results"]
        received = received_ranking(FRAME.write(exchange.ranking))
        assert [result["ad_id"] for result in results] == [plain.ad_ids[place] for place in received.places]
        np.testing.assert_allclose([result["p_click"] for result in results], received.p_click, rtol=1e-6)


def tables(result: dict[str, object]) -> str:
    """The measurements for people."""
    lines = [f"{result['n_candidates']} candidates, best of {result['rounds']} rounds, us per request\n"]
    for name, case in result["requests"].items():  # type: ignore[attr-defined]
        lines.append(f"{name:<28}{'JSON':>10}{'frame':>10}{'JSON / frame':>15}\n")
        lines += [
            f"  {says:<26}{case[step]['json_us']:>10.2f}{case[step]['frame_us']:>10.2f}{case[step]['ratio']:>15.2f}\n"
            for step, says in STEPS.items()
        ]
        lines += [
            f"  {what.replace('_', ' '):<26}{case[what]['json']:>10,}{case[what]['frame']:>10,}"
            f"{case[what]['json'] / case[what]['frame']:>15.2f}\n"
            for what in ("request_bytes", "ranking_bytes")
        ]
    return "".join(lines)


if __name__ == "__main__":
    main()
