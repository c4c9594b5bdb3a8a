"""`clickserve features inspect | prune | delete`: what the online store holds of a project, and taking it away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console as RichConsole

from service.commands.options import Command, config_option, json_option
from service.console import Console, key_value_table

if TYPE_CHECKING:
    from feature_store.online.redis_admin import RedisAdmin
    from feature_store.schema import EntityName
    from models.encoder import ModelInputs
    from service.settings import Settings

entity_argument = click.argument("entity", type=click.Choice(["user", "ad"]))
id_argument = click.argument("entity_id", metavar="ID")


def store_options(command: Command) -> Command:
    """Where the store is, and whose rows are meant."""
    command = click.option("--redis-url", help="The online store; the embedded one where none is named.")(command)
    command = click.option("--project", help="Whose rows; the project of the registry's models where absent.")(command)
    command = click.option(
        "--registry", "registry_dir", type=click.Path(file_okay=False, path_type=Path), help="Published models."
    )(command)
    return config_option(command)


@click.group("features")
def command() -> None:
    """Inspect, prune or delete what the online store holds."""


@command.command("inspect")
@entity_argument
@id_argument
@store_options
@json_option
def inspect(
    entity: EntityName,
    entity_id: str,
    config_file: Path | None,
    registry_dir: Path | None,
    project: str | None,
    redis_url: str | None,
    as_json: bool,
) -> None:
    """Show every stored row of one user or ad.

    With its age and its expiry; categorical values are hashes.
    """
    settings = _settings(config_file, registry_dir, redis_url)
    with _admin(settings, project) as admin:
        rows = admin.inspect(entity, entity_id)

    def show(screen: RichConsole) -> None:
        for row in rows:
            state = f"as of {_moment(row.event_time_ms)}, expires {_moment(row.expires_ms)}" if row.found else "no row"
            title = f"{row.view} {row.fingerprint[:8]}: {state}"
            screen.print(key_value_table(title, {name: str(value) for name, value in row.features.items()}))
        if not rows:
            screen.print(f"no view of {entity}s was ever materialized")

    document = {"entity": entity, "id": entity_id, "views": [asdict(row) for row in rows]}
    Console(json_only=as_json).result(document, show)


@command.command("prune")
@store_options
@click.option("--yes", is_flag=True, help="Remove them; without it only what would go is counted.")
@json_option
def prune(
    config_file: Path | None,
    registry_dir: Path | None,
    project: str | None,
    redis_url: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove views that no published model reads any more.

    Kept is what a champion reads, and what the newest version of a model reads.
    """
    settings = _settings(config_file, registry_dir, redis_url)
    keep = {view.fingerprint for inputs in _models(settings.registry.dir) for view in inputs.views}
    if not keep:
        raise click.UsageError(f"{settings.registry.dir} holds no model, so every view would go; name --registry")
    with _admin(settings, project) as admin:
        pruned = admin.prune(keep, dry_run=not yes)

    def show(screen: RichConsole) -> None:
        verb = "removed" if yes else "would remove"
        for view in pruned:
            screen.print(f"{verb} {view.view} {view.fingerprint[:8]}: {view.keys:,} keys")
        screen.print("nothing to remove" if not pruned else "" if yes else "run again with --yes to remove them")

    document = {"removed": yes, "views": [asdict(view) for view in pruned]}
    Console(json_only=as_json).result(document, show)


@command.command("delete")
@entity_argument
@id_argument
@store_options
@json_option
def delete(
    entity: EntityName,
    entity_id: str,
    config_file: Path | None,
    registry_dir: Path | None,
    project: str | None,
    redis_url: str | None,
    as_json: bool,
) -> None:
    """Erase one user or ad from every stored view.

    Also from views of an old fingerprint.
    """
    settings = _settings(config_file, registry_dir, redis_url)
    with _admin(settings, project) as admin:
        views = admin.delete(entity, entity_id)

    def show(screen: RichConsole) -> None:
        screen.print(f"erased {entity} {entity_id} from {', '.join(views)}" if views else "nothing was stored")

    Console(json_only=as_json).result({"entity": entity, "id": entity_id, "erased_from": views}, show)


def _settings(config_file: Path | None, registry_dir: Path | None, redis_url: str | None) -> Settings:
    from service.settings import load_settings

    return load_settings(config_file, os.environ, {"registry.dir": registry_dir, "redis.url": redis_url})


@contextmanager
def _admin(settings: Settings, project: str | None) -> Iterator[RedisAdmin]:
    from feature_store.online.redis_admin import RedisAdmin
    from service.store_address import store_url

    with store_url(settings) as url:
        admin = RedisAdmin(url, project or _project(settings.registry.dir))
        try:
            yield admin
        finally:
            admin.close()


def _project(registry_dir: Path) -> str:
    projects = sorted({inputs.project for inputs in _models(registry_dir)})
    if len(projects) == 1:
        return projects[0]
    found = f"the models in {registry_dir} are of {', '.join(projects)}" if projects else "there is no model"
    raise click.UsageError(f"whose rows? {found}; name the project with --project")


def _models(registry_dir: Path) -> list[ModelInputs]:
    """Inputs of the champion and of the newest version of every model in the registry."""
    from models.registry.registry import Registry

    found: list[ModelInputs] = []
    names = sorted(path.name for path in registry_dir.iterdir() if path.is_dir()) if registry_dir.is_dir() else []
    for name in names:
        registry = Registry(registry_dir, name)
        wanted = {registry.champion(), *registry.versions()[-1:]}
        found.extend(registry.get(version).manifest.inputs for version in wanted if version)
    return found


def _moment(time_ms: int | None) -> str:
    if time_ms is None:
        return "never"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
