"""Artifacts: whole or not there, and every damage has its own message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.errors import ArtifactDamaged, ProofMissing, RegistryError
from models.registry.artifact import Golden, load_artifact, sha256, write_artifact
from models.registry.manifest import Manifest
from tests.learning import made_manifest, made_proof

GOLDEN_MANIFEST = Path(__file__).parents[2] / "golden" / "manifest_layout_1.json"
ROWS = Golden(np.zeros((2, 3), np.float32), np.zeros((2, 2), np.int64), np.zeros(2), np.full(2, 0.5))
FILES = {"model.onnx": b"a graph of some bytes", "golden.npz": ROWS.to_bytes(), "card.md": b"# card"}


def written(folder: Path, **changes: object) -> Path:
    manifest = made_manifest(version="v000001-c0c0c0c0", files={n: sha256(c) for n, c in FILES.items()}, **changes)
    write_artifact(folder / "v000001-c0c0c0c0", manifest, FILES)
    return folder / "v000001-c0c0c0c0"


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    """Manifest, files and golden rows."""
    artifact = load_artifact(written(tmp_path))

    assert artifact.manifest.version == "v000001-c0c0c0c0"
    assert artifact.graph == FILES["model.onnx"]
    np.testing.assert_array_equal(artifact.golden.p_click, [0.5, 0.5])
    assert [entry.name for entry in tmp_path.iterdir()] == ["v000001-c0c0c0c0"]


def change_a_byte(path: Path) -> None:
    content = bytearray((path / "model.onnx").read_bytes())
    content[5] ^= 1
    (path / "model.onnx").write_bytes(content)


def truncate(path: Path) -> None:
    (path / "model.onnx").write_bytes((path / "model.onnx").read_bytes()[:7])


def remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def edit_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"better_than_base_rate": true', '"better_than_base_rate": false'))


def foreign_layout(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"layout": 1', '"layout": 7'))


def half_a_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_a_byte, r"model\.onnx is not the file that was published: 21 bytes"),
        (truncate, r"model\.onnx is not the file that was published: 7 bytes"),
        (remove("model.onnx"), r"model\.onnx is missing"),
        (remove("card.md"), r"card\.md is missing"),
        (remove("manifest.json"), r"manifest\.json is missing"),
        (edit_manifest, r"manifest\.json is not the one that was published"),
        (foreign_layout, "the artifact has layout 7, this program reads layout 1"),
        (half_a_manifest, r"manifest\.json cannot be understood"),
    ],
    ids=["byte", "truncated", "no graph", "no card", "no manifest", "edited", "layout", "half"],
)
def test_each_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    """Whoever restores it must know what is broken."""
    path = written(tmp_path)
    damage(path)

    with pytest.raises(ArtifactDamaged, match=message):
        load_artifact(path)


def test_a_proof_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """However intact the files are."""
    path = written(tmp_path, proof=made_proof("c0" * 32, max_p_error=2e-6))

    with pytest.raises(ProofMissing, match=r"\|Δp\| 2e-06 \(bound 1e-06\)"):
        load_artifact(path)


def test_a_proof_of_another_core_is_refused(tmp_path: Path) -> None:
    """A proof says nothing of a graph it never saw."""
    path = written(tmp_path, proof=made_proof("ab" * 32))

    with pytest.raises(ProofMissing, match=r"core abababababab…, the model has core c0c0c0c0c0c0"):
        load_artifact(path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    """An artifact is copied between machines; it must not read the others' files."""
    (tmp_path / "secret").write_bytes(b"x")
    manifest = made_manifest(files={"../secret": sha256(b"x")})
    write_artifact(tmp_path / "v", manifest, {})

    with pytest.raises(ArtifactDamaged, match="outside the artifact"):
        load_artifact(tmp_path / "v")


def test_a_manifest_without_a_graph_is_no_model(tmp_path: Path) -> None:
    """Said at once, not when the first request comes."""
    write_artifact(tmp_path / "v", made_manifest(), {})

    with pytest.raises(ArtifactDamaged, match=r"names no golden\.npz and no model\.onnx"):
        load_artifact(tmp_path / "v")


def test_golden_rows_that_are_none_are_refused() -> None:
    """A damaged archive, and one that holds other arrays."""
    for content in (b"", b"PK\x03\x04 not really"):
        with pytest.raises(ArtifactDamaged, match=r"golden\.npz holds no golden rows"):
            Golden.from_bytes(content)


def test_all_damages_are_registry_errors() -> None:
    """A server catches one type."""
    assert issubclass(ArtifactDamaged, RegistryError)
    assert issubclass(ProofMissing, RegistryError)


def test_a_manifest_of_layout_1_is_read_for_ever() -> None:
    """Published models outlive the program that wrote them; a change of this file needs a new layout."""
    manifest = msgspec.json.decode(GOLDEN_MANIFEST.read_bytes(), type=Manifest)

    assert manifest == made_manifest(version="v000001-c0c0c0c0")
