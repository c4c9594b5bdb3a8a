"""A master, its replicas, and three Sentinels that watch over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.redis_servers.server import Server, free_port, option_of, start, wait_for

MASTER_NAME = "clickserve-master"


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
            master_port = int(option_of(of_master, "--tls-port") or master.port)
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
                    _sentinel_conf(master_port, sentinel_password, option_of(options, "--requirepass"))
                )
                of_sentinel = tls_options()
                if tls:
                    watched.tls_ports.append(int(option_of(of_sentinel, "--tls-port") or 0))
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
