"""From somebody's rows to the canonical log: translated, checked, sorted, and nothing lost in silence."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.clock import Clock, system_clock
from feature_store.definition import parse_project
from feature_store.errors import EntityIdError, LogError, SchemaError
from feature_store.ids import entity_id
from feature_store.offline import arrow
from feature_store.offline.checks import id_checks, judged
from feature_store.offline.engine import Engine
from feature_store.offline.log import Log
from models.logs.reader import read_log
from tests.logs import parquet

HEAD = '[project]\nname = "shop"\n'
NAMES = '[log]\nuser_id = "u"\nad_id = "a"\ntime = "t"\nclicked = "c"\n'
ROWS: dict[str, object] = {"u": ["x", "y"], "a": [1, 2], "t": [2_000, 1_000], "c": [0, 1]}


def read(
    folder: Path,
    columns: dict[str, object],
    definition: str = NAMES,
    head: str = HEAD,
    clock: Clock = system_clock,
) -> Log:
    path = parquet(folder / "log.parquet", columns)
    project = parse_project(head + definition, origin="features.toml")
    return read_log(f"parquet:{path}", project, workdir=folder / "work", clock=clock)


def values(log: Log, name: str) -> list[object]:
    column = log.columns([name])[name]
    choices = [*column.values, None]  # code -1 picks the last
    return [choices[code] for code in column.codes]


def test_rows_are_sorted_by_time_and_keep_their_line(tmp_path: Path) -> None:
    """Answers are given in the order of the input, whatever order training needs."""
    log = read(tmp_path, ROWS)

    assert values(log, "_time_ms") == [1_000, 2_000]
    assert values(log, "_line") == [2, 1]
    assert values(log, "_user_id") == ["y", "x"]
    assert values(log, "_ad_id") == ["2", "1"]
    assert values(log, "_clicked") == [True, False]
    assert values(log, "_click_time_ms") == [1_001, None]
    assert (log.n, log.clicks, log.first_ms, log.last_ms) == (2, 1, 1_000, 2_000)


def test_a_large_unsorted_log_is_numbered_in_order_of_time(tmp_path: Path) -> None:
    """Everything downstream trusts that row i of the file is impression i, and that ties keep the file's order."""
    times = np.random.default_rng(3).integers(0, 50_000, size=300_000)

    log = read(tmp_path, {"u": ["x"] * len(times), "a": [1] * len(times), "t": times, "c": [0] * len(times)})

    order = np.argsort(times, kind="stable")
    assert values(log, "_row") == list(range(len(times)))
    assert values(log, "_line") == (order + 1).tolist()
    assert values(log, "_time_ms") == times[order].tolist()


def test_without_a_time_the_order_of_the_file_is_the_time(tmp_path: Path) -> None:
    """So "the last fifth" means something for every log."""
    log = read(tmp_path, ROWS, '[log]\nclicked = "c"\n')

    assert values(log, "_time_ms") == [1, 2]
    assert values(log, "_user_id") == [None, None]
    assert not log.has_time


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([1_700_000_000], '{ column = "t", unit = "s" }'),
        ([1_700_000_000.0], '{ column = "t", unit = "s" }'),
        ([1_700_000_000_000], '"t"'),
        ([1_700_000_000_000], '{ column = "t", unit = "ms" }'),
        ([1_700_000_000_000_999], '{ column = "t", unit = "us" }'),
        (["2023-11-14T22:13:20Z"], '{ column = "t", unit = "timestamp" }'),
        (["2023-11-14 23:13:20"], '"t"'),
        (["1700000000000"], '"t"'),
        (pa.array([datetime.datetime(2023, 11, 14, 23, 13, 20)], type=pa.timestamp("us")), '"t"'),
        (pa.array([1_700_000_000_000], type=pa.timestamp("ms", tz="UTC")), '"t"'),
    ],
)
def test_every_spelling_of_a_time_is_the_same_moment(tmp_path: Path, times: object, unit: str) -> None:
    """Times without an offset are in the project's zone."""
    definition = NAMES.replace('time = "t"', f"time = {unit}")

    log = read(tmp_path, {"u": ["x"], "a": [1], "t": times, "c": [1]}, definition, HEAD + 'time_zone = "Europe/Oslo"\n')

    assert values(log, "_time_ms") == [1_700_000_000_000]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([True, False], [True, False]),
        ([1, 0], [True, False]),
        ([1.0, 0.0], [True, False]),
        (["true", "False"], [True, False]),
        (["1", "0"], [True, False]),
        ([Decimal("1.00"), Decimal("0.00")], [True, False]),
    ],
)
def test_every_spelling_of_a_label_is_understood(tmp_path: Path, labels: object, expected: list[bool]) -> None:
    """Logs write yes and no in their own way; nothing else is a label."""
    log = read(tmp_path, ROWS | {"c": labels, "t": [1, 2]})

    assert values(log, "_clicked") == expected


def test_bad_rows_are_rejected_with_row_reason_and_value(tmp_path: Path) -> None:
    """A guessed label or time makes a log that lies about its click rate."""
    definition = NAMES + 'click_time = "ct"\nposition = "p"\n[context.price]\n'
    columns: dict[str, object] = {
        "u": ["ok", None, "", "a b", "x" * 65, "ok", "ok", "ok", "ok", "ok", "ok", "nan"],
        "a": ["a"] * 12,
        "t": [5, 5, 5, 5, 5, None, -1, 5, 5, 5, 5, 6],
        "c": ["1", "1", "1", "1", "1", "1", "1", "yes", "1", "1", "0", "0"],
        "ct": [6, 6, 6, 6, 6, 6, 6, 6, None, 4, None, None],
        "p": [1] * 12,
        "price": [1.0] * 10 + [float("inf"), float("nan")],
    }

    log = read(tmp_path, columns, definition)

    assert log.n == 2
    assert [(row.line, row.reason) for row in log.rejects.first] == [
        (2, "u is missing"),
        (3, "u is empty"),
        (4, "u holds a brace, space or control character"),
        (5, "u is longer than 64 bytes"),
        (6, "t is missing"),
        (7, "t lies outside 1970 to 9999; is its unit right?"),
        (8, "c is neither 0/1 nor true/false"),
        (9, "clicked, but ct is no time"),
        (10, "ct is earlier than the impression"),
        (11, "price is infinite or too large for a 32-bit number"),
    ]
    assert log.rejects.first[6].shown == "yes"
    assert log.rejects.report is not None
    assert log.rejects.report.is_file()


def test_a_row_later_than_tomorrow_is_rejected(tmp_path: Path) -> None:
    """A clock in another unit puts a log into the year 50000, where no window and no expiry means anything."""
    now_ms = 1_700_000_000_000
    tomorrow_ms = now_ms + 86_400_000
    definition = NAMES + 'click_time = "ct"\n'
    columns = {
        "u": ["x"] * 3,
        "a": [1] * 3,
        "t": [tomorrow_ms, tomorrow_ms + 1, now_ms],
        "c": [0, 0, 1],
        "ct": [None, None, tomorrow_ms + 2],
    }

    log = read(tmp_path, columns, definition, clock=lambda: now_ms)

    assert log.n == 1
    assert [(row.line, row.reason, row.shown) for row in log.rejects.first] == [
        (2, "t lies more than a day after now; is its unit right?", str(tomorrow_ms + 1)),
        (3, "ct lies more than a day after now; is its unit right?", str(tomorrow_ms + 2)),
    ]


def test_a_time_that_cannot_be_read_is_shown(tmp_path: Path) -> None:
    """What stands there tells which spelling was not understood."""
    columns = {"u": ["x"] * 3, "a": [1] * 3, "t": ["5", "half past nine", "9"], "c": [0, 0, 1], "ct": ["", "", "then"]}

    log = read(tmp_path, columns, NAMES + 'click_time = "ct"\n')

    assert [(row.reason, row.shown) for row in log.rejects.first] == [
        ("t is not a time", "half past nine"),
        ("clicked, but ct is no time", "then"),
    ]


def test_a_click_outside_the_labels_window_does_not_count(tmp_path: Path) -> None:
    """Attribution has an end, and a click after it is none for model and counters alike."""
    definition = NAMES + 'click_time = "ct"\n[label]\nwindow = "1s"\n'
    columns = {"u": ["x", "y"], "a": [1, 2], "t": [0, 0], "c": [1, 1], "ct": [1_000, 1_001]}

    log = read(tmp_path, columns, definition)

    assert values(log, "_clicked") == [True, False]
    assert values(log, "_click_time_ms") == [1_000, None]


@given(
    at=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    delay=st.lists(st.none() | st.integers(1, 40), min_size=30, max_size=30),
    window_ms=st.integers(1, 60),
)
@settings(max_examples=30, deadline=None)
def test_the_label_of_an_impression_is_known_when_its_window_has_passed(
    tmp_path_factory: pytest.TempPathFactory, at: list[int], delay: list[int | None], window_ms: int
) -> None:
    """Measured against the last thing the log tells of, an impression or a click, counted or late."""
    delay = delay[: len(at)]
    arrived = [None if late is None else shown + late for shown, late in zip(at, delay, strict=True)]
    clicked = [late is not None for late in delay]
    columns: dict[str, object] = {"u": ["x"] * len(at), "a": ["a"] * len(at), "t": at, "c": clicked}
    columns["ct"] = pa.array(arrived, pa.int64())

    log = read(
        tmp_path_factory.mktemp("log"), columns, f'{NAMES}click_time = "ct"\n[label]\nwindow = "{window_ms}ms"\n'
    )

    end = max([*at, *(time for time in arrived if time is not None)])
    assert log.observed_until_ms == end
    assert log.pending == sum(shown + window_ms > end for shown in at)


def test_clicks_collected_for_longer_than_the_log_leave_nothing_pending(tmp_path: Path) -> None:
    """Impressions of an hour, and clicks of the day after it: only the owner can know."""
    label = '[label]\nwindow = "1h"\nobserved_until = {}\n'

    assert read(tmp_path, ROWS, NAMES + '[label]\nwindow = "1h"\n').pending == 2
    assert read(tmp_path, ROWS, NAMES + label.format('"1970-01-01T01:00:01Z"')).pending == 1
    assert read(tmp_path, ROWS, NAMES + label.format("1970-01-01T01:00:02")).pending == 0


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        (
            '"1970-01-01"',
            "label.observed_until: is 1970-01-01T00:00:00.00:00, but log.parquet holds a click that arrived at",
        ),
        ("253402300799999", "label.observed_until: 9999-12-31T23:59:59.00:00 has not come yet"),
    ],
)
def test_the_time_until_which_clicks_were_collected_must_be_possible(tmp_path: Path, until: str, expected: str) -> None:
    """A time before the last click is wrong, and one ahead of now would make unclicked of what is pending."""
    with pytest.raises((LogError, SchemaError), match=expected):
        read(tmp_path, ROWS, f'{NAMES}[label]\nwindow = "1h"\nobserved_until = {until}\n')


def test_a_condition_can_be_the_label(tmp_path: Path) -> None:
    """A rating of 5 stands in for a click."""
    definition = '[log]\nclicked = { sql = "stars >= 4 AND NOT returned" }\n'

    log = read(tmp_path, {"stars": [5, 5, 3, None], "returned": [False, True, False, False]}, definition)

    assert values(log, "_clicked") == [True, False, False]
    assert log.rejects.counts == {"stars >= 4 AND NOT returned is neither 0/1 nor true/false": 1}


@pytest.mark.parametrize(
    ("columns", "definition", "expected"),
    [
        (
            ROWS,
            NAMES.replace('"u"', '"uu"'),
            'features.toml: log.user_id: log.parquet has no column "uu", did you mean "u"',
        ),
        (ROWS, NAMES + "[context.zzz]\n", 'context.zzz: log.parquet has no column "zzz", it has u, a, t, c'),
        (ROWS, NAMES + '[context.z]\ncolumn = "zzz"\n', 'context.z.column: log.parquet has no column "zzz"'),
        (ROWS, NAMES.replace('"t"', '"when"'), 'features.toml: log.time: log.parquet has no column "when"'),
        (ROWS, NAMES.replace('"t"', '{ column = "when" }'), 'log.time.column: log.parquet has no column "when"'),
        (ROWS | {"t": [[1], [2]]}, NAMES, 'column "t" of log.parquet is BIGINT\\[\\] and cannot be read as a time'),
        (ROWS | {"u": [1.5, 2.5]}, NAMES, 'log.user_id: column "u" of log.parquet is DOUBLE; ids are text or integers'),
        (ROWS, '[log]\nclicked = { sql = "nosuch(t)" }\n', "features.toml: log.clicked.sql: .*nosuch does not exist"),
        (ROWS, '[log]\nclicked = { sql = "t + 1" }\n', "t \\+ 1 is BIGINT; a label is true or false"),
        (
            ROWS,
            '[log]\nclicked = { sql = "tt = 1" }\n',
            'log.clicked: log.parquet has no column "tt", did you mean "t"',
        ),
        (ROWS | {"k": ["p", "q"]}, NAMES + "[context.k]\n", "is VARCHAR; float32\\[1\\] wants one number"),
    ],
)
def test_a_definition_that_the_log_cannot_fulfil_is_refused(
    tmp_path: Path, columns: dict[str, object], definition: str, expected: str
) -> None:
    """With the key that says so, the file, the column and the nearest name."""
    with pytest.raises(SchemaError, match=expected):
        read(tmp_path, columns, definition)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (ROWS | {"t": ["a", "b"]}, "holds no usable row; 2 rows rejected"),
        (ROWS | {"u": [None, None]}, "2 x u is missing"),
        (ROWS | {"_row": [1, 2]}, 'has a column "_row", a name the canonical log uses itself'),
        ({name: [] for name in ROWS}, "holds no usable row; it is empty"),
        ({name: pa.array([], type=pa.int64()) for name in ROWS}, "holds no usable row; it is empty"),
    ],
)
def test_a_log_without_a_usable_row_is_refused(tmp_path: Path, columns: dict[str, object], expected: str) -> None:
    """With the reasons, and never as an empty log."""
    with pytest.raises(LogError, match=expected):
        read(tmp_path, columns)


def test_a_column_without_a_single_value_is_missing_in_every_row(tmp_path: Path) -> None:
    """Parquet gives it a type of its own; a context value or a click time may well be missing for a whole day."""
    definition = NAMES + 'click_time = "ct"\nposition = "p"\n[context.price]\n[context.k]\ndtype = "id"\n'
    nothing = pa.nulls(2)

    log = read(tmp_path, ROWS | {"c": [0, 0], "ct": nothing, "p": nothing, "price": nothing, "k": nothing}, definition)

    assert log.n == 2
    assert log.rejects.n == 0
    assert values(log, "price") == [None, None]


def test_delays_are_those_of_all_clicks_and_late_ones_are_counted(tmp_path: Path) -> None:
    """Clicks of 1 to 1 000 ms under a window of 800: what the window cuts off is part of what is measured."""
    columns: dict[str, object] = {
        "u": ["x"] * 1_200,
        "a": ["a"] * 1_200,
        "t": [5_000] * 1_200,
        "c": [1] * 1_000 + [0] * 200,
        "ct": [5_000 + i for i in range(1, 1_001)] + [None] * 200,
    }

    log = read(tmp_path, columns, NAMES + 'click_time = "ct"\n[label]\nwindow = "800ms"\n')

    assert log.delays == (1_000, 200, 500, 900, 990)
    assert log.clicks == 800


def test_without_click_times_no_delay_is_made_up(tmp_path: Path) -> None:
    """The millisecond after which a click is taken to arrive is no measurement."""
    assert read(tmp_path, ROWS).delays is None


@pytest.mark.parametrize("as_text", [False, True])
def test_a_propensity_is_a_probability_above_0(tmp_path: Path, as_text: bool) -> None:
    """A round with propensity 0 cannot have happened, and 1 / propensity is what it will weigh: a millionth of a
    millionth is an error of somebody's arithmetic. Missing is unknown."""
    chance = [0.25, 1.0, 1e-12, None, 0.0, -0.1, 1.0001, float("nan"), float("inf"), 1e-300]
    texts = [None if value is None else str(value) for value in chance]
    columns: dict[str, object] = {"u": ["x"] * 10, "a": ["a"] * 10, "t": list(range(10)), "c": [0, 1] + [0] * 8}

    log = read(tmp_path, columns | {"chance": texts if as_text else chance}, NAMES + 'propensity = "chance"\n')

    assert values(log, "_propensity") == chance[:4]
    assert log.rejects.counts == {"chance is no probability from 1e-12 to 1": 6}
    assert [(row.line, row.shown) for row in log.rejects.first[:2]] == [(5, "0.0"), (6, "-0.1")]


def test_a_parquet_file_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    """One of the two would be read, and nobody would know which."""
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table([[1], [2]], names=["price", "Price"]), path)

    with pytest.raises(LogError, match=r'log.parquet names the column "price" 2 times'):
        read_log(f"parquet:{path}", parse_project(HEAD, origin="features.toml"), workdir=tmp_path / "work")


def test_what_fails_while_reading_is_told_with_the_file(tmp_path: Path) -> None:
    """DuckDB's own message does not say which of many files it was reading."""
    path = parquet(tmp_path / "log.parquet", ROWS | {"c": ["yes", "no"]})
    project = parse_project(HEAD + '[log]\nclicked = { sql = "CAST(c AS INTEGER) = 1" }\n', origin="features.toml")

    with pytest.raises(LogError, match=r"parquet:.*log.parquet: Conversion Error: .*'yes'"):
        read_log(f"parquet:{path}", project, workdir=tmp_path / "work")


@settings(max_examples=30)
@given(st.lists(st.text(max_size=70), min_size=1, max_size=100))
def test_sql_and_python_agree_on_what_is_an_id(texts: list[str]) -> None:
    """A row that the log accepts must not be refused by the store, and the other way round."""
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    with Engine() as engine:
        engine.keep("texts", arrow.table_of({"text": texts}))
        failed = engine.rows(f"SELECT _failed IS NULL FROM {judged('texts', id_checks('text', 'text'))}")

    assert [bool(ok) for (ok,) in failed] == [is_id(text) for text in texts]


def is_id(text: str) -> bool:
    try:
        entity_id(text)
    except EntityIdError:
        return False
    return True
