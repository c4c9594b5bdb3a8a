"""What must not pass: a feature younger than its impression, and logs as they come."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from subprocess import run

import numpy as np

from feature_store.errors import LogError
from feature_store.offline.engine import EngineName
from feature_store.offline.offline_store import OfflineStore
from tests.logs import shop_log
from tests.planted import N_ROWS, STAMPED, planted_columns
from tests.proofs.claim import REPOSITORY, Claim, Outcome

LEAKS_PLANTED: dict[EngineName, int] = {"duckdb": 10, "spark": 3}
"""How many logs each engine is given; each has its leak in a row of its own."""

FLAWS = {
    "all-zero labels": ("test_a_log_without_a_click_is_refused",),
    "one class per fold": (
        "test_clicks_in_one_part_of_the_time_are_told_part_by_part",
        "test_a_fold_of_one_class_that_leaves_enough_is_named",
    ),
    "constant features": ("test_columns_that_never_change_are_named",),
    "a column with a new type": (
        "test_a_column_of_a_new_type_is_refused_between_two_runs",
        "test_a_column_of_a_new_type_is_refused_between_two_files",
    ),
    "clicks before their impressions": ("test_clicks_before_their_impressions_are_left_out_and_counted",),
    "duplicate impressions": (
        "test_impressions_that_are_there_twice_are_counted",
        "test_with_an_id_an_impression_counts_once",
    ),
    "timestamps in the future": ("test_impressions_of_the_future_are_left_out_and_counted",),
    "an empty day": ("test_a_day_without_an_impression_is_named",),
    "a view without rows": ("test_a_view_that_answers_nobody_is_named",),
}
"""The flaws of the claim, and the tests of `tests/e2e/test_bad_logs.py` that plant them."""


def planted_leak(scratch: Path) -> Outcome:
    """Logs of which one row's feature is stamped a second late; and the same logs with that row mended."""
    said: dict[str, list[str]] = {}
    found = dict.fromkeys(LEAKS_PLANTED, 0)
    passed = dict.fromkeys(LEAKS_PLANTED, 0)
    for engine, n_logs in LEAKS_PLANTED.items():
        for seed in range(1, n_logs + 1):
            folder = scratch / f"{engine}-{seed}"
            folder.mkdir()
            columns, planted = planted_columns(seed)
            message = _refusal(folder, columns, engine)
            wanted = f"leaks: in 1 of {N_ROWS:,} rows read_at is later than the impression, first in row {planted + 1},"
            found[engine] += wanted in message and "by 1 s" in message
            said.setdefault(engine, []).append(message)
            read_at = np.array(columns["read_at"])
            read_at[planted] -= 1_000
            passed[engine] += not _refusal(folder, columns | {"read_at": read_at}, engine)
    return Outcome.judged(
        f"one row of {N_ROWS:,} found by its number in "
        + ", ".join(f"{found[engine]} of {n} logs on {engine}" for engine, n in LEAKS_PLANTED.items()),
        {
            "found every time": found == LEAKS_PLANTED,
            "and the same logs pass with the row mended": passed == LEAKS_PLANTED,
        },
        {"said": said},
    )


def _refusal(folder: Path, columns: dict[str, object], engine: EngineName) -> str:
    """What is said when the features are joined; empty where they are."""
    log = shop_log(folder, STAMPED, columns)
    with OfflineStore(log.project, log, folder, engine) as store:
        try:
            store.at_impressions(log.project.schema.views[0])
        except LogError as error:
            return str(error)
    return ""


def bad_input(scratch: Path) -> Outcome:
    """Runs the tests that plant each flaw into a log and train on it, and reads what became of them."""
    report = scratch / "report.xml"
    command = [
        sys.executable, "-m", "pytest", "tests/e2e/test_bad_logs.py", "-q", "-n", "0", "-p", "no:cacheprovider",
        f"--junitxml={report}",
    ]  # fmt: skip
    done = run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    cases: dict[str, bool] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        cases[case.attrib["name"]] = not list(case)  # a failure, an error or a skip stands inside
    by_flaw = {
        flaw: {name: holds for name, holds in cases.items() if name.partition("[")[0] in tests}
        for flaw, tests in FLAWS.items()
    }
    planted = {flaw: {name.partition("[")[0] for name in seen} for flaw, seen in by_flaw.items()}
    return Outcome.judged(
        f"{len(FLAWS)} flaws, {sum(map(len, by_flaw.values()))} cases: "
        + ", ".join(f"{flaw} {sum(seen.values())}/{len(seen)}" for flaw, seen in by_flaw.items()),
        {
            "every test passes": done.returncode == 0 and all(cases.values()),
            "every flaw is planted": planted == {flaw: set(tests) for flaw, tests in FLAWS.items()},
        },
        {"cases": by_flaw, "all_tests_of_the_file": len(cases), "said": done.stdout[-500:]},
    )


CLAIMS = [
    Claim(
        "planted-leak",
        "python -m tests.proofs learning --only planted-leak",
        f"one feature of {N_ROWS:,} stamped one second late is found, by its row, on DuckDB and on Spark",
        planted_leak,
    ),
    Claim(
        "bad-input",
        "python -m pytest tests/e2e/test_bad_logs.py",
        "nine flaws of a log: each a clear message or a counted exclusion",
        bad_input,
    ),
]
