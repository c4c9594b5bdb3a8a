"""Every error that `models` raises on purpose.

ModelsError
├── SimulationError           a simulation was asked for something it cannot make
├── EncodingError             values cannot become the model's columns
│   └── NoSuchColumn          nothing has the name that impressions were to be grouped by
├── TrainingError             a learner cannot learn from what it was given
│   └── NothingToSearch       a search was asked for, and the learner has no settings
├── MetricError               a metric is not defined on this sample
│   └── NoPropensities        policies were to be judged, and the log does not say how likely its ads were
├── ExportError               a trained model has no faithful ONNX form
├── ImportRefused             somebody else's graph cannot be served, or should not be
├── PlanError                 a graph cannot be scored by this plan
│   └── NoFactorisedForm      a kind of model that only ONNX Runtime scores, as it was meant to
├── ExplanationError          a model's answers cannot be taken apart
└── RegistryError             the registry or an artifact in it is not what it should be
    ├── ArtifactDamaged       a file is missing, truncated or changed
    ├── ProofMissing          no proof, or one that its bounds refuse: such a model is not loaded
    ├── ModelNotFound         no such name or version
    └── SchemaMismatch        the model and the online store disagree about a view
"""

from __future__ import annotations


class ModelsError(Exception):
    """Base of all errors raised by `models`."""


class SimulationError(ModelsError):
    """A simulation was asked for something it cannot make."""


class EncodingError(ModelsError):
    """Values cannot become the model's columns."""


class NoSuchColumn(EncodingError):
    """No column by which impressions can be grouped has the name that was asked for."""


class TrainingError(ModelsError):
    """A learner cannot learn from what it was given."""


class NothingToSearch(TrainingError):
    """A search was asked for, and the learner has no settings to look for."""


class MetricError(ModelsError):
    """A metric is not defined on this sample."""


class NoPropensities(MetricError):
    """Policies were to be judged on a log that does not say how likely its ads were shown."""


class ExportError(ModelsError):
    """A trained model has no faithful ONNX form."""


class ImportRefused(ModelsError):
    """Somebody else's graph cannot be served, or should not be; the message says what would help."""


class PlanError(ModelsError):
    """A graph cannot be scored by this plan."""


class NoFactorisedForm(PlanError):
    """A kind of model that only ONNX Runtime scores, as it was meant to; nothing is wrong with the graph."""


class ExplanationError(ModelsError):
    """A model's answers cannot be taken apart."""


class RegistryError(ModelsError):
    """The registry or an artifact in it is not what it should be."""


class ArtifactDamaged(RegistryError):
    """A file of a model artifact is missing, truncated or not the one that was published."""


class ProofMissing(RegistryError):
    """A model artifact carries no proof that its graph answers as its trainer did."""


class ModelNotFound(RegistryError):
    """The registry holds no model of that name or version."""


class SchemaMismatch(RegistryError):
    """The model and the online store disagree about a view."""

    def __init__(self, model: str, view: str, wanted: str, served: tuple[str, ...]) -> None:
        self.model, self.view, self.wanted, self.served = model, view, wanted, served
        found = ", ".join(fingerprint[:8] for fingerprint in served) or "no rows of it"
        super().__init__(
            f"model {model!r} was trained on view {view!r} with fingerprint {wanted[:8]}, but the online store serves "
            f"{found}; materialize the view again or promote a model trained on the served one"
        )
