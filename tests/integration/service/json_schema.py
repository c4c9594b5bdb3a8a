"""As much of JSON Schema as our OpenAPI document uses: enough to hold a real answer against it.

An unknown keyword fails, so that a schema which says more than is checked here cannot pass unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAYS_NOTHING = {"title", "description", "examples", "default"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def violations(value: object, schema: Mapping[str, Any], components: Mapping[str, Any], path: str = "$") -> list[str]:
    """What is wrong with a value, one line each; empty where nothing is."""
    if "$ref" in schema:
        return violations(value, components[schema["$ref"].rsplit("/", 1)[1]], components, path)
    found: list[str] = []
    for keyword, said in schema.items():
        found += _broken(keyword, said, value, schema, components, path)
    return found


def _broken(
    keyword: str, said: Any, value: Any, schema: Mapping[str, Any], components: Mapping[str, Any], path: str
) -> list[str]:
    match keyword:
        case _ if keyword in _SAYS_NOTHING:
            return []
        case "anyOf":
            fits = any(not violations(value, option, components, path) for option in said)
            return [] if fits else [f"{path}: {value!r} fits none of {said}"]
        case "enum":
            return [] if value in said else [f"{path}: {value!r} is none of {said}"]
        case "const":
            return [] if value == said else [f"{path}: {value!r} is not {said!r}"]
        case "type":
            is_truth = isinstance(value, bool)
            fits = isinstance(value, _TYPES[said]) and is_truth == (said == "boolean")
            return [] if fits else [f"{path}: {value!r} is no {said}"]
        case "required":
            return [f"{path}.{name}: missing" for name in said if name not in value]
        case "properties":
            return [
                line
                for name, held in value.items()
                if name in said
                for line in violations(held, said[name], components, f"{path}.{name}")
            ]
        case "additionalProperties":
            others = {name: held for name, held in value.items() if name not in schema.get("properties", {})}
            if said is False:
                return [f"{path}.{name}: not in the schema" for name in others]
            return [
                line for name, held in others.items() for line in violations(held, said, components, f"{path}.{name}")
            ]
        case "items":
            return [line for i, held in enumerate(value) for line in violations(held, said, components, f"{path}[{i}]")]
    raise AssertionError(f"{path}: the checker does not know the keyword {keyword!r}")
