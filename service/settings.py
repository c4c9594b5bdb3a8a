"""Settings: what an operator decides, checked together, shown without secrets. Durations are milliseconds.

Where the values come from, `service.settings_origins` knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import cast, get_args

from feature_store.online.redis_masking import masked_url
from models.plans.choice import KernelChoice, PlanChoice, PlanKind
from models.registry.model_name import NAME_RULE, is_model_name
from service.addresses import is_loopback, without_password, wrong_redis_url
from service.errors import SettingsError

MAX_BACKLOG = 2**31 - 1
"""More does not fit into the system call."""
MAX_WORKERS = 1_024
"""More than any machine has cores for; each takes a process and a few hundred MB."""
MIN_BODY_BYTES = 1_024
"""Less holds no request worth its round trip: an id has up to 64 bytes."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how requests come in."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every one that the machine has."""

    port: int = 8080
    """0 takes a free port, named in the log."""

    workers: int = 1
    """Processes that score; more than the machine has cores only adds waiting."""

    backlog: int = 2048
    """Connections the kernel holds before they are accepted; beyond it callers see a refused or slow connect."""

    keep_alive_ms: float = 75_000.0
    """An idle connection is closed after this; load balancers give up after 60 s, and they should close first."""

    hang_ms: float = 10_000.0
    """A worker whose event loop stands still for so long is killed and replaced; nothing it does takes a second."""

    drain_ms: float = 2_000.0
    """After SIGTERM the listener stays this long while `/readyz` says no: the time load balancers need to notice."""

    grace_ms: float = 10_000.0
    """Whole shutdown, drain included. Requests are cut a second before its end, but not before the drain's, and what
    does not end within that second is killed; the embedded server then stores its rows."""

    max_body_bytes: int = 1_048_576
    """Larger bodies are refused with 413 while they are being read."""

    max_candidates: int = 1_000
    """More candidates or instances in one request are refused with 422."""


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """Where metrics and admin actions listen."""

    host: str = "127.0.0.1"
    """Address to listen on; where it is not loopback, `token_file` must be set."""

    port: int = 8081
    """0 takes a free port, named in the log."""

    token_file: Path | None = None
    """File with the bearer token that every admin request must carry; demanded where `host` is not loopback."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The online store."""

    url: str = field(default="", repr=False)
    """`redis://`, `unix://`, `redis+sentinel://` or `redis+cluster://`, with TLS `rediss…` (`?ssl_ca_certs=FILE` where
    the authority is your own); `docs/redis.md` has an example of each. Empty starts the embedded Valkey server."""

    embedded_dir: Path = Path(".clickserve/valkey")
    """Where the embedded server keeps socket, log and data."""

    connect_timeout_ms: float = 500.0
    """A server that does not accept a connection in this time counts as down until the next try."""

    max_merged_reads: int = 20_000
    """Requests that share one MGET, whatever waits by default. Fewer keep a single command short where requests read
    many rows; 1 sends each request's own, at several times the CPU."""


@dataclass(frozen=True, slots=True)
class DeadlineSettings:
    """Time a request may spend."""

    total_ms: float = 30.0
    """Whole request. Later answers are worthless, because the auction has closed: we answer with what is scored."""

    features_ms: float = 10.0
    """Redis read. When it runs out we score with default features and answer with the code `store_timeout`."""

    explain_ms: float = 1_000.0
    """What requests with `explain` may take beyond that: people ask them. Explanations that are not ready are null."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """How much one worker takes on before it refuses."""

    max_inflight: int = 16
    """Requests past the door: enough to overlap their Redis reads, few enough that the last of them, after `queue_ms`
    at the door and the scoring of all others, still meets `deadline.total_ms`."""

    max_queued: int = 256
    """Requests waiting at the door; one more is answered 503 at once."""

    queue_ms: float = 20.0
    """A request that waited longer is answered 503: it would be late, and so would everyone behind it."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The models to serve."""

    dir: Path = Path("registry")
    """Folder of published models."""

    models: tuple[str, ...] = ("default",)
    """Names whose champions are served, each in the slot of its name; a request that names none gets `default`."""

    reload_ms: float = 1_000.0
    """How often a promoted model is looked for; it serves once proven and warmed."""


@dataclass(frozen=True, slots=True)
class ItemsSettings:
    """The table of ad features in each worker."""

    source: str = "table"
    """`table` keeps the rows of all ads in process, so that requests read users only. `store` keeps none: candidates
    are read with the user, for catalogues too large for memory; the other settings here then mean nothing."""

    snapshot_dir: Path = Path(".clickserve/items")
    """Last table on disk: what all workers map, and what they start from while Redis is away. Each store and project
    has its own in there, by host, port and database as the URL says them; a table of another one is not taken."""

    refresh_ms: float = 250.0
    """How often changes are asked for; a changed ad is ranked by its new row within about twice that."""

    delta_rows: int = 8_192
    """Changed ads that a worker keeps beside the shared table; with one more, the table on disk is made anew."""

    derived_max_mb: float = 512.0
    """Where a model's precomputed values of all ads would take more, they are computed per request instead."""

    max_ads: int = 2_000_000
    """A larger catalogue is refused, before it takes the machine's memory."""

    stale_ms: float = 60_000.0
    """A table not confirmed by the store for longer is still served, with the code `items_stale`."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """How models are scored. The defaults are right unless somebody measures or hunts a fault."""

    kind: str = "auto"
    """`auto` derives a fast plan from the ONNX graph where it has one; `generic` always runs ONNX Runtime."""

    kernel: str = "auto"
    """`auto` uses the compiled kernels where they can be loaded; `compiled` insists on them, `numpy` does without."""

    @property
    def choice(self) -> PlanChoice:
        """For whoever loads a model."""
        return PlanChoice(cast(PlanKind, self.kind), cast(KernelChoice, self.kernel))


@dataclass(frozen=True, slots=True)
class ServedLogSettings:
    """Parquet files of what was served (`docs/served-log.md`). No request is delayed or fails: what there is no time or
    room for is dropped and counted."""

    folder: Path | None = None
    """Where the files go, of all workers of this machine; without it nothing is logged, and logging costs nothing."""

    sample: float = 1.0
    """Share of the requests that are logged, by their id: more than 0, at most 1."""

    buffer_rows: int = 200_000
    """Candidates that wait in a worker to be written, 100 to 200 bytes each; beyond it requests are dropped."""

    max_rows_per_file: int = 1_000_000
    """A file with so many candidates is finished, and another begun."""

    roll_ms: float = 60_000.0
    """A file this old is finished, however small: readers see rows no later, a killed worker takes no more along."""

    max_total_mb: float = 4_096.0
    """Finished files of all workers; beyond it the oldest are deleted."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """JSON lines on stderr."""

    level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    access_sample: float = 0.0
    """Share of the requests that get a line of their own, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process."""

    server: ServerSettings = field(default_factory=ServerSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    deadline: DeadlineSettings = field(default_factory=DeadlineSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    items: ItemsSettings = field(default_factory=ItemsSettings)
    plan: PlanSettings = field(default_factory=PlanSettings)
    served_log: ServedLogSettings = field(default_factory=ServedLogSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        """Raises SettingsError where a value is out of its range or contradicts another."""
        for broken, message in _contradictions(self):
            if broken:
                raise SettingsError(message)

    def shown(self) -> dict[str, dict[str, object]]:
        """Every setting as JSON can say it, with user and password of a URL masked."""
        return {
            section: {
                key: masked_url(value)
                if (section, key) == ("redis", "url")
                else without_password(value)
                if isinstance(value, str)
                else str(value)
                if isinstance(value, Path)
                else value
                for key, value in values.items()
            }
            for section, values in asdict(self).items()
        }


def _contradictions(settings: Settings) -> Iterable[tuple[bool, str]]:
    """Every rule that settings must keep, as (broken, message)."""
    server, deadline, admission = settings.server, settings.deadline, settings.admission
    for section in fields(settings):
        values = getattr(settings, section.name)
        for setting in fields(values):
            if setting.type in ("int", "float"):
                name, value = f"{section.name}.{setting.name}", getattr(values, setting.name)
                may_be_zero = setting.name in ("port", "drain_ms", "access_sample", "max_queued")
                low = "0 or more" if may_be_zero else "more than 0"
                yield value < 0 or (value == 0 and not may_be_zero), f"{name} = {value:g} must be {low}"
    for name, port in (("server", server.port), ("admin", settings.admin.port)):
        yield port > 65_535, f"{name}.port = {port} must be at most 65535"
    yield (
        server.port == settings.admin.port != 0,
        f"server.port and admin.port are both {server.port}; metrics and admin actions need a port of their own",
    )
    yield (
        deadline.features_ms >= deadline.total_ms,
        f"deadline.features_ms = {deadline.features_ms:g} must be less than deadline.total_ms = {deadline.total_ms:g}, "
        "or no time is left to score",
    )
    yield (
        admission.queue_ms >= deadline.total_ms,
        f"admission.queue_ms = {admission.queue_ms:g} must be less than deadline.total_ms = {deadline.total_ms:g}, "
        "or requests are late before they begin",
    )
    yield (
        server.drain_ms >= server.grace_ms,
        f"server.drain_ms = {server.drain_ms:g} must be less than server.grace_ms = {server.grace_ms:g}, "
        "or nothing is left to finish requests in",
    )
    yield (
        settings.items.refresh_ms >= settings.items.stale_ms,
        f"items.refresh_ms = {settings.items.refresh_ms:g} must be less than items.stale_ms = "
        f"{settings.items.stale_ms:g}, or a healthy table counts as stale",
    )
    yield settings.served_log.sample > 1, f"served_log.sample = {settings.served_log.sample:g} must be at most 1"
    yield settings.log.access_sample > 1, f"log.access_sample = {settings.log.access_sample:g} must be at most 1"
    yield (
        settings.log.level not in ("debug", "info", "warning", "error"),
        f"log.level = {settings.log.level!r} must be debug, info, warning or error",
    )
    for key, choices in (("kind", get_args(PlanKind)), ("kernel", get_args(KernelChoice))):
        chosen = getattr(settings.plan, key)
        yield chosen not in choices, f"plan.{key} = {chosen!r} must be {', '.join(choices[:-1])} or {choices[-1]}"
    yield (
        (settings.plan.kind, settings.plan.kernel) == ("generic", "compiled"),
        "plan.kernel = 'compiled' insists on a kernel that plan.kind = 'generic' never runs; set plan.kind = 'auto' or "
        "leave plan.kernel out",
    )
    source = settings.items.source
    yield source not in ("table", "store"), f"items.source = {source!r} must be table or store"
    yield (
        bool(settings.redis.url) and wrong_redis_url(settings.redis.url) is not None,
        f"redis.url = {masked_url(settings.redis.url)!r}: {wrong_redis_url(settings.redis.url)}; docs/redis.md "
        "has examples",
    )
    yield server.workers > MAX_WORKERS, f"server.workers = {server.workers} must be at most {MAX_WORKERS}"
    yield (
        server.max_body_bytes < MIN_BODY_BYTES,
        f"server.max_body_bytes = {server.max_body_bytes} must be at least {MIN_BODY_BYTES}",
    )
    models = settings.registry.models
    for i, name in enumerate(models):
        yield not is_model_name(name), f"registry.models: {NAME_RULE}; got {name!r}"
        yield name in models[:i], f"registry.models names {name!r} twice; each model has one slot, name it once"
    yield server.backlog > MAX_BACKLOG, f"server.backlog = {server.backlog} must be at most {MAX_BACKLOG}"
    yield (
        not is_loopback(settings.admin.host) and settings.admin.token_file is None,
        f"admin.host = {settings.admin.host!r} can be reached from other machines; set admin.token_file to a file with "
        "a bearer token, or keep to 127.0.0.1",
    )
