"""Features on Spark are the features on DuckDB: the same definition, the same rows, to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from feature_store.errors import EngineError, LogError
from feature_store.offline.engine import Engine, EngineName
from feature_store.offline.log import Log
from feature_store.offline.offline_store import OfflineStore, RowBatch
from feature_store.rows import Rows
from feature_store.schema import FeatureView
from models.logs.reader import read_log
from models.logs.simulator import SIM_V1, simulate
from tests.every_kind import every_kind_log
from tests.logs import HOUR_MS, random_columns, shop_log

pytestmark = [
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark is not installed: requirements/spark.lock"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java here"),
    pytest.mark.xdist_group("spark"),  # one Java machine, not one a process
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """Stopped at the end: Java would outlive the tests of this file."""
    yield
    from pyspark.sql import SparkSession

    if (running := SparkSession.getActiveSession()) is not None:
        running.stop()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return every_kind_log(tmp_path_factory.mktemp("shop"))


def joined(log: Log, engine: EngineName, folder: Path) -> dict[str, Rows]:
    """Every view at every impression."""
    with OfflineStore(log.project, log, folder / engine, engine) as store:
        return {view.name: store.at_impressions(view) for view in log.project.schema.views}


def assert_same(one: Rows, other: Rows) -> None:
    """Counts, times, hashes and floats to the bit; both have found something."""
    assert one.found.any()
    assert np.array_equal(one.found, other.found)
    assert np.array_equal(one.event_time_ms, other.event_time_ms)
    assert np.array_equal(one.ids, other.ids)
    assert one.floats.tobytes() == other.floats.tobytes()


def test_every_kind_of_view_has_the_same_rows(log: Log, tmp_path: Path) -> None:
    """Late clicks, shared milliseconds, ties, missing values and expired rows included."""
    duckdb, spark = joined(log, "duckdb", tmp_path), joined(log, "spark", tmp_path)

    assert duckdb.keys() == spark.keys()
    for name, rows in duckdb.items():
        assert_same(rows, spark[name])


def test_what_is_materialized_is_the_same(log: Log, tmp_path: Path) -> None:
    """A row of Spark may go into the store that a row of DuckDB came from."""

    def at_noon(engine: EngineName, view: FeatureView) -> RowBatch:
        with OfflineStore(log.project, log, tmp_path / engine, engine) as store:
            (batch,) = store.as_of(view, 30 * HOUR_MS)
        return batch

    for name in ("timeless", "windows"):
        view = log.project.schema.view(name)
        assert view is not None
        duckdb, spark = at_noon("duckdb", view), at_noon("spark", view)
        assert duckdb.entity_ids == spark.entity_ids
        assert np.array_equal(duckdb.event_time_ms, spark.event_time_ms)
        assert duckdb.floats.tobytes() == spark.floats.tobytes()
        assert np.array_equal(duckdb.ids, spark.ids)


def test_a_simulated_log_has_the_same_rows(tmp_path: Path) -> None:
    """The features that the published figures stand on."""
    simulate(SIM_V1, n_impressions=3_000, seed=3, out_dir=tmp_path / "log")
    log = read_log(f"simulated:{tmp_path / 'log'}", workdir=tmp_path / "work")

    duckdb, spark = joined(log, "duckdb", tmp_path), joined(log, "spark", tmp_path)

    for name, rows in duckdb.items():
        assert_same(rows, spark[name])


def test_a_query_that_sees_the_future_is_refused_by_spark_as_well(tmp_path: Path) -> None:
    """The first impression of a user, told with the number of all: known only at the end."""
    query = "SELECT user_id AS entity_id, min(time_ms) AS event_time_ms, count(*) AS n FROM log GROUP BY user_id"
    view = f'[views.query]\nentity = "user"\nttl = "7d"\nsql = "{query}"\n[views.query.features]\nn = {{}}\n'
    log = shop_log(tmp_path, view, random_columns(3, 60))

    with OfflineStore(log.project, log, tmp_path, "spark") as store, pytest.raises(LogError, match="sees the future"):
        store.at_impressions(log.project.schema.views[0])


def test_a_statement_without_translation_names_the_way_out(tmp_path: Path) -> None:
    """Nobody should have to read a translator's traceback."""
    from feature_store.offline.spark import SparkEngine

    with Engine() as files:
        spark = SparkEngine(files, time_zone="UTC", folder=tmp_path)
        with pytest.raises(EngineError, match="use --engine duckdb"):
            spark.run("COPY log TO 'here.parquet'")
        spark.close()
