"""Open-loop load generator: sends on a Poisson schedule fixed beforehand and counts latency from it.

A closed-loop client waits for an answer before it sends again. When the server stalls, it stops asking, and the
requests that would have suffered are never sent: a server that freezes 100 ms every second then shows a p99 of a few
milliseconds ("coordinated omission"). Users do not coordinate. Here every request has its due time before the run
begins; its latency is answer − due time, whatever delayed it: the server, a busy connection, or this generator. The
generator's own part is measured (`lateness`: actual − due time of sending) and beyond a bound it says so itself.

    python -m loadtest.open_loop --url http://127.0.0.1:8080 --rate 500 --duration 20 --workload workload.json

With `--against URL` a second service gets the same load in turns (`turns_run.py`); then there are two results.

This is the process around a run (`open_loop_run.py`): its arguments, its core, its garbage collector, its output.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from loadtest.command_line import count, not_negative, positive
from loadtest.errors import LoadTestError
from loadtest.open_loop_options import OpenLoopOptions
from loadtest.open_loop_run import run_open_loop
from loadtest.pinning import pin_to_cpu
from loadtest.prepared import requests_of
from loadtest.results import Lateness
from loadtest.target import Target
from loadtest.turns_run import run_in_turns
from loadtest.whole_files import write_whole


def lateness_verdict(lateness: Lateness) -> str:
    """One sentence on whether the generator was punctual enough to blame the server."""
    late_ms = lateness.tail_ms
    if late_ms is None:
        return "no request was sent"
    if lateness.believable:
        return f"generator punctual: lateness p99 {late_ms:.3f} ms, bound {lateness.bound_p99_ms:g} ms"
    return (
        f"generator too late to be believed: lateness p99 {late_ms:.3f} ms, bound {lateness.bound_p99_ms:g} ms; "
        "give it a core of its own (--cpu) or a lower rate"
    )


def _parser() -> argparse.ArgumentParser:
    defaults = OpenLoopOptions(rate_per_s=1, duration_s=1)
    parser = argparse.ArgumentParser(prog="python -m loadtest.open_loop", description="Open-loop load generator.")
    parser.add_argument("--url", required=True, help="http://HOST:PORT of the service")
    parser.add_argument("--rate", required=True, type=positive, help="mean requests per second")
    parser.add_argument("--duration", required=True, type=positive, help="measured seconds")
    requests = parser.add_mutually_exclusive_group(required=True)
    requests.add_argument("--workload", type=Path, help="workload file, see loadtest/workload.py")
    requests.add_argument("--prepared", type=Path, help="requests as they are, see loadtest/prepared.py")
    parser.add_argument("--warmup", type=not_negative, default=defaults.warmup_s, help="seconds before, not measured")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="seed of the arrival times")
    parser.add_argument("--timeout", type=positive, default=defaults.timeout_s, help="seconds after the due time")
    parser.add_argument("--max-connections", type=count, default=defaults.max_connections)
    parser.add_argument("--sample-every", type=count, default=defaults.sample_every, help="read one answer in so many")
    parser.add_argument("--lateness-bound-ms", type=positive, default=defaults.lateness_bound_ms)
    parser.add_argument("--good-within-ms", type=positive, default=defaults.good_within_ms, help="else no goodput")
    parser.add_argument("--server-pid", type=count, action="append", default=[], help="whose CPU time is noted; repeat")
    parser.add_argument("--against", metavar="URL", help="a second service, in turns; --duration is that of each")
    parser.add_argument("--turn", type=positive, default=defaults.second_s, help="seconds of a turn, with --against")
    parser.add_argument("--against-pid", type=count, action="append", default=[], help="--server-pid of the second")
    parser.add_argument("--cpu", type=int, help="run on this core only")
    parser.add_argument("--out", type=Path, help="write the result here as JSON instead of to stdout")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when the run took place (whatever it found), 1 when it could not."""
    given = _parser().parse_args(arguments)
    options = OpenLoopOptions(
        rate_per_s=given.rate,
        duration_s=given.duration,
        warmup_s=given.warmup,
        seed=given.seed,
        timeout_s=given.timeout,
        max_connections=given.max_connections,
        sample_every=given.sample_every,
        lateness_bound_ms=given.lateness_bound_ms,
        good_within_ms=given.good_within_ms,
        second_s=1.0 if given.against is None else given.turn,
        server_pids=tuple(given.server_pid),
    )
    try:
        if given.cpu is not None:
            pin_to_cpu(0, given.cpu)
        target = Target.parse(given.url)
        other = None if given.against is None else Target.parse(given.against)
        requests = requests_of(given.workload, given.prepared)
        gc.collect()
        gc.freeze()
        gc.disable()  # the run is bounded and makes no cycles worth collecting; a pause would look like the server's
        if other is None:
            results = [uvloop.run(run_open_loop(target, requests.path, requests.bodies, options))]
        else:
            services = [(target, tuple(given.server_pid)), (other, tuple(given.against_pid))]
            results = list(uvloop.run(run_in_turns(services, requests.path, requests.bodies, options)))
    except LoadTestError as error:
        sys.stderr.write(f"open loop: {error}\n")
        return 1
    content = msgspec.json.format(msgspec.json.encode(results[0] if other is None else results), indent=2)
    if given.out is None:
        sys.stdout.write(content.decode() + "\n")
    else:
        write_whole({given.out: content})
    for result in results:
        assert result.lateness is not None
        sys.stderr.write(lateness_verdict(result.lateness) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
