"""Addresses that an operator writes: what they may say, and what of them may be shown."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, urlsplit

REDIS_URL_OPTIONS = frozenset(
    ("db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
)
"""What may follow the `?` of `redis.url`; anything else is a mistake that redis-py would meet too late."""


def is_redis_url(url: str) -> bool:
    """Whether the URL says where a server is and nothing that would be ignored in silence."""
    try:
        parts = urlsplit(url)
        port_is_whole = parts.port is None or parts.port > 0
    except ValueError:
        return False
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.scheme == "unix":
        return bool(parts.path) and options <= REDIS_URL_OPTIONS
    database = parts.path.strip("/")
    known = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and port_is_whole
    return known and (not database or database.isdecimal()) and options <= REDIS_URL_OPTIONS


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_password(text: str) -> str:
    """The same text, with the password masked where it is a URL that holds one."""
    masked = re.sub(r"(?<=://)([^/@:]*):[^/@]*(?=@)", r"\1:***", text)
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", masked) if "://" in text else masked
