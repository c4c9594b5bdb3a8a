"""Models come and go while requests are answered; wrong ones are refused with the reason."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feature_store.online.embedded import EmbeddedServer
from models.calibrator import CalibratorMap
from models.errors import ArtifactDamaged, ModelNotFound, ProofMissing, SchemaMismatch
from models.export.graph import calibrator_sha256, with_calibrator
from models.plans.generic import GenericPlan
from models.registry.artifact import GOLDEN, GRAPH
from models.registry.gate import Gate
from models.registry.registry import Registry
from service.settings import Settings
from tests.artifacts import ServedProject, make_served_project
from tests.integration.service.conftest import Worker, running, settings_of

DEADLINE_S = 20.0


async def version_served(worker: Worker, wanted: Callable[[str], bool], body: object) -> str:
    """The version of the first answer that is wanted; every answer on the way must be a 200."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await worker.rank(body)
            assert answer.status == 200
            if wanted(version := answer.headers["x-model-version"]):
                return version


@pytest.fixture
def registry(shop: ServedProject, tmp_path: Path) -> Path:
    """A copy of the shop's registry that this test may change."""
    copy = tmp_path / "registry"
    shutil.copytree(shop.registry_dir, copy)
    return copy


@pytest.fixture
def quick(registry: Path, valkey_server: EmbeddedServer, tmp_path: Path) -> Settings:
    """Settings of a worker that looks for promoted models all the time."""
    return settings_of(registry, valkey_server.url, tmp_path, registry__reload_ms=20)


def published_again(registry: Path, version: str) -> str:
    """A second version with the content of the first, as if somebody had trained again. Not champion yet."""
    second = "v000002-" + version.partition("-")[2]
    shutil.copytree(registry / "default" / version, registry / "default" / second)
    return second


def recalibrated(registry: Path, version: str) -> str:
    """A version with the same core, which promises half the odds. Not champion yet."""
    home = Registry(registry)
    artifact = home.get(version)
    halved = CalibratorMap("platt", float(np.log(0.5)), np.empty(0), np.ones(1))
    graph = with_calibrator(artifact.graph, 0.0, halved)
    rows = artifact.golden
    scores = GenericPlan(graph).score(rows.features, rows.ids)
    files = {GRAPH: graph, GOLDEN: replace(rows, raw_logit=scores.raw_logit, p_click=scores.p_click).to_bytes()}
    manifest = msgspec.structs.replace(artifact.manifest, calibrator_sha256=calibrator_sha256(graph))
    return home.publish(manifest, files, lambda named: {}, Gate()).version


def derived_files(settings: Settings) -> dict[str, tuple[int, int]]:
    """Tables of all ads on disk: inode and time of writing by name."""
    files = settings.items.snapshot_dir.rglob("derived-*.npy")
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def promote(registry: Path, version: str) -> None:
    """Points the champion at a version, atomically, as `clickserve models promote` does."""
    pointer = registry / "default" / "champion"
    new = pointer.with_suffix(".new")
    new.write_text(f"{version}\n")
    new.replace(pointer)


async def test_a_promoted_model_serves_without_a_failed_request(
    quick: Settings, registry: Path, shop: ServedProject
) -> None:
    """The old one answers until the new one is proven and warm."""
    second = published_again(registry, shop.version)
    async with running(quick) as worker:
        before = (await worker.rank(shop.rank_body())).headers["x-model-version"]

        promote(registry, second)
        after = await version_served(worker, lambda version: version == second, shop.rank_body())
        models = (await worker.ask("GET", "/v1/models")).json()["models"]

    assert (before, after) == (shop.version, second)
    assert [model["version"] for model in models] == [second]


async def test_a_recalibrated_model_goes_on_with_the_tables_of_the_old_one(
    quick: Settings, registry: Path, shop: ServedProject
) -> None:
    """Its core is the same to the bit, so nothing is computed anew; order stays, promises fall."""
    second = recalibrated(registry, shop.version)
    async with running(quick) as worker:
        before = await worker.rank(shop.rank_body())
        tables = derived_files(quick)
        promote(registry, second)
        await version_served(worker, lambda version: version == second, shop.rank_body())
        after = await worker.rank(shop.rank_body())

    old, new = (answer.json()["results"] for answer in (before, after))
    assert tables
    assert derived_files(quick) == tables
    assert [result["ad_id"] for result in new] == [result["ad_id"] for result in old]
    assert all(now["p_click"] < then["p_click"] for now, then in zip(new, old, strict=True))


async def test_a_damaged_model_is_not_promoted_over_a_good_one(
    quick: Settings, registry: Path, shop: ServedProject, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with the reason, and once; the good one keeps its slot."""
    broken = published_again(registry, shop.version)
    graph = registry / "default" / broken / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    async with running(quick) as worker:
        promote(registry, broken)
        async with asyncio.timeout(DEADLINE_S):
            while not (failures := [r for r in caplog.records if "cannot be loaded" in r.message]):
                await worker.ask("GET", "/livez")
        for _ in range(20):
            assert (await worker.rank(shop.rank_body())).headers["x-model-version"] == shop.version

    assert len(failures) == 1
    assert "model.onnx is not the file that was published" in failures[0].error  # type: ignore[attr-defined]


async def test_a_promotion_that_fails_shows_until_it_is_taken_back(
    quick: Settings, registry: Path, shop: ServedProject
) -> None:
    """Answers go on as if nothing were, so only a metric tells."""
    broken = published_again(registry, shop.version)
    (registry / "default" / broken / "model.onnx").write_bytes(b"")
    async with running(quick) as worker:
        told = [promotion_fails(worker)]
        for version, wanted in ((broken, 1.0), (shop.version, 0.0), (broken, 1.0)):
            promote(registry, version)
            await until_promotion_fails(worker, wanted)
            told.append(wanted)

    assert told == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("lost", ["default/champion", "default", "."])
async def test_a_lost_champion_is_told_once_until_it_is_back(
    quick: Settings, registry: Path, shop: ServedProject, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    """The loaded model serves on, so nobody would know before a worker restarts and cannot begin."""
    caplog.set_level("INFO")
    path = registry / lost
    aside = registry.parent / "aside"
    async with running(quick) as worker:
        for _ in range(2):
            path.rename(aside)
            await until_promotion_fails(worker, 1.0)
            for _ in range(20):
                answer = await worker.rank(shop.rank_body())
            ready = await worker.ask("GET", "/readyz")
            aside.rename(path)
            await until_promotion_fails(worker, 0.0)

    told = [record for record in caplog.records if record.name == "service.champion_watch"]
    assert (ready.status, answer.headers["x-model-version"]) == (200, shop.version)
    assert [record.message for record in told] == [
        "the registry names no champion, the old one keeps serving",
        "the champion serves again",
    ] * 2
    assert f"{path} is not there any more" in told[0].error  # type: ignore[attr-defined]


async def until_promotion_fails(worker: Worker, wanted: float) -> None:
    """Returns once the worker tells that figure of its default model."""
    async with asyncio.timeout(DEADLINE_S):
        while promotion_fails(worker) != wanted:
            await worker.ask("GET", "/livez")


def promotion_fails(worker: Worker) -> float | None:
    """What the worker tells of its default model."""
    return worker.runtime.telemetry.registry.get_sample_value(
        "clickserve_model_promotion_failing", {"model": "default"}
    )


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda folder: flip_a_byte(folder / "model.onnx"), ArtifactDamaged, "model.onnx is not the file"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), ArtifactDamaged, "model.onnx is not the file"),
        (lambda folder: (folder / "golden.npz").unlink(), ArtifactDamaged, "golden.npz is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), ArtifactDamaged, "manifest.json is missing"),
        (lambda folder: shutil.rmtree(folder), ModelNotFound, "holds no version"),
    ],
)
async def test_a_model_that_is_not_the_published_one_does_not_start(
    quick: Settings,
    registry: Path,
    shop: ServedProject,
    harm: Callable[[Path], object],
    error: type[Exception],
    message: str,
) -> None:
    """One changed byte in a graph can change every probability a little."""
    harm(registry / "default" / shop.version)

    with pytest.raises(error, match=message):
        async with running(quick):
            pass


async def test_an_empty_registry_says_what_to_do(quick: Settings, tmp_path: Path) -> None:
    """The first thing a newcomer meets."""
    empty = replace(quick, registry=replace(quick.registry, dir=tmp_path / "nothing"))

    with pytest.raises(ModelNotFound, match="train one with `clickserve train`"):
        async with running(empty):
            pass


async def test_a_registry_without_champion_says_what_to_do(quick: Settings, registry: Path) -> None:
    """Published is not promoted."""
    (registry / "default" / "champion").unlink()

    with pytest.raises(ModelNotFound, match="no model passed the gate"):
        async with running(quick):
            pass


async def test_a_view_that_was_never_materialized_is_named(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Serving other features than the model was trained on would be fast and wrong."""
    stranger = make_served_project(tmp_path, name="never-materialized")

    with pytest.raises(SchemaMismatch) as caught:
        async with running(settings_of(stranger.registry_dir, valkey_server.url, tmp_path)):
            pass

    assert caught.value.view == "user_profile"
    assert "materialize the view again" in str(caught.value)


async def test_a_view_of_another_meaning_is_named_with_both_fingerprints(
    registry: Path, shop: ServedProject, quick: Settings
) -> None:
    """A manifest that wants another fingerprint than the one that is served."""
    folder = registry / "default" / shop.version
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"]["views"][1]["hash_seed"] = 999
    rewrite_manifest(folder, manifest)

    with pytest.raises(SchemaMismatch) as caught:
        async with running(quick):
            pass

    assert caught.value.view == "ad_profile"
    assert caught.value.served == (shop.ads.view.fingerprint,)
    assert shop.ads.view.fingerprint[:8] in str(caught.value)


async def test_a_model_without_a_proof_that_holds_does_not_start(
    registry: Path, shop: ServedProject, quick: Settings
) -> None:
    """No proof, no load."""
    folder = registry / "default" / shop.version
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["proof"]["max_p_error"] = 0.1
    rewrite_manifest(folder, manifest)

    with pytest.raises(ProofMissing, match="the proof does not hold"):
        async with running(quick):
            pass


def flip_a_byte(path: Path) -> None:
    """Changes one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def rewrite_manifest(folder: Path, manifest: object) -> None:
    """Another manifest with a checksum that fits it."""
    content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sha256").write_text(f"{sha256(content).hexdigest()}  manifest.json\n")
