"""What of a Redis URL may be shown: never its user, password or whatever could be a piece of one.

A generated password holds `/`, `#`, `?` or `@` more often than not, and pasted into a URL as it is, it ends where no
parser would say: `redis://:sec/ret@host` is a host `` with the port `sec` and the path `ret@host`. So nothing is parsed
here. All between `//` and the LAST `@` is hidden; where a query or fragment begins before that `@`, all the rest is; a
host, a port, a database and the options that hold no secret are shown only where they look like that. Pure.
"""

from __future__ import annotations

import re

TLS_OPTIONS = frozenset(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"))
_SHOWN_OPTIONS = TLS_OPTIONS | {"db"}
_SECRET_OPTIONS = frozenset(("username", "password", "sentinel_username", "sentinel_password"))
HIDDEN = "***"

_SCHEME = re.compile(
    r"(rediss?|valkeys?|unix|sentinel|cluster|https?|tcp)([+-](sentinel|cluster|unix|socket|ssl|tls))?", re.IGNORECASE
)
"""What people write before `//`. Anything else there, with a login after it, may be the begin of a password."""
_ENDPOINT = re.compile(r"((\[[0-9A-Fa-f:.]*\]?|[\w.-]+)(:\d{1,5})?)?")
_HOST = re.compile(r"[\w.-]*(?=:)")


def masked_url(url: str) -> str:
    """The URL for whoever looks for a mistake in it, also where it is none."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        scheme, rest = "", scheme
    login, at, tail = rest.rpartition("@")
    begin = f"{scheme if not separator or _is_shown(scheme, at) else HIDDEN}{separator}"
    if at and ("?" in login or "#" in login):
        return f"{begin}{HIDDEN}"
    hosts, path, query = _parts(tail)
    if not all(_ENDPOINT.fullmatch(host) for host in hosts.split(",")):
        return f"{begin}{HIDDEN}"
    return f"{begin}{HIDDEN + at if at else ''}{hosts}{path}{query}"


def masked_endpoint(text: str) -> str:
    """What stands where HOST:PORT is expected; without `@`, a login may stand there."""
    if _ENDPOINT.fullmatch(text):
        return text
    host = _HOST.match(text)
    return f"{host[0]}:{HIDDEN}" if host else HIDDEN


def _is_shown(scheme: str, at: str) -> bool:
    return bool(_SCHEME.fullmatch(scheme)) or (not at and scheme.isalpha())


def _parts(tail: str) -> tuple[str, str, str]:
    """Hosts, path, and the query as it may be shown, of what follows the login."""
    before, mark, fragment = tail.partition("#")
    before, question, query = before.partition("?")
    hosts, slash, path = before.partition("/")
    return hosts, slash + path, f"{question}{_masked_query(query)}{mark}{HIDDEN if fragment else ''}"


def _masked_query(query: str) -> str:
    """Values of options that hold no secret; of others the name alone, and none where a password with an `&` in it can
    have begun before."""
    pairs = [pair.partition("=") for pair in query.split("&")]
    names_are_shown = _SECRET_OPTIONS.isdisjoint(name for name, _, _ in pairs)
    shown = []
    for name, equals, value in pairs:
        if name in _SHOWN_OPTIONS:
            shown.append(name + equals + value)
        elif name and (names_are_shown or name in _SECRET_OPTIONS) and equals:
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(HIDDEN if name else "")
    return "&".join(shown)
