"""Spark as the engine of the point-in-time join: the same statements, run on a cluster.

Feature SQL is written once, in DuckDB's words; here sqlglot translates each statement and Spark runs it. A temporary
table is a data frame that is computed once and kept: a numbering without an order would come out differently when it is
asked again. The newest earlier row of each question, for which DuckDB has a join and Spark has none, is a window over
questions and rows together.

Files with rows of entities are opened and checked by DuckDB; a table that it made is handed over as Parquet when a
statement first names it. Needs the extra `spark` and Java 17. Within `spark-submit` the session is that of the job;
otherwise it is a local one of two cores that stays on loopback, or what `SPARK_MASTER` names.
Cost: 100 000 impressions of MovieLens take 53 s here, on one core, and 1 s in DuckDB (docs/proofs/learning.json).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp

from feature_store.errors import EngineError, LogError
from feature_store.offline import arrow
from feature_store.offline.engine import ROWS_PER_BATCH, Engine, text
from feature_store.run_folder import RunFolder, lasting

LOCAL = "local[2]"
_ERRORS_ONLY = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n%ex
"""
"""Of log4j: Spark's warnings on starting would drown our own lines."""
_DUCKDB, _SPARK = "duckdb", "spark"


class SparkEngine:
    """A Spark session that answers as `Engine` does; see there for what each method promises."""

    def __init__(self, files: Engine, *, time_zone: str, folder: Path) -> None:
        """Start Spark, or take the session that runs already.

        Args:
            files: DuckDB, whose tables may be named in statements.
            time_zone: how times without an offset are read.
            folder: for tables on their way from DuckDB; shuffles go beside it, to stay until the process ends.
        Raises:
            EngineError: pyspark or Java is missing, or Spark does not start.
        """
        self._files, self._folder, self._about = files, folder, ""
        self._known: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        self._session = _session(time_zone, folder)

    @contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Inside, Spark's complaints begin with `what`."""
        before, self._about = self._about, f"{what}: "
        try:
            yield
        finally:
            self._about = before

    def close(self) -> None:
        """Forget all tables; the session itself lives as long as the process."""
        for name in self._known:
            self._session.catalog.dropTempView(name)
        self._known.clear()

    def run(self, sql: str) -> None:
        """Temporary tables and views are made, added to, emptied and dropped; nothing else is understood."""
        for statement in sqlglot.parse(sql, dialect=_DUCKDB):
            with self._complaints():
                match statement:
                    case exp.Create(this=exp.Schema()):
                        self._declare(statement.this)
                    case exp.Create():
                        self._show(
                            statement.this.name, self._query(statement.expression), kept=statement.kind == "TABLE"
                        )
                    case exp.Insert():
                        name = statement.this.name
                        more = self._session.table(name).union(self._query(statement.expression))
                        self._show(name, more, kept=True)
                    case exp.Delete():
                        self._show(statement.this.name, self._session.table(statement.this.name).limit(0), kept=True)
                    case exp.Drop():
                        for table in statement.find_all(exp.Table):
                            self._session.catalog.dropTempView(table.name)
                            self._known.discard(table.name)
                    case _:
                        raise EngineError(f"Spark cannot be asked for {sql[:80]!r}; use --engine duckdb")

    def table(self, sql: str) -> arrow.Table:
        """The whole result of a query."""
        with self._complaints():
            return self._query(_parsed(sql)).toArrow()

    def batches(self, sql: str) -> Iterator[arrow.Table]:
        """The result of a query in batches; all of it comes to this process first."""
        return iter(self.table(sql).to_batches(max_chunksize=ROWS_PER_BATCH))

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The result of a small query as Python values."""
        with self._complaints():
            return [tuple(row) for row in self._query(_parsed(sql)).collect()]

    def wholes(self, sql: str) -> tuple[int, ...]:
        """The one row of whole numbers that a query answers."""
        (row,) = self.rows(sql)
        return tuple(int(str(value)) for value in row)

    def columns(self, relation: str) -> dict[str, str]:
        """Name and type of each column, in DuckDB's words."""
        with self._complaints():
            fields = self._query(_parsed(f"SELECT * FROM {relation}")).schema.fields
        return {field.name: _duckdb_type(field.dataType.simpleString()) for field in fields}

    def latest(self, asked: str, history: str) -> str:
        """Each question with the newest row of its key so far."""
        questions, rows = (f"({self._translated(_parsed(f'SELECT * FROM {name}'))})" for name in (asked, history))
        name = f"latest_of_{len(self._known)}"
        with self._complaints():
            found = self._session.sql(f"""
                SELECT q, time_ms, newest.event_time_ms AS event_time_ms, newest.i AS i
                FROM (
                    SELECT q, time_ms, max(row) OVER (
                        PARTITION BY key ORDER BY at RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                    ) AS newest
                    FROM (
                        SELECT key, seen_ms AS at, q, time_ms,
                            CAST(NULL AS STRUCT<event_time_ms: BIGINT, i: BIGINT>) AS row
                        FROM {questions} WHERE key IS NOT NULL
                        UNION ALL
                        SELECT key, event_time_ms, NULL, NULL, struct(event_time_ms, CAST(i AS BIGINT) AS i) FROM {rows}
                    )
                )
                WHERE q IS NOT NULL AND newest IS NOT NULL
            """)
            self._show(name, found, kept=False)
        return name

    def keep(self, name: str, table: arrow.Table) -> None:
        """A temporary table of an Arrow table."""
        self._files.keep(name, table)
        with self._complaints():
            self._adopt(name)

    def _declare(self, table: exp.Schema) -> None:
        if table.this.name not in self._known:
            columns = ", ".join(column.sql(dialect=_SPARK) for column in table.expressions)
            self._show(table.this.name, self._session.createDataFrame([], columns), kept=False)

    def _show(self, name: str, frame: Any, *, kept: bool) -> None:
        """Give a data frame a name, computed now where it is to be kept."""
        (frame.localCheckpoint(eager=True) if kept else frame).createOrReplaceTempView(name)
        self._known.add(name)

    def _query(self, query: exp.Expr) -> Any:
        return self._session.sql(self._translated(query))

    def _translated(self, query: exp.Expr) -> str:
        own = {cte.alias for cte in query.find_all(exp.CTE)}
        for table in query.find_all(exp.Table):
            if table.name and table.name not in own | self._known:
                self._adopt(table.name)
        return query.transform(_in_sparks_words).sql(dialect=_SPARK)

    def _adopt(self, name: str) -> None:
        """Take over a table that DuckDB made."""
        path = self._folder / f"{name}.parquet"
        self._files.run(f"COPY {name} TO {text(str(path))} (FORMAT parquet)")
        self._show(name, self._session.read.parquet(str(path)), kept=False)

    @contextmanager
    def _complaints(self) -> Iterator[None]:
        """Spark's errors as ours, the first line of them."""
        from pyspark.errors import PySparkException

        try:
            yield
        except PySparkException as error:
            raise LogError(self._about + str(error).strip().split("\n")[0]) from error


def _parsed(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, dialect=_DUCKDB)


def _duckdb_type(spark_type: str) -> str:
    return exp.DataType.build(spark_type, dialect=_SPARK).sql(dialect=_DUCKDB).replace("TEXT", "VARCHAR")


def _in_sparks_words(node: exp.Expr) -> exp.Expr:
    """What sqlglot does not translate by itself: files, numbering in whatever order, length in bytes."""
    match node:
        case exp.Table(this=exp.ReadParquet(expressions=[path])):
            file = exp.to_identifier(path.name, quoted=True)
            return exp.Table(this=file, db=exp.to_identifier("parquet"), alias=node.args.get("alias"))
        case exp.Window(this=exp.RowNumber()) if not node.args.get("order"):
            order = exp.Order(expressions=[exp.Ordered(this=exp.func("monotonically_increasing_id"))])
            return exp.Window(this=node.this, order=order)
        case exp.Anonymous() if node.name.lower() == "strlen":
            return exp.Anonymous(this="octet_length", expressions=node.expressions)
    return node


def _is_submitted() -> bool:
    """Whether the session is that of a job: `spark-submit` started Java, and says where."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _java_is_here() -> bool:
    """Whether a Java machine runs already, or one can be started."""
    if _is_submitted():
        return True
    home = os.environ.get("JAVA_HOME")
    return (Path(home, "bin", "java").is_file() if home else False) or shutil.which("java") is not None


_HOMES: list[RunFolder] = []
"""Of the session of this process, which outlives the store that asked for it first, and that store's folder."""


def _home(folder: Path) -> Path:
    """Where the session keeps its shuffles: beside what the first store keeps for its own run."""
    if not _HOMES:
        _HOMES.append(RunFolder(lasting(folder)))
    return _HOMES[0].path


def _leave_a_lost_home() -> None:
    """Where the folder of the shuffles was removed, Java keeps to it and can write none: both begin anew.

    pyspark has no public way to end its Java machine: these names are private, and held by the pin and a test.
    """
    from pyspark import SparkContext

    if not _HOMES or _HOMES[0].path.is_dir():
        return
    _HOMES.clear()
    context, gateway = SparkContext._active_spark_context, SparkContext._gateway
    if context is not None and gateway is not None and not _is_submitted():
        context.stop()
        gateway.shutdown()
        gateway.proc.kill()  # it has nothing left to write
        gateway.proc.communicate()
        SparkContext._gateway = SparkContext._jvm = None


def _session(time_zone: str, folder: Path) -> Any:
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise EngineError(
            "pyspark is not installed; pip install --require-hashes -r requirements/spark.lock, or use --engine duckdb"
        ) from None
    master = os.environ.get("SPARK_MASTER", LOCAL)
    if not _java_is_here():
        raise EngineError(
            "Spark needs Java 17, and there is none on PATH nor in JAVA_HOME; install it, or use --engine duckdb"
        )
    _leave_a_lost_home()
    home = _home(folder)
    quiet = (home / "log4j2.properties").absolute()
    quiet.write_text(_ERRORS_ONLY, encoding="utf-8")
    settings = {
        "spark.driver.defaultJavaOptions": f"-Dlog4j2.configurationFile={quiet.as_uri()}",
        "spark.local.dir": str(home.absolute()),
        "spark.sql.session.timeZone": time_zone,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if master.startswith("local"):
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2",
        }
    builder = SparkSession.builder.appName("clickserve").master(master)
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise EngineError(f"Spark does not start: {error}; is Java 17 installed? Or use --engine duckdb") from error
    session.sparkContext.setLogLevel("ERROR")
    return session
