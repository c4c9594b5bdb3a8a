"""What `loadtest.micro.wire` prints is what the suite reads; its two forms say the same."""

from __future__ import annotations

import dataclasses
import json

import pytest

from loadtest.errors import EngineError
from loadtest.micro.wire import check_that_both_say_the_same, exchanges
from loadtest.suite.inner_parts import PARTS, WireCosts, read_part, run_module

WIRE = "loadtest.micro.wire"


def test_the_suite_reads_what_the_module_prints() -> None:
    """A figure that was renamed on one side only would leave the section out of half an hour's report."""
    (part,) = [part for part in PARTS if f"loadtest.micro.{part.name}" == WIRE]

    said = run_module(WIRE, ["7", *part.arguments, "--rounds", "2"], core=None)

    costs = read_part(WIRE, said, part.result)
    assert isinstance(costs, WireCosts)
    assert (costs.n_candidates, costs.rounds) == (7, 2)
    assert costs.requests.keys() == {"ids", "bids", "ids, one ad unknown"}
    for cost in costs.requests.values():
        assert min(cost.read_request.json_us, cost.write_ranking.frame_us, cost.caller_reads_ranking.frame_us) > 0
    with_bids, plain = costs.requests["bids"], costs.requests["ids"]
    assert with_bids.request_bytes.frame == plain.request_bytes.frame + 7 * 8  # a float64 for each candidate
    assert with_bids.ranking_bytes.frame == plain.ranking_bytes.frame + 7 * 8


def test_without_json_it_prints_tables() -> None:
    """Three steps and two lengths of each kind of request."""
    lines = run_module(WIRE, ["7", "--rounds", "2"], core=None).decode().splitlines()

    assert len(lines) == 1 + 3 * 6
    assert sum("service reads the request" in line for line in lines) == 3


def test_more_candidates_than_ads_are_refused() -> None:
    """Each ad once: a request of more cannot be made."""
    with pytest.raises(EngineError, match="expected at most 10000 candidates, each ad once, got 10001"):
        run_module(WIRE, ["10001", "--json"], core=None)


def test_a_form_that_says_something_else_is_not_timed() -> None:
    """The faster form would be the one that leaves work out."""
    (exchange, *_) = exchanges(5, with_bids=False, unknown_ads=0)
    check_that_both_say_the_same([exchange])
    body = json.loads(exchange.json)
    body["candidates"].reverse()

    with pytest.raises(AssertionError):
        check_that_both_say_the_same([dataclasses.replace(exchange, json=json.dumps(body).encode())])
