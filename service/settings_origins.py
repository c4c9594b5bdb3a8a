"""Where settings come from: a flag, the environment, `clickserve.toml`; for the rest their defaults.

The first that speaks decides: a command-line flag, the environment (`CLICKSERVE_SECTION__KEY`, or the path of a file
that holds the value in `…__KEY_FILE`), `clickserve.toml`, the default. `REDIS_URL` means `CLICKSERVE_REDIS__URL`. An
unknown name is an error with the nearest known one, because a misspelt setting that is ignored looks exactly like one
that does not work. Relative paths are taken from the folder of the file that names them, elsewhere from the working
directory.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from service.addresses import without_password
from service.errors import SettingsError
from service.settings import Settings

ENV_PREFIX = "CLICKSERVE_"
OTHER_ENV_NAMES = frozenset({"CLICKSERVE_DEBUG", "CLICKSERVE_WORKLOAD"})
"""Names with the prefix that are not settings of the service: the command line's and the load test's."""
_KUBERNETES_NAMES = re.compile(r"CLICKSERVE_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_\w+)")
"""Kubernetes sets these in every pod beside a Service called `clickserve`, and `CLICKSERVE_PORT=tcp://…` with them."""
_SECTIONS: dict[str, Callable[..., Any]] = {
    part.name: cast(Callable[..., Any], part.default_factory) for part in fields(Settings)
}
_TYPES: dict[str, dict[str, str]] = {
    section: {key.name: str(key.type).removesuffix(" | None") for key in fields(kind)}  # type: ignore[arg-type]
    for section, kind in _SECTIONS.items()
}
"""Type of each key by section, as its class says it."""
TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "Path": "a path",
    "tuple[str, ...]": "a list of text",
}
"""How messages and the reference name the types."""

_Setting = tuple[str, str, str, object, Path | None]
"""Origin in words, section, key, value, and the folder that a relative path starts from."""


def load_settings(path: Path | None, env: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings of this process.

    Args:
        path: `clickserve.toml`, or None for none.
        env: the environment; only `CLICKSERVE_…` and `REDIS_URL` are looked at.
        flags: by `section.key`; None means that the flag was not given.
    Raises:
        SettingsError: an unknown name, a value of the wrong type, two origins or two settings that contradict.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    origins = [*_from_file(path), *_from_environment(env), *_from_flags(flags)]
    for origin, section, key, value, base in origins:
        values[section][key] = _parsed(origin, section, key, value, base)
    return Settings(**{section: kind(**values[section]) for section, kind in _SECTIONS.items()})


def _from_file(path: Path | None) -> list[_Setting]:
    if path is None:
        return []
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    found: list[_Setting] = []
    for section, table in document.items():
        if section not in _TYPES:
            raise SettingsError(f"{path}: unknown section [{section}]{_nearest(section, _TYPES, '[{}]')}")
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {section} must be a section, written [{section}]")
        for key, value in table.items():
            if key not in _TYPES[section]:
                raise SettingsError(f"{path}: [{section}] has no key {key!r}{_nearest(key, _TYPES[section], '{!r}')}")
            found.append((f"{path}: [{section}] {key}", section, key, value, path.parent))
    return found


def _from_environment(env: Mapping[str, str]) -> list[_Setting]:
    names = {f"{ENV_PREFIX}{s}__{k}".upper(): (s, k) for s, keys in _TYPES.items() for k in keys}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name, value in sorted(env.items()):
        if name == "REDIS_URL":
            setting = ("redis", "url")
        elif name in names:
            setting = names[name]
        elif (stem := name.removesuffix("_FILE")) != name and stem in names:
            setting, value = names[stem], _secret(name, value)
        elif name.startswith(ENV_PREFIX) and name not in OTHER_ENV_NAMES and not _set_by_kubernetes(name, value):
            raise SettingsError(f"unknown environment name {name}{_nearest(name, names, '{}')}")
        else:
            continue
        earlier = found.setdefault(setting, (name, value))
        if earlier[1] != value:
            raise SettingsError(f"{earlier[0]} and {name} are both set and differ; unset one of them")
    return [(name, *setting, value, None) for setting, (name, value) in found.items()]


def _from_flags(flags: Mapping[str, object]) -> list[_Setting]:
    found: list[_Setting] = []
    for name, value in flags.items():
        section, _, key = name.partition(".")
        if value is not None:
            found.append((f"flag {name}", section, key, value, None))
    return found


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{name} names {without_password(path)}, which cannot be read: {why}") from None


def _set_by_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES_NAMES.fullmatch(name)) or (name == "CLICKSERVE_PORT" and value.startswith("tcp://"))


def _parsed(origin: str, section: str, key: str, value: object, base: Path | None) -> object:
    """A value in the type of its setting; text, as the environment has it, is read as a number or split at commas."""
    if section not in _TYPES or key not in _TYPES[section]:
        names = [f"{known}.{name}" for known, keys in _TYPES.items() for name in keys]
        raise SettingsError(f"{origin}: there is no setting {section}.{key}{_nearest(f'{section}.{key}', names, '{}')}")
    wanted = _TYPES[section][key]
    if wanted == "Path" and isinstance(value, (str, Path)) and str(value):
        return Path(value) if base is None else base / value
    if wanted == "str" and isinstance(value, str):
        return value
    if wanted == "tuple[str, ...]":
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, (list, tuple)) and items and all(isinstance(item, str) and item for item in items):
            return tuple(items)
    if wanted in ("int", "float") and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = float(value) if wanted == "float" else int(value) if not isinstance(value, float) else None
        except ValueError:
            number = None
        if number is not None and math.isfinite(number):
            return number
    is_secret = (section, key) == ("redis", "url")
    got = type(value).__name__ if is_secret else without_password(repr(value))
    raise SettingsError(f"{origin} must be {TYPE_WORDS[wanted]}, got {got}")


def _nearest(name: str, known: Iterable[str], shape: str) -> str:
    """`; did you mean …?` where something known looks like it, else all that is known."""
    candidates = list(known)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {shape.format(close[0])}?"
    return f"; known are {', '.join(candidates)}" if len(candidates) <= 12 else ""
