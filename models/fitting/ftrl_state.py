"""What FTRL needs to learn on, as a file beside the model: `learner_state.npz`.

The state is complete: learning some rows, writing, reading and learning the rest gives the very weights of learning all
of them at once. Compressed, because most of a hash table was never touched.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from models.errors import ArtifactDamaged
from models.fitting.ftrl import Ftrl, FtrlSettings
from models.fitting.linear_design import LinearDesign

_DESIGN = ("mean", "spread", "edges", "id_sizes", "id_offsets")
_SETTINGS = ("alpha", "beta", "l1", "l2")


def to_bytes(learner: Ftrl) -> bytes:
    """The state of a learner."""
    buffer = io.BytesIO()
    arrays = {"z": learner.z, "squares": learner.squares, "rows": np.array(learner.rows)}
    arrays |= {name: getattr(learner.design, name) for name in _DESIGN}
    arrays |= {name: np.array(getattr(learner.settings, name)) for name in _SETTINGS}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(content: bytes) -> Ftrl:
    """A learner that goes on from there.

    Raises:
        ArtifactDamaged: the bytes are no state of this learner.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            design = LinearDesign(**{name: arrays[name] for name in _DESIGN})
            settings = FtrlSettings(**{name: float(arrays[name]) for name in _SETTINGS})
            z, squares, rows = arrays["z"], arrays["squares"], int(arrays["rows"])
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ArtifactDamaged(f"this is no state of the learner ftrl ({error}); train a model anew") from error
    size = design.n_weights + 1
    if z.shape != (size,) or squares.shape != (size,):
        raise ArtifactDamaged(
            f"the state of the learner ftrl has {z.size} weights and its design {size}; train a model anew"
        )
    return Ftrl.resumed(design, settings, z, squares, rows)
