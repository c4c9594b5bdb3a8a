"""What each decision of the route is worth: the raw ASGI path, one write per answer, metrics, frozen garbage.

    python -m loadtest.micro.routes [--json] [--rounds N] [--seconds S] [--no-pin]

Each variant of `route_variants.py` is a server on a core of its own, asked over a socket by the closed loop from
another core, which it shares with Redis: 8 connections, 100 candidates, 2 000 users, 1 000 ads, 200 trees. All are up
at once and measured in turn, in rounds of alternating order; a ratio is taken within a round. Every variant's
probabilities are compared with those of the service as it is, before its speed and under load.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from feature_store.online.embedded import EmbeddedServer
from loadtest.command_line import count, positive
from loadtest.intervals import Spread
from loadtest.machine import read_commit, read_machine
from loadtest.micro.route_variants import VARIANTS
from loadtest.pinning import pin_to_cpu
from loadtest.suite.agreement import Ranking, ask_all, compare, read_answers
from loadtest.suite.closed_rounds import measure_rounds, of_server, per_s, ratio
from loadtest.suite.cores import Cores, choose_cores, no_cores
from loadtest.suite.generators import Generators
from loadtest.suite.plan import QUICK
from loadtest.suite.questions import QuestionBook
from loadtest.suite.results import ClosedRound
from loadtest.suite.servers import Server, ServerPlan, running
from loadtest.workload import read_workload
from service.ended_by_signal import EndedBySignal
from service.reference_workload.build import Place, build
from service.reference_workload.parameters import WorkloadParameters

PARAMETERS = WorkloadParameters(users=2_000, ads=1_000)
N_CANDIDATES = 100
AS_IT_IS = next(iter(VARIANTS))
ENVIRONMENT = {
    **dict.fromkeys(("REDIS_URL", "CLICKSERVE_REDIS__URL", "CLICKSERVE_REDIS__URL_FILE")),
    "CLICKSERVE_DEADLINE__TOTAL_MS": "2000",
    "CLICKSERVE_DEADLINE__FEATURES_MS": "1000",
}
"""The workload's own Redis; and no answer that a busy machine makes late may be cut short, or less work is compared."""


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--rounds", type=count, default=5, help="turns of each variant (default 5)")
    parser.add_argument("--seconds", type=positive, default=3.0, help="of each turn (default 3)")
    parser.add_argument("--no-pin", action="store_true", help="leave the cores to the kernel")
    options = parser.parse_args()
    EndedBySignal()  # its servers end with it
    place = Place(Path(".clickserve/workload") / PARAMETERS.digest, None)
    build(place, PARAMETERS, N_CANDIDATES, lambda _step, _share: None)
    cores = no_cores() if options.no_pin else choose_cores()
    measured = measure(place, cores, options.rounds, options.seconds)
    sys.stdout.write(json.dumps(measured, indent=2) + "\n" if options.json else table(measured))


def measure(place: Place, cores: Cores, n_rounds: int, seconds: float) -> dict[str, object]:
    """All variants side by side."""
    machine = read_machine()
    workload_path = place.folder / "workload.json"
    workload = read_workload(workload_path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cs-routes-")))
        redis = stack.enter_context(EmbeddedServer(place.folder / "valkey"))
        assert redis.pid is not None
        if cores.client is not None:
            pin_to_cpu(redis.pid, cores.client)
        questions = QuestionBook(workload, workload_path.parent, folder)
        requests = questions.own(_plan(place, AS_IT_IS)).requests
        servers = [
            stack.enter_context(running(_plan(place, name), requests.path, requests.bodies[0], folder, cores.server))
            for name in VARIANTS
        ]
        reference = _checked(servers, questions)
        generators = Generators(
            plan=replace(QUICK, warmup_s=0.5),
            questions=questions,
            servers=servers,
            redis_pids=(redis.pid,),
            client_core=cores.client,
            folder=folder,
        )
        rounds = measure_rounds(generators, servers, N_CANDIDATES, n_rounds, seconds, reference, lambda _step: None)
        collections_ms = {name: _collection_ms(folder, name) for name in VARIANTS}
    return {
        "machine": msgspec.to_builtins(machine),
        "commit": read_commit(),
        "workload": f"{workload.describe()}; {cores.describe()}; {n_rounds} rounds of {seconds:g} s",
        "as_it_is": AS_IT_IS,
        "variants": {name: _described(rounds, name, collections_ms[name]) for name in VARIANTS},
    }


def table(measured: dict[str, object]) -> str:
    """The measurements for people."""
    lines = [
        f"{measured['workload']}\n{'':16}{'requests/s':>12}{'of as it is':>24}{'p50 ms':>9}{'collection ms':>15}\n"
    ]
    for name, seen in measured["variants"].items():  # type: ignore[attr-defined]
        share = seen["of_as_it_is"]
        spread = f"{share['median']:.3f} ({share['low']:.3f} to {share['high']:.3f})"
        lines.append(
            f"{name:16}{seen['per_s']['median']:>12,.0f}{spread:>24}{seen['p50_ms']['median']:>9.2f}"
            f"{seen['collection_ms']:>15.2f}\n"
        )
    return "".join(lines)


def _plan(place: Place, name: str) -> ServerPlan:
    module = (sys.executable, "-m", "loadtest.micro.route_server", "--config", str(place.config))
    return ServerPlan(
        name=name,
        says=VARIANTS[name].says,
        command=(*module, "--port", "{port}", "--variant", name),
        role="subject" if name == AS_IT_IS else "variant",
        environment=ENVIRONMENT,
    )


def _checked(servers: list[Server], questions: QuestionBook) -> dict[int, Ranking]:
    """Rankings of the service as it is, with which those of all variants agree.

    Raises:
        DisagreementError: they do not, or most answers are degraded.
    """
    reference: dict[int, Ranking] = {}
    for server in servers:
        own = questions.own(server.plan)
        answers = ask_all(
            server.name, server.target, own.requests.path, own.requests.bodies[: QUICK.agreement_requests]
        )
        readings = read_answers(enumerate(answers), own.read)
        readings.check_that_most_are_whole(server.name)
        reference = reference or dict(readings.whole)
        compare(server.name, reference, readings.whole)
    return reference


def _collection_ms(folder: Path, name: str) -> float:
    """What the server said before it listened."""
    said = (folder / f"{name}.log").read_text()
    lines = [line for line in said.splitlines() if line.startswith('{"collection_ms"')]
    milliseconds: float = json.loads(lines[0])["collection_ms"]
    return milliseconds


def _described(rounds: list[ClosedRound], name: str, collection_ms: float) -> dict[str, object]:
    own = of_server(rounds, name)
    cpu_us = [measured.cpu.server_us for measured in own]
    figures = {
        "per_s": per_s(rounds, name),
        "of_as_it_is": ratio(rounds, name, AS_IT_IS),
        "p50_ms": Spread.of([measured.p50_ms or 0.0 for measured in own]),
        "server_cpu_us": Spread.of([us for us in cpu_us if us is not None] or [0.0]),
    }
    return {"says": VARIANTS[name].says, **msgspec.to_builtins(figures), "collection_ms": collection_ms}


if __name__ == "__main__":
    main()
