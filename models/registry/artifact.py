"""A model artifact on disk: written whole or not at all, and read only when every byte is the published one.

Writing: all files go into a hidden sibling folder, the manifest last; the folder gets its name in one rename. A folder
without a manifest does not exist for readers.

Reading: the layout is known, the manifest is the one its checksum names, every file has its checksum, the proof holds
and speaks of this core. Each failure says which. What was verified is what is used: the bytes are read once.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import ArtifactDamaged, ProofMissing
from models.evaluation.reference import Reference
from models.registry.files import sync_directory, write_durably
from models.registry.manifest import LAYOUT, Manifest

GRAPH = "model.onnx"
GOLDEN = "golden.npz"
LEARNER_STATE = "learner_state.npz"
"""Of learners that can go on learning; serving has no use for it."""
REFERENCE = "reference.json"
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.sha256"
"""Checksum of the manifest in the form of `sha256sum -c`."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs and answers of a few hundred rows, replayed when a model is loaded.

    features: (m, d) float32; ids: (m, k) int64; raw_logit, p_click: (m,) float64.
    """

    features: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    raw_logit: npt.NDArray[np.float64]
    p_click: npt.NDArray[np.float64]

    def to_bytes(self) -> bytes:
        """As `golden.npz`."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, features=self.features, ids=self.ids, raw_logit=self.raw_logit, p_click=self.p_click
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Golden:
        """Raises ArtifactDamaged where the bytes are no golden rows."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in ("features", "ids", "raw_logit", "p_click")})
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactDamaged(f"{GOLDEN} holds no golden rows ({error}); publish the model again") from error


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """A verified artifact. files: content of every file but the manifest, by name."""

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def graph(self) -> bytes:
        """The ONNX graph."""
        return self.files[GRAPH]

    @property
    def golden(self) -> Golden:
        """Rows whose answers are known."""
        return Golden.from_bytes(self.files[GOLDEN])

    @property
    def reference(self) -> Reference | None:
        """What columns and scores looked like at its training; None where nobody kept it."""
        content = self.files.get(REFERENCE)
        try:
            return None if content is None else msgspec.json.decode(content, type=Reference)
        except msgspec.DecodeError as error:
            raise ArtifactDamaged(
                f"{self.path}: {REFERENCE} holds no histograms ({error}); publish it again"
            ) from error


def sha256(content: bytes) -> str:
    """Checksum as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def write_artifact(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Writes an artifact under a name that is still free.

    Args:
        path: its folder; the parent exists.
        manifest: its `files` must hold the checksums of `files`.
    Raises:
        OSError: the file system refused; nothing is left behind.
    """
    staging = path.with_name(f".{path.name}-{os.getpid()}")
    staging.mkdir()
    try:
        for name, content in files.items():
            write_durably(staging / name, content)
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
        write_durably(staging / MANIFEST_SUM, f"{sha256(encoded)}  {MANIFEST}\n".encode())
        write_durably(staging / MANIFEST, encoded)
        sync_directory(staging)
        staging.rename(path)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    sync_directory(path.parent)


def load_artifact(path: Path) -> ModelArtifact:
    """Reads and verifies an artifact.

    Raises:
        ArtifactDamaged: a file is missing, truncated or changed, or the layout is a foreign one.
        ProofMissing: the proof does not hold or speaks of another core.
    """
    manifest = _read_manifest(path)
    files = {name: _read_checked(path, name, wanted) for name, wanted in manifest.files.items()}
    missing = {GRAPH, GOLDEN} - files.keys()
    if missing:
        raise ArtifactDamaged(
            f"{path}: the manifest names no {' and no '.join(sorted(missing))}; publish the model again"
        )
    _check_proof(path, manifest)
    return ModelArtifact(path, manifest, files)


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise ArtifactDamaged(f"{path}: {name} is missing; publish the model again or restore the folder") from None
    except OSError as error:
        raise ArtifactDamaged(f"{path}: {name} cannot be read: {error.strerror or error}") from error


def _read_checked(path: Path, name: str, wanted: str) -> bytes:
    if Path(name).name != name:
        raise ArtifactDamaged(f"{path}: the manifest names {name!r}, which lies outside the artifact")
    content = _read(path, name)
    found = sha256(content)
    if found != wanted:
        raise ArtifactDamaged(
            f"{path}: {name} is not the file that was published: {len(content)} bytes with SHA-256 {found[:12]}…, "
            f"the manifest says {wanted[:12]}…; publish the model again or restore the folder"
        )
    return content


def _read_manifest(path: Path) -> Manifest:
    content = _read(path, MANIFEST)
    _check_layout(path, content)
    stated = _read(path, MANIFEST_SUM).split(maxsplit=1)
    if not stated or stated[0] != sha256(content).encode():
        raise ArtifactDamaged(f"{path}: {MANIFEST} is not the one that was published; restore the folder")
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactDamaged(f"{path}: {MANIFEST} cannot be understood: {error}") from error


class _Layout(msgspec.Struct):
    layout: int


def _check_layout(path: Path, content: bytes) -> None:
    """The layout alone, before anything that another layout may write differently."""
    try:
        layout = msgspec.json.decode(content, type=_Layout).layout
    except msgspec.DecodeError as error:
        raise ArtifactDamaged(f"{path}: {MANIFEST} cannot be understood: {error}") from error
    if layout != LAYOUT:
        raise ArtifactDamaged(
            f"{path}: the artifact has layout {layout}, this program reads layout {LAYOUT}; "
            "use the version of clickserve that published it, or train again"
        )


def _check_proof(path: Path, manifest: Manifest) -> None:
    proof = manifest.proof
    if not proof.holds:
        raise ProofMissing(f"{path}: the proof does not hold: {proof.described()}; export the model again")
    if proof.core_sha256 != manifest.core_sha256:
        raise ProofMissing(
            f"{path}: the proof speaks of core {proof.core_sha256[:12]}…, the model has core "
            f"{manifest.core_sha256[:12]}…; export the model again"
        )
