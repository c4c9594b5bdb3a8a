"""Reading a typed file strictly: a misspelt key is an error with the nearest name, a wrong value names its path.

Used for files that people write by hand, where a silently ignored key is a wrong measurement. msgspec checks types and
bounds; this module adds what it leaves out: the nearest name, and the key's name inside a free-form table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class StrictReadError(ValueError):
    """The content does not fit its type. The text starts with the path of the wrong field."""


def read_strict(content: object, wanted: type[T]) -> T:
    """Turn plain dicts and lists into `wanted`.

    Args:
        content: what a JSON or TOML parser returned.
        wanted: a msgspec struct class; its fields are the known keys.
    Raises:
        StrictReadError: `n_candidates: expected int, got str`, or `top_kk: unknown key; did you mean 'top_k'?`.
    """
    return _read_struct(content, wanted, path="")


def _read_struct(content: object, wanted: type[T], path: str) -> T:
    if not isinstance(content, Mapping):
        raise StrictReadError(f"{path or 'top level'}: expected an object, got {content!r:.60}")
    known = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
    for key in content:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(sorted(known))}"
            raise StrictReadError(f"{_join(path, key)}: unknown key; {hint}")
    for key, field in known.items():
        if field.required and key not in content:
            raise StrictReadError(f"{_join(path, key)}: required, but not there")
    return wanted(**{key: _read(value, known[key].type, _join(path, key)) for key, value in content.items()})


def _read(value: object, wanted: Any, path: str) -> object:
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return _read_struct(value, wanted, path)
    if get_origin(wanted) is dict and isinstance(value, Mapping):
        return {key: _read(item, get_args(wanted)[1], _join(path, key)) for key, item in value.items()}
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        message, _, tail = str(error).replace("`", "").partition(" - at $")
        raise StrictReadError(f"{path}{tail}: {message[:1].lower()}{message[1:]}") from error


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
