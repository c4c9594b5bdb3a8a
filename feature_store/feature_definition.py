"""One feature of `features.toml`: its name, its dtype, its default, and the n-grams of a text."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from feature_store.ids import canonical_text
from feature_store.ngrams import MAX_WORDS
from feature_store.schema import Feature
from feature_store.toml_table import TomlTable

MAX_WIDTH: Final = 4096
"""Of an embedding; a row must stay small enough for one Redis answer."""

RESERVED_FEATURES = frozenset({"entity_id", "event_time_ms"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_DTYPE = re.compile(r"float32(?:\[(\d{1,6})\])?|id")


def read_feature(name: str, table: TomlTable) -> Feature:
    """A feature with `dtype`, `ngrams` and `default`, all optional."""
    dtype = table.text("dtype", "float32")
    match = _DTYPE.fullmatch(dtype)
    if match is None:
        raise table.error("dtype", f'expected "float32", "float32[64]" (an embedding) or "id", got "{dtype}"')
    width = int(match[1] or 1)
    if not 1 <= width <= MAX_WIDTH:
        raise table.error("dtype", f"an embedding has 1 to {MAX_WIDTH} numbers, got {width}")
    kind: Literal["id", "float32"] = "id" if dtype == "id" else "float32"
    feature = Feature(name=name, dtype=kind, width=width, default=read_default(table, kind))
    return msgspec.structs.replace(feature, ngrams=_ngrams(feature, table)) if "ngrams" in table else feature


def _ngrams(feature: Feature, table: TomlTable) -> tuple[int, ...]:
    """How many words the n-grams of a text feature have."""
    sizes = table.wholes("ngrams")
    if not sizes or len(set(sizes)) < len(sizes) or not all(1 <= size <= MAX_WORDS for size in sizes):
        raise table.error("ngrams", f"expected different numbers of words from 1 to {MAX_WORDS}, got {list(sizes)}")
    if feature.dtype == "id" or feature.width == 1:
        raise table.error("dtype", 'n-grams are hashed into a vector, for example dtype = "float32[16]"')
    return tuple(sorted(sizes))


def read_default(table: TomlTable, dtype: Literal["id", "float32"]) -> float | str | None:
    if "default" not in table:
        return None
    return canonical_text(table.plain("default")) if dtype == "id" else table.number("default", 0.0)


def check_name(name: str, table: TomlTable, reserved: frozenset[str]) -> None:
    """Refuse names that cannot be part of a column's name, or mean something else there."""
    if not _NAME.fullmatch(name):
        raise table.error("", "a name has up to 64 letters, digits and underscores, and starts with a letter")
    if name in reserved:
        raise table.error("", f'the name "{name}" is reserved')
