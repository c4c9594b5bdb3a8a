"""What a stranger's machine gets wrong, command by command: one message, the exit code that says whose fault it is, and
nothing half written."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.exit_codes import DEPENDENCY_DOWN, FAILURE, USAGE
from tests.artifacts import ServedProject, make_served_project
from tests.proofs.claim import REPOSITORY, Claim, Outcome, clickserve
from tests.redis_servers.programs import redis_7, valkey_9
from tests.redis_servers.server import certificates, free_port, start, start_tls
from tests.redis_servers.stores import least_rights

ROWS = 20_000
IN_A_NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
FULL_DISK = 'mount -t tmpfs -o size=64k tmpfs "$1"; folder=$1; shift; "$@" || code=$?; ls -RA "$folder"; exit $code'
"""A disk of 64 KiB, gone with the command: what it left there is listed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One mistake: what was run, and what must come of it."""

    mistake: str
    command: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    """All of it stands in the message."""
    written: Callable[[], object] = lambda: None
    """What must be the same before and after."""
    environment: Mapping[str, str] = field(default_factory=dict)
    listing: str | None = None
    """All that the command may print on stdout, where that lists what it left."""


def refusals(scratch: Path) -> Outcome:
    """Each mistake once, by the command that meets it."""
    seen: dict[str, dict[str, object]] = {}
    broken: dict[str, bool] = {}
    try:
        with _mistakes(scratch) as mistakes:
            for one in mistakes:
                seen[one.mistake], broken[one.mistake] = _tried(one, scratch)
    except pytest.skip.Exception as missing:
        return Outcome(f"did not run: {missing.msg}", False, {})
    return Outcome.judged(
        f"{sum(broken.values())} of {len(broken)} mistakes told in one message and by exit code, nothing half written",
        broken,
        seen,
    )


def _tried(one: Refusal, scratch: Path) -> tuple[dict[str, object], bool]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLICKSERVE_", "REDIS_"))}
    before = one.written()
    done = subprocess.run(
        one.command, cwd=scratch, env=kept | one.environment, capture_output=True, text=True, timeout=300, check=False
    )
    after = one.written()
    said = done.stderr.strip().splitlines()
    told = {
        "exit": done.returncode,
        "said": said[-1] if said else "",
        "exit code": done.returncode == one.code,
        "says what is wrong": all(word in done.stderr for word in one.says),
        "no traceback": "Traceback" not in done.stderr + done.stdout,
        "nothing half written": before == after and (one.listing is None or done.stdout.strip() == one.listing),
    }
    return told, all(verdict is not False for verdict in told.values())


@contextmanager
def _mistakes(scratch: Path) -> Iterator[list[Refusal]]:
    program = str(REPOSITORY / ".venv/bin/clickserve")
    log, registry = scratch / "log", scratch / "registry"
    clickserve("simulate", "--impressions", ROWS, "--out", log, cwd=scratch)
    clickserve("train", "--data", f"simulated:{log}", "--registry", registry, cwd=scratch)
    project = make_served_project(scratch / "project")
    train = (program, "train", "--data", f"simulated:{log}", "--seed", "2", "--registry")
    materialize = (program, "materialize", "--data", f"simulated:{log}", "--redis-url")
    address = f"redis://127.0.0.1:{free_port()}"
    nobody = f"{address}/0"
    data, tls = start(valkey_9(), scratch / "valkey"), None
    try:
        own = certificates(scratch, ("server",))["server"]
        tls = start_tls(redis_7(), scratch / "tls", own, "--tls-auth-clients", "no")
        by_another_name = f"rediss://localhost:{tls.port}?ssl_ca_certs={own}"
        reader = least_rights([data], f"redis://127.0.0.1:{data.port}/0", "*").read

        def rows() -> int:
            return int(data.client.dbsize())  # type: ignore[arg-type]

        def published() -> list[str]:
            return sorted(str(path.relative_to(registry)) for path in registry.rglob("*"))

        full = scratch / "full"
        full.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            yield [
                Refusal("REDIS_URL of nobody, materialize", materialize[:-1], DEPENDENCY_DOWN,
                        (address, "REDIS_URL names another"), environment={"REDIS_URL": nobody}),
                Refusal("REDIS_URL of nobody, serve", _serve(program, project, scratch), DEPENDENCY_DOWN,
                        (address, "REDIS_URL names another"), environment={"REDIS_URL": nobody}),
                Refusal("REDIS_URL that is no URL, materialize", materialize[:-1], USAGE,
                        ("redis.url = 'localhost:6379'", "redis://"), environment={"REDIS_URL": "localhost:6379"}),
                Refusal("a TLS name mismatch, materialize", (*materialize, by_another_name), DEPENDENCY_DOWN,
                        ("Connect by a name that the server's certificate has",)),
                Refusal("a TLS name mismatch, serve", _serve(program, project, scratch), DEPENDENCY_DOWN,
                        ("Connect by a name that the server's certificate has",),
                        environment={"REDIS_URL": by_another_name}),
                Refusal("a right that the ACL user lacks, materialize", (*materialize, reader), DEPENDENCY_DOWN,
                        ("docs/redis.md",), rows),
                Refusal("a port in use, serve", (*_serve(program, project, scratch), "--port", port), FAILURE,
                        (f"cannot listen on 127.0.0.1:{port}: address already in use",)),
                Refusal("a read-only registry, train", (*IN_A_NAMESPACE, READ_ONLY, "sh", str(registry), *train,
                                                        str(registry)), FAILURE, (str(registry), "Read-only"),
                        published),
                Refusal("a full disk while publishing, train", (*IN_A_NAMESPACE, FULL_DISK, "sh", str(full), *train,
                                                                str(full)), FAILURE, (str(full), "No space left")),
            ]  # fmt: skip
    finally:
        for server in (data, tls):
            if server is not None:
                server.close()
        shutil.rmtree(log)


def _serve(program: str, project: ServedProject, scratch: Path) -> tuple[str, ...]:
    return (
        *(program, "serve", "--admin-port", "0", "--registry", str(project.registry_dir)),
        *("--set", f"items.snapshot_dir={scratch / 'items'}"),
    )


CLAIMS = [
    Claim(
        "clear-refusals",
        "python -m tests.proofs stack --only clear-refusals",
        "a REDIS_URL where nobody listens, a TLS name mismatch, a missing right of the ACL user: 69; a REDIS_URL that "
        "is no URL: 2; a port in use, a read-only registry, a full disk while publishing: 1; each a message that names "
        "the place and the way out, no traceback, nothing half written",
        refusals,
    )
]
