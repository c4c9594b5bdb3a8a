"""Tables of the inner parts: what `loadtest/micro` measured in the same run, on the same machine and commit."""

from __future__ import annotations

from loadtest.suite.inner_parts import AdMemory, InnerParts, PlanTimes, RouteCosts, StoreTimes, WireCosts
from loadtest.suite.section import NOT_MEASURED, Section, SuiteTable, spread_cell


def inner_part_sections(parts: InnerParts) -> list[Section]:
    """One section for each part that was measured."""
    found = []
    if parts.routes is not None:
        found.append(_routes(parts.routes))
    if parts.ad_memory is not None:
        found.append(_ad_memory(parts.ad_memory))
    if parts.plans is not None:
        found.append(_plans(parts.plans))
    if parts.online_store is not None:
        found.append(_online_store(parts.online_store))
    if parts.wire is not None:
        found.append(_wire(parts.wire))
    return found


def _routes(routes: RouteCosts) -> Section:
    rows = tuple(
        (
            name,
            cost.says,
            spread_cell(cost.per_s, "{:,.0f}"),
            spread_cell(cost.of_as_it_is, "{:.3f}"),
            f"{cost.p50_ms.median:.2f}",
            f"{cost.server_cpu_us.median:.0f}",
            f"{cost.collection_ms:.2f}",
        )
        for name, cost in routes.variants.items()
    )
    return Section(
        "What each decision of the route is worth",
        (
            "Decisions that no setting switches, each undone in a worker of its own that serves a smaller workload "
            f"(`python -m loadtest.micro.routes`, commit {routes.commit[:12]}): {routes.workload}. Medians of the "
            "rounds, lowest and highest in parentheses; ratios are taken within a round. All variants answer the same "
            "probabilities.",
            "“Collection” is how long a full garbage collection stops the worker (median of five).",
        ),
        SuiteTable(
            ("variant", "what it is", "requests/s", "of as it is", "p50 ms", "server CPU µs", "collection ms"), rows
        ),
    )


def _ad_memory(memory: AdMemory) -> Section:
    rows = tuple(
        (
            f"{cost.trees:,}",
            f"{cost.table_bytes_per_tree:,}",
            f"{cost.mask_bytes_per_ad:,}",
            f"{memory.row_bytes_per_ad + cost.mask_bytes_per_ad:,.0f}",
            f"{cost.switches_at_ads:,}",
            f"{cost.us_per_request['from_masks']:.1f}",
            f"{cost.us_per_request['from_rows']:.1f}",
        )
        for cost in memory.plans
    )
    return Section(
        "Bytes per ad and per tree",
        (
            "Trees of 31 leaves, 20 numbers of the user, 16 of the ad, 4 of the context "
            f"(`python -m loadtest.micro.ad_memory`). The row of an ad takes {memory.row_bytes_per_ad:.0f} bytes of "
            "the item table, id, times and index included; a plan adds its masks, once per machine, whatever the "
            "number of workers. Where the masks of all ads would take more than items.derived_max_mb "
            f"({memory.derived_max_mb:g} by default) they are worked out per request from rows.",
            f"Microseconds to score {memory.n_candidates} of {memory.n_ads:,} ads for a new user, {memory.kernel} "
            "kernel, one core: median over 100 distinct requests.",
        ),
        SuiteTable(
            (
                *("trees", "plan: bytes per tree", "masks: bytes per ad", "row and masks: bytes per ad"),
                *("masks kept up to ads", "µs from masks", "µs from rows"),
            ),
            rows,
        ),
    )


def _plans(plans: PlanTimes) -> Section:
    rows = tuple(
        (
            *(model, n_candidates, name, f"{time.median:,.1f}", f"{time.p90:,.1f}"),
            NOT_MEASURED if _is_half(name) else f"{time.times_faster:,.1f} × as long",
        )
        for model, planned in plans.models.items()
        for n_candidates, by_plan in planned.us_per_request.items()
        for name, time in by_plan.items()
    )
    return Section(
        "Scoring alone",
        (
            "One core, distinct users, contexts and candidates in every request, plans in turn "
            "(`python -m loadtest.micro.plans`): median and 90th percentile of a request. All plans answer as ONNX "
            "Runtime does, which is given the assembled rows; a factorised plan's time holds user and context as well.",
        ),
        SuiteTable(("model", "candidates", "plan", "median µs", "p90 µs", "ONNX Runtime takes"), rows),
    )


def _is_half(plan: str) -> bool:
    """Whether this is a part of a request only, which nothing whole can be compared with."""
    return ", " in plan


def _online_store(store: StoreTimes) -> Section:
    rows = tuple(
        (callers, f"{cost.cpu_us:.1f}", f"{cost.wall_us:.1f}", f"{cost.calls_per_command:.1f}")
        for callers, cost in store.read_us_cpu_per_call.items()
    )
    return Section(
        "Reading from the store",
        (
            f"One row of {store.rows:,}, by how many requests ask at the same time "
            "(`python -m loadtest.micro.online_store`): mean over 20 000 reads. Reads of one turn of the event loop "
            "share an MGET.",
        ),
        SuiteTable(("at once", "CPU µs per read", "wall µs per read", "reads per MGET"), rows),
    )


def _wire(wire: WireCosts) -> Section:
    rows = tuple(
        (
            *(request, step, f"{times.json_us:.2f}", f"{times.frame_us:.2f}", f"{times.ratio:.2f}"),
            *(f"{size.json:,}", f"{size.frame:,}"),
        )
        for request, cost in wire.requests.items()
        for step, times, size in (
            ("service reads the request", cost.read_request, cost.request_bytes),
            ("service writes the ranking", cost.write_ranking, cost.ranking_bytes),
            ("caller reads the ranking", cost.caller_reads_ranking, cost.ranking_bytes),
        )
    )
    written = "by the compiled writer" if wire.compiled_json_results else "in Python (the compiled writer is not built)"
    return Section(
        "JSON and binary frames",
        (
            f"{wire.n_candidates:,} candidates in both forms of /v1/rank, in turns on one core "
            f"(`python -m loadtest.micro.wire`): best of {wire.rounds} rounds over distinct requests; both forms say "
            f"the same. JSON results are written {written}. The caller is a Python client. Where “JSON / frame” is "
            "below 1, JSON is the faster one. Bytes are those of one request, or of its ranking.",
        ),
        SuiteTable(("request", "step", "JSON µs", "frame µs", "JSON / frame", "JSON bytes", "frame bytes"), rows),
    )
