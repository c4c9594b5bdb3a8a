"""`clickserve features inspect | prune | delete`: what the online store holds of a project, and taking it away."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands.options import URL_NAMED_BY, config_option, json_option, redis_url_option
from service.console import Console, Screen, key_value_table

if TYPE_CHECKING:
    from feature_store.online.redis_admin import RedisAdmin
    from feature_store.schema import EntityName
    from models.encoder import ModelInputs
    from service.settings import Settings


@dataclass(frozen=True, slots=True)
class NamedStore:
    """Where the store is, and whose rows are meant, as a person said it."""

    config_file: Path | None
    registry_dir: Path | None
    project: str | None
    redis_url: str | None

    def settings(self) -> Settings:
        """What the flags and the configuration say together."""
        from service.settings_origins import load_settings

        flags = {"registry.dir": self.registry_dir, "redis.url": self.redis_url}
        return load_settings(self.config_file, os.environ, flags)

    @contextmanager
    def admin(self) -> Iterator[RedisAdmin]:
        """The project's rows, to be looked at or taken away."""
        from feature_store.online.redis_admin import RedisAdmin
        from service.store_address import store_url

        settings = self.settings()
        with store_url(settings) as url:
            admin = RedisAdmin(url, self.project or _project(settings.registry.dir), named_by=URL_NAMED_BY)
            try:
                yield admin
            finally:
                admin.close()


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """The flags that name a store, which the command gets as one `store`, and `--json`."""

    @wraps(command)
    def called(
        config_file: Path | None, registry_dir: Path | None, project: str | None, redis_url: str | None, **others: Any
    ) -> None:
        command(store=NamedStore(config_file, registry_dir, project, redis_url), **others)

    options = [
        config_option,
        click.option(
            "--registry", "registry_dir", type=click.Path(file_okay=False, path_type=Path), help="Published models."
        ),
        click.option("--project", help="Whose rows; the project of the registry's models where absent."),
        redis_url_option,
        json_option,
    ]
    for option in reversed(options):
        called = option(called)
    return called


def one_entity(command: Callable[..., None]) -> Callable[..., None]:
    """The arguments and flags of a command about one user or ad."""
    command = click.argument("entity_id", metavar="ID")(store_options(command))
    return click.argument("entity", type=click.Choice(["user", "ad"]))(command)


@click.group("features")
def command() -> None:
    """Inspect, prune or delete what the online store holds."""


@command.command("inspect")
@one_entity
def inspect(store: NamedStore, entity: EntityName, entity_id: str, as_json: bool) -> None:
    """Show every stored row of one user or ad.

    With its age and its expiry; categorical values are hashes.
    """
    with store.admin() as admin:
        rows = admin.inspect(entity, entity_id)

    def show(screen: Screen) -> None:
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
def prune(store: NamedStore, yes: bool, as_json: bool) -> None:
    """Remove views that no published model reads any more.

    Kept is what a champion reads, and what the newest version of a model reads.
    """
    registry_dir = store.settings().registry.dir
    keep = {view.fingerprint for inputs in _models(registry_dir) for view in inputs.views}
    if not keep:
        raise click.UsageError(f"{registry_dir} holds no model, so every view would go; name --registry")
    with store.admin() as admin:
        pruned = admin.prune(keep, dry_run=not yes)

    def show(screen: Screen) -> None:
        verb = "removed" if yes else "would remove"
        for view in pruned:
            screen.print(f"{verb} {view.view} {view.fingerprint[:8]}: {view.keys:,} keys")
        screen.print("nothing to remove" if not pruned else "" if yes else "run again with --yes to remove them")

    document = {"removed": yes, "views": [asdict(view) for view in pruned]}
    Console(json_only=as_json).result(document, show)


@command.command("delete")
@one_entity
def delete(store: NamedStore, entity: EntityName, entity_id: str, as_json: bool) -> None:
    """Erase one user or ad from every stored view.

    Also from views of an old fingerprint.
    """
    with store.admin() as admin:
        views = admin.delete(entity, entity_id)

    def show(screen: Screen) -> None:
        screen.print(f"erased {entity} {entity_id} from {', '.join(views)}" if views else "nothing was stored")

    Console(json_only=as_json).result({"entity": entity, "id": entity_id, "erased_from": views}, show)


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
