"""How graphs shall be scored: the operator's choice, light enough to be imported with the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PlanKind = Literal["auto", "generic"]
KernelChoice = Literal["auto", "compiled", "numpy"]


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """The defaults are right unless somebody measures or hunts a fault."""

    plan: PlanKind = "auto"
    """`auto` derives a factorised plan where the graph allows it; `generic` always uses ONNX Runtime."""
    kernel: KernelChoice = "auto"
    """`auto` uses the compiled kernels where they can be loaded; `compiled` insists on them, `numpy` does without."""
