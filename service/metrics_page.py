"""`docs/metrics.md`, written from what the code declares: `python -m service.metrics_page docs/metrics.md`.

Name, type, labels, meaning and buckets are those of the declarations in `telemetry.py`; units follow from the name, as
Prometheus wants it. What a label means is said here, and a label that is not explained is an error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from service.telemetry import KNOWN_LABELS, REFUSED, ROW_STATUSES, STAGES, Declared, SupervisorTelemetry, Telemetry

UNITS = (
    ("_seconds", "seconds"),
    ("_total", "count"),
    (("_ratio", "_share", "_rate", "_entropy"), "ratio"),
    (("_info", "_failing"), "0 or 1"),
    ("p_click", "probability"),
    ("", "count"),
)
"""The first ending that fits a name."""


def _listed(*values: str) -> str:
    return ", ".join(f"`{value}`" for value in values)


LABELS = {
    "route": f"path of the request; `other` for unknown paths, {_listed(REFUSED)} for what was no HTTP request",
    "code": "HTTP status; in `clickserve_degraded_answers_total` one of " + _listed(*KNOWN_LABELS["degraded"]),
    "stage": _listed(*STAGES),
    "reason": "; ".join(
        f"in `clickserve_{name}_total` {_listed(*KNOWN_LABELS[name])}"
        for name in ("shed", "served_log_dropped", "trace_spans_dropped")
    ),
    "op": "operation of the online store: " + _listed(*KNOWN_LABELS["store_errors"]),
    "view": "name of a feature view",
    "status": "of a row: " + _listed(*ROW_STATUSES),
    "model": "name of a slot, as `/v1/models` lists it",
    "bound": "upper bound of a bucket of `clickserve_p_click`, as its label `le`",
    "name": "name of a slot",
    "version": "of the model, as the registry names it",
    "variant": "`champion`: the one that answers",
    "core_sha256": "hash of the graph up to `raw_logit`",
    "plan": "how the model is scored: `trees, compiled`, `linear, numpy`, `generic, onnxruntime`, …",
}

INTRODUCTION = """\
# Metrics

Written by `python -m service.metrics_page docs/metrics.md` from what `service/telemetry.py` declares.

`GET /metrics` on the admin port (8081 unless configured) tells them for all workers of an instance, added up. Counters
keep what a dead worker had counted; its gauges go. A counter of what should not happen is there from the start, at 0.
Alerts on these: [runbook](runbook.md); recorded numbers: `deploy/prometheus/rules/recording.yml`.
"""


def declared() -> list[Declared]:
    """All metrics of the service, by name."""
    return sorted([*Telemetry().declared, *SupervisorTelemetry().declared])


def unit(name: str) -> str:
    """What one of it is."""
    return next(words for ending, words in UNITS if name.endswith(ending))


def page() -> str:
    """The whole page as Markdown."""
    metrics = declared()
    lines = [INTRODUCTION, "| metric | type | labels | unit | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{metric.name}` | {metric.kind} | {_listed(*metric.labels)} | {unit(metric.name)} | {metric.meaning} |"
        for metric in metrics
    ]
    lines += ["", "## Labels", "", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {LABELS[label]} |" for label in sorted({label for m in metrics for label in m.labels})]
    lines += ["", "## Buckets", "", "Upper bounds, each with one more bucket for all beyond the last.", ""]
    lines += ["| histogram | bounds |", "|---|---|"]
    lines += [f"| `{m.name}` | {', '.join(f'{bound:.15g}' for bound in m.bounds)} |" for m in metrics if m.bounds]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m service.metrics_page FILE")
    Path(sys.argv[1]).write_text(page())
