"""The online store: whether it answers, how fast, and what it would do when it is full or restarted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from feature_store.errors import StoreError
from feature_store.online.blocking_client import BlockingClient, blocking_client
from feature_store.online.redis_address import shown_url
from feature_store.online.redis_errors import store_errors
from service.checkup.finding import Finding, failure, ok, warning
from service.exit_codes import DEPENDENCY_DOWN

N_PINGS = 50
SLOW_ROUND_TRIP_MS = 1.0
"""A tenth of the 10 ms that a request may take; a server in the same rack answers in 0.1 to 0.3 ms."""
LONG_FORK_MS = 5.0
"""Half of a request's time: what the server forks for, readers wait for."""
NEARLY_FULL = 0.9

Info = Mapping[str, str | int | float]


def check_store(url: str, *, embedded: bool, timeout_ms: float = 2_000.0) -> list[Finding]:
    """All findings about the server at `url`; the embedded one is configured by us and needs no advice on that."""
    try:
        client = blocking_client(url, timeout_ms=timeout_ms)
        try:
            with store_errors(shown_url(url)):
                round_trips_ms = _round_trips_ms(client)
                info = {
                    name: value
                    for part in ("server", "memory", "stats", "persistence")
                    for name, value in client.info(part).items()
                }
        finally:
            client.close()
    except StoreError as error:
        seen = str(error).removesuffix(error.way_out).rstrip()
        way_out = error.way_out or "Start the server, or correct the URL (REDIS_URL or [redis] url in clickserve.toml)"
        advice = f"{way_out}. Until then every user is scored with default features"
        return [failure("store", seen, advice, DEPENDENCY_DOWN)]
    findings = [_server(url, info), _round_trip(round_trips_ms)]
    return findings if embedded else [*findings, _eviction(info), _memory(info), _persistence(info)]


def _round_trips_ms(client: BlockingClient) -> list[float]:
    client.ping()  # connects
    took_ms: list[float] = []
    for _ in range(N_PINGS):
        started = time.perf_counter()
        client.ping()
        took_ms.append(1000 * (time.perf_counter() - started))
    return took_ms


def _server(url: str, info: Info) -> Finding:
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version', '?')}"
    return ok("store", f"{name} at {shown_url(url)}")


def _round_trip(took_ms: list[float]) -> Finding:
    median_ms, worst_ms = statistics.median(took_ms), max(took_ms)
    seen = f"median {median_ms:.2f} ms, worst of {len(took_ms)} {worst_ms:.2f} ms"
    if median_ms > SLOW_ROUND_TRIP_MS:
        return warning("store round trip", seen, "put the store closer: every request waits for one round trip")
    return ok("store round trip", seen)


def _eviction(info: Info) -> Finding:
    policy, evicted = str(info.get("maxmemory_policy", "?")), int(info.get("evicted_keys", 0))
    if policy != "noeviction":
        return warning(
            "store eviction",
            f"maxmemory-policy {policy}, {evicted} keys evicted so far",
            "set maxmemory-policy noeviction: a full store should refuse the writer, loudly, and not take rows from "
            "readers, silently",
        )
    return ok("store eviction", policy)


def _memory(info: Info) -> Finding:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not limit:
        return warning(
            "store memory",
            f"{used / 2**20:.0f} MiB used, no limit",
            "set maxmemory below what the machine has, or the kernel will end the server when memory runs out",
        )
    seen = f"{used / 2**20:.0f} of {limit / 2**20:.0f} MiB used"
    if used > NEARLY_FULL * limit:
        return warning("store memory", seen, "raise maxmemory, or prune old views: clickserve features prune")
    return ok("store memory", seen)


def _persistence(info: Info) -> Finding:
    fork_ms = int(info.get("latest_fork_usec", 0)) / 1000
    if info.get("aof_enabled"):
        return warning(
            "store persistence",
            "the append-only file is on",
            "set appendonly no: rows can be written again (clickserve materialize), while its fsync delays reads",
        )
    if fork_ms > LONG_FORK_MS:
        return warning(
            "store persistence",
            f"the last snapshot stopped the server for {fork_ms:.1f} ms",
            'set save "": rows can be written again (clickserve materialize), while readers wait for each fork',
        )
    return ok("store persistence", "no append-only file, no long fork")
