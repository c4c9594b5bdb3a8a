"""Says what is wrong with a body that was refused: the path, what was expected, what was there.

Only refused bodies come here, so this may be slow; it never lets anything in. The typed decoder stays the judge: where
this walk finds nothing to object to, the decoder's own words are answered.
"""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from service.errors import InvalidRequest, MalformedBody, RequestError

Check = Callable[[object, str], None]
"""Raises InvalidRequest where a value at a path is not what it should be."""

_SHOWN_CHARACTERS = 40
_ID = "text of 1 to 64 bytes or an integer"


@dataclass(frozen=True, slots=True)
class Fields:
    """What an object may hold."""

    checks: dict[str, Check]
    required: frozenset[str] = frozenset()


def explain(body: bytes | bytearray, fields: Fields, refusal: Exception) -> RequestError:
    """The error for a body that a typed decoder refused with `refusal`."""
    if not body:
        return MalformedBody("the body is empty; expected a JSON object")
    return _explained(body, "the body", "", lambda document, path: _check_object(document, path, fields), refusal)


def explain_context(text: bytes | bytearray, refusal: Exception) -> RequestError:
    """The error for a context that stands alone, refused with `refusal`."""
    return _explained(text, "the context", "context", _check_context, refusal)


def shown(value: object) -> str:
    """A value and its JSON type, short enough for an error message."""
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 1] + "…"
    return f"{text} ({_kind(value)})"


def _explained(text: bytes | bytearray, what: str, path: str, check: Check, refusal: Exception) -> RequestError:
    """The error for `what`, a JSON text whose value is at `path` of the request."""
    refuse_constant = partial(_refuse_constant, what)
    try:
        document = json.loads(text.decode("utf-8"), parse_constant=refuse_constant, parse_int=_parse_int)
    except UnicodeDecodeError as error:
        return MalformedBody(f"{what} is not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        return MalformedBody(f"{what} is not JSON: {error.msg} at character {error.pos}")
    except RecursionError:
        return MalformedBody(f"{what} is nested too deeply")
    except MalformedBody as error:
        return error
    if not _is_text(document):
        return MalformedBody(f"{what} is not JSON: an escape such as \\ud800 is half of a character")
    try:
        check(document, path)
    except InvalidRequest as error:
        return error
    return _in_our_words(refusal, path)


def _check_object(value: object, path: str, fields: Fields) -> None:
    if not isinstance(value, dict):
        raise InvalidRequest(f"expected an object, got {shown(value)}", path)
    prefix = f"{path}." if path else ""
    for key, held in value.items():
        if key not in fields.checks:
            raise InvalidRequest(f"unknown field{_nearest(key, fields.checks)}", f"{prefix}{key[:_SHOWN_CHARACTERS]}")
        fields.checks[key](held, f"{prefix}{key}")
    for key in fields.checks:
        if key in fields.required and key not in value:
            raise InvalidRequest("required, but missing", f"{prefix}{key}")


def _check_id(value: object, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRequest(f"expected {_ID}, got {shown(value)}", path)


def _check_text(value: object, path: str) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"expected text, got {shown(value)}", path)


def _check_top_k(value: object, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"expected an integer of 1 or more, got {shown(value)}", path)


def _check_flag(value: object, path: str) -> None:
    if not isinstance(value, bool):
        raise InvalidRequest(f"expected true or false, got {shown(value)}", path)


def _check_bid(value: object, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise InvalidRequest(f"expected a finite number of 0 or more, got {shown(value)}", path)


def _check_context(value: object, path: str) -> None:
    if not isinstance(value, dict):
        raise InvalidRequest(f"expected an object, got {shown(value)}", path)
    for key, held in value.items():
        place = f"{path}.{key[:_SHOWN_CHARACTERS]}"
        if isinstance(held, float) and not math.isfinite(held):
            raise InvalidRequest("expected a finite number, got one too large for a float64", place)
        if isinstance(held, (list, dict)):
            raise InvalidRequest(f"expected a number, text, null or boolean, got {shown(held)}", place)


def _check_candidate(value: object, path: str) -> None:
    if isinstance(value, dict):
        _check_object(value, path, _CANDIDATE)
    elif isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidRequest(f"expected {_ID}, or an object with ad_id and bid, got {shown(value)}", path)


def _list_of(check: Check) -> Check:
    def check_list(value: object, path: str) -> None:
        if not isinstance(value, list):
            raise InvalidRequest(f"expected an array, got {shown(value)}", path)
        for i, item in enumerate(value):
            check(item, f"{path}[{i}]")

    return check_list


_CANDIDATE = Fields({"ad_id": _check_id, "bid": _check_bid}, frozenset({"ad_id"}))
_INSTANCE = Fields({"user_id": _check_id, "ad_id": _check_id, "context": _check_context})

RANK = Fields(
    {
        "user_id": _check_id,
        "candidates": _list_of(_check_candidate),
        "context": _check_context,
        "top_k": _check_top_k,
        "model": _check_text,
        "explain": _check_flag,
    },
    frozenset({"candidates"}),
)
PREDICT = Fields(
    {
        "instances": _list_of(lambda value, path: _check_object(value, path, _INSTANCE)),
        "model": _check_text,
        "explain": _check_flag,
    },
    frozenset({"instances"}),
)


def _parse_int(digits: str) -> int | float:
    """An integer; infinity where it has more digits than Python converts, which no field accepts."""
    limit = sys.get_int_max_str_digits()
    return int(digits) if not limit or len(digits) < limit else math.inf


def _refuse_constant(what: str, name: str) -> float:
    raise MalformedBody(f"{what} is not JSON: {name} is not a JSON number")


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond float64
        return False


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    return "array" if isinstance(value, list) else "object"


def _is_text(document: object) -> bool:
    """Whether all text in it can be encoded; `json` lets halves of surrogate pairs through."""
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name[:_SHOWN_CHARACTERS], names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _in_our_words(refusal: Exception, path: str) -> InvalidRequest:
    """The decoder's "Expected …, got … - at `$.place`" with the path in front."""
    message, _, place = str(refusal).replace("`", "").partition(" - at $")
    return InvalidRequest(message[:1].lower() + message[1:], (path + place.removesuffix("[...]")).removeprefix("."))
