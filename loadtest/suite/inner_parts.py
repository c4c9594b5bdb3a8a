"""Inner parts: what `loadtest/micro` measures, run as processes of their own and read as records.

They import the service, which the suite does not: a name, its arguments and its JSON are all that is known of them.
One that fails is named in the report with its reason; half an hour of other figures is not lost for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from loadtest.child_process import child_process
from loadtest.errors import EngineError
from loadtest.intervals import Spread
from loadtest.machine import REPOSITORY
from loadtest.pinning import pin_to_cpu
from loadtest.suite.cores import Cores

LIMIT_S = 900.0
_LAST_WORDS_CHARACTERS = 500

R = TypeVar("R", bound=msgspec.Struct)


class RouteCost(msgspec.Struct, frozen=True):
    """The service with one decision of its route undone."""

    says: str
    per_s: Spread
    of_as_it_is: Spread
    """Requests a second beside those of the service as it is, in the same round."""
    p50_ms: Spread
    server_cpu_us: Spread
    collection_ms: float
    """Median time for which a full garbage collection stops it."""


class RouteCosts(msgspec.Struct, frozen=True):
    """What `loadtest.micro.routes` prints."""

    workload: str
    commit: str
    variants: dict[str, RouteCost]


class MaskCost(msgspec.Struct, frozen=True):
    """Masks of one size of ensemble."""

    trees: int
    mask_bytes_per_ad: int
    table_bytes_per_tree: int
    """Of the plan's own tables, whatever the number of ads."""
    switches_at_ads: int
    """More ads than this, and masks are worked out per request."""
    us_per_request: dict[str, float]
    """Median, `from_masks` and `from_rows`."""


class AdMemory(msgspec.Struct, frozen=True):
    """What `loadtest.micro.ad_memory` prints."""

    kernel: str
    n_candidates: int
    n_ads: int
    derived_max_mb: float
    row_bytes_per_ad: float
    plans: list[MaskCost]


class PlanTime(msgspec.Struct, frozen=True):
    """Microseconds of one request."""

    median: float
    p90: float
    times_faster: float
    """Than ONNX Runtime."""


class PlannedModel(msgspec.Struct, frozen=True):
    """One model under every plan."""

    us_per_request: dict[str, dict[str, PlanTime]]
    """By number of candidates, then by plan."""


class PlanTimes(msgspec.Struct, frozen=True):
    """What `loadtest.micro.plans` prints."""

    models: dict[str, PlannedModel]


class ReadCost(msgspec.Struct, frozen=True):
    """One read of one key."""

    cpu_us: float
    wall_us: float
    calls_per_command: float


class StoreTimes(msgspec.Struct, frozen=True):
    """What `loadtest.micro.online_store` prints, as far as a request meets it."""

    rows: int
    read_us_cpu_per_call: dict[str, ReadCost]
    """By the number of callers at once."""


class FormTimes(msgspec.Struct, frozen=True):
    """One step of a request in both forms."""

    json_us: float
    frame_us: float
    ratio: float
    """JSON's time divided by the frame's; below 1 JSON is the faster one."""


class FormBytes(msgspec.Struct, frozen=True):
    """Length of one body in both forms."""

    json: int
    frame: int


class ExchangeCost(msgspec.Struct, frozen=True):
    """One kind of request, from its body to the ranking in its caller's hands."""

    read_request: FormTimes
    write_ranking: FormTimes
    caller_reads_ranking: FormTimes
    request_bytes: FormBytes
    ranking_bytes: FormBytes


class WireCosts(msgspec.Struct, frozen=True):
    """What `loadtest.micro.wire` prints."""

    n_candidates: int
    rounds: int
    compiled_json_results: bool
    """Whether JSON results are written by the compiled writer, or in Python."""
    requests: dict[str, ExchangeCost]
    """By what the request holds."""


class InnerParts(msgspec.Struct, frozen=True):
    """All of them; None where one was not measured."""

    routes: RouteCosts | None = None
    ad_memory: AdMemory | None = None
    plans: PlanTimes | None = None
    online_store: StoreTimes | None = None
    wire: WireCosts | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A module of `loadtest/micro` and how it is run."""

    name: str
    result: type[msgspec.Struct]
    arguments: tuple[str, ...] = ("--json",)
    on_server_core: bool = False
    """Whether it is one process that belongs on one core; the others place their processes themselves."""


PARTS = (
    Part("routes", RouteCosts),
    Part("ad_memory", AdMemory, on_server_core=True),
    Part("plans", PlanTimes, on_server_core=True),
    Part("online_store", StoreTimes, arguments=("100000",)),
    Part("wire", WireCosts, on_server_core=True),
)


def measure_inner_parts(
    cores: Cores, on_step: Callable[[str], None], on_failure: Callable[[str, str], None]
) -> InnerParts:
    """Runs all of them, one after the other; `on_failure` is told the module and the reason of one that failed."""
    measured: dict[str, msgspec.Struct] = {}
    for part in PARTS:
        module = f"loadtest.micro.{part.name}"
        on_step(f"inner parts: {module}")
        arguments = [*part.arguments, *(["--no-pin"] if part.name == "routes" and cores.server is None else [])]
        try:
            said = run_module(module, arguments, cores.server if part.on_server_core else None)
            measured[part.name] = read_part(module, said, part.result)
        except EngineError as error:
            on_failure(module, str(error))
    return InnerParts(**measured)  # type: ignore[arg-type]  # each under the name and type of its part


def run_module(module: str, arguments: list[str], core: int | None, limit_s: float = LIMIT_S) -> bytes:
    """What a module prints.

    Raises:
        EngineError: it failed, with its last words, or took too long.
    """
    search_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": search_path}
    with child_process(command, _stop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        if core is not None:
            pin_to_cpu(process.pid, core)
        try:
            said, complained = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise EngineError(f"{module} had not ended after {limit_s:g} s") from None
    if process.returncode:
        words = complained.decode("utf-8", errors="replace").strip()[-_LAST_WORDS_CHARACTERS:]
        raise EngineError(f"{module} ended with status {process.returncode}; it said: {words}")
    return said


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()  # closes its pipes


def read_part(module: str, said: bytes, result: type[R]) -> R:
    """Its JSON as a record.

    Raises:
        EngineError: it is something else.
    """
    try:
        return msgspec.json.decode(said, type=result)
    except msgspec.DecodeError as error:
        raise EngineError(f"{module} printed something else than its figures: {error}") from error
