"""The registry: versions that sort, a champion behind a gate, many hands at once, and disks that refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.errors import ArtifactDamaged, ModelNotFound, ProofMissing, RegistryError
from models.registry.artifact import Golden
from models.registry.gate import Gate
from models.registry.manifest import Challenge, Manifest
from models.registry.registry import Published, Registry
from tests.conftest import REPOSITORY
from tests.learning import interval, made_manifest, made_proof

ROWS = Golden(np.zeros((2, 3), np.float32), np.zeros((2, 2), np.int64), np.zeros(2), np.full(2, 0.5))
FILES = {"model.onnx": b"graph", "golden.npz": ROWS.to_bytes()}


def publish(registry: Registry, manifest: Manifest | None = None) -> Published:
    return registry.publish(
        manifest or made_manifest(), FILES, lambda named: {"card.md": named.version.encode()}, Gate()
    )


def entropy(value: float, half: float = 0.02) -> Manifest:
    return made_manifest(metrics=made_manifest().metrics | {"normalized_entropy": interval(value, half)})


WORTHLESS = made_manifest(
    better_than_base_rate=False, metrics=made_manifest().metrics | {"normalized_entropy": interval(0.99, 0.02)}
)


def test_versions_count_up_and_name_their_core(tmp_path: Path) -> None:
    """A person reads the order, a plan the core."""
    registry = Registry(tmp_path)

    versions = [publish(registry).version for _ in range(3)]

    assert versions == ["v000001-c0c0c0c0", "v000002-c0c0c0c0", "v000003-c0c0c0c0"]
    assert registry.versions() == tuple(versions)
    assert registry.newest() == versions[-1]


def test_a_published_model_knows_its_name_and_its_files(tmp_path: Path) -> None:
    """Also those that were made last, from the manifest."""
    published = publish(Registry(tmp_path, name="shop"))

    artifact = Registry(tmp_path, name="shop").get(published.version)

    assert artifact.manifest.name == "shop"
    assert artifact.files["card.md"] == published.version.encode()
    assert set(artifact.manifest.files) == {"model.onnx", "golden.npz", "card.md"}


def test_the_first_model_that_passes_becomes_champion(tmp_path: Path) -> None:
    """Not the first one published, and not a later and better one either: that needs a decision."""
    registry = Registry(tmp_path)

    worthless, good, better = publish(registry, WORTHLESS), publish(registry), publish(registry, entropy(0.5))

    assert [model.is_champion for model in (worthless, good, better)] == [False, True, False]
    assert registry.champion() == good.version


def test_promotion_replaces_the_champion(tmp_path: Path) -> None:
    """From one line of text to another, by rename."""
    registry = Registry(tmp_path)
    publish(registry)
    second = publish(registry)

    verdict = registry.promote(second.version, Gate())

    assert verdict.passed
    assert registry.champion() == second.version


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (WORTHLESS, "no better than the base rate: NE 0.9900, and its interval ends at 1.0100"),
        (
            entropy(0.97),
            r"worse beyond doubt: NE 0.9700 \[0.9500, 0.9900\] on 1,000 impressions against 0.9000 \[0.8800, 0.9200\] "
            "on 1,000 impressions of champion v000001-c0c0c0c0",
        ),
        (
            made_manifest(challenge=Challenge("v000001-c0c0c0c0", interval(0.01, 0.005))),
            r"worse beyond doubt: NE \+0.0100 \[\+0.0050, \+0.0150\] relative to champion v000001-c0c0c0c0, on",
        ),
        (
            made_manifest(metrics=made_manifest().metrics | {"calibration_ratio": interval(1.2, 0.05)}),
            r"miscalibrated: promised over seen clicks 1.200 \(1.150 to 1.250\) lies wholly outside 0.90 to 1.10",
        ),
    ],
    ids=["base rate", "worse", "worse on the same impressions", "miscalibrated"],
)
def test_the_gate_refuses_with_reasons(tmp_path: Path, candidate: Manifest, reason: str) -> None:
    """And the champion stays."""
    registry = Registry(tmp_path)
    first = publish(registry)
    second = publish(registry, candidate)

    verdict = registry.promote(second.version, Gate())

    assert not verdict.passed
    assert any(re.search(reason, given) for given in verdict.reasons)
    assert registry.champion() == first.version


@pytest.mark.parametrize(
    "candidate",
    [
        entropy(0.93),
        msgspec.structs.replace(entropy(0.97), challenge=Challenge("v000001-c0c0c0c0", interval(0.01, 0.02))),
        made_manifest(challenge=Challenge("v000009-another0", interval(0.01, 0.005))),
        made_manifest(metrics=made_manifest().metrics | {"calibration_ratio": interval(1.12, 0.05)}),
    ],
    ids=["perhaps worse", "perhaps worse on the same", "worse than a former champion", "perhaps miscalibrated"],
)
def test_what_may_be_luck_passes(tmp_path: Path, candidate: Manifest) -> None:
    """Only beyond doubt is a reason; a gate that refuses bad luck lets models grow old."""
    registry = Registry(tmp_path)
    publish(registry)

    assert registry.promote(publish(registry, candidate).version, Gate()).passed


def test_a_model_without_a_proof_is_never_published(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    with pytest.raises(ProofMissing, match=r"\|Δp\| 1 \(bound 1e-06\).* is not published"):
        publish(Registry(tmp_path), made_manifest(proof=made_proof("c0" * 32, max_p_error=1.0)))

    assert list(tmp_path.iterdir()) == []


def test_an_empty_registry_says_how_to_fill_it(tmp_path: Path) -> None:
    """The first thing a newcomer meets."""
    registry = Registry(tmp_path / "new")

    assert registry.versions() == ()
    assert registry.champion() is None
    with pytest.raises(ModelNotFound, match="clickserve train"):
        registry.newest()


def test_a_name_without_models_is_answered_with_those_that_have_some(tmp_path: Path) -> None:
    """Nobody remembers all names; folders that are no models are none, and a long list has an end."""
    names = [f"shop-{i:02}" for i in range(22)]
    for name in names:
        publish(Registry(tmp_path, name))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").write_text("")

    with pytest.raises(ModelNotFound) as caught:
        Registry(tmp_path).newest()

    assert "--name NAME; registry.models of the service" in str(caught.value)
    assert f": {', '.join(names[:20])} and 2 more; or train one" in str(caught.value)


def test_an_unknown_version_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    """And a path is no version."""
    registry = Registry(tmp_path)
    publish(registry)

    for version in ("v000009-00000000", "../default/v000001-c0c0c0c0"):
        with pytest.raises(ModelNotFound, match="newest are: v000001-c0c0c0c0"):
            registry.get(version)


@pytest.mark.parametrize("name", ["", "Shop", "a/b", "..", ".hidden", "x" * 65])
def test_a_name_is_a_plain_word(tmp_path: Path, name: str) -> None:
    """It becomes a folder."""
    with pytest.raises(RegistryError, match="a model's name"):
        Registry(tmp_path, name=name)


def test_half_published_folders_do_not_exist(tmp_path: Path) -> None:
    """A publisher that was killed left its work in hidden names, or a folder without a manifest."""
    registry = Registry(tmp_path)
    published = publish(registry)
    (tmp_path / "default" / ".v000002-c0c0c0c0-99").mkdir()
    (tmp_path / "default" / "v000003-c0c0c0c0").mkdir()
    (tmp_path / "default" / ".claims" / "000002").touch()

    assert registry.versions() == (published.version,)
    assert publish(registry).version == "v000004-c0c0c0c0"


def test_the_listing_shows_every_version_in_its_state(tmp_path: Path) -> None:
    """One broken folder must not hide its neighbours, and a version whose manifest is gone must not vanish."""
    registry = Registry(tmp_path)
    whole, broken, bare = (publish(registry) for _ in range(3))
    (broken.path / "model.onnx").write_bytes(b"grapH")
    (bare.path / "manifest.json").unlink()

    listing = registry.listing()

    assert [entry.version for entry in listing] == [whole.version, broken.version, bare.version]
    assert [entry.state.partition(":")[0] for entry in listing] == ["ok", "damaged", "unfinished"]
    assert "model.onnx is not the file that was published" in listing[1].state
    assert [entry.manifest is None for entry in listing] == [False, True, True]
    with pytest.raises(ArtifactDamaged, match=r"manifest\.json is missing"):
        registry.get(bare.version)


def test_many_publishers_at_once_get_versions_of_their_own(tmp_path: Path) -> None:
    """Every model arrives under one number, and exactly one is champion."""
    registry = Registry(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda _: publish(registry), range(32)))

    assert sorted(p.version for p in published) == list(registry.versions())
    assert [version[:7] for version in registry.versions()] == [f"v{i:06d}" for i in range(1, 33)]
    assert sum(p.is_champion for p in published) == 1
    assert list((tmp_path / "default" / ".claims").iterdir()) == []


def test_a_disk_that_refuses_is_named_and_nothing_stays(tmp_path: Path) -> None:
    """A file size limit of the operating system stands for a full disk: the same write fails in the same place."""
    code = """
import resource, sys
from pathlib import Path
from models.errors import RegistryError
from models.registry.registry import Registry
from tests.unit.models.test_registry import FILES, Gate, made_manifest
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
try:
    Registry(Path(sys.argv[1])).publish(made_manifest(), {**FILES, "model.onnx": bytes(10_000)}, lambda m: {}, Gate())
except RegistryError as error:
    print(error)
"""

    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert f"cannot publish in {tmp_path / 'default'}: File too large; check that the disk has room" in ended.stdout
    assert [path.name for path in (tmp_path / "default").rglob("*")] == [".claims"]


def test_a_registry_that_cannot_be_is_known_before_a_model_is_trained(tmp_path: Path) -> None:
    """An hour of training would be lost; and what can be written is left as it was."""
    with pytest.raises(RegistryError, match=r"cannot publish in /proc/nowhere/default: .*check that the disk"):
        Registry(Path("/proc/nowhere")).check_writable()

    Registry(tmp_path / "deep" / "new").check_writable()
    assert list(tmp_path.iterdir()) == []

    published = publish(Registry(tmp_path))
    Registry(tmp_path).check_writable()
    assert publish(Registry(tmp_path)).version.startswith("v000002")
    assert Registry(tmp_path).champion() == published.version


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    """A wrong path, said as one."""
    (tmp_path / "registry").write_text("a file")
    registry = Registry(tmp_path / "registry")

    with pytest.raises(RegistryError, match="cannot publish in"):
        publish(registry)
    with pytest.raises(RegistryError, match="cannot read"):
        registry.versions()


def test_a_file_that_cannot_be_replaced_is_named_and_stays(tmp_path: Path) -> None:
    """A full disk does not say which file it was full for."""
    path = tmp_path / "workload.json"
    path.write_text("older")
    code = """
import resource, sys
from pathlib import Path
from models.registry.files import write_over
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
try:
    write_over(Path(sys.argv[1]), bytes(10_000))
except OSError as error:
    print(error.strerror, error.filename)
"""

    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"File too large {path}\n"
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
