"""What `clickserve evaluate` prints beside the figures of the whole sample: one table for each further question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from service.console import Screen

if TYPE_CHECKING:
    from models.evaluation.breakdown import Breakdown
    from models.evaluation.comparison import Comparison
    from models.evaluation.further import Further
    from models.evaluation.policy_values import PolicyValues
    from models.evaluation.thresholds import AtThreshold
    from models.registry.manifest import Interval


def figure_text(interval: Interval | None) -> str:
    """A figure and its 95 % interval."""
    if interval is None:
        return "not defined"
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def show_further(screen: Screen, answers: Further) -> None:
    """All that was asked beyond the figures of the whole sample."""
    _show_breakdowns(screen, answers.breakdowns)
    _show_thresholds(screen, answers.thresholds)
    if answers.off_policy is not None:
        _show_policies(screen, answers.off_policy)
    if answers.against is not None:
        _show_comparison(screen, answers.against)


def _show_thresholds(screen: Screen, thresholds: Sequence[AtThreshold]) -> None:
    """Precision, recall and F1 at the thresholds that were asked for."""
    if not thresholds:
        return
    table = table_of("p_click at least", "called clicks", "precision [95 %]", "recall [95 %]", "F1 [95 %]")
    for at in thresholds:
        figures = (figure_text(figure) for figure in (at.precision, at.recall, at.f1))
        table.add_row(f"{at.threshold:g}", f"{at.called:,}", *figures)
    screen.print(table)


def _show_breakdowns(screen: Screen, breakdowns: Sequence[Breakdown]) -> None:
    """One table for each question; a flagged segment says so."""
    for found in breakdowns:
        table = table_of(
            f"by {found.by}", "impressions", "clicks", "promised / seen [95 %]", "NE [95 %]", "AUC [95 %]", ""
        )
        # Where no segment is by user, the log is by row, and the figures above have said why.
        told_by_user = any(each.calibration_ratio and each.calibration_ratio.unit == "users" for each in found.segments)
        for segment in found.segments:
            figures = (segment.calibration_ratio, segment.normalized_entropy, segment.auc)
            texts = ("-" if figure is None else figure_text(figure) for figure in figures)
            counts = (f"{segment.impressions:,}", f"{segment.clicks:,}")
            by_row = "" if segment.calibration_ratio is None else segment.calibration_ratio.by_row()
            notes = ("off by more than 10 %" if segment.flagged else "", by_row if told_by_user else "")
            table.add_row(segment.value, *counts, *texts, "; ".join(filter(None, notes)))
        screen.print(table)
        if found.by == "position":
            screen.print("p_click speaks of the mean over positions: here the ratio shows what a place is worth")
    if n := sum(len(found.segments) for found in breakdowns):
        screen.print(
            f"of {n} groups' 95 % intervals about {n / 20:.1f} miss by chance; marked are those with 1,000 clicks or "
            "more whose whole interval lies beyond 1 ± 0.10"
        )


def _show_comparison(screen: Screen, compared: Comparison) -> None:
    """Differences to another model."""
    screen.print(f"minus version {compared.old}, on the same {compared.auc.n:,} impressions, in pairs:", soft_wrap=True)
    table = table_of("difference", "[95 % interval]", "")
    signs = (("normalized_entropy", -1.0), ("log_loss", -1.0), ("auc", 1.0))
    for name, better in signs:
        found: Interval = getattr(compared, name)
        ends = sorted((better * found.low, better * found.high))
        verdict = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "cannot be told apart"
        if name == "auc" and found.low == found.high == 0.0:  # not one pair of impressions changed places
            verdict = "the same order"
        table.add_row(name, f"{found.value:+.5f} [{found.low:+.5f}, {found.high:+.5f}]", verdict)
    screen.print(table)


def _show_policies(screen: Screen, values: PolicyValues) -> None:
    """What click rate each policy would have."""
    span = f"{values.fewest_candidates:,} to {values.most_candidates:,}"
    by = "" if values.candidates_by is None else f" by {values.candidates_by}"
    clip = "" if values.clip is None else f"; weights clipped at {values.clip:g}"
    screen.print(
        f"click rate of policies, from {values.rounds:,} rounds with propensities, {span} candidates{by}{clip}:"
    )
    table = table_of(
        "policy", "IPS % [95 %]", "SNIPS % [95 %]", "mean weight [95 %]", "effective rounds", "largest weight"
    )
    for each in values.policies:
        found = each.estimate
        rates = (_percent_text(found.ips), _percent_text(found.snips), figure_text(found.mean_weight))
        table.add_row(each.policy, *rates, f"{found.effective_sample_size:,.0f}", f"{found.largest_weight:,.0f}")
    screen.print(table)
    if values.clip is not None:
        cut = max(each.estimate.share_cut for each in values.policies)
        screen.print(f"clipping cut up to {100 * cut:.1f} % of a policy's weight, by about which IPS is too low")
    if off := [each.policy for each in values.policies if not each.credible]:
        screen.print(
            f"not to be believed: {', '.join(off)}. A mean weight that is surely not 1 says that the logging policy "
            "chose from other ads; name the column that decides from which (--candidates-by)"
        )
    if values.why_no_model_policies:
        screen.print(f"the model's own policies are not judged: {values.why_no_model_policies}")


def _percent_text(rate: Interval | None) -> str:
    if rate is None:
        return "not defined"
    return f"{100 * rate.value:.3f} [{100 * rate.low:.3f}, {100 * rate.high:.3f}]"


def table_of(*columns: str) -> Table:
    """An empty table in the manner of all of them."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column)
    return table
