"""The slots of a Redis Cluster: which slot a key has, which node serves a slot, and what a node says that does not.

A Cluster shares 16 384 slots out among its masters. A key's slot is CRC-16 (XMODEM) of the part between its first
braces, of the whole key where there are none. A node that is asked for a slot it does not serve answers `MOVED` with
the address of the one that does; while a slot is on its way to another node, `ASK` (the key is there already) or
`TRYAGAIN` (some keys of the command are).
Source: Redis Cluster specification. Pure.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from feature_store.online.redis_address import Endpoint

N_SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """The slot of a key, by its hash tag where it has one."""
    start = key.find(b"{") + 1
    if start:
        end = key.find(b"}", start)
        if end > start:
            return crc_hqx(key[start:end], 0) % N_SLOTS
    return crc_hqx(key, 0) % N_SLOTS


def by_slot(keys: Sequence[bytes]) -> dict[int, list[int]]:
    """Places of the keys of each slot."""
    places: dict[int, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(slot_of(key), []).append(place)
    return places


class SlotMap:
    """Who serves which slot, as one node told it, corrected by what others answered since."""

    def __init__(self, owners: list[Endpoint | None], nodes: tuple[Endpoint, ...]) -> None:
        self.owners = owners
        """By slot; None where nobody serves it."""
        self.nodes = nodes
        """All that were named, masters first."""

    @classmethod
    def parse(cls, answer: Any, asked: Endpoint) -> SlotMap:
        """Understands the answer to `CLUSTER SLOTS`; a node that does not know its own name has the one we asked by.

        Raises:
            ValueError: it is not such an answer.
        """
        owners: list[Endpoint | None] = [None] * N_SLOTS
        masters: dict[Endpoint, None] = {}
        replicas: dict[Endpoint, None] = {}
        try:
            for first, last, master, *others in answer:
                owner = _endpoint(master, asked)
                masters[owner] = None
                replicas.update(dict.fromkeys(_endpoint(other, asked) for other in others))
                owners[first : last + 1] = [owner] * (last + 1 - first)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"not an answer to CLUSTER SLOTS: {answer!r:.200}") from error
        return cls(owners, tuple(masters | replicas))

    @property
    def masters(self) -> set[Endpoint]:
        """Nodes that serve a slot."""
        return {owner for owner in self.owners if owner is not None}

    @property
    def is_whole(self) -> bool:
        """Whether every slot is served."""
        return None not in self.owners

    def places(self, keys: Sequence[bytes]) -> dict[Endpoint | None, list[int]]:
        """Places of the keys of each node."""
        places: dict[Endpoint | None, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self.owners[slot_of(key)], []).append(place)
        return places


@dataclass(frozen=True, slots=True)
class Redirection:
    """A node's word that the answer is to be had elsewhere, or later."""

    kind: Literal["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"]
    slot: int = -1
    endpoint: Endpoint = ("", 0)

    @classmethod
    def parse(cls, error: str, asked: Endpoint) -> Redirection | None:
        """Understands an error of a node; None where it is of another kind."""
        word, _, rest = error.partition(" ")
        if word == "TRYAGAIN":
            return cls("TRYAGAIN")
        if word == "CLUSTERDOWN":
            return cls("CLUSTERDOWN")
        slot, _, address = rest.partition(" ")
        host, _, port = address.strip().rpartition(":")
        if word not in ("MOVED", "ASK") or not (slot.isdecimal() and port.isdecimal()):
            return None
        return cls("MOVED" if word == "MOVED" else "ASK", int(slot), (host.strip("[]") or asked[0], int(port)))


def _endpoint(node: Any, asked: Endpoint) -> Endpoint:
    host, port = node[0], int(node[1])
    name = host.decode() if isinstance(host, bytes) else ""
    return (asked[0] if name in ("", "?") else name, port)
