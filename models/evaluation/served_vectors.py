"""Vectors as the live service logged them (`docs/served-log.md`), read back for whoever checks them.

Only finished files are read: a name appears when its file is whole. A file holds rows of one version of one model and
says how its lists are to be read; files that say the same are read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from feature_store.errors import LogError
from feature_store.offline import arrow
from feature_store.offline.engine import Engine, text
from feature_store.rows import Floats, Times
from models.encoder import Encoder, ModelInputs

FINISHED = "served-*.parquet"
LAYOUT = "1"


@dataclass(frozen=True, slots=True)
class ServedVectors:
    """n scored candidates of models that read the same columns."""

    encoder: Encoder
    versions: tuple[str, ...]
    """Of the model, in order."""
    request_ids: list[str]
    time_ms: Times
    """(n,) when the request was scored, by the service's clock."""
    entity_ids: dict[str, list[str]]
    """Of `user` and `ad`: n each, empty text where the request named none."""
    contexts: list[str]
    """Distinct contexts as JSON."""
    context_codes: npt.NDArray[np.int32]
    """(n,) which of them."""
    features: Floats
    """(n, d)"""
    ids: npt.NDArray[np.int64]
    """(n, k)"""
    as_of_ms: Times
    """(n, V) since when the row of each view held, in the order of the model's views; 0 where a default stood in."""

    def __len__(self) -> int:
        return len(self.time_ms)


def read_served(folder: Path, model: str, version: str | None) -> list[ServedVectors]:
    """All rows that one model, or one version of it, left in a folder; at least one.

    Raises:
        LogError: the folder holds no row of it, or a file that is no served log.
    """
    paths = sorted(folder.glob(FINISHED))
    if not paths:
        raise LogError(f"{folder} holds no finished file ({FINISHED}); serve with served_log.folder set to it")
    by_inputs: dict[str, list[Path]] = {}
    for path in paths:
        by_inputs.setdefault(_inputs_of(path), []).append(path)
    with Engine() as engine:
        read = [_read(engine, inputs, alike, model, version) for inputs, alike in by_inputs.items()]
    found = [vectors for vectors in read if len(vectors)]
    if not found:
        wanted = f"model {model!r}" if version is None else f"version {version} of model {model!r}"
        raise LogError(f"the {len(paths)} files in {folder} hold no row of {wanted}; name another one")
    return found


def _inputs_of(path: Path) -> str:
    about = arrow.parquet_about(path)
    layout = about.get("clickserve.layout", "none")
    if layout != LAYOUT:
        raise LogError(f"{path} is a served log of layout {layout}, and this program reads layout {LAYOUT}")
    return about["clickserve.inputs"]


def _read(engine: Engine, inputs: str, paths: Sequence[Path], model: str, version: str | None) -> ServedVectors:
    encoder = Encoder(msgspec.json.decode(inputs, type=ModelInputs))
    listed = ", ".join(text(str(path)) for path in paths)
    of_version = "" if version is None else f"AND version = {text(version)}"
    rows = engine.table(
        "SELECT request_id, time_ms, coalesce(user_id, '') AS user_id, coalesce(ad_id, '') AS ad_id, context, "
        f"features, ids, as_of_ms, version FROM read_parquet([{listed}]) WHERE model = {text(model)} {of_version}"
    )
    codes, contexts = arrow.factorised(rows, "context")
    return ServedVectors(
        encoder=encoder,
        versions=tuple(sorted(arrow.factorised(rows, "version")[1])),
        request_ids=arrow.texts(rows, "request_id"),
        time_ms=arrow.int64s(rows, "time_ms"),
        entity_ids={"user": arrow.texts(rows, "user_id"), "ad": arrow.texts(rows, "ad_id")},
        contexts=contexts,
        context_codes=codes,
        features=arrow.numbers(rows, "features", len(encoder.float_names)),
        ids=arrow.int64_lists(rows, "ids", len(encoder.id_names)),
        as_of_ms=arrow.int64_lists(rows, "as_of_ms", len(encoder.inputs.views)),
    )
