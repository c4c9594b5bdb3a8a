"""The arena: W100, or a workload of another size, with its own Redis and the servers that are measured on it.

Workloads are built by their own command below `.clickserve/proofs`, once. Servers run on one core, Redis and the load
generators share another. Servers that rank are compared before anything is timed: a fast wrong answer proves nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from feature_store.online.embedded import EmbeddedServer
from loadtest.errors import DisagreementError, LoadTestError, ServerError, TargetError
from loadtest.pinning import pin_to_cpu
from loadtest.suite.agreement import Ranking, ask_all, compare
from loadtest.suite.baseline_plans import baseline_plans
from loadtest.suite.cores import Cores, choose_cores
from loadtest.suite.generators import Generators
from loadtest.suite.plan import FULL
from loadtest.suite.questions import QuestionBook
from loadtest.suite.servers import Server, ServerPlan, running
from loadtest.workload import read_workload
from tests.proofs.claim import REPOSITORY, clickserve

WORKLOADS = REPOSITORY / ".clickserve" / "proofs"
OURS, ECHO = "clickserve", "echo"
COMPARED_REQUESTS = 300
TRIES = 5
W100_CANDIDATES = 100


def built(name: str, *arguments: str | int) -> Path:
    """Folder of a workload; `arguments` are those of `clickserve bench serve-workload`."""
    folder = WORKLOADS / name
    clickserve("bench", "serve-workload", "--dir", folder, "--build-only", *map(str, arguments), cwd=REPOSITORY)
    return folder


def w100() -> Path:
    """Folder of the workload that every bound speaks of."""
    return built("w100")


def service(folder: Path, name: str = OURS, workers: int = 1) -> ServerPlan:
    """`clickserve serve` as it is deployed, on that workload, whatever this process's environment says."""
    serve = (sys.executable, "-m", "service", "serve", "--config", str(folder / "clickserve.toml"))
    return ServerPlan(
        name=name,
        says="this service",
        command=(*serve, "--port", "{port}", "--workers", str(workers)),
        role="subject",
        environment=dict.fromkeys(name for name in os.environ if name.startswith(("CLICKSERVE_", "REDIS_"))),
    )


def baselines(folder: Path, *names: str) -> list[ServerPlan]:
    """Those baselines on that workload; all there are where none is named."""
    return [plan for plan in baseline_plans(folder) if not names or plan.name in names]


class _Codes(msgspec.Struct):
    """The part of an answer that says whether it lacks something; servers without codes lack nothing."""

    degraded: list[str] = []


@dataclass(frozen=True, slots=True)
class Arena:
    """A workload with its Redis and servers."""

    folder: Path
    cores: Cores
    store: EmbeddedServer
    servers: tuple[Server, ...]
    absent: dict[str, str]
    """Baselines that did not start, and why."""
    generators: Generators
    reference: dict[int, Ranking]
    """Answers by number of the request; those of the first server that ranks."""

    def server(self, name: str) -> Server:
        """A running server. Raises ServerError where it did not start."""
        for server in self.servers:
            if server.name == name:
                return server
        raise ServerError(f"{name} does not run: {self.absent.get(name, 'it was not asked for')}")

    @property
    def redis_pid(self) -> int:
        """Process of the Redis that was started here."""
        assert self.store.pid is not None  # `redis_of` demands it
        return self.store.pid


@contextmanager
def redis_of(folder: Path, cores: Cores) -> Iterator[EmbeddedServer]:
    """The workload's own Redis, on the client's core.

    Raises:
        RuntimeError: another process serves that folder, so this one could not be pinned, or stopped.
    """
    with EmbeddedServer(folder / "valkey") as store:
        if store.pid is None:
            raise RuntimeError(f"another process serves {folder / 'valkey'}; end it first")
        if cores.client is not None:
            pin_to_cpu(store.pid, cores.client)
        yield store


@contextmanager
def arena(folder: Path, plans: Sequence[ServerPlan], scratch: Path, warmup_s: float) -> Iterator[Arena]:
    """Starts Redis and all servers, compares their answers, and stops them in the end.

    Raises:
        ServerError: this service or the echo server did not start. A baseline that does not is `absent`.
        DisagreementError: two servers answer other probabilities.
    """
    cores = choose_cores()
    scratch.mkdir(parents=True, exist_ok=True)
    workload = read_workload(folder / "workload.json")
    questions = QuestionBook(workload, folder, scratch)
    absent: dict[str, str] = {}
    reference: dict[int, Ranking] = {}
    servers: list[Server] = []
    with ExitStack() as stack:
        store = stack.enter_context(redis_of(folder, cores))
        for plan in plans:
            requests = questions.own(plan).requests
            try:
                started = running(plan, requests.path, requests.bodies[0], scratch, cores.server)
                server = stack.enter_context(started)
            except ServerError as error:
                if plan.role != "baseline":
                    raise
                absent[plan.name] = str(error).strip().splitlines()[-1]
                continue
            servers.append(server)
            _compare(server, questions, reference)
        generators = Generators(
            plan=replace(FULL, warmup_s=warmup_s),
            questions=questions,
            servers=tuple(servers),
            redis_pids=(store.pid,) if store.pid is not None else (),
            client_core=cores.client,
            folder=scratch,
        )
        yield Arena(folder, cores, store, tuple(servers), absent, generators, reference)


def _compare(server: Server, questions: QuestionBook, reference: dict[int, Ranking]) -> None:
    """Holds a ranking server against the first one; fills `reference` from the first."""
    if not server.plan.ranks:
        return
    own = questions.own(server.plan)
    bodies = own.requests.bodies[:COMPARED_REQUESTS]
    rankings = {
        number: own.read(number, _whole_answer(server, own.requests.path, body)) for number, body in enumerate(bodies)
    }
    if not reference:
        reference.update(rankings)
    compare(server.name, reference, rankings.items())


def _whole_answer(server: Server, path: str, body: bytes) -> bytes:
    """An answer that used all features, asked for again where a busy moment cost it its deadline: speed is measured
    later, here only probabilities are compared.

    Raises:
        TargetError, DisagreementError: there was none in all tries.
    """
    trouble: LoadTestError = DisagreementError(f"{server.name} was not asked")
    for _ in range(TRIES):
        try:
            (answer,) = ask_all(server.name, server.target, path, [body])
        except TargetError as error:
            trouble = error
            continue
        said = msgspec.json.decode(answer, type=_Codes | list[float])  # a list: a model server's plain probabilities
        if isinstance(said, list) or not said.degraded:
            return answer
        trouble = DisagreementError(f"{server.name} answered with less than it knows: {said.degraded}")
    raise trouble
