"""Writes the Grafana dashboard: `python -m deploy.grafana.dashboard`, after a change here or in docs/runbook.md.

Panels are named, explained and placed here; what they ask for are the metrics of docs/metrics.md and the recorded
numbers of deploy/prometheus/rules. Durations are seconds, shares 0 to 1, rates per second. A panel whose number has an
alert shows the alert's threshold and links to its section of the runbook, which stands as text at the end of the same
dashboard: a link then leads somewhere in any Grafana, also in one without a way out of its network.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from deploy.grafana.board import (
    FIRST_RUNBOOK_PANEL,
    HERE_ONLY,
    JOB,
    SOURCE,
    Dashboard,
    Json,
    quantile,
    rate,
    steps,
    variable,
)

HERE = Path(__file__).resolve().parent
DASHBOARD = HERE / "dashboards" / "clickserve.json"
RUNBOOK = HERE.parents[1] / "docs" / "runbook.md"


def promise(board: Dashboard) -> None:
    """Do we keep it, and how fast is the budget spent?"""
    board.row("Promise")
    board.stat(
        "Answered in the last hour",
        "Share of the rank requests that were answered; 99.9 % is promised. All instances.",
        "percentunit",
        f"1 - job:clickserve_rank_unavailable:ratio_rate1h{{{JOB}}}",
        steps((None, "red"), (0.999, "green")),
        decimals=2,
    )
    board.stat(
        "In time in the last hour",
        "Share of the answers given within 10 ms; 99 % is promised. All instances.",
        "percentunit",
        f"1 - job:clickserve_rank_late:ratio_rate1h{{{JOB}}}",
        steps((None, "red"), (0.99, "green")),
        decimals=2,
    )
    board.stat(
        "p99 now",
        "p99 of answered rank requests over 5 minutes; the target is 10 ms. All instances.",
        "s",
        f"job:clickserve_rank_duration_seconds:p99_5m{{{JOB}}}",
        steps((None, "green"), (0.01, "red")),
    )
    board.stat(
        "Requests now",
        "Requests per second over 5 minutes, all routes and instances.",
        "reqps",
        f"job:clickserve_requests:rate5m{{{JOB}}}",
        steps((None, "blue")),
    )
    board.stat(
        "Workers now",
        "Workers that answer, over all instances.",
        "none",
        f"sum(clickserve_workers{{{HERE_ONLY}}})",
        steps((None, "red"), (1, "green")),
    )
    board.stat(
        "Cannot load the promoted model",
        "Instances whose champion was refused: an older model serves there.",
        "none",
        f"count(max by (instance) (clickserve_model_promotion_failing{{{HERE_ONLY}}}) > 0) or vector(0)",
        steps((None, "green"), (1, "red")),
    )
    late = "job_le:clickserve_rank_duration_seconds_bucket:rate5m"
    board.lines(
        "Rank latency",
        "Answered rank requests of all instances, from the head of the request to the answer. The line is the target.",
        "s",
        [
            (f"job:clickserve_rank_duration_seconds:p50_5m{{{JOB}}}", "p50"),
            (f"job:clickserve_rank_duration_seconds:p99_5m{{{JOB}}}", "p99"),
            (f"histogram_quantile(0.999, {late}{{{JOB}}})", "p99.9"),
        ],
        alerts=("ClickserveHighP99",),
        limit=0.01,
    )
    board.lines(
        "Requests per second",
        "By route and status code.",
        "reqps",
        [(rate("clickserve_requests_total", "route, code"), "{{route}} {{code}}")],
        stacked=True,
    )
    windows = (("5m", "5 min"), ("1h", "1 h"), ("6h", "6 h"))
    board.lines(
        "Budget burn",
        "How many times faster than budgeted requests fail, or answers are late, in all instances. 14.4 for "
        "an hour wakes "
        "somebody, 6 for six hours opens a ticket.",
        "none",
        [
            (f"job:clickserve_rank_{half}:ratio_rate{window}{{{JOB}}} / {budget:g}", f"{half} {words}")
            for half, budget in (("unavailable", 0.001), ("late", 0.01))
            for window, words in windows
        ],
        alerts=tuple(
            f"Clickserve{half}Burn{pace}" for half in ("Availability", "Latency") for pace in ("Fast", "Slow")
        ),
        limit=14.4,
    )


def time(board: Dashboard) -> None:
    """Which part of the service takes it?"""
    board.row("Where the time goes")
    stage = "clickserve_stage_duration_seconds"
    board.lines(
        "Stage p99",
        "One line per stage of a request, all instances. Their sum is more than the p99 of the whole: the "
        "slowest of each are "
        "different requests.",
        "s",
        [(f"job_stage:clickserve_stage_duration_seconds:p99_5m{{{JOB}}}", "{{stage}}")],
        alerts=("ClickserveLatencyBurnFast",),
    )
    board.lines(
        "Stage mean",
        "Mean time per stage, stacked: the height is what an average request costs.",
        "s",
        [(f"{rate(f'{stage}_sum', 'stage')} / {rate(f'{stage}_count', 'stage')}", "{{stage}}")],
        stacked=True,
    )
    board.lines(
        "Event-loop lag",
        "p99 of how late the event loops come to a timer. Lag without a slow stage: something else holds the "
        "loop or the CPU.",
        "s",
        [(f"job_instance:clickserve_event_loop_lag_seconds:p99_5m{{{HERE_ONLY}}}", "{{instance}}")],
        alerts=("ClickserveEventLoopLag",),
        limit=0.05,
    )
    board.lines(
        "Requests in flight",
        "Admitted and not yet answered.",
        "none",
        [(f"sum by (instance) (clickserve_inflight_requests{{{HERE_ONLY}}})", "{{instance}}")],
    )
    board.lines(
        "Refused requests",
        "Shed with 503 and Retry-After, per second and reason.",
        "reqps",
        [(rate("clickserve_shed_total", "reason"), "{{reason}}")],
        alerts=("ClickserveShedding",),
        stacked=True,
    )
    answered = rate("clickserve_requests_total", "job", 'route="/v1/rank", code=~"2.."')
    board.lines(
        "Candidates per request",
        "Mean number of candidates of a rank request: the work grows with it.",
        "none",
        [(f"{rate('clickserve_candidates_total', 'job')} / {answered}", "candidates")],
    )


def quality(board: Dashboard) -> None:
    """How much do the answers know, and are they what training promised?"""
    board.row("Quality of the answers")
    board.lines(
        "Degraded answers",
        "Share of the answers of all instances that carry a code. An answer may carry several, so lines do not add up.",
        "percentunit",
        [(f"job_code:clickserve_degraded_answers:ratio_rate5m{{{JOB}}}", "{{code}}")],
        alerts=("ClickserveDegradedAnswers",),
        limit=0.05,
    )
    rows = "clickserve_feature_rows_total"
    board.lines(
        "Feature rows",
        "Share of the rows read, per view and status.",
        "percentunit",
        [(f"{rate(rows, 'view, status')} / on (view) group_left () {rate(rows, 'view')}", "{{view}} {{status}}")],
        alerts=("ClickserveFeatureRowsAbsent",),
        most=1.0,
    )
    board.lines(
        "Store errors",
        "Failed operations of the online store per second. Users feel them as degraded answers only.",
        "ops",
        [(rate("clickserve_store_errors_total", "instance, op"), "{{instance}} {{op}}")],
        alerts=("ClickserveStoreErrors",),
        limit=0.1,
    )
    board.lines(
        "Feature age",
        "p99 over requests of the age of the oldest row they used, by view.",
        "s",
        [(quantile(0.99, "clickserve_feature_age_seconds", "view"), "{{view}}")],
    )
    board.lines(
        "Age of the rows in use",
        "Mean age of the oldest row of a view that a request used, as a share of its time-to-live: past 1 a "
        "user's row is gone and an ad's is stale. All instances.",
        "percentunit",
        [(f"job_view:clickserve_feature_age:ttl_ratio_rate5m{{{JOB}}}", "{{view}}")],
        alerts=("ClickserveFeaturesOld",),
        limit=0.8,
    )
    board.lines(
        "Item table age",
        "Time since the store last confirmed the in-process table of ads; asked four times a second.",
        "s",
        [(f"max by (instance) (clickserve_item_table_age_seconds{{{HERE_ONLY}}})", "{{instance}}")],
        alerts=("ClickserveItemTableStale",),
        limit=300,
    )
    p_click = "clickserve_p_click"
    board.lines(
        "Predicted click probability",
        "Mean and quantiles of p_click by model, and the click rate of its training. A step without a new "
        "model is a change in "
        "traffic or features.",
        "percentunit",
        [
            (f"{rate(f'{p_click}_sum', 'model')} / {rate(f'{p_click}_count', 'model')}", "{{model}} mean"),
            (quantile(0.5, p_click, "model"), "{{model}} p50"),
            (quantile(0.95, p_click, "model"), "{{model}} p95"),
            (f"max by (model) (clickserve_model_click_rate{{{HERE_ONLY}}})", "{{model}} clicks in training"),
        ],
        alerts=("ClickserveScoresShifted",),
    )
    board.heatmap(
        "Score distribution",
        "Answered probabilities per second and bucket.",
        "percentunit",
        rate(f"{p_click}_bucket", "le"),
    )
    board.lines(
        "Score shift",
        "Largest difference between the cumulated shares of the answered probabilities and those of the "
        "training: 0 is alike, 1 "
        "nothing in common. All instances, over 30 minutes.",
        "percentunit",
        [(f"job_model:clickserve_p_click_shift:max_rate30m{{{JOB}}}", "{{model}}")],
        alerts=("ClickserveScoresShifted",),
        limit=0.4,
        most=1.0,
    )


def running(board: Dashboard) -> None:
    """What answers, and what is lost beside the answers?"""
    board.row("What is running")
    labels = ["instance", "name", "version", "variant", "plan", "core_sha256"]
    board.table(
        "Models",
        "What each instance serves. Two hashes for one name and variant: a roll-out, or an instance left behind.",
        f"max by ({', '.join(labels)}) (clickserve_model_info{{{HERE_ONLY}}}) == 1",
        labels,
        width=12,
    )
    board.table(
        "Calibration at training",
        "Promised over seen clicks of the model that serves, on impressions held out at its training; 1 "
        "keeps its promise.",
        f"max by (instance, model) (clickserve_model_calibration_ratio{{{HERE_ONLY}}})",
        ["instance", "model", "Value"],
        width=6,
    )
    board.table(
        "Normalized entropy at training",
        "Log loss of the model that serves, relative to always guessing the mean; below 1 it beats that guess.",
        f"max by (instance, model) (clickserve_model_normalized_entropy{{{HERE_ONLY}}})",
        ["instance", "model", "Value"],
        width=6,
    )
    board.lines(
        "Promotions that fail",
        "1 while the champion cannot be loaded or found, and the one before it serves.",
        "none",
        [(f"max by (instance, model) (clickserve_model_promotion_failing{{{HERE_ONLY}}})", "{{instance}} {{model}}")],
        alerts=("ClickserveModelPromotionFailing",),
        most=1,
        width=6,
    )
    board.lines(
        "Item table rows",
        "Ads in the in-process table.",
        "none",
        [(f"max by (instance) (clickserve_item_table_rows{{{HERE_ONLY}}})", "{{instance}}")],
        width=6,
    )
    board.lines(
        "Workers",
        "Workers that answer, those that died and were replaced, and those killed because they hung, within 5 minutes.",
        "none",
        [
            (f"sum by (instance) (clickserve_workers{{{HERE_ONLY}}})", "{{instance}} answering"),
            (
                f"sum by (instance) (increase(clickserve_worker_restarts_total{{{HERE_ONLY}}}[5m]))",
                "{{instance}} replaced",
            ),
            (f"sum by (instance) (increase(clickserve_worker_hangs_total{{{HERE_ONLY}}}[5m]))", "{{instance}} hung"),
        ],
        alerts=("ClickserveWorkerRestarts", "ClickserveNoWorker", "ClickserveTargetDown"),
        width=12,
    )
    board.lines(
        "Served log",
        "Candidates per second in finished files, and those that were dropped, by reason.",
        "ops",
        [
            (rate("clickserve_served_log_rows_total", "instance"), "{{instance}} written"),
            (rate("clickserve_served_log_dropped_total", "instance, reason"), "{{instance}} dropped, {{reason}}"),
        ],
        alerts=("ClickserveServedLogDrops",),
        width=12,
    )
    board.lines(
        "Traces",
        "Spans per second that the collector took, and those it never got, by reason.",
        "ops",
        [
            (rate("clickserve_trace_spans_total", "instance"), "{{instance}} exported"),
            (rate("clickserve_trace_spans_dropped_total", "instance, reason"), "{{instance}} dropped, {{reason}}"),
        ],
        width=12,
    )


def runbook_sections() -> dict[str, str]:
    """Text of each section of the runbook, by alert."""
    parts = re.split(r"^## (\w+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {alert: text.strip() for alert, text in zip(parts[::2], parts[1::2], strict=True)}


def dashboard() -> Json:
    """The whole document, as Grafana reads it."""
    sections = runbook_sections()
    board = Dashboard(list(sections))
    by_anchor = {f"#{alert.lower()}": board.runbook_of(alert) for alert in sections}
    for part in (promise, time, quality, running):
        part(board)
    board.row("Runbook")
    for number, (alert, text) in enumerate(sections.items(), FIRST_RUNBOOK_PANEL):
        linked = re.sub(r"\]\((#\w+)\)", lambda found: f"]({by_anchor[found[1]]})", text)
        pages = re.sub(r"\[([^\]]+)\]\((\w[\w-]*\.md)\)", r"\1 (docs/\2)", linked)
        board.text(alert, pages, number)
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Clickserve.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}}",
        "step": "30s",
    }
    return {
        "uid": "clickserve",
        "title": "clickserve",
        "description": "Is the promise kept, where does the time go, how good are the answers, what is running. "
        "Written by `python -m deploy.grafana.dashboard`; metrics: docs/metrics.md.",
        "tags": ["clickserve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [alerts]},
        "templating": {
            "list": [variable("job", "clickserve_workers"), variable("instance", 'clickserve_workers{job=~"$job"}')]
        },
        "panels": board.panels,
    }


def written() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(written())
