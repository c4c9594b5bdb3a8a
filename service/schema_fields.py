"""A JSON schema as a list of fields for people, named as problems name them: `candidates[].ad_id`.

References are followed and alternatives laid side by side; knows as much of JSON Schema as our own document uses, whose
schemas never contain themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_WORDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True, slots=True)
class Field:
    """One value in a body."""

    path: str
    kind: str
    """What it may be, in words."""
    required: bool
    description: str


def fields_of(schema: Schema, named: Mapping[str, Schema], path: str = "") -> Iterator[Field]:
    """Every field of an object, its inner ones behind it.

    Args:
        schema: of an object, a list, or alternatives; anything else has no fields.
        named: the schemas that references name, by their last part.
        path: of the object itself.
    """
    for option in _options(schema, named):
        if option.get("type") == "array":
            yield from fields_of(option["items"], named, f"{path}[]")
        for name, held in option.get("properties", {}).items():
            place = f"{path}.{name}" if path else name
            own = _resolved(held, named)
            yield Field(place, _kind(held, named), name in option.get("required", ()), own.get("description", ""))
            yield from fields_of(held, named, place)


def _kind(schema: Schema, named: Mapping[str, Schema]) -> str:
    return " or ".join(dict.fromkeys(_one_kind(option, named) for option in _options(schema, named)))


def _one_kind(schema: Schema, named: Mapping[str, Schema]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'], named)}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"object of {_kind(values, named)}" if isinstance(values, Mapping) else "object"
    return _WORDS[schema["type"]]


def _options(schema: Schema, named: Mapping[str, Schema]) -> list[Schema]:
    resolved = _resolved(schema, named)
    return [_resolved(option, named) for option in resolved.get("anyOf", [resolved])]


def _resolved(schema: Schema, named: Mapping[str, Schema]) -> Schema:
    """The schema itself, a reference replaced by what it names; words beside the reference win."""
    if "$ref" not in schema:
        return schema
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**named[schema["$ref"].rpartition("/")[2]], **beside}
