"""The configuration reference, `docs/configuration.md`, made from the settings' own classes.

Names, types and defaults are the dataclasses', meanings the texts below their fields. Bounds are found by asking: each
setting is tried below, at and above what it may be, and what the refusal says it must be is what the page says. So the
page cannot promise what the service refuses; a test holds the committed page to this module. Pure.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from service import settings as settings_module
from service.errors import SettingsError
from service.settings import Settings
from service.settings_origins import ENV_PREFIX, TYPE_WORDS

COMMAND = "clickserve config reference"
_PROBES: dict[str, tuple[object, ...]] = {
    "int": (-1, 0, 1, 10**12),
    "float": (-1.0, 0.0, 1e-9, 1e12),
    "str": ("no such value",),
    "tuple[str, ...]": (("no such name!",),),
}
"""Values of each type that few or no settings take. Numbers are also tried at the defaults of all others: where one
must be less than another, that is where it stops."""

_HEAD = f"""# Configuration

<!-- Written by `{COMMAND}` from the settings' own classes; do not edit by hand. -->

The service reads its settings once, at start, checks them together and logs them without passwords. The first that
speaks decides:

1. **A flag** of `clickserve serve`: `--port 9000`, or for any setting `--set SECTION.KEY=VALUE`.
2. **The environment**: `CLICKSERVE_SECTION__KEY`, or `CLICKSERVE_SECTION__KEY_FILE` with the path of a file that holds
   the value, for secrets. `REDIS_URL` means `CLICKSERVE_REDIS__URL`. Two of them that differ are an error. Lists are
   split at commas.
3. **The file** that `--config` names. No other file is read, a `clickserve.toml` in the working folder neither.
4. **The default.**

```toml
[server]
port = 8080
workers = 2

[redis]
url = "redis://store:6379/0"
```

An unknown section, key or `CLICKSERVE_` name is an error with the nearest known one. Relative paths are taken from the
folder of the file that names them, elsewhere from the working folder. `clickserve config show` prints what would be
used, `clickserve config check` refuses what `serve` would refuse (exit 2). Durations (`_ms`) are milliseconds, `_mb`
are 2²⁰ bytes. Beside these, `CLICKSERVE_DEBUG=1` shows the traceback of a command that fails, `CLICKSERVE_WORKLOAD`
names the load test's workload, names that Kubernetes sets for a Service `clickserve` are passed over, and
[traces](tracing.md) have `OTEL_*`.
"""


@dataclass(frozen=True, slots=True)
class Described:
    """One setting, in words."""

    section: str
    key: str
    kind: str
    bounds: tuple[str, ...]
    default: str
    meaning: str

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"{ENV_PREFIX}{self.section}__{self.key}".upper()


def reference(flags: Mapping[str, str]) -> str:
    """The page as Markdown.

    Args:
        flags: of `clickserve serve`, by the setting that each sets.
    """
    parts = [_HEAD]
    for section, meaning, described in sections():
        parts.append(
            f"## `[{section}]`\n\n{_linked(meaning)}\n\n| setting | is | default | meaning |\n|---|---|---|---|\n"
        )
        parts[-1] += "".join(_row(setting, flags.get(f"{section}.{setting.key}")) for setting in described)
    return "\n".join(parts)


def sections() -> Iterator[tuple[str, str, list[Described]]]:
    """Each section's name, what it is about, and its settings, in the order of the classes."""
    texts = _texts()
    defaults = Settings()
    for part in fields(Settings):
        held = getattr(defaults, part.name)
        meanings = texts[type(held).__name__]
        described = [
            Described(
                part.name,
                key.name,
                TYPE_WORDS[str(key.type).removesuffix(" | None")],
                tuple(_bounds(defaults, part.name, key.name, str(key.type))),
                _shown(getattr(held, key.name)),
                meanings.get(key.name, ""),
            )
            for key in fields(held)
        ]
        yield part.name, meanings[""], described


def _row(setting: Described, flag: str | None) -> str:
    kind = "; ".join((setting.kind, *setting.bounds))
    by_flag = f" Flag: `{flag}`." if flag else ""
    cells = (f"**`{setting.key}`**<br>`{setting.variable}`", kind, setting.default, _linked(setting.meaning) + by_flag)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _linked(text: str) -> str:
    """Pages that a text names, as links from one page of `docs/` to another."""
    return re.sub(r"`docs/([\w-]+\.md)`", r"[\1](\1)", text)


def _shown(default: object) -> str:
    if default is None or default == "":
        return "none"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _bounds(defaults: Settings, section: str, key: str, kind: str) -> Iterator[str]:
    """What a value must be, as refusals of values say it; nothing where every value of the type is taken."""
    probes = _PROBES.get(kind, ())
    if kind == "float":
        probes += tuple(
            float(value) for part in asdict(defaults).values() for value in part.values() if _is_number(value)
        )
    refusals = (_refusal(defaults, section, key, probe) for probe in probes)
    found = (_bound(message, f"{section}.{key}") for message in refusals)
    yield from dict.fromkeys(bound for bound in found if bound)


def _refusal(defaults: Settings, section: str, key: str, value: object) -> str:
    """Why a value is refused where all else is as by default; empty where it is taken."""
    part: Any = getattr(defaults, section)
    try:
        replace(defaults, **{section: replace(part, **{key: value})})
    except SettingsError as error:
        return str(error)
    return ""


def _bound(message: str, name: str) -> str:
    """`server.port = 65536 must be at most 65535` as `at most 65535`; another setting's bound, the other way round."""
    about, must, rest = message.partition(" must be ")
    if not must:  # `registry.models: a model's name is …; got …`; what speaks of several settings is in their meanings
        rule = message.removeprefix(f"{name}: ")
        return "" if rule == message else rule.partition("; got ")[0]
    named = about.partition(" = ")[0]
    rest = re.sub(r" = \S+?(?=,|$)", "", rest.partition(", or ")[0])
    if named == name:
        return re.sub(r"(\w+\.\w+)", r"`\1`", rest) if rest.startswith("less than ") else rest
    return f"more than `{named}`"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _texts() -> dict[str, dict[str, str]]:
    """By class, the text below each field; under "" what the class says of itself. One line each."""
    found: dict[str, dict[str, str]] = {}
    for kind in ast.parse(inspect.getsource(settings_module)).body:
        if not isinstance(kind, ast.ClassDef):
            continue
        texts = {"": " ".join((ast.get_docstring(kind) or "").split())}
        for field, text in zip(kind.body, kind.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                texts[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
        found[kind.name] = texts
    return found
