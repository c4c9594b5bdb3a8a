"""Decayed counts as SQL: what happened a half-life ago counts one half, two half-lives ago a quarter.

A tile (what happened within one step, see `windows.py`) that began an age of a before the as-of step weighs
2**(-a / half-life), up to an age of 64 half-lives; older ones count nothing. Every as-of step has weights of its own,
so a frame cannot sum them as they are; and weights since the beginning of a log, scaled back afterwards, would overflow
after 1 024 half-lives. So time is cut into *blocks* of 64 half-lives, and a tile weighs
2**(time since its block began / half-life), between 1 and 2**64. The frame of an as-of step is as long as a block: it
lies in the block of that step and the one before, told apart by whether their number is even or odd. Each of the two
sums is scaled back to the as-of step by a factor between 2**-128 and 1.

Error: all terms are positive, a power is right to 1e-14 and a sum of n terms to n * 1e-16 of itself, whatever the order
of summation. So the engines, and training and serving, agree to 1e-12 over ten thousand tiles: as float32 they are the
same, or for about one value in a hundred thousand neighbours.
"""

from __future__ import annotations

from feature_store.schema import DECAYED_HALF_LIVES


def block_steps(half_life_ms: int, step_ms: int) -> int:
    """Length of a block, and of the frame that reaches back from an as-of step."""
    return DECAYED_HALF_LIVES * half_life_ms // step_ms


def decayed_sum(what: str, frame: str, half_life_ms: int, step_ms: int) -> str:
    """SQL of the decayed sum of a column of tiles, as of the step of each.

    Args:
        what: column of non-negative doubles, beside the column `step`.
        frame: window that reaches from `block_steps` before the tile's step to the step before it.
        half_life_ms: a step or longer.
        step_ms: length of a step.
    """
    n = block_steps(half_life_ms, step_ms)
    block = f"CAST(floor(step / {n}) AS BIGINT)"
    since = f"(step - {block} * {n})"

    def power(steps: str) -> str:
        return f"pow(2.0::DOUBLE, CAST({steps} AS DOUBLE) * {step_ms} / {half_life_ms})"

    def total(odd: int) -> str:
        weighed = f"CASE WHEN abs({block} % 2) = {odd} THEN {what} * {power(since)} END"
        return f"coalesce(sum({weighed}) OVER {frame}, 0)"

    own, before = power(f"-{since}"), power(f"-{since} - {n}")
    return (
        f"CASE WHEN abs({block} % 2) = 0 THEN {total(0)} * {own} + {total(1)} * {before} "
        f"ELSE {total(1)} * {own} + {total(0)} * {before} END"
    )
