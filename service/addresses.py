"""Addresses that an operator writes: what they may say, and what of them may be shown."""

from __future__ import annotations

import ipaddress

from feature_store.online.redis_address import RedisAddress
from feature_store.online.redis_masking import masked_url


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
    """The same text, unless a login may stand in it: then what may be shown of a URL."""
    return masked_url(text) if "://" in text or "@" in text else text
