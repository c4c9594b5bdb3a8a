"""Where the online store is, understood from one URL. Pure: touches no network and imports no client.

    redis://  rediss://                   one server, the second with TLS
    unix://                               one server on a socket of this machine
    redis+sentinel://  rediss+sentinel:// the master that Sentinels name: HOST:PORT,HOST:PORT/SERVICE[/DATABASE]
    redis+cluster://   rediss+cluster://  a Cluster, found through any of its nodes: HOST:PORT,HOST:PORT

A Sentinel or Cluster URL is a way to many servers; `RedisAddress.server_url` gives each of them a plain URL with the
same user, password and TLS options, so that whatever makes connections knows plain URLs alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from feature_store.online.redis_masking import TLS_OPTIONS, masked_endpoint, masked_url

FORMS = (
    "redis://, rediss://, unix://, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT,HOST:PORT"
)
"""What a Redis URL may be, for messages."""

_LOGIN_OPTIONS = frozenset(("username", "password"))
_SENTINEL_OPTIONS = frozenset(("sentinel_username", "sentinel_password"))
_SECRETS = frozenset(("password", "sentinel_password"))
_TLS_VALUES = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false", "yes", "no", "1", "0"),
}
"""What redis-py understands; it takes any other name check for yes, and meets any other requirement too late."""
PERCENT_ENCODE = (
    "in a user or password write / as %2F, @ as %40, # as %23, ? as %3F, % as %25, a blank as %20 (percent-encoding)"
)
"""The way out for a login that was pasted in as it is."""

Kind = Literal["server", "sentinel", "cluster"]
Endpoint = tuple[str, int]
"""Host and port."""

_SCHEMES: dict[str, tuple[Kind, str]] = {
    "redis": ("server", "redis"),
    "rediss": ("server", "rediss"),
    "unix": ("server", "unix"),
    "redis+sentinel": ("sentinel", "redis"),
    "rediss+sentinel": ("sentinel", "rediss"),
    "redis+cluster": ("cluster", "redis"),
    "rediss+cluster": ("cluster", "rediss"),
}
_MEANT = {
    "valkey": "redis",
    "valkeys": "rediss",
    "sentinel": "redis+sentinel",
    "redis-sentinel": "redis+sentinel",
    "rediss-sentinel": "rediss+sentinel",
    "valkey+sentinel": "redis+sentinel",
    "cluster": "redis+cluster",
    "redis-cluster": "redis+cluster",
    "rediss-cluster": "rediss+cluster",
    "valkey+cluster": "redis+cluster",
    "redis+unix": "unix",
    "redis+socket": "unix",
    "redis+ssl": "rediss",
    "redis+tls": "rediss",
}
"""How other programs call the same, and how it is called here."""
_PORTS: dict[Kind, int] = {"server": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A URL that has been understood."""

    kind: Kind
    scheme: str
    """Of a single server's URL: redis, rediss or unix."""
    path: str
    """Of a socket; empty elsewhere."""
    endpoints: tuple[Endpoint, ...]
    """The server, the Sentinels, or some nodes of the Cluster."""
    service: str
    """What Sentinels call the master; empty elsewhere."""
    user_info: str = field(repr=False)
    """`USER:PASSWORD@`, quoted as it was written; may be empty."""
    database: str
    options: tuple[tuple[str, str], ...] = field(repr=False)
    sentinel_login: tuple[str, str] = field(repr=False)
    """Sentinel's own user and password; empty where it wants none."""

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Understands a URL without touching the network.

        Raises:
            ValueError: it is none of the kinds, or says what would be ignored in silence; tells the way out, and
                nothing that may be a piece of a password.
        """
        parts = _split(url)
        kind, scheme = _SCHEMES[parts.scheme]
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        user_info, at, hosts = parts.netloc.rpartition("@")
        service, database = "", parts.path.strip("/")
        if scheme == "unix":
            if not parts.path:
                raise ValueError("a socket has a path: unix:///PATH?db=DATABASE")
            _check_options(kind, scheme, options)
            if not (options.get("db") or "0").isdecimal():
                raise ValueError(f"a database is a number, got {options['db']!r}")
            return cls("server", "unix", parts.path, (), "", user_info + at, "", tuple(options.items()), ("", ""))
        endpoints = tuple(_endpoint(host, _PORTS[kind]) for host in hosts.split(","))
        _check_options(kind, scheme, options)
        if kind == "server" and len(endpoints) > 1:
            raise ValueError("several servers are a redis+sentinel:// or a redis+cluster://")
        if kind == "sentinel":
            service, _, database = database.partition("/")
            if not service:
                raise ValueError(
                    "Sentinels watch over several masters; name yours: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"
                )
        database = options.pop("db", "") or database
        if database and not database.isdecimal():
            raise ValueError(f"a database is a number, got {database!r}")
        if kind == "cluster" and database.strip("0"):
            raise ValueError(f"a Cluster has database 0 alone, got {database!r}; leave it out")
        login = (options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
        kept = tuple(options.items())
        return cls(kind, scheme, "", endpoints, service, user_info + at, database, kept, login)

    @property
    def shown(self) -> str:
        """Without user, password and options, for messages and logs."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        hosts = ",".join(hosted(endpoint) for endpoint in self.endpoints)
        mode = "" if self.kind == "server" else f"+{self.kind}"
        return f"{self.scheme}{mode}://{hosts}" + (f"/{self.service}" if self.service else "")

    @property
    def identity(self) -> str:
        """Which rows are meant: the same text for every spelling of one URL, without login and TLS. Another host name,
        list of Sentinels or of a Cluster's nodes counts as another store, because nobody can tell without asking it."""
        if self.scheme == "unix":
            return f"unix {self.path} {int(dict(self.options).get('db') or 0)}"
        hosts = ",".join(sorted(hosted(endpoint) for endpoint in self.endpoints))
        return f"{self.kind} {hosts} {self.service} {int(self.database or 0)}"

    def server_url(self, endpoint: Endpoint) -> str:
        """A plain URL of one server, reached with the same user, password, database and TLS."""
        return self._url(self.user_info, endpoint, f"/{self.database}", self.options)

    def sentinel_url(self, endpoint: Endpoint) -> str:
        """A plain URL of one Sentinel: its own user and password, the same TLS."""
        user, password = self.sentinel_login
        user_info = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
        return self._url(user_info, endpoint, "", [pair for pair in self.options if pair[0] not in _LOGIN_OPTIONS])

    def _url(self, user_info: str, endpoint: Endpoint, path: str, options: Iterable[tuple[str, str]]) -> str:
        query = urlencode(list(options))
        return f"{self.scheme}://{user_info}{hosted(endpoint)}{path}" + (f"?{query}" if query else "")


def hosted(endpoint: Endpoint) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def shown_url(url: str) -> str:
    """The URL without user, password and query, for messages and logs; also of a URL that is wrong."""
    try:
        return RedisAddress.parse(url).shown
    except ValueError:
        return masked_url(url).partition("?")[0]


def _split(url: str) -> SplitResult:
    """The parts of a URL whose login cannot be mistaken for something else.

    Raises:
        ValueError: it does not begin as ours do, or holds a character that would end the login too early, or vanish.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        raise ValueError(
            "it holds a blank, a line end or another character that is not seen; remove it from either end, "
            + PERCENT_ENCODE
        )
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(_other_scheme(scheme.lower() if separator else ""))
    hosts = re.match(r"[^/?#]*", rest)
    after = rest[hosts.end() :] if hosts else ""
    if "@" in after or "#" in after:
        raise ValueError(f"an @ or # stands after the host, as where a password holds / # or ?; {PERCENT_ENCODE}")
    try:
        return urlsplit(url)
    except ValueError:  # which quotes what it does not like
        raise ValueError(f"no HOST:PORT can be read from it, an IPv6 address is [::1]:6379; {PERCENT_ENCODE}") from None


def _other_scheme(scheme: str) -> str:
    meant = scheme if scheme in _SCHEMES else _MEANT.get(scheme)
    if meant == scheme:
        return f"write {meant}:// in small letters"
    return f"write {meant}:// for {scheme}://" if meant else f"it must begin with {FORMS}"


def _check_options(kind: Kind, scheme: str, options: dict[str, str]) -> None:
    """Refuses what redis-py would meet too late, or not at all. Beside a password no unknown name is quoted: with an
    `&` in it, a piece of the password would stand there."""
    known = TLS_OPTIONS | _LOGIN_OPTIONS | {"db"} | (_SENTINEL_OPTIONS if kind == "sentinel" else frozenset())
    unknown = [name for name in options if name not in known]
    if unknown:
        is_name = unknown[0] in _SENTINEL_OPTIONS or _SECRETS.isdisjoint(options)
        which = f" {unknown[0]!r}" if is_name else ", or a password with & or = not written %26, %3D"
        raise ValueError(f"unknown option{which}; there are {', '.join(sorted(known))}")
    for name in sorted(TLS_OPTIONS & options.keys()):
        if scheme == "unix":
            raise ValueError(f"{name} is for TLS, which a socket of this machine has not; leave it out")
        if scheme != "rediss":
            tls = "rediss" if kind == "server" else f"rediss+{kind}"
            raise ValueError(f"{name} is for TLS; write {tls}://, or leave it out")
        values = _TLS_VALUES.get(name)
        if values and options[name] not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}")


def _endpoint(text: str, default_port: int) -> Endpoint:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or text.endswith(":"):
        login = ", or USER:PASSWORD@HOST:PORT" if ":" in text else ""
        raise ValueError(f"expected HOST:PORT{login}, got {masked_endpoint(text)!r}; the port is a number")
    return host, port or default_port
