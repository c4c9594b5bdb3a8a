"""A TOML table that is read strictly: every key is expected, every value has the type its reader asks for.

A misspelt key would otherwise be a default that nobody notices. So the reader of a table names the keys it knows before
it reads any, and every complaint carries the file and the path of the key:
`features.toml: views.ad_profile.featurs: unknown key, did you mean "features"?`
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from feature_store.errors import SchemaError

_DURATION = re.compile(r"(\d+)(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MAX_DURATION_MS = 100 * 366 * _UNIT_MS["d"]
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "a table", list: "a list"}


class TomlTable:
    """One table of a file, which knows its own path."""

    def __init__(self, origin: str, path: str, values: Mapping[str, Any]) -> None:
        self.origin, self.path = origin, path
        self._values = values

    @classmethod
    def parse(cls, text: str, origin: str) -> TomlTable:
        """The top table of a file.

        Raises:
            SchemaError: not TOML; the message carries line and column.
        """
        try:
            return cls(origin, "", tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise SchemaError(f"{origin}: not valid TOML: {error}") from None

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def error(self, key: str, complaint: str) -> SchemaError:
        """The error to raise about a key of this table; an empty key complains about the table itself."""
        return SchemaError(f"{self.origin}: {self.path_of(key)}: {complaint}")

    def expect(self, known: Collection[str]) -> None:
        """Refuse every key that is not known."""
        for key in self._values:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(sorted(known))}"
                raise self.error(key, f"unknown key, {hint}")

    def require(self, key: str, example: str) -> None:
        """Refuse the table without the key."""
        if key not in self._values:
            raise self.error(key, f"is missing; give for example {key} = {example}")

    def table(self, key: str) -> TomlTable:
        """The table under a key; an empty one where there is none."""
        return TomlTable(self.origin, self.path_of(key), self._typed(key, dict, {}))

    def tables(self) -> Iterator[tuple[str, TomlTable]]:
        """Every key of this table with the table under it."""
        for key in self._values:
            yield key, self.table(key)

    def is_table(self, key: str) -> bool:
        """Whether the value under a key is a table rather than a plain value."""
        return isinstance(self._values.get(key), dict)

    def text(self, key: str, default: str = "") -> str:
        """Text that is not empty, or the default."""
        value: str = self._typed(key, str, default)
        if key in self._values and not value.strip():
            raise self.error(key, "is empty")
        return value

    def optional_text(self, key: str) -> str | None:
        """Text that is not empty, or None where the key is absent."""
        return self.text(key) if key in self._values else None

    def whole(self, key: str, default: int) -> int:
        """A whole number that is 0 or more."""
        value: int = self._typed(key, int, default)
        if value < 0:
            raise self.error(key, f"must be 0 or more, got {value}")
        return value

    def wholes(self, key: str) -> tuple[int, ...]:
        """Whole numbers that are 0 or more, such as [1, 2]."""
        values = self._typed(key, list, [])
        if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values):
            raise self.error(key, f"expected a list of whole numbers such as [1, 2], got {values!r}")
        return tuple(values)

    def texts(self, key: str) -> tuple[str, ...]:
        """Texts, one or more, none of them empty."""
        values = self._typed(key, list, [])
        if not values or not all(isinstance(value, str) and value.strip() for value in values):
            raise self.error(key, f'expected a list of texts such as ["ad.price"], got {values!r}')
        return tuple(values)

    def is_text(self, key: str) -> bool:
        """Whether the value under a key is a text."""
        return isinstance(self._values.get(key), str)

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.error(key, f"expected a finite number, got {value!r}")
        return float(value)

    def plain(self, key: str) -> bool | float | str | None:
        """A finite number, true, false or text; None where the key is absent."""
        value: bool | float | str | None = self._values.get(key)
        if isinstance(value, (dict, list)) or (isinstance(value, float) and not math.isfinite(value)):
            raise self.error(key, f"expected a finite number, true, false or text, got {value!r}")
        return value

    def duration_ms(self, key: str, default_ms: int = 0) -> int:
        """A duration such as 500ms, 30s, 10m, 24h, 7d or 2w, in milliseconds."""
        if key not in self._values:
            return default_ms
        text = self.text(key)
        match = _DURATION.fullmatch(text.strip())
        if match is None:
            raise self.error(key, f'expected a duration such as "30s", "10m", "24h" or "7d", got "{text}"')
        value_ms = int(match[1]) * _UNIT_MS[match[2]]
        if value_ms > _MAX_DURATION_MS:
            raise self.error(key, f'"{text}" is longer than 100 years')
        return value_ms

    def moment_ms(self, key: str, zone: str) -> int | None:
        """A TOML date or time, ISO text, or whole milliseconds since 1970 UTC; None where the key is absent.

        Args:
            key: of this table.
            zone: how a time without an offset is read.
        """
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        try:
            moment = datetime.fromisoformat(value if isinstance(value, str) else value.isoformat())
        except (ValueError, AttributeError):
            raise self.error(key, f'expected a time such as "2026-01-31T12:00:00Z", got {value!r}') from None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)

    def choice(self, key: str, known: Collection[str], default: str = "") -> str:
        """One of a closed set of texts."""
        value = self.text(key, default)
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1)
            hint = f', did you mean "{close[0]}"?' if close else ""
            raise self.error(key, f'expected one of {", ".join(sorted(known))}, got "{value}"{hint}')
        return value

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self._values.get(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"expected {_KINDS[kind]}, got {value!r}")
        return value

    def path_of(self, key: str) -> str:
        """The path of a key of this table, from the top of the file."""
        parts = [part for part in (self.path, key) if part]
        return ".".join(parts) or "top level"


def shown_duration(duration_ms: int) -> str:
    """A duration in days or the largest smaller unit that divides it: 5400000 is `90m`."""
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if duration_ms % _UNIT_MS[unit] == 0)
    return f"{duration_ms // _UNIT_MS[unit]}{unit}"
