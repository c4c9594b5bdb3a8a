"""How a version of an item catalogue lies in Redis: one head, its chunks, the stream of changes since.

What publisher and reader must agree on; `catalogue_writer.py` says why it is so.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from feature_store.errors import CodecError
from feature_store.online.blocking_client import BlockingClient
from feature_store.online.chunk import decode_chunk
from feature_store.online.layout import ViewKeys
from feature_store.online.store import CataloguePosition
from feature_store.rows import Rows
from feature_store.schema import FeatureView

CHUNKS_PER_READ = 16
"""Some megabytes an answer, so that one reader does not hold the server for long."""
CHANGES_PER_READ = 512
"""About a millisecond of decoding; a thread of a serving process lets others run between two answers."""
_LAST = 2**64 - 1


class CatalogueEnd(msgspec.Struct, frozen=True):
    """A version that is over, and how many changes it had come to."""

    version: int
    n_changes: int


class CatalogueHead(msgspec.Struct, frozen=True):
    """What the catalogue key holds, as JSON: the version that is valid."""

    version: int
    n_chunks: int
    n_rows: int
    written_ms: int
    n_changes: int = 0
    """Entries of the change stream that belong to it: a stream that has fewer was trimmed or evicted."""
    continues: CatalogueEnd | None = None
    """What this version's chunks say as well: who has followed that far need not load them."""


def read_head(client: BlockingClient, keys: ViewKeys) -> CatalogueHead | None:
    """The valid version, None if the view was never published.

    Raises:
        CodecError: the key holds something else.
    """
    value = client.get(keys.catalogue)
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=CatalogueHead)
    except msgspec.DecodeError as error:
        raise CodecError(f"{keys.catalogue.decode()} does not hold a catalogue head: {error}") from None


def read_chunks(
    client: BlockingClient, view: FeatureView, keys: ViewKeys, head: CatalogueHead
) -> Iterator[tuple[list[str], Rows]]:
    """Ids and rows of each chunk, in order.

    Raises:
        CodecError: a chunk is gone (the version is an old one) or damaged.
    """
    chunk_keys = keys.chunks(head.version, head.n_chunks)
    for start in range(0, len(chunk_keys), CHUNKS_PER_READ):
        part = chunk_keys[start : start + CHUNKS_PER_READ]
        for key, chunk in zip(part, client.mget(part), strict=True):
            if chunk is None:
                raise CodecError(f"view {view.name!r}: {key.decode()} is gone; materialize the view again")
            yield decode_chunk(view, chunk)


def read_changes(
    client: BlockingClient, view: FeatureView, keys: ViewKeys, head: CatalogueHead, since: CataloguePosition
) -> list[tuple[str, bytes | None]]:
    """Entity id and row of each change after a position, oldest first; no row means deleted.

    Raises:
        CodecError: an entry is missing, or the changes since then are not in the stream any more.
    """
    changes: list[tuple[str, bytes | None]] = []
    for version, after, until in _way_to(head, since):
        for first in range(after + 1, until + 1, CHANGES_PER_READ):
            last = min(first + CHANGES_PER_READ - 1, until)
            entries = client.xrange(keys.changes, min=f"{version}-{first}", max=f"{version}-{last}")
            if [_sequence(name) for name, _ in entries] != list(range(first, last + 1)):
                raise CodecError(f"view {view.name!r}: {keys.changes.decode()} has a gap; materialize the view again")
            changes += [(entry[b"id"].decode(), entry[b"row"] or None) for _, entry in entries]
    return changes


def _way_to(head: CatalogueHead, since: CataloguePosition) -> list[tuple[int, int, int]]:
    """Version, first sequence left out and last sequence of the entries that lead from there to the head."""
    ends = [CatalogueEnd(head.version, head.n_changes)]
    if head.continues is not None and since.version == head.continues.version:
        ends.insert(0, head.continues)
    starts = [since.sequence, *(0 for _ in ends[1:])]
    if since.version != ends[0].version or since.sequence > ends[0].n_changes:  # or the server lost what was seen
        raise CodecError(f"no changes lead from version {since.version}-{since.sequence} to {head.version}; load again")
    return [(end.version, start, end.n_changes) for end, start in zip(ends, starts, strict=True)]


def last_sequence(client: BlockingClient, keys: ViewKeys, version: int) -> int:
    """Number of the last entry of that version in the stream, 0 for none. Of use to the publisher alone: one that was
    killed may have added entries which the head does not count yet."""
    last = client.xrevrange(keys.changes, max=f"{version}-{_LAST}", min=f"{version}-1", count=1)
    return _sequence(last[0][0]) if last else 0


def _sequence(entry_name: bytes) -> int:
    """The second part of a stream entry's name, `<version>-<sequence>`."""
    return int(entry_name.split(b"-")[1])
