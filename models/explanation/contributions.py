"""What each column adds to a raw logit: Shapley values against a baseline, whatever kind of model answers.

    raw_logit = baseline + sum of the contributions of all columns

to the last bits of a double. Contributions are in log-odds: exp(contribution) is the factor by which a column changes
the odds before correction and calibrator. What the baseline stands for depends on the model; see `additive.py` and
`tree_shap.py`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from models.encoder import Encoded
from models.errors import ExplanationError
from models.explanation.additive import FactorisationMachineContributions, LinearContributions
from models.explanation.tree_shap import TreeContributions
from models.specs import (
    DeepCrossSpec,
    FactorisationMachineSpec,
    Float64s,
    LinearSpec,
    ModelSpec,
    TreeEnsembleSpec,
    TwoTowerSpec,
)


class Contributions(Protocol):
    """Takes apart what one model says; safe to share between threads."""

    @property
    def baseline(self) -> float:
        """The raw logit that the contributions start from."""
        ...

    def of(self, rows: Encoded) -> Float64s:
        """(n, d + k) what each column of [features | ids] adds to the raw logit of each of n rows."""
        ...


class Explained(NamedTuple):
    """n rows, taken apart.

    contributions: (n, d + k), columns of [features | ids].
    raw_logit: (n,) the baseline and all contributions.
    """

    baseline: float
    contributions: Float64s
    raw_logit: Float64s


NOT_ADDITIVE = (
    "it is a net, whose answer is no sum of what single columns add; train a linear model, a factorisation machine or "
    "trees beside it, which can be explained"
)


def why_unexplainable(spec: ModelSpec, *, is_imported: bool = False) -> str | None:
    """Why `contributions_of` would refuse the model; None where it would not.

    Args:
        is_imported: it was trained and exported elsewhere, so that training it again here is no way out.
    """
    if isinstance(spec, (DeepCrossSpec, TwoTowerSpec)):
        return NOT_ADDITIVE
    if not isinstance(spec, TreeEnsembleSpec) or spec.cover is not None:
        return None
    way_out = (
        "few converters write it; a linear model needs none, and trees that `clickserve train` learnt have it"
        if is_imported
        else "train and publish it again with this version"
    )
    return (
        "its graph does not say how many training rows came by each node of its trees (nodes_hitrates), and without "
        f"that nothing says what a column is worth; {way_out}"
    )


def contributions_of(spec: ModelSpec, n_ids: int) -> Contributions:
    """How to take the answers of a model apart.

    Args:
        n_ids: k, the columns of `ids`.
    Raises:
        ExplanationError: the model does not hold what that takes.
    """
    if (why := why_unexplainable(spec)) is not None:
        raise ExplanationError(why)
    if isinstance(spec, LinearSpec):
        return LinearContributions(spec)
    if isinstance(spec, FactorisationMachineSpec):
        return FactorisationMachineContributions(spec)
    assert isinstance(spec, TreeEnsembleSpec)
    return TreeContributions(spec, n_ids)


def explained(contributions: Contributions, rows: Encoded) -> Explained:
    """The rows, taken apart."""
    found = contributions.of(rows)
    return Explained(contributions.baseline, found, contributions.baseline + found.sum(axis=1))
