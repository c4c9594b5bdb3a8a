"""Sending many `SET key value PXAT time` commands: bytes packed by hand, answers read in bulk.

redis-py's pipeline spends most of its time packing each command's parts; here all values of a view have one size and
few expiry times occur, so a command is made of ready pieces. A few thousand commands travel as one buffer, and the
answers of one are read after the next was sent: the server executes while we pack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain, repeat

from redis.connection import ConnectionInterface
from redis.exceptions import ResponseError

from feature_store.errors import StoreDown
from feature_store.online.blocking_client import BlockingClient
from feature_store.online.cluster_client import SENT_ELSEWHERE, ClusterClient
from feature_store.rows import Times

COMMANDS_PER_BUFFER = 2_000
"""About half a megabyte of ordinary rows: enough that a system call's cost disappears, little enough to stay cached."""


def store_rows(client: BlockingClient, keys: Sequence[bytes], values: Sequence[bytes], expires_ms: Times) -> None:
    """`set_rows`, on the server or on the nodes of the Cluster that the keys belong to."""
    cluster: object = client
    if not isinstance(cluster, ClusterClient):
        set_rows(client, keys, values, expires_ms)
        return

    def send(node: BlockingClient, places: list[int]) -> None:
        set_rows(node, [keys[place] for place in places], [values[place] for place in places], expires_ms[places])

    def send_one(node: BlockingClient, place: int) -> None:
        node.set(keys[place], values[place], pxat=int(expires_ms[place]))

    cluster.each_node(keys, send, send_one)


def set_rows(client: BlockingClient, keys: Sequence[bytes], values: Sequence[bytes], expires_ms: Times) -> None:
    """Stores every value until its time. All values have equal size; keys, values and times have equal length.

    Raises:
        StoreDown: the server refused a row, for instance because its memory is full; others may be stored.
        RedisError: the connection failed, or a node of a Cluster serves some keys no longer; others may be stored.
    """
    if not keys:
        return
    connection = client.connection_pool.get_connection()
    waiting: deque[int] = deque()
    try:
        for start in range(0, len(keys), COMMANDS_PER_BUFFER):
            part = slice(start, start + COMMANDS_PER_BUFFER)
            connection.send_packed_command([_packed(keys[part], values[part], expires_ms[part])])  # type: ignore[no-untyped-call]
            waiting.append(len(keys[part]))
            if len(waiting) == 2:
                _read_answers(connection, waiting.popleft())
        while waiting:
            _read_answers(connection, waiting.popleft())
    except BaseException:
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        client.connection_pool.release(connection)


def _packed(keys: Sequence[bytes], values: Sequence[bytes], expires_ms: Times) -> bytes:
    """RESP of the commands, as one buffer."""
    heads = {size: b"*5\r\n$3\r\nSET\r\n$%d\r\n" % size for size in set(map(len, keys))}
    between = b"\r\n$%d\r\n" % len(values[0])
    times = expires_ms.tolist()
    tails = {time_ms: b"\r\n$4\r\nPXAT\r\n$%d\r\n%d\r\n" % (len(str(time_ms)), time_ms) for time_ms in set(times)}
    commands = zip(
        (heads[len(key)] for key in keys), keys, repeat(between), values, map(tails.__getitem__, times), strict=False
    )
    return b"".join(chain.from_iterable(commands))


def _read_answers(connection: ConnectionInterface, n: int) -> None:
    """Reads n answers; all are read before the first error is told, so that the connection stays usable."""
    first_error: ResponseError | None = None
    for _ in range(n):
        try:
            connection.read_response(disable_decoding=True)
        except ResponseError as error:
            first_error = first_error or error
    if isinstance(first_error, SENT_ELSEWHERE):
        raise first_error
    if first_error is not None:
        raise StoreDown(f"the server refused rows: {first_error}")
