"""Features that come with the log and say when they were computed: the leak detector's ground.

A service that logs the features it answered with knows when it read them. A view of such columns (`from = "log"` with
`event_time`) holds from its stamp on. A stamp later than the row's own impression is a leak: what was logged was not
what the request saw, but something written afterwards, perhaps with the click in it. One such row condemns the column,
because rows written too late need not all be stamped too late; so it is an error and not a rejected row.

A row without a stamp is rejected and counted. DuckDB does this for either engine, beside the checks of the log.
Cost: one pass over the log.
"""

from __future__ import annotations

from feature_store.clock import shown_moment
from feature_store.errors import LogError
from feature_store.offline.checks import FAILED, judged, reject_failed, time_checks
from feature_store.offline.columns import Columns
from feature_store.offline.engine import Engine, quoted
from feature_store.offline.log import Log
from feature_store.project import TimeColumn
from feature_store.schema import FeatureView, LogSource


def stamped_history(
    files: Engine, name: str, view: FeatureView, source: LogSource, stamp: TimeColumn, log: Log, origin: str
) -> None:
    """Make the table of a stamped view's history (see `histories.py`), and refuse a leak.

    Args:
        files: where the table is made.
        name: of the table.
        view: made from the log's own columns.
        source: which ones.
        stamp: the column that says when they were computed.
        log: in canonical form.
        origin: of the definition, for messages.
    Raises:
        SchemaError: a column is missing or has an impossible type.
        LogError: a stamp is later than its impression.
    """
    columns = Columns(log.name, files.columns(log.sql))
    since = columns.time_ms(stamp, f"{origin}: {stamp.path}")
    values = ", ".join(
        f"{columns.feature_value(column, feature.dtype, feature.width)} AS f{i}"
        for i, (feature, column) in enumerate(zip(view.features, source.columns, strict=True))
    )
    stamped = f"(SELECT {since} AS _since_ms, * FROM {log.sql})"
    _refuse_leak(files, stamped, view, stamp, log)
    checks = time_checks("_since_ms", quoted(stamp.column), stamp.column)
    rows = judged(stamped, checks)
    reject_failed(files, rows, checks)
    files.run(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT row_number() OVER (ORDER BY _row) - 1 AS i, "
        f"_{view.entity}_id AS key, _since_ms AS event_time_ms, {values} FROM {rows} WHERE {FAILED} IS NULL"
    )


def _refuse_leak(files: Engine, stamped: str, view: FeatureView, stamp: TimeColumn, log: Log) -> None:
    leaks = files.rows(
        f"SELECT _line, _time_ms, _since_ms, count(*) OVER () FROM {stamped} WHERE _since_ms > _time_ms "
        "ORDER BY _line LIMIT 1"
    )
    if not leaks:
        return
    line, time_ms, since_ms, n = (int(str(value)) for value in leaks[0])
    raise LogError(
        f"view {view.name!r} leaks: in {n:,} of {log.n:,} rows {stamp.column} is later than the impression, first in "
        f"{log.rejects.unit} {line}, by {(since_ms - time_ms) / 1000:g} s ({shown_moment(since_ms)}); log features as "
        "the request read them, with the time of reading, and leave out rows that were filled in afterwards"
    )
