"""The gate between a published model and the traffic: what may become champion, judged on confidence bounds alone.

A point estimate at 1 % CTR is mostly luck, so nothing is refused for looking worse, only for being worse beyond doubt,
and nothing passes that is not better than the base rate beyond doubt. What looks like a leak waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.registry.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a model; the reasons explain a no."""

    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules a model must satisfy to become champion."""

    calibration_tolerance: float = 0.10
    """A calibration ratio whose whole interval is further than this from 1 is wrong beyond doubt."""

    accept_suspicious: bool = False
    """Whether somebody has looked at figures too good to be true and vouches that nothing leaks."""

    def judge(self, candidate: Manifest, champion: Manifest | None) -> Verdict:
        """Judges by the figures in the manifests.

        Args:
            champion: the model to be replaced; None where there is none. The two were measured on tails of different
                logs, so the candidate is only called worse where the intervals do not even touch.
        """
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
        if champion is not None:
            best = champion.metrics["normalized_entropy"]
            if entropy.low > best.high:
                reasons.append(
                    f"worse than champion {champion.version}: NE at least {entropy.low:.4f} against at most "
                    f"{best.high:.4f}"
                )
        return Verdict(passed=not reasons, reasons=tuple(reasons))
