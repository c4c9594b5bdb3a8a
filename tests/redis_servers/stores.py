"""Every kind of store that the contract suite runs on, with the users that docs/redis.md tells people to make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

from tests.conftest import REPOSITORY
from tests.redis_servers.cluster import Cluster
from tests.redis_servers.programs import PROGRAMS
from tests.redis_servers.sentinels import Watched
from tests.redis_servers.server import Server, certificates, start, start_tls

PASSWORD = "a-pass/word@1:2?"  # every character that must be quoted in a URL
ACL_RULE = re.compile(r"<!-- acl: (\w+) -->\n```\nACL SETUSER (\S+) (.*)\n```")
CLUSTER_RIGHTS = ("+cluster|slots", "+asking")


def documented_users(project: str) -> dict[str, tuple[str, list[str]]]:
    """Name and rules of the users that docs/redis.md tells people to make, for projects of that pattern."""
    page = (REPOSITORY / "docs/redis.md").read_text()
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
        client = files["client"]
        options = {"ssl_ca_certs": files["server"], "ssl_certfile": client, "ssl_keyfile": client.with_suffix(".key")}
        return f"rediss://127.0.0.1:{server.port}?{urlencode(options, quote_via=quote)}"


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
