"""One server process: started, waited for, hurt and stopped; alone or behind TLS."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

READY_S = 20.0
"""A deadline for what takes a fraction of a second; only a broken build reaches it."""
STOP_S = 10.0


@dataclass(eq=False)
class Server:
    """One running process."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    client: redis.Redis
    """An administrator's way in."""

    def kill(self) -> None:
        """SIGKILL, as when a machine is lost."""
        self.process.kill()
        self.process.wait(STOP_S)

    def freeze(self) -> None:
        """The process stops running; its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It runs again."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it in whatever state it is."""
        self.client.close()
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port(taken: set[int] | None = None) -> int:
    """A port that is free together with the one 10 000 above it, where a Cluster's nodes talk; below the ephemeral
    ones, so that no client takes it before the server does."""
    chosen = random.Random()
    while True:
        port = chosen.randrange(11_000, 22_000)
        if taken is not None and port in taken:
            continue
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + 10_000)):
                pass
        except OSError:
            continue
        if taken is not None:
            taken.add(port)
        return port


def start(
    program: str,
    directory: Path,
    *options: str,
    port: int | None = None,
    sentinel: bool = False,
    password: str | None = None,
) -> Server:
    """Starts a server in its own folder and waits until it answers; `password` is its administrator's."""
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    is_plain = str(port) != option_of(options, "--tls-port")
    given = ["--port", str(port if is_plain else 0), "--bind", "127.0.0.1", "--dir", str(directory)]
    if not sentinel:
        given += ["--save", "", "--appendonly", "no"]
    config = directory / "server.conf"
    if not config.exists():
        config.touch()
    command = [program, str(config), *(["--sentinel"] if sentinel else []), *given, *options]
    log = directory / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=directory)
    client = redis.Redis(
        port=port, password=password or option_of(options, "--requirepass"), socket_timeout=2, protocol=2
    )
    server = Server(port, process, log, client)
    try:
        wait_for(lambda: _answers(client) if is_plain else _listens(port), f"{program} to answer", server)
    except BaseException:
        server.close()
        raise
    return server


def wait_for(condition: Callable[[], bool], what: str, server: Server | None = None) -> None:
    """Asks until it is so; a deadline that only a broken build reaches."""
    deadline = time.monotonic() + READY_S
    while not condition():
        ended = server is not None and server.process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = server.log.read_text(errors="replace")[-2_000:] if server else ""
            pytest.fail(f"waited in vain for {what}\n{said}")
        time.sleep(0.02)


def option_of(options: Sequence[str], name: str) -> str | None:
    """What a server was told."""
    return options[options.index(name) + 1] if name in options else None


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def start_tls(program: str, directory: Path, certificate: Path, *options: str) -> Server:
    """Starts a server that speaks nothing but TLS."""
    port = free_port()
    key = certificate.with_suffix(".key")
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    return start(program, directory, *tls, *options, port=port)


def certificates(directory: Path, names: Sequence[str]) -> dict[str, Path]:
    """Certificates for 127.0.0.1 alone that sign themselves; the key of each lies beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    made = {}
    for name in names:
        path = directory / f"{name}.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "1"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
            ],
            check=True,
            capture_output=True,
        )
        made[name] = path
    return made
