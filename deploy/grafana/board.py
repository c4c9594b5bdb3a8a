"""The parts that a Grafana dashboard is made of: panels placed from left to right, queries, variables.

Knows the JSON that Grafana reads, and nothing of what is shown; that is `dashboard.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "prometheus"}
JOB = 'job=~"$job"'
HERE_ONLY = 'job=~"$job", instance=~"$instance"'
"""Of what is not recorded: recorded numbers are sums over the instances of a job."""
RATE = "[$__rate_interval]"
WIDTH = 24
FIRST_RUNBOOK_PANEL = 1_000

Json = dict[str, Any]
Query = tuple[str, str]
"""An expression and the legend of its lines."""


def rate(metric: str, by: str, matchers: str = "") -> str:
    """Sum of a counter's rates."""
    inside = HERE_ONLY + (f", {matchers}" if matchers else "")
    return f"sum by ({by}) (rate({metric}{{{inside}}}{RATE}))"


def quantile(q: float, histogram: str, by: str) -> str:
    """Of a histogram, by labels."""
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', f'{by}, le')})"


def steps(*colors: tuple[float | None, str]) -> Json:
    """From each value on, a colour."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in colors]}


@dataclass
class Dashboard:
    """Panels from left to right, rows from top to bottom."""

    alerts: list[str]
    """In the order of the runbook."""
    panels: list[Json] = field(default_factory=list)
    x: int = 0
    y: int = 0
    row_height: int = 0

    def row(self, title: str) -> None:
        """Begins a part of the dashboard."""
        self._new_line()
        self._place("row", title, 1, WIDTH, {"collapsed": False, "panels": []})

    def stat(
        self, title: str, text: str, unit: str, query: str, thresholds: Json, *, decimals: int | None = None
    ) -> None:
        """One number."""
        defaults: Json = {"unit": unit, "thresholds": thresholds}
        if decimals is not None:
            defaults["decimals"] = decimals
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        options = {"colorMode": "background", "graphMode": "none", "textMode": "value", "reduceOptions": reduce}
        self._ask("stat", title, text, [(query, "")], 4, 4, defaults, options, instant=True)

    def lines(
        self,
        title: str,
        text: str,
        unit: str,
        queries: list[Query],
        *,
        alerts: tuple[str, ...] = (),
        limit: float | None = None,
        most: float | None = None,
        stacked: bool = False,
        width: int = 8,
    ) -> None:
        """Numbers over time; `limit` is drawn as a line, `most` is the top of the axis."""
        custom: Json = {"fillOpacity": 40 if stacked else 10, "lineWidth": 1, "showPoints": "never"}
        defaults: Json = {"unit": unit, "min": 0, "custom": custom}
        if stacked:
            custom["stacking"] = {"mode": "normal", "group": "A"}
        if most is not None:
            defaults["max"] = most
        if limit is not None:
            custom["thresholdsStyle"] = {"mode": "line"}
            defaults["thresholds"] = steps((None, "green"), (limit, "red"))
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        self._ask("timeseries", title, text, queries, 8, width, defaults, options, alerts=alerts)

    def heatmap(self, title: str, text: str, unit: str, query: str) -> None:
        """Buckets of a histogram over time."""
        options = {
            "calculate": False,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            "yAxis": {"unit": unit},
            "tooltip": {"mode": "single", "yHistogram": True},
        }
        self._ask("heatmap", title, text, [(query, "{{le}}")], 8, 8, {}, options, kind="heatmap")

    def table(self, title: str, text: str, query: str, columns: list[str], *, width: int, unit: str = "none") -> None:
        """One line per series, with these labels; its value is shown where `columns` names Value."""
        hidden = {"Time": True} | ({} if "Value" in columns else {"Value": True})
        order = {name: i for i, name in enumerate(columns)}
        transformation = {"id": "organize", "options": {"excludeByName": hidden, "indexByName": order}}
        self._ask(
            "table",
            title,
            text,
            [(query, "")],
            8,
            width,
            {"unit": unit},
            {"showHeader": True},
            instant=True,
            kind="table",
            transformations=[transformation],
        )

    def text(self, title: str, markdown: str, number: int) -> None:
        """Words."""
        options = {"mode": "markdown", "content": markdown}
        self._place("text", title, 12, WIDTH // 2, {"description": "From docs/runbook.md.", "options": options}, number)

    def _ask(
        self,
        panel_type: str,
        title: str,
        text: str,
        queries: list[Query],
        height: int,
        width: int,
        defaults: Json,
        options: Json,
        *,
        alerts: tuple[str, ...] = (),
        instant: bool = False,
        kind: str = "time_series",
        **more: Any,
    ) -> None:
        targets = [
            {
                "refId": chr(ord("A") + i),
                "datasource": SOURCE,
                "expr": query,
                "legendFormat": legend,
                "format": kind,
                "instant": instant,
                "range": not instant,
            }
            for i, (query, legend) in enumerate(queries)
        ]
        links = [{"title": f"Runbook: {alert}", "url": self.runbook_of(alert)} for alert in alerts]
        content = {
            "description": text,
            "datasource": SOURCE,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": options,
            "targets": targets,
        }
        self._place(panel_type, title, height, width, content | ({"links": links} if links else {}) | more)

    def runbook_of(self, alert: str) -> str:
        """Where an alert's section stands."""
        return f"/d/clickserve/clickserve?viewPanel={FIRST_RUNBOOK_PANEL + self.alerts.index(alert)}"

    def _place(
        self, panel_type: str, title: str, height: int, width: int, content: Json, number: int | None = None
    ) -> None:
        if self.x + width > WIDTH:
            self._new_line()
        place = {"h": height, "w": width, "x": self.x, "y": self.y}
        number = len(self.panels) + 1 if number is None else number
        self.panels.append({"id": number, "type": panel_type, "title": title, "gridPos": place, **content})
        self.x += width
        self.row_height = max(self.row_height, height)

    def _new_line(self) -> None:
        self.x, self.y, self.row_height = 0, self.y + self.row_height, 0


def variable(label: str, series: str) -> Json:
    """Values of a label that are chosen above the panels; all of them unless somebody chooses."""
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all", "selected": True},
    }
