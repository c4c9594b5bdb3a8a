"""A Cluster of three masters and three replicas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from tests.redis_servers.server import Server, free_port, start, wait_for

NODE_TIMEOUT_MS = 2_000
"""After so long without a sign of life a node of a Cluster counts as failed."""
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
