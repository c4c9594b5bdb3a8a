"""The gate between a published model and the traffic: what may become champion, judged on confidence bounds alone.

A point estimate at 1 % CTR is mostly luck, so nothing is refused for looking worse, only for being worse beyond doubt,
and nothing passes that is not better than the base rate beyond doubt. What looks like a leak waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.registry.manifest import Interval, Manifest

_UNMEASURED = (
    "nobody has measured it here: clickserve evaluate shows its figures on a log, clickserve recalibrate publishes a "
    "measured version; or promote it with --accept-unmeasured, if you vouch for it"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a model; the reasons explain a no."""

    passed: bool
    reasons: tuple[str, ...]
    comparison: str = ""
    """The candidate against the champion, both figures with their intervals; empty where there is no champion."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules a model must satisfy to become champion."""

    calibration_tolerance: float = 0.10
    """A calibration ratio whose whole interval is further than this from 1 is wrong beyond doubt."""

    accept_suspicious: bool = False
    """Whether somebody has looked at figures too good to be true and vouches that nothing leaks."""

    accept_unmeasured: bool = False
    """Whether somebody vouches for a model that nobody here has measured (an imported one)."""

    def judge(self, candidate: Manifest, champion: Manifest | None) -> Verdict:
        """Judges by the figures in the manifests.

        Args:
            champion: the model to be replaced; None where there is none.
        """
        if candidate.metrics is None:
            return Verdict(self.accept_unmeasured, () if self.accept_unmeasured else (_UNMEASURED,))
        reasons = []
        entropy = candidate.metrics["normalized_entropy"]
        if not candidate.better_than_base_rate:
            reasons.append(
                f"no better than the base rate: NE {entropy.value:.4f}, and its interval ends at {entropy.high:.4f}, "
                "not below 1"
            )
        if candidate.suspicion is not None and not self.accept_suspicious:
            reasons.append(
                f"{candidate.suspicion.described()}; mend the leak and train again, or promote with "
                "--accept-suspicious once you know that none of them comes from the outcome"
            )
        ratio = candidate.metrics["calibration_ratio"]
        low, high = 1.0 - self.calibration_tolerance, 1.0 + self.calibration_tolerance
        if ratio.high < low or ratio.low > high:
            reasons.append(
                f"miscalibrated: promised over seen clicks {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f}) "
                f"lies wholly outside {low:.2f} to {high:.2f}"
            )
        comparison, worse = ("", False) if champion is None else _against(candidate, champion)
        if worse:
            reasons.append(f"worse beyond doubt: {comparison}")
        return Verdict(passed=not reasons, reasons=tuple(reasons), comparison=comparison)


def _against(candidate: Manifest, champion: Manifest) -> tuple[str, bool]:
    """The comparison in words, and whether the candidate is worse beyond doubt.

    Paired where both were measured on the same impressions. Otherwise each figure has luck of its own, and only
    intervals that do not even touch decide.
    """
    challenge = candidate.challenge
    current = challenge is not None and challenge.champion == champion.version
    if challenge is not None and current and challenge.entropy_difference is not None:
        return challenge.described(), challenge.entropy_difference.low > 0.0
    if champion.metrics is None:
        return f"nobody has measured champion {champion.version}, so there is nothing to be worse than", False
    why_not = challenge.why_not if challenge is not None and current else "it was not champion when this was trained"
    ours, theirs = (manifest.figures["normalized_entropy"] for manifest in (candidate, champion))
    words = (
        f"NE {_figure(ours)} against {_figure(theirs)} of champion {champion.version}, each on impressions of its own, "
        f"so only intervals that do not touch decide (not compared on the same ones: {why_not})"
    )
    return words, ours.low > theirs.high


def _figure(figure: Interval) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}] on {figure.n:,} impressions"
