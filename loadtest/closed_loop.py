"""Closed-loop load generator: a few connections that ask again as soon as they are answered.

It answers one question: how many requests a second can this server do? Its latencies are those of a server that is
always busy, seen by clients who wait with it; for latency under a given load there is the open loop beside it.

    python -m loadtest.closed_loop --url http://127.0.0.1:8080 --workload workload.json --connections 8 --duration 5

This is the process around a run (`closed_loop_run.py`): its arguments, its core, its garbage collector, its output.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.closed_loop_run import ClosedLoopOptions, run_closed_loop
from loadtest.command_line import count, not_negative, positive, whole
from loadtest.errors import LoadTestError
from loadtest.pinning import pin_to_cpu
from loadtest.prepared import requests_of
from loadtest.target import Target
from loadtest.whole_files import write_whole


def _parser() -> argparse.ArgumentParser:
    defaults = ClosedLoopOptions()
    parser = argparse.ArgumentParser(prog="python -m loadtest.closed_loop", description="Closed-loop load generator.")
    parser.add_argument("--url", required=True, help="http://HOST:PORT of the service")
    requests = parser.add_mutually_exclusive_group(required=True)
    requests.add_argument("--workload", type=Path, help="workload file, see loadtest/workload.py")
    requests.add_argument("--prepared", type=Path, help="requests as they are, see loadtest/prepared.py")
    parser.add_argument("--connections", type=count, default=defaults.n_connections, help="one request in flight each")
    parser.add_argument("--duration", type=positive, default=defaults.duration_s, help="measured seconds")
    parser.add_argument("--warmup", type=not_negative, default=defaults.warmup_s, help="seconds before, not measured")
    parser.add_argument("--timeout", type=positive, default=defaults.timeout_s, help="seconds for one answer")
    parser.add_argument("--keep-every", type=whole, default=0, help="keep the body of one answer in so many; 0: none")
    parser.add_argument("--cpu", type=int, help="run on this core only")
    parser.add_argument("--out", type=Path, help="write the result here as JSON instead of to stdout")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when the run took place (whatever it found), 1 when it could not."""
    given = _parser().parse_args(arguments)
    options = ClosedLoopOptions(
        n_connections=given.connections,
        duration_s=given.duration,
        warmup_s=given.warmup,
        timeout_s=given.timeout,
        keep_every=given.keep_every,
    )
    try:
        if given.cpu is not None:
            pin_to_cpu(0, given.cpu)
        target = Target.parse(given.url)
        requests = requests_of(given.workload, given.prepared)
        gc.collect()
        gc.freeze()
        gc.disable()  # the run makes no cycles; a collection would look like a slow server
        result = run_closed_loop(target, requests.path, requests.bodies, options)
    except LoadTestError as error:
        sys.stderr.write(f"closed loop: {error}\n")
        return 1
    content = msgspec.json.format(msgspec.json.encode(result), indent=2)  # a kept body is base64
    if given.out is None:
        sys.stdout.write(content.decode() + "\n")
    else:
        write_whole({given.out: content})
    return 0


if __name__ == "__main__":
    sys.exit(main())
