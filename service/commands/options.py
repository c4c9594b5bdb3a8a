"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from models.calibrator import CALIBRATOR_CHOICES
from models.registry.model_name import DEFAULT_NAME, NAME_RULE, is_model_name

Command = TypeVar("Command", bound=Callable[..., Any])
"""A command's function, which options decorate."""


class FiniteRange(click.FloatRange):
    """A number between bounds: NaN passes click's own range, because nothing is smaller or greater than it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")

data_option = click.option(
    "--data",
    required=True,
    metavar="KIND:PATH",
    help="A click log: parquet:FILE or csv:FILE, simulated:DIR, criteo:, avazu:, ipinyou: or talkingdata:FILE, "
    "movielens: or obd: (installed wheels).",
)

features_option = click.option(
    "--features",
    "features_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="features.toml of your own log; the built-in kinds bring theirs.",
)

registry_option = click.option(
    "--registry",
    "registry_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("registry"),
    show_default=True,
    help="Folder of published models.",
)

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="clickserve.toml; without it environment and defaults decide.",
)

redis_url_option = click.option(
    "--redis-url", help="The online store; an embedded server where none is named anywhere."
)
URL_NAMED_BY = "--redis-url, clickserve.toml or REDIS_URL"
"""What names the store of a command with `redis_url_option`."""

engine_option = click.option(
    "--engine",
    type=click.Choice(["duckdb", "spark"]),
    default="duckdb",
    show_default=True,
    help="Who joins features: DuckDB in this process, or Spark (requirements/spark.lock, Java 17).",
)

calibrator_option = click.option(
    "--calibrator",
    type=click.Choice(CALIBRATOR_CHOICES),
    default="auto",
    show_default=True,
    help="How scores become probabilities (docs/calibration.md); auto: by the number of clicks.",
)

tolerance_option = click.option(
    "--tolerance",
    type=FiniteRange(0.01, 1),
    default=0.05,
    show_default=True,
    help="Relative change that counts as none; the p99 and the throughput get twice as much.",
)


class ModelName(click.ParamType[str]):
    """A model's name, of which a folder and a slot are made."""

    name = "NAME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_model_name(str(value)):
            self.fail(f"{NAME_RULE}; got {value!r}", param, ctx)
        return str(value)


def name_option(help_text: str = "Name of the model.") -> Callable[[Command], Command]:
    """`--name`, `default` where it is not given."""
    return click.option("--name", type=ModelName(), default=DEFAULT_NAME, show_default=True, help=help_text)


workdir_option = click.option(
    "--workdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".clickserve/work"),
    show_default=True,
    help="Folder for what a run keeps until it ends (the log in canonical form, what joins spill) and for lists of "
    "rejected rows.",
)


class RowRange(click.ParamType[tuple[float, float]]):
    """A part of a log in time order, as fractions: `0:0.8` is the first four fifths."""

    name = "FROM:TO"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            start, end = (float(part) for part in str(value).split(":"))
        except ValueError:
            self.fail(f"{value!r} is not FROM:TO, such as 0:0.8", param, ctx)
        if not 0 <= start < end <= 1:
            self.fail(f"{value!r} must satisfy 0 <= FROM < TO <= 1", param, ctx)
        return start, end


rows_option = click.option(
    "--rows",
    type=RowRange(),
    default=(0.0, 1.0),
    show_default="0:1",
    help="Which part of the log, in time order, as fractions; the rest still counts as history for features.",
)
