"""A column of a file as a feature, an id or a time: does it exist, has it a usable type, which of its values are bad.

Each function answers SQL; what it cannot turn into SQL it refuses with the file, the column and the nearest name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from feature_store.errors import SchemaError
from feature_store.offline.checks import Check
from feature_store.offline.engine import quoted
from feature_store.project import TimeColumn
from feature_store.schema import Dtype

MAX_FLOAT32 = 3.4028234663852886e38

_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
)
_NOTHING = '"NULL"'
"""Type of a Parquet column that was written without a single value: every row of it is missing."""
_NUMBERS = _INTEGERS | {"FLOAT", "DOUBLE", "BOOLEAN"}


class Columns:
    """The columns of one file or table, by name and SQL type."""

    def __init__(self, what: str, types: Mapping[str, str]) -> None:
        """`what` names the file in messages."""
        self.what = what
        self._types = types

    @property
    def names(self) -> tuple[str, ...]:
        """The file's own columns in its order; `_line` is ours."""
        return tuple(name for name in self._types if name != "_line")

    def kind(self, name: str, asked_by: str) -> str:
        """SQL type of a column that must exist; `asked_by` is the path in `features.toml` that wants it."""
        if name in self._types:
            return self._types[name]
        theirs = [known for known in self.names if not known.startswith("_")]  # the others are mostly our own
        close = difflib.get_close_matches(name, theirs, n=1)
        known = ", ".join(theirs[:20]) + (", …" if len(theirs) > 20 else "")
        hint = f'did you mean "{close[0]}"?' if close else f"it has {known}"
        raise SchemaError(f'{asked_by}: {self.what} has no column "{name}", {hint}')

    def id_text(self, name: str, asked_by: str) -> str:
        """SQL of an entity id as text: text itself or an integer in decimal."""
        kind = self.kind(name, asked_by)
        if kind == "VARCHAR":
            return quoted(name)
        if kind in _INTEGERS or kind in (_NOTHING, "UUID") or kind.startswith("ENUM"):
            return f"CAST({quoted(name)} AS VARCHAR)"
        raise SchemaError(f'{asked_by}: column "{name}" of {self.what} is {kind}; ids are text or integers')

    def time_ms(self, time: TimeColumn, asked_by: str) -> str:
        """SQL of a time in milliseconds since 1970 UTC; null where the value is no time."""
        kind, column = self.kind(time.column, asked_by), quoted(time.column)
        if kind == _NOTHING:
            return "CAST(NULL AS BIGINT)"
        is_number = kind in _INTEGERS or kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")
        is_date = kind.startswith(("TIMESTAMP", "DATE"))
        timestamp = f"TRY(epoch_ms(TRY_CAST({column} AS TIMESTAMPTZ)))"
        number = f"TRY_CAST({column} AS DOUBLE)" if kind == "VARCHAR" else column
        if time.unit is None and kind == "VARCHAR":
            return f"coalesce(TRY_CAST({column} AS BIGINT), {timestamp})"
        if (time.unit in (None, "timestamp") and is_date) or (time.unit == "timestamp" and kind == "VARCHAR"):
            return timestamp
        if is_number or (time.unit is not None and kind == "VARCHAR"):
            if time.unit == "s":
                return f"TRY_CAST(round({number} * 1000) AS BIGINT)"
            if time.unit == "us":
                return f"TRY_CAST(floor({number} / 1000) AS BIGINT)"
            if time.unit == "ms" or kind in _INTEGERS:
                return f"TRY_CAST({number} AS BIGINT)"
        unit = f"as {time.unit}" if time.unit else "as a time"
        raise SchemaError(
            f'{asked_by}: column "{time.column}" of {self.what} is {kind} and cannot be read {unit}; '
            'say { column = "…", unit = "s", "ms", "us" or "timestamp" }'
        )

    def truth(self, name: str, asked_by: str) -> str:
        """SQL of a label: true, false, or null where the value is neither 0/1 nor true/false."""
        kind, column = self.kind(name, asked_by), quoted(name)
        if kind == "BOOLEAN":
            return column
        if kind in _NUMBERS or kind.startswith("DECIMAL"):
            return f"CASE {column} WHEN 1 THEN true WHEN 0 THEN false END"
        spelled = f"lower(CAST({column} AS VARCHAR))"
        return (
            f"CASE WHEN {spelled} IN ('1', '1.0', 'true') THEN true "
            f"WHEN {spelled} IN ('0', '0.0', 'false') THEN false END"
        )

    def feature_checks(self, name: str, dtype: Dtype, width: int, asked_by: str) -> list[Check]:
        """What makes a row unusable for a feature that reads this column.

        Raises:
            SchemaError: the column does not exist, or its type can never become that dtype and width.
        """
        kind, column = self.kind(name, asked_by), quoted(name)
        if kind == _NOTHING:
            return []
        is_list = kind.endswith("]")
        is_number = kind in _NUMBERS or kind.startswith("DECIMAL")
        if dtype == "id":
            if is_list or kind == "BLOB" or kind.startswith(("STRUCT", "MAP")):
                raise SchemaError(f'{asked_by}: column "{name}" of {self.what} is {kind}; an id is one text or number')
            return []
        if width == 1 and is_number:
            shown = f"CAST({column} AS VARCHAR)"
            return [Check(_too_large(column), f"{name} is infinite or too large for a 32-bit number", shown)]
        if width > 1 and is_list:
            item_kind = kind[: kind.rindex("[")]
            if item_kind in _NUMBERS or item_kind.startswith("DECIMAL"):
                size = f"len({column})"
                large = f"len(list_filter({column}, lambda v: {_too_large('v')})) > 0"
                return [
                    Check(f"{size} <> {width}", f"{name} does not have {width} numbers", f"{size} || ' numbers'"),
                    Check(large, f"{name} holds a number that is infinite or too large for 32 bits", "'a list'"),
                ]
        wanted = "one number" if width == 1 else f"a list of {width} numbers"
        raise SchemaError(f'{asked_by}: column "{name}" of {self.what} is {kind}; float32[{width}] wants {wanted}')

    def feature_value(self, name: str, dtype: Dtype, width: int) -> str:
        """SQL of the value a feature reads: FLOAT, a list of FLOAT, or a categorical value as it is."""
        if dtype == "id":
            return self.plain_value(name)
        return f"CAST({quoted(name)} AS {'FLOAT' if width == 1 else 'FLOAT[]'})"

    def plain_value(self, name: str) -> str:
        """SQL of a column's value as one that Python has: text, a truth value, a whole number or a float."""
        kind, column = self._types[name], quoted(name)
        if kind.startswith("DECIMAL"):
            return f"CAST({column} AS DOUBLE)"
        plain = kind in _NUMBERS - {"HUGEINT", "UHUGEINT"} or kind.endswith("]")
        return column if plain else f"CAST({column} AS VARCHAR)"


def column_key(table: str, name: str, column: str) -> str:
    """Path of the key that names a feature's column: the feature's own where they are alike, else `column` under it."""
    return f"{table}.{name}" if name == column else f"{table}.{name}.column"


def _too_large(number: str) -> str:
    """NaN is a missing value and passes: `>` puts it above every number, so it is asked for first."""
    return f"(NOT isnan(CAST({number} AS DOUBLE)) AND abs(CAST({number} AS DOUBLE)) > {MAX_FLOAT32!r})"
