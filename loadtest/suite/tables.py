"""Tables: what a suite found, as sections of text and cells. HTML and Markdown are drawn from the same ones.

A cell is text. Repeated measurements read `median (lowest to highest)`; `refused` is a percentile whose generator was
late; a dash is what was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.intervals import Spread
from loadtest.suite.candidate_cost import marginal_us
from loadtest.suite.closed_rounds import of_server, per_s, ratio
from loadtest.suite.drawings import cost_drawing, goodput_drawing, latency_drawing
from loadtest.suite.inner_part_tables import inner_part_sections
from loadtest.suite.open_rates import median_of_punctual
from loadtest.suite.results import ClosedRound, MeasuredServer, OpenRun, SuiteResult
from loadtest.suite.section import NOT_MEASURED, Section, SuiteTable, spread_cell

REFUSED = "refused"


def sections(result: SuiteResult) -> list[Section]:
    """Everything that was found, in the order of interest; what was not measured has no section."""
    found = [
        _throughput(result),
        _rates(result),
        _highest(result),
        _curves(result),
        _candidates(result),
        _spending(result),
        _ablation(result),
        *inner_part_sections(result.inner_parts),
        _servers(result),
        _where(result),
    ]
    return [section for section in found if section is not None]


def _throughput(result: SuiteResult) -> Section:
    plan, subject = result.plan, result.subject
    rows = []
    for server in result.servers:
        rounds = of_server(result.closed, server.name)
        ours = ratio(result.closed, subject, server.name) if server.name != subject else None
        rows.append(
            (
                server.name,
                spread_cell(per_s(result.closed, server.name), "{:,.0f}"),
                spread_cell(ratio(result.closed, server.name, result.echo), "{:#.3g}"),
                spread_cell(ours, "{:,.2f}"),
                _medians(rounds, "p50_ms", "{:,.2f}"),
                _medians(rounds, "p99_ms", "{:,.2f}"),
                *_cpu_cells(rounds),
                _errors(rounds),
            )
        )
    n_checked = sum(measured.n_checked for measured in result.closed)
    n_degraded = sum(measured.n_degraded for measured in result.closed)
    left_out = f"; {n_degraded:,} more carried a degraded code and were left out" if n_degraded else ""
    return Section(
        "Requests per second",
        (
            f"Closed loop: {plan.n_connections} connections, each sends its next request when its answer has come; "
            f"{result.closed[0].n_candidates} candidates a request, all of them in the answer. "
            f"{plan.closed_rounds} rounds of {plan.closed_s:g} s per server in alternating order: median of the "
            "rounds, lowest and highest in parentheses; ratios are taken within a round.",
            "“Of echo” is a server's share of the echo server's requests per second, "
            f"“{subject} / it” how many requests {subject} answers for each one of that server. "
            f"CPU is microseconds per request. {n_checked:,} answers given under this load were compared with those "
            f"given before it{left_out}.",
        ),
        SuiteTable(
            (
                *("server", "requests/s", "of echo", f"{subject} / it", "p50 ms", "p99 ms"),
                *("server CPU µs: user", "system", "Redis CPU µs", "client CPU µs", "errors"),
            ),
            tuple(rows),
        ),
    )


def _cpu_cells(rounds: Sequence[ClosedRound]) -> tuple[str, str, str, str]:
    bills = [measured.cpu for measured in rounds]
    return (
        _median_of([bill.server_user_us for bill in bills], "{:,.0f}"),
        _median_of([bill.server_system_us for bill in bills], "{:,.0f}"),
        _median_of([bill.redis_us for bill in bills], "{:,.0f}"),
        _median_of([bill.client_us for bill in bills], "{:,.0f}"),
    )


def _rates(result: SuiteResult) -> Section | None:
    if not result.open:
        return None
    cases = sorted({(run.n_candidates, run.rate_per_s) for run in result.open})
    rows = []
    for n_candidates, rate_per_s in cases:
        for server in result.servers:
            runs = [
                run
                for run in result.open
                if (run.server, run.n_candidates, run.rate_per_s) == (server.name, n_candidates, rate_per_s)
            ]
            if runs:
                rows.append((f"{rate_per_s:,.0f}", str(n_candidates), server.name, *_latency_cells(runs)))
    return Section(
        "Latency under a given load",
        (
            "Open loop: Poisson arrivals fixed before the run, latency counted from the moment a request was due, "
            f"whatever delayed it. {_of_runs(result.plan.open_runs)} of {result.plan.open_s:g} s after "
            f"{result.plan.warmup_s:g} s of warm-up{_in_parentheses(result.plan.open_runs)}. A server is asked only "
            "for rates below its closed-loop capacity.",
            "“Late” is how late the generator itself sent (p99); it is part of the latencies. Where that is above "
            f"{result.plan.lateness_bound_ms:g} ms in half of the runs or more, percentiles are refused. "
            "A dash stands for a percentile beyond which no request of the run lies.",
        ),
        SuiteTable(
            ("requests/s", "candidates", "server", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "late ms", "errors"),
            tuple(rows),
        ),
    )


def _latency_cells(runs: Sequence[OpenRun]) -> tuple[str, ...]:
    figures = [
        spread_cell(median_of_punctual(runs, figure), "{:,.2f}", unknown=REFUSED)
        if any(getattr(run, figure) is not None for run in runs)
        else NOT_MEASURED
        for figure in ("p50_ms", "p99_ms", "p999_ms", "max_ms")
    ]
    return (*figures, _median_of([run.lateness_p99_ms for run in runs], "{:.2f}"), _errors(runs))


def _highest(result: SuiteResult) -> Section | None:
    if not result.highest:
        return None
    bounds = sorted({found.bound_ms for found in result.highest}, reverse=True)
    rows = []
    for server in result.servers:
        cells = [server.name]
        for bound_ms in bounds:
            match = [f for f in result.highest if (f.server, f.bound_ms) == (server.name, bound_ms)]
            if not match or match[0].rate_per_s is None:
                cells.append(NOT_MEASURED if not match else "none")
                continue
            ended = {"generator": "at least ", "range": "at least ", "missed": ""}[match[0].ended_by]
            cells.append(f"{ended}{match[0].rate_per_s:,.0f}/s")
        rows.append(tuple(cells))
    return Section(
        "Highest Poisson rate within a bound",
        (
            "Found by bisection to 4 % of the server's capacity; each rate is measured several times and the median "
            "p99 decides. “At least”: above it the generator was late, or nothing higher was tried.",
        ),
        SuiteTable(("server", *(f"p99 ≤ {bound:g} ms" for bound in bounds)), tuple(rows)),
    )


def _curves(result: SuiteResult) -> Section | None:
    if not result.curves:
        return None
    rows = tuple(
        (
            run.server,
            f"{run.rate_per_s / capacity.median:.0%}"
            if (capacity := per_s(result.closed, run.server))
            else NOT_MEASURED,
            f"{run.rate_per_s:,.0f}",
            f"{run.answered_per_s:,.0f}",
            f"{run.goodput_per_s:,.0f}",
            _figure(run.p50_ms if run.believable else None, "{:,.2f}", unknown=REFUSED),
            _figure(run.p99_ms if run.believable else None, "{:,.2f}", unknown=REFUSED),
            _errors([run]),
        )
        for run in result.curves
    )
    return Section(
        "Past saturation",
        (
            "Load is a share of each server's closed-loop capacity, one open-loop run each. Goodput counts the "
            "answers within 10 ms of their due time. A server that refuses what it cannot do in time keeps its goodput "
            "as long as refusing, which takes time as well, leaves some for answers; one that queues loses it.",
            "Offered is the mean rate of the Poisson arrivals: in a short run some more or some fewer come, and all "
            "of them may be answered. Percentiles are refused where the generator was late.",
        ),
        SuiteTable(("server", "load", "offered/s", "answered/s", "goodput/s", "p50 ms", "p99 ms", "errors"), rows),
        (latency_drawing(result), goodput_drawing(result)),
    )


def _candidates(result: SuiteResult) -> Section | None:
    costs = result.candidate_costs
    if not costs:
        return None
    servers = [server.name for server in result.servers if any(cost.server == server.name for cost in costs)]
    rows = tuple(
        (
            cost.server,
            f"{cost.n_candidates:,}",
            spread_cell(cost.us_per_request, "{:,.0f}"),
            spread_cell(cost.server_cpu_us, "{:,.0f}"),
            _figure(cost.answer_bytes, "{:,.0f}"),
        )
        for name in servers
        for cost in costs
        if cost.server == name
    )
    margins = [f"{name} {margin:.2f} µs" for name in servers if (margin := marginal_us(costs, name)) is not None]
    return Section(
        "Cost per candidate",
        (
            "Closed loop by the number of candidates; a request costs 1 / (requests per second) of the server's core. "
            f"{_of_runs(costs[0].us_per_request.n)} each{_in_parentheses(costs[0].us_per_request.n)}.",
            "Each further candidate beyond 100 costs, end to end: " + "; ".join(margins) + "." if margins else "",
        ),
        SuiteTable(("server", "candidates", "µs per request", "server CPU µs", "answer bytes"), rows),
        (cost_drawing(result),),
    )


def _spending(result: SuiteResult) -> Section | None:
    if not result.spending:
        return None
    rows = tuple(
        (
            spent.server,
            ", ".join(f"{name} {share:.0%}" for name, share in spent.libraries.items()) or NOT_MEASURED,
            ", ".join(f"{name} {us:.0f}" for name, us in spent.stages_us.items()) or NOT_MEASURED,
            NOT_MEASURED if spent.memory_bytes is None else f"{spent.memory_bytes / 2**20:,.0f}",
            str(spent.n_processes),
        )
        for spent in result.spending
    )
    return Section(
        "Where the time goes",
        (
            "CPU samples by the library they fell into (perf, 499 a second, closed loop), the stages a server reports "
            "of itself (`Server-Timing`, median of requests sent one at a time, µs), and the proportional set size of "
            "its processes after the load.",
        ),
        SuiteTable(("server", "CPU by library", "own stages µs", "memory MiB", "processes"), rows),
    )


def _ablation(result: SuiteResult) -> Section | None:
    if not result.variants:
        return None
    says = {server.name: server.says for server in result.variant_servers}
    names = [result.subject, *says]
    rows = tuple(
        (
            name,
            says.get(name, "as it is"),
            spread_cell(per_s(result.variants, name), "{:,.0f}"),
            spread_cell(ratio(result.variants, name, result.subject), "{:.2f}"),
            _medians(of_server(result.variants, name), "p50_ms", "{:.2f}"),
            _median_of([measured.cpu.server_us for measured in of_server(result.variants, name)], "{:.0f}"),
        )
        for name in names
    )
    return Section(
        "What each decision is worth",
        (
            f"The service with one decision switched off each, closed loop of {result.plan.n_connections} connections, "
            f"in {result.plan.closed_rounds} rounds of {result.plan.closed_s:g} s of their own: medians, lowest and "
            "highest in parentheses; ratios are taken within a round.",
        ),
        SuiteTable(("variant", "what is switched", "requests/s", "of the whole", "p50 ms", "server CPU µs"), rows),
    )


def _servers(result: SuiteResult) -> Section:
    rows = [
        (
            server.name,
            server.says,
            f"{server.ready_after_s:.1f}",
            _compared(server),
        )
        for server in (*result.servers, *result.variant_servers)
    ]
    rows += [
        (absent.name, absent.says, NOT_MEASURED, "not measured: " + _brief(absent.reason)) for absent in result.absent
    ]
    return Section(
        "The servers",
        (
            "Before anything was timed, each server's probabilities and order were compared with those of "
            f"{result.subject}.",
        ),
        SuiteTable(("server", "what it is", "ready after s", "probabilities compared"), tuple(rows)),
    )


def _compared(server: MeasuredServer) -> str:
    agreement = server.agreement
    if agreement is None:
        return NOT_MEASURED
    is_reference = server.role == "subject"
    found = "the reference" if is_reference else f"largest difference {agreement.largest_difference:.1g}"
    left_out = f"; {agreement.n_degraded:,} degraded answers left out" if agreement.n_degraded else ""
    return f"{agreement.n_candidates:,} in {agreement.n_requests:,} requests; {found}{left_out}"


def _where(result: SuiteResult) -> Section:
    machine, idle = result.machine, [measured.cpu.idle_servers_share for measured in result.closed]
    quota = "" if machine.cpu_quota is None else f", quota {machine.cpu_quota:g}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    rows = (
        ("when", f"{result.created_at}, {result.seconds / 60:.0f} min, plan “{result.plan.mode}”"),
        ("commit", result.commit),
        ("machine", f"{machine.cpu_model}, {machine.cores} cores{quota}, {machine.memory_bytes / 2**30:.0f} GiB"),
        ("cores", result.cores.describe()),
        ("load average before", f"{machine.load_average_1m:.2f} (one minute; an idle machine is near 0)"),
        ("idle servers meanwhile", _median_of(idle, "{:.1%}") + " of a core, median over the closed rounds"),
        ("system", f"{machine.os}, {machine.python}"),
        ("libraries", versions),
        ("workload", f"{result.workload}; bodies of {result.mean_body_bytes:,.0f} bytes"),
        ("workload SHA-256", result.workload_sha256[:16]),
    )
    return Section("Where and what", (), SuiteTable(("", ""), rows))


def _of_runs(n: int) -> str:
    return "One run" if n == 1 else f"Median of {n} runs"


def _in_parentheses(n: int) -> str:
    """What stands behind a figure, where something does."""
    return "" if n == 1 else ", lowest and highest in parentheses"


def _medians(rounds: Sequence[ClosedRound], figure: str, form: str) -> str:
    return _median_of([getattr(measured, figure) for measured in rounds], form)


def _median_of(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(Spread.of(known).median) if known else NOT_MEASURED


def _figure(value: float | None, form: str, unknown: str = NOT_MEASURED) -> str:
    return unknown if value is None else form.format(value)


def _errors(measured: Sequence[ClosedRound] | Sequence[OpenRun]) -> str:
    counts: dict[str, int] = {}
    for run in measured:
        for kind, count in run.errors.items():
            counts[kind] = counts.get(kind, 0) + count
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "0"


def _brief(reason: str) -> str:
    """The end of a reason, where the cause of a traceback stands."""
    last = reason.strip().splitlines()[-1]
    return last if len(last) <= 200 else "…" + last[-199:]
