"""Addresses that an operator writes: what they may say, and what of them may be shown."""

from __future__ import annotations

import ipaddress
import re

from feature_store.online.redis_address import RedisAddress


def wrong_redis_url(url: str) -> str | None:
    """What is wrong with the URL, and the way out; None where it can be used."""
    try:
        RedisAddress.parse(url)
    except ValueError as error:
        return str(error)
    return None


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
    return re.sub(r"([?&](?:sentinel_)?password=)[^&]*", r"\1***", masked) if "://" in text else masked
