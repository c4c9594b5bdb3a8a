"""`clickserve serve`: answer ranking and prediction requests over HTTP until a signal says otherwise."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from feature_store.errors import FeatureStoreError
from service.addresses import without_password
from service.commands.options import config_option
from service.errors import ServiceError
from service.exit_codes import exit_code
from service.metrics_folder import metrics_folder

if TYPE_CHECKING:
    from service.settings import Settings

FLAG_SETTINGS = {
    "host": "server.host",
    "port": "server.port",
    "admin_port": "admin.port",
    "workers": "server.workers",
    "registry_dir": "registry.dir",
}
"""Which setting each option of its own stands for, by the option's parameter."""

logger = logging.getLogger(__name__)


@click.command("serve")
@config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 picks a free one.")
@click.option("--admin-port", type=click.IntRange(0, 65_535), help="Port of metrics and worker states.")
@click.option("--workers", type=click.IntRange(1), help="Processes that score.")
@click.option("--registry", "registry_dir", type=click.Path(file_okay=False, path_type=Path), help="Published models.")
@click.option("--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="Any other setting.")
def command(config_file: Path | None, assignments: tuple[str, ...], **named: object) -> int:
    """Answer ranking and prediction requests over HTTP until SIGTERM or Ctrl-C."""
    from service.settings_origins import load_settings

    flags: dict[str, object] = dict(_assignment(text) for text in assignments)
    flags.update((FLAG_SETTINGS[name], value) for name, value in named.items() if value is not None)
    return run(load_settings(config_file, os.environ, flags))


def run(settings: Settings) -> int:
    """Serve until a signal says otherwise.

    Returns:
        0 after SIGTERM, 130 after SIGINT, 129 after SIGHUP; 1 if an address is taken, a model does not load or a
        worker had to be killed; 2 for settings that cannot be used; 69 if the store is down and nothing on disk can
        stand in for it.
    """
    from service import structured_log

    structured_log.configure(settings.log.level)
    logger.info("settings", extra={"settings": settings.shown()})
    with metrics_folder() as metrics_dir:
        # Imported here and not above: prometheus_client looks for the folder when it is imported.
        from service.server import run as run_loop
        from service.supervisor import WorkerFailed, supervise

        try:
            return run_loop(supervise(settings, metrics_dir))
        except WorkerFailed as error:
            logger.error(str(error))
            return error.exit_code
        except (ServiceError, FeatureStoreError) as error:
            logger.error(str(error))
            return exit_code(error)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(
            f"--set {without_password(text)!r}: expected SECTION.KEY=VALUE, such as --set server.drain_ms=5000"
        )
    return name, value
