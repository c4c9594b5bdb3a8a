"""A blocking client of a Redis Cluster, with the same commands as that of one server (`blocking_client.py`).

redis-py's own `RedisCluster` connects when it is made, hides why a node refused, and sends a pipeline per call; what
batch jobs need beyond plain clients of the nodes is little: send a command to the node of its key, follow `MOVED` and
`ASK`, and send commands of many keys to each node in one pipeline. A node that drops its connection is an error, as it
is with one server; the map of slots is then read anew before the next command, so whoever repeats a job goes on with
the replica that took over. Safe to share between threads.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_store.online.cluster_slots import SlotMap, by_slot, slot_of
from feature_store.online.redis_address import Endpoint, RedisAddress, hosted

if TYPE_CHECKING:
    from feature_store.online.blocking_client import BlockingClient

ATTEMPTS = 20
"""Redirections and pauses that one command may take."""
PAUSE_S = 0.1
"""Before a command that a node cannot answer just now is sent again: two seconds in all, an election's time."""

SENT_ELSEWHERE = (AskError, TryAgainError, ClusterDownError)
"""What a node answers that cannot serve a key, or not just now; a MovedError is an AskError."""
_SUMMED = ("used_memory", "maxmemory", "evicted_keys")
T = TypeVar("T")
Stream = list[tuple[bytes, dict[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class _Command:
    """A command of one key or of several in one slot."""

    name: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slot(self) -> int:
        key = self.arguments[0]
        return slot_of(key[0] if isinstance(key, list) else key)

    def on(self, client: Any) -> Any:
        """Runs it, or adds it to a pipeline."""
        return getattr(client, self.name)(*self.arguments, **self.options)


class ClusterClient:
    """`BlockingClient` over all masters of a Cluster."""

    def __init__(self, address: RedisAddress, connect: Callable[[str], BlockingClient]) -> None:
        """Connects at the first command. `connect` makes a client of one server from its URL."""
        self._address = address
        self._connect = connect
        self._nodes: dict[Endpoint, BlockingClient] = {}
        self._slots: SlotMap | None = None
        self._known: tuple[Endpoint, ...] = ()
        """Nodes of the last map, where it was forgotten."""
        self._turns = itertools.count()
        self._lock = threading.RLock()

    def get(self, name: bytes) -> bytes | None:
        return self._at(slot_of(name), lambda node: node.get(name))

    def set(self, name: bytes, value: bytes | str, *, px: int | None = None, nx: bool = False) -> bool | None:
        return self._at(slot_of(name), lambda node: node.set(name, value, px=px, nx=nx))

    def pttl(self, name: bytes) -> int:
        return self._at(slot_of(name), lambda node: node.pttl(name))

    def eval(self, script: str, numkeys: int, *keys_and_args: bytes | str | int) -> int:
        key = cast(bytes, keys_and_args[0])
        return self._at(slot_of(key), lambda node: node.eval(script, numkeys, *keys_and_args))

    def hget(self, name: bytes, key: str) -> bytes | None:
        return self._at(slot_of(name), lambda node: node.hget(name, key))

    def hgetall(self, name: bytes) -> dict[bytes, bytes]:
        return self._at(slot_of(name), lambda node: node.hgetall(name))

    def hset(self, name: bytes, *, mapping: Mapping[str, str | int]) -> int:
        return self._at(slot_of(name), lambda node: node.hset(name, mapping=mapping))

    def hdel(self, name: bytes, *keys: str) -> int:
        return self._at(slot_of(name), lambda node: node.hdel(name, *keys))

    def sadd(self, name: bytes, *values: str) -> int:
        return self._at(slot_of(name), lambda node: node.sadd(name, *values))

    def srem(self, name: bytes, *values: str) -> int:
        return self._at(slot_of(name), lambda node: node.srem(name, *values))

    def smembers(self, name: bytes) -> Set[bytes]:
        return self._at(slot_of(name), lambda node: node.smembers(name))

    def rpush(self, name: bytes, *values: str) -> int:
        return self._at(slot_of(name), lambda node: node.rpush(name, *values))

    def lrange(self, name: bytes, start: int, end: int) -> list[bytes]:
        return self._at(slot_of(name), lambda node: node.lrange(name, start, end))

    def xrange(self, name: bytes, min: str, max: str) -> Stream:
        return self._at(slot_of(name), lambda node: node.xrange(name, min=min, max=max))

    def xrevrange(self, name: bytes, max: str, min: str, count: int) -> Stream:
        return self._at(slot_of(name), lambda node: node.xrevrange(name, max=max, min=min, count=count))

    def mget(self, keys: Sequence[bytes]) -> list[bytes | None]:
        values: list[bytes | None] = [None] * len(keys)
        slots = list(by_slot(keys).values())
        found = self.run([_Command("mget", ([keys[place] for place in places],)) for places in slots], ordered=False)
        for places, of_slot in zip(slots, found, strict=True):
            for place, value in zip(places, of_slot, strict=True):
                values[place] = value
        return values

    def delete(self, *names: bytes) -> int:
        return self._counted("delete", names)

    def exists(self, *names: bytes) -> int:
        return self._counted("exists", names)

    def unlink(self, *names: bytes) -> int:
        return self._counted("unlink", names)

    def scan_iter(self, match: bytes, count: int) -> Iterator[bytes]:
        for endpoint in self._slot_map().masters:
            yield from self._node(endpoint).scan_iter(match=match, count=count)

    def info(self, section: str) -> dict[str, Any]:
        """One master's, with the memory of all."""
        of_each = [self._node(each).info(section) for each in self._slot_map().masters]
        summed = {name: sum(int(each[name]) for each in of_each) for name in _SUMMED if name in of_each[0]}
        return of_each[0] | summed

    def ping(self) -> bool:
        return all(self._node(endpoint).ping() for endpoint in self._slot_map().masters)

    def config_set(self, name: str, value: str) -> bool:
        return all(self._node(endpoint).config_set(name, value) for endpoint in self._slot_map().masters)

    def pipeline(self, transaction: bool) -> ClusterPipeline:
        """Commands that take effect in the order in which they were added, each of one key."""
        assert not transaction, "a transaction spans no slots"
        return ClusterPipeline(self)

    def close(self) -> None:
        """Gives connections back."""
        with self._lock:
            for node in self._nodes.values():
                node.close()

    def each_node(
        self,
        keys: Sequence[bytes],
        send: Callable[[BlockingClient, list[int]], None],
        send_one: Callable[[BlockingClient, int], object],
    ) -> None:
        """Writes all keys.

        Args:
            send: writes the keys at some places, all of one node.
            send_one: writes one; used where the node serves a part of them no longer. So `send` may be repeated.
        Raises:
            RedisError: a node failed, or the slots do not come to rest.
        """
        for owner, places in self._slot_map().places(keys).items():
            try:
                send(self._owned(owner), places)
            except SENT_ELSEWHERE:
                self._forget_slots()
                for place in places:
                    self._at(slot_of(keys[place]), partial(_at_place, send_one, place))
            except RedisError:
                self._forget_slots()
                raise

    def run(self, commands: Sequence[_Command], *, ordered: bool) -> list[Any]:
        """Answers of all, one pipeline a node; those that a node sent on are followed one by one.

        Args:
            ordered: no command takes effect before the one in front of it; neighbours of one node share a pipeline.
        """
        answers: list[Any] = [None] * len(commands)
        for owner, places in self._groups(commands, ordered=ordered):
            node = self._owned(owner)
            pipeline = node.pipeline(transaction=False)
            for place in places:
                commands[place].on(pipeline)
            try:
                replies = pipeline.execute(raise_on_error=False)
            except RedisError:
                self._forget_slots()
                raise
            for place, reply in zip(places, replies, strict=True):
                if isinstance(reply, SENT_ELSEWHERE):
                    self._forget_slots()
                    reply = self._at(commands[place].slot, commands[place].on)
                if isinstance(reply, Exception):
                    raise reply
                answers[place] = reply
        return answers

    def _groups(self, commands: Sequence[_Command], *, ordered: bool) -> list[tuple[Endpoint | None, list[int]]]:
        owners = self._slot_map().owners
        groups: list[tuple[Endpoint | None, list[int]]] = []
        for place, command in enumerate(commands):
            owner = owners[command.slot]
            known = [group for group in (groups[-1:] if ordered else groups) if group[0] == owner]
            if known:
                known[0][1].append(place)
            else:
                groups.append((owner, [place]))
        return groups

    def _counted(self, name: str, keys: Sequence[bytes]) -> int:
        slots = by_slot(keys).values()
        return sum(
            self.run([_Command(name, tuple(keys[place] for place in of_slot)) for of_slot in slots], ordered=False)
        )

    def _at(self, slot: int, call: Callable[[BlockingClient], T]) -> T:
        """Runs one command at the slot's owner, wherever that is by now."""
        error: RedisError = ClusterDownError(f"no node serves slot {slot}")
        for _ in range(ATTEMPTS):
            owner = self._slot_map().owners[slot]
            try:
                return call(self._owned(owner))
            except MovedError as moved:
                error = moved
                self._forget_slots()
            except AskError as asked:
                return self._asking((asked.host or (owner or ("",))[0], asked.port), call)
            except (TryAgainError, ClusterDownError) as busy:
                error = busy
                self._forget_slots()
                time.sleep(PAUSE_S)
            except (RedisConnectionError, RedisTimeoutError):
                self._forget_slots()
                raise
        raise error

    def _asking(self, endpoint: Endpoint, call: Callable[[BlockingClient], T]) -> T:
        """Runs one command at the node that a slot is on its way to."""
        with self._node(endpoint).client() as one_connection:
            one_connection.execute_command("ASKING")
            return call(one_connection)

    def _owned(self, owner: Endpoint | None) -> BlockingClient:
        if owner is None:
            self._forget_slots()
            raise ClusterDownError("some slots are served by no node; see CLUSTER SLOTS")
        return self._node(owner)

    def _node(self, endpoint: Endpoint) -> BlockingClient:
        with self._lock:
            if endpoint not in self._nodes:
                self._nodes[endpoint] = self._connect(self._address.server_url(endpoint))
            return self._nodes[endpoint]

    def _forget_slots(self) -> None:
        with self._lock:
            if self._slots is not None:
                self._known = self._slots.nodes
            self._slots = None

    def _slot_map(self) -> SlotMap:
        """The map; read anew where it was forgotten, from another node first each time.

        Raises:
            RedisConnectionError: no node tells it; says why.
        """
        with self._lock:
            if self._slots is not None:
                return self._slots
            nodes = list(dict.fromkeys([*self._known, *self._address.endpoints]))
            turn = next(self._turns) % len(nodes)
            last: RedisError | None = None
            for endpoint in nodes[turn:] + nodes[:turn]:
                try:
                    self._slots = SlotMap.parse(self._node(endpoint).execute_command("CLUSTER SLOTS"), endpoint)
                    return self._slots
                except (RedisError, ValueError) as error:
                    last = error if isinstance(error, RedisError) else RedisError(str(error))
                    failed = endpoint
            assert last is not None
            raise type(last)(f"{hosted(failed)}: {last}") from last


def _at_place(send_one: Callable[[BlockingClient, int], object], place: int, node: BlockingClient) -> None:
    send_one(node, place)


class ClusterPipeline:
    """What is used of redis-py's pipeline, over all nodes."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._commands: list[_Command] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every command that redis-py's pipeline has, its key first."""

        def add(*arguments: Any, **options: Any) -> None:
            self._commands.append(_Command(name, arguments, options))

        return add

    def execute(self) -> list[Any]:
        """Sends them; the first error is raised."""
        commands, self._commands = self._commands, []
        return self._client.run(commands, ordered=True)
