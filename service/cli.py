"""The command line: a table of commands, each loaded only when it is called.

Exit codes are those of `exit_codes.py`. An error raised on purpose is one line that names the thing and the way
out; `CLICKSERVE_DEBUG=1` adds the traceback. Anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from feature_store.errors import FeatureStoreError
from models.errors import ModelsError
from service import exit_codes
from service.ended_by_signal import EndedBySignal
from service.errors import ServiceError
from service.lazy_group import LazyGroup
from service.product_version import product_version
from service.terminal_text import say_error

COMMANDS = {
    "demo": ("service.commands.demo", "Run the whole chain, from click logs to a load-tested ranked answer."),
    "simulate": ("service.commands.simulate", "Write an impression log whose true click probabilities are known."),
    "features": ("service.commands.features", "Inspect, prune or delete what the online store holds."),
    "train": ("service.commands.train", "Train, calibrate, prove and publish a model."),
    "evaluate": ("service.commands.evaluate", "Measure a published model on a log, with intervals."),
    "compare": (
        "service.commands.compare",
        "Train every model on one log: what each knows, costs, and which to choose.",
    ),
    "recalibrate": ("service.commands.recalibrate", "Fit a new calibrator to fresh clicks, without retraining."),
    "materialize": ("service.commands.materialize", "Copy feature rows into the online store."),
    "serve": ("service.commands.serve", "Answer ranking and prediction requests over HTTP."),
    "rank": ("service.commands.rank", "Ask a running service to rank candidates for a user."),
    "explain": ("service.commands.explain", "Ask a running service why a user clicks an ad."),
    "bench": ("service.commands.bench", "Load-test a running service and write a report."),
    "models": ("service.commands.models", "List, show, promote and import published models."),
    "config": ("service.commands.config", "Show or check the configuration."),
    "doctor": ("service.commands.doctor", "Find what would make serving slow or wrong, and say what to do."),
    "version": ("service.commands.version", "Print versions of clickserve and what it stands on."),
}


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"clickserve {product_version()}")
        ctx.exit()


@click.command(
    cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def cli() -> None:
    """clickserve: which of these ads will this user click, and with what probability?"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code, or with 128 and the number of the signal that ended it."""
    signalled = EndedBySignal()
    try:
        status = run(arguments)
    except Exception:
        if not signalled.came:
            raise
        status = exit_codes.FAILURE
    sys.exit(signalled.status_of(status))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and answers its exit code; errors raised on purpose become one line on stderr."""
    # From 1.31 on ONNX Runtime's Linux wheel uploads usage data unless this is set before its first import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        answer = cli.main(args=arguments, prog_name="clickserve", standalone_mode=False)
    except click.exceptions.Abort:
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (FeatureStoreError, ModelsError, ServiceError) as error:
        if os.environ.get("CLICKSERVE_DEBUG"):
            raise
        say_error(error)
        return exit_codes.exit_code(error)
    except OSError as error:
        if os.environ.get("CLICKSERVE_DEBUG"):
            raise
        say_error(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return exit_codes.FAILURE
    return answer if isinstance(answer, int) else 0
