"""Locust over the same prepared requests as the open loop: mostly /v1/rank, a few /v1/predict.

    locust -f loadtest/locustfile.py --workload workload.json --host http://127.0.0.1:8080
    (or CLICKSERVE_WORKLOAD=workload.json; add --headless -u 50 -r 50 -t 20s for a run without the web page)

Users × --user-rate approximates the offered rate. It is a closed loop: a user waits for its answer before it sends
again, so a stalled server is asked less. `loadtest/open_loop.py` says why that flatters a p99, and does not do it.

Locust's own resolution is a millisecond, which is longer than our answers; `locust_precision.py` mends that. Its
console table still prints whole milliseconds: read the web page or the statistics file.

Importing locust patches sockets and threads of the process: only Locust loads this file.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.timeout import Timeout
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust import FastHttpUser, events, task

from loadtest.errors import WorkloadError
from loadtest.locust_precision import make_precise
from loadtest.locust_stats import LocustStats
from loadtest.sampler import Sampler
from loadtest.workload import PREDICT_PATH, Workload, predict_bodies, rank_bodies, read_workload

JSON_HEADERS = {"Content-Type": "application/json"}

KINDS_OF_ERROR: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "refused"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (TimeoutError, "timeout"),
    (Timeout, "timeout"),
    (HTTPConnectionClosed, "closed"),
    (HTTPParseError, "malformed"),
)
"""The open loop's names for the ways of getting no answer, so that both engines can stand in one table."""


make_precise()


class Prepared:
    """The requests of a workload, built once and shared by all users of this process, and what their answers said."""

    def __init__(self, workload: Workload, sample_every: int) -> None:
        self.workload = workload
        self.rank = itertools.cycle(rank_bodies(workload))
        self.predict = itertools.cycle(predict_bodies(workload))
        self.predict_every = round(1 / workload.predict_share) if workload.predict_share > 0 else 0
        self._sample_every = sample_every
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the answers seen so far: the warm-up is over."""
        self.numbers = itertools.count()
        self.sampler = Sampler(self._sample_every)
        self._started_s, self._cpu_before_s = time.monotonic(), time.process_time()

    def cpu_share(self) -> float:
        """CPU seconds of this process per second since the last start."""
        return (time.process_time() - self._cpu_before_s) / (time.monotonic() - self._started_s)


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Options of this file; the workload's can also be set in the environment, as docker-compose does."""
    parser.add_argument("--workload", env_var="CLICKSERVE_WORKLOAD", help="workload file, see loadtest/workload.py")
    parser.add_argument("--user-rate", type=float, default=10.0, help="requests per second of one user")
    parser.add_argument("--warmup-s", type=float, default=0.0, help="seconds after which the statistics start anew")
    parser.add_argument("--sample-every", type=int, default=10, help="read one answer in so many for degraded codes")
    parser.add_argument("--stats-out", help="write exact statistics here as JSON when the run ends")


@events.init.add_listener
def prepare(environment: Any, **_: Any) -> None:
    """Build the requests before anybody sends one; a wrong workload ends Locust with its message."""
    options = environment.parsed_options
    if not options.workload:
        sys.exit("no workload: give --workload FILE or set CLICKSERVE_WORKLOAD")
    try:
        environment.prepared = Prepared(read_workload(Path(options.workload)), options.sample_every)
    except WorkloadError as error:
        sys.exit(str(error))


@events.test_start.add_listener
def forget_warm_up(environment: Any, **_: Any) -> None:
    """Start all counts anew once the warm-up is over."""

    def start_anew() -> None:
        environment.stats.clear_all()
        environment.prepared.start_anew()

    gevent.spawn_later(environment.parsed_options.warmup_s, start_anew)


@events.quitting.add_listener
def write_stats(environment: Any, **_: Any) -> None:
    """Write what Locust counted for the ranking route, bucket by bucket."""
    options, prepared = environment.parsed_options, environment.prepared
    if not options.stats_out:
        return
    path = prepared.workload.path
    entry = environment.stats.get(path, "POST")
    errors: Counter[str] = Counter()
    for error in environment.stats.errors.values():
        if error.name == path:
            errors[str(error.error)] += error.occurrences
    stats = LocustStats(
        n_requests=entry.num_requests,
        errors=dict(errors),
        response_times_ms=[(float(bucket), count) for bucket, count in sorted(entry.response_times.items())],
        degraded=prepared.sampler.summary(),
        cpu_share=prepared.cpu_share(),
    )
    Path(options.stats_out).write_bytes(msgspec.json.encode(stats))


class RankingUser(FastHttpUser):
    """One caller who asks for rankings at a steady pace, as long as the answers keep up."""

    network_timeout = 5.0
    connection_timeout = 5.0

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._prepared: Prepared = environment.prepared
        self._user_rate: float = environment.parsed_options.user_rate
        self._due_s = 0.0

    def on_start(self) -> None:
        """Locust starts many users in one instant: a random phase keeps them from calling in step ever after.

        Locust's own `constant_throughput` counts from when the user was made and would take the phase back.
        """
        gevent.sleep(random.random() / self._user_rate)
        self._due_s = time.perf_counter()

    def wait_time(self) -> float:
        """Seconds until the next call, so that calls start at `--user-rate` per second; none to catch up with."""
        now_s = time.perf_counter()
        self._due_s = max(self._due_s + 1 / self._user_rate, now_s)
        return self._due_s - now_s

    @task
    def call(self) -> None:
        """Send the next prepared request; one in so many goes to /v1/predict, as the workload says."""
        prepared = self._prepared
        number = next(prepared.numbers)
        every = prepared.predict_every
        if every and number % every == every - 1:
            self._post(PREDICT_PATH, next(prepared.predict), inspect=False)
        else:
            self._post(prepared.workload.path, next(prepared.rank), inspect=prepared.sampler.wants(number))

    def _post(self, path: str, body: bytes, *, inspect: bool) -> None:
        with self.client.post(path, data=body, headers=JSON_HEADERS, catch_response=True) as response:
            status = response.status_code
            if status == 0:
                response.failure(_kind_of_error(response.error))
            elif not 200 <= status < 300:
                response.failure(f"http_{status // 100}xx")
            elif inspect:
                self._prepared.sampler.inspect(response.content or b"")


def _kind_of_error(error: BaseException) -> str:
    return next((kind for error_type, kind in KINDS_OF_ERROR if isinstance(error, error_type)), "connect")
