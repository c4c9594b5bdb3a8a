"""Runs a suite: start all servers, hold their answers against each other, measure, write down.

Order matters: probabilities before speed, closed loop before open (its capacity says which rates make sense), and the
runs under perf last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from loadtest.errors import ServerError
from loadtest.intervals import Spread
from loadtest.machine import read_commit, read_machine
from loadtest.suite.agreement import Agreement, Ranking, ask_all, compare, read_answers
from loadtest.suite.candidate_cost import measure_costs
from loadtest.suite.closed_rounds import measure_rounds, per_s
from loadtest.suite.cores import Cores
from loadtest.suite.generators import Generators
from loadtest.suite.inner_parts import InnerParts, measure_inner_parts
from loadtest.suite.load_curve import measure_curves
from loadtest.suite.open_rates import measure_rates, open_run
from loadtest.suite.plan import SuitePlan
from loadtest.suite.questions import QuestionBook
from loadtest.suite.results import Absent, HighestRate, MeasuredServer, SuiteResult, Tried
from loadtest.suite.search import highest_rate, judge_tries
from loadtest.suite.servers import Server, ServerPlan, running
from loadtest.suite.spending import measure_spending
from loadtest.workload import read_workload

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """What to measure, and on what."""

    plan: SuitePlan
    subject: ServerPlan
    echo: ServerPlan
    baselines: tuple[ServerPlan, ...]
    variants: tuple[ServerPlan, ...]
    """Measured beside the subject in rounds of their own."""
    workload_path: Path
    """`workload.json` in the folder of a built workload."""
    out_dir: Path
    """Logs of the servers and their prepared requests go here."""
    cores: Cores
    redis_pids: tuple[int, ...] = ()


def run_suite(options: SuiteOptions, on_step: OnStep = lambda _text: None) -> SuiteResult:
    """Measure everything in the plan.

    Raises:
        ServerError: the subject or the echo server did not start. A baseline or variant that does not is `absent`.
        DisagreementError: a server answers other probabilities than the subject.
        LoadTestError: the workload is wrong, or a generator failed.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        return _Suite(options, on_step, stack).run(started)


class _Suite:
    """The state of a run: the workload's files, the servers that are up, and what was measured so far."""

    def __init__(self, options: SuiteOptions, on_step: OnStep, stack: ExitStack) -> None:
        self._options = options
        self._plan = options.plan
        self._on_step = on_step
        self._stack = stack
        options.out_dir.mkdir(parents=True, exist_ok=True)
        self._workload = read_workload(options.workload_path)
        self._n_candidates = self._workload.n_candidates
        self._questions = QuestionBook(self._workload, options.workload_path.parent, options.out_dir)
        self._absent: list[Absent] = []
        self._reference: dict[int, Ranking] = {}
        self._servers: list[Server] = []
        self._capacity_per_s: dict[str, float] = {}

    def run(self, started: float) -> SuiteResult:
        options, plan = self._options, self._plan
        machine = read_machine()  # before anything of ours loads it
        described = self._start([options.subject, options.echo, *options.baselines])
        generators = self._generators(self._servers)
        closed = measure_rounds(
            generators,
            self._servers,
            self._n_candidates,
            plan.closed_rounds,
            plan.closed_s,
            self._reference,
            self._on_step,
        )
        for server in self._servers:
            self._capacity_per_s[server.name] = _median(per_s(closed, server.name))
        rates = measure_rates(
            generators,
            self._servers,
            plan.open_cases,
            self._capacity_per_s,
            plan.open_runs,
            plan.open_s,
            self._on_step,
        )
        highest = [found for server in self._servers for found in self._search(generators, server)]
        curves = measure_curves(
            generators,
            self._servers,
            self._n_candidates,
            plan.curve_shares,
            self._capacity_per_s,
            plan.curve_s,
            self._on_step,
        )
        costs = measure_costs(
            generators,
            [server for server in self._servers if server.plan.ranks],
            plan.candidate_counts,
            plan.candidate_rounds,
            plan.candidate_s,
            self._on_step,
        )
        spending = []
        for server in self._servers:
            self._on_step(f"where {server.name} spends its time")
            spending.append(measure_spending(generators, server, self._n_candidates))
        subject = self._servers[0]
        variant_servers = self._start(options.variants)
        beside = [subject, *self._servers[len(described) :]]
        variants = measure_rounds(
            self._generators(self._servers),
            beside if variant_servers else [],
            self._n_candidates,
            plan.closed_rounds,
            plan.closed_s,
            self._reference,
            self._on_step,
        )
        inner_parts = self._inner_parts() if plan.inner_parts else InnerParts()
        bodies = self._questions.own(options.subject).requests.bodies
        return SuiteResult(
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - started,
            commit=read_commit(),
            machine=machine,
            cores=options.cores,
            workload=self._workload.describe(),
            workload_sha256=self._workload.sha256(),
            mean_body_bytes=sum(map(len, bodies)) / len(bodies),
            plan=plan.facts(),
            subject=options.subject.name,
            echo=options.echo.name,
            servers=described,
            absent=self._absent,
            closed=closed,
            open=rates,
            curves=curves,
            highest=highest,
            candidate_costs=costs,
            spending=spending,
            variants=variants,
            variant_servers=variant_servers,
            inner_parts=inner_parts,
        )

    def _inner_parts(self) -> InnerParts:
        return measure_inner_parts(
            self._options.cores,
            self._on_step,
            lambda module, reason: self._absent.append(Absent(module, "parts of the service by themselves", reason)),
        )

    def _start(self, plans: Sequence[ServerPlan]) -> list[MeasuredServer]:
        """Start servers in turn and hold each one's answers against the subject's."""
        options, described = self._options, []
        for plan in plans:
            self._on_step(f"starting {plan.name}")
            requests = self._questions.own(plan).requests
            try:
                up = running(plan, requests.path, requests.bodies[0], options.out_dir, options.cores.server)
                server = self._stack.enter_context(up)
            except ServerError as error:
                if plan.role in ("subject", "echo"):
                    raise
                self._absent.append(Absent(plan.name, plan.says, str(error)))
                continue
            agreement = self._agreement(server) if plan.ranks else None
            self._servers.append(server)
            described.append(
                MeasuredServer(plan.name, plan.says, plan.role, server.software, server.ready_after_s, agreement)
            )
        return described

    def _agreement(self, server: Server) -> Agreement:
        self._on_step(f"checking the probabilities of {server.name}")
        questions = self._questions.own(server.plan)
        requests = questions.requests
        bodies = requests.bodies[: self._plan.agreement_requests]
        answers = ask_all(server.name, server.target, requests.path, bodies)
        readings = read_answers(enumerate(answers), questions.read)
        readings.check_that_most_are_whole(server.name)
        if not self._reference:
            self._reference = dict(readings.whole)
        agreed = compare(server.name, self._reference, readings.whole)
        return msgspec.structs.replace(agreed, n_degraded=readings.n_degraded)

    def _generators(self, servers: Sequence[Server]) -> Generators:
        options = self._options
        return Generators(
            plan=self._plan,
            questions=self._questions,
            servers=tuple(servers),
            redis_pids=options.redis_pids,
            client_core=options.cores.client,
            folder=options.out_dir,
        )

    def _search(self, generators: Generators, server: Server) -> list[HighestRate]:
        """The highest rate for each bound, the widest first: what it saw narrows the next one's range."""
        plan = self._plan
        known: list[Tried] = []
        found = []

        def measure(rate_per_s: float) -> Tried:
            self._on_step(f"highest rate: {server.name} at {rate_per_s:.0f}/s")
            runs = []
            for run in range(plan.search_runs):
                result, cpu = generators.open(server, self._n_candidates, rate_per_s, plan.search_s, seed=run)
                runs.append(open_run(server.name, run, self._n_candidates, result, cpu))
            return judge_tries(rate_per_s, runs)

        for bound_ms in sorted(plan.search_bounds_ms, reverse=True):
            result = highest_rate(server.name, bound_ms, self._capacity_per_s[server.name], measure, known)
            known = result.tried
            found.append(result)
        return found


def _median(spread: Spread | None) -> float:
    return spread.median if spread else 0.0
