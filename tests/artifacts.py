"""A small project that can be served: a published model, and the rows of its users and ads.

Made by the real parts (encoder, trainer, export, proof, registry, writer), in about a second and a half. Clicks depend
on a number of the user, a number of the ad and the device, so an answer that mixes up rows ranks visibly wrong.
"""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from feature_store.ids import hash_ids
from feature_store.online.redis_writer import RedisRowWriter
from feature_store.rows import Floats, Ids
from feature_store.schema import ContextFeature, EntityName, Feature, FeatureView, PairFeature, Schema, TableSource
from models.encoder import Block, Encoded, Encoder, ModelInputs
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.export.proof import prove
from models.plans.generic import GenericPlan
from models.registry.artifact import Golden
from models.registry.gate import Gate
from models.registry.manifest import Calibrator, Label, Manifest, TrainedOn
from models.registry.registry import Registry
from models.trainers import trainer_named
from models.trainers.trainer import Trainer, TrainingSet
from models.training import TrainOptions, train
from tests.raw_http import request
from tests.shared_builds import made_once

N_USERS, N_ADS, N_IMPRESSIONS = 40, 300, 6_000
DEVICES = ("phone", "desktop", "tablet")
HASH_SEED = 11
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Entities:
    """Everything that is known about the users, or the ads. floats: (n, 2); ids: (n, 1)."""

    view: FeatureView
    entity_ids: list[str]
    floats: Floats
    ids: Ids


@dataclass(frozen=True, slots=True)
class ServedProject:
    """A project with one published champion."""

    schema: Schema
    registry_dir: Path
    version: str
    users: Entities
    ads: Entities

    def materialize(self, url: str) -> None:
        """Writes all rows, dated now."""
        self._write(url, self.users, self.ads)

    def materialize_ads(self, url: str) -> None:
        """Writes the rows of the ads alone, dated now."""
        self._write(url, self.ads)

    def materialize_user(self, url: str, user_id: str) -> None:
        """Writes a user whom nobody knew, with the features of the first of the others."""
        users = self.users
        self._write(url, replace(users, entity_ids=[user_id], floats=users.floats[:1], ids=users.ids[:1]))

    def _write(self, url: str, *written: Entities) -> None:
        writer = RedisRowWriter(url, self.schema.project)
        now_ms = time.time_ns() // 1_000_000
        for entities in written:
            event_time_ms = np.full(len(entities.entity_ids), now_ms, dtype=np.int64)
            with writer.session(entities.view) as session:
                session.write(entities.entity_ids, event_time_ms, entities.floats, entities.ids)
                session.finish()
        writer.close()

    def rank_body(self, n_candidates: int = 20, user_id: str | None = None) -> dict[str, object]:
        """A request that nothing is missing from, of one of its users where none is named."""
        return {
            "user_id": user_id or self.users.entity_ids[3],
            "candidates": self.ads.entity_ids[:n_candidates],
            "context": {"device": "phone"},
        }

    def rank_request(self, n_candidates: int = 20, user_id: str | None = None) -> bytes:
        """The same as the bytes of an HTTP request."""
        return request("POST", "/v1/rank", self.rank_body(n_candidates, user_id))


def make_served_project(
    folder: Path, *, name: str = "shop", seed: int = 5, learner: str | Trainer = "logistic"
) -> ServedProject:
    """Trains a model (a logistic regression unless told) and publishes it in `folder/registry`; it becomes champion."""
    random = np.random.default_rng(seed)
    users = _entities(random, "user", "user_profile", ("age", "activity"), "country", ("de", "fr", "it"), N_USERS)
    ads = _entities(random, "ad", "ad_profile", ("price", "ctr_7d"), "category", ("shoes", "books", "toys"), N_ADS)
    schema = Schema(
        project=name,
        views=(users.view, ads.view),
        context=(ContextFeature(name="device", dtype="id"),),
        pairs=(
            PairFeature(name="activity_ctr", op="product", left="user_profile.activity", right="ad_profile.ctr_7d"),
        ),
        hash_seed=HASH_SEED,
    )
    encoded, clicked = _shop_impressions(random, schema, users, ads)
    registry_dir = folder / "registry"
    version = _publish(registry_dir, ModelInputs.of(schema), encoded, clicked, seed, learner)
    return ServedProject(schema, registry_dir, version, users, ads)


def served_by(factory: pytest.TempPathFactory, learner: str | Trainer) -> ServedProject:
    """The project with a model of this learner, trained once a run; read only."""
    name = learner if isinstance(learner, str) else f"drawn-{learner.name}"

    def make(folder: Path) -> None:
        project = make_served_project(folder, name=f"by-{name}", learner=learner)
        (folder / "project").write_bytes(pickle.dumps(project))

    project: ServedProject = pickle.loads((made_once(factory, f"served-by-{name}", make) / "project").read_bytes())
    return project


def publish_context_model(folder: Path, *, seed: int = 5) -> Path:
    """Publishes a champion that knows neither users nor ads, only the request's device; answers the registry."""
    random = np.random.default_rng(seed)
    context_features = (ContextFeature(name="device", dtype="id"),)
    inputs = ModelInputs.of(Schema(project="context-only", context=context_features, hash_seed=HASH_SEED))
    device, context = _devices(random)
    nothing = Block(np.empty((N_IMPRESSIONS, 0), np.float32), np.empty((N_IMPRESSIONS, 0), np.uint32))
    clicked = random.random(N_IMPRESSIONS) < np.where(device == "phone", 0.6, 0.2)
    registry_dir = folder / "registry"
    _publish(registry_dir, inputs, Encoder(inputs).encode(nothing, nothing, context), clicked, seed)
    return registry_dir


def _entities(
    random: np.random.Generator,
    entity: EntityName,
    view_name: str,
    numbers: tuple[str, str],
    category: str,
    values: tuple[str, ...],
    n: int,
) -> Entities:
    features = (*(Feature(name=number, default=0.0) for number in numbers), Feature(name=category, dtype="id"))
    source = TableSource(columns=tuple(feature.name for feature in features))
    view = FeatureView(
        name=view_name, entity=entity, features=features, source=source, hash_seed=HASH_SEED, ttl_ms=30 * DAY_MS
    )
    floats = random.normal(size=(n, 2)).astype(np.float32)
    ids = hash_ids(random.choice(values, size=n), HASH_SEED).reshape(-1, 1)
    return Entities(view, [f"{entity[0]}{i}" for i in range(n)], floats, ids)


def _shop_impressions(
    random: np.random.Generator, schema: Schema, users: Entities, ads: Entities
) -> tuple[Encoded, npt.NDArray[np.bool_]]:
    """Impressions of random users, ads and devices, and which were clicked."""
    user, ad = random.integers(0, N_USERS, N_IMPRESSIONS), random.integers(0, N_ADS, N_IMPRESSIONS)
    device, context = _devices(random)
    log_odds = -1.0 + users.floats[user, 1] + 1.5 * ads.floats[ad, 1] + (device == "phone")
    clicked = random.random(N_IMPRESSIONS) < 1 / (1 + np.exp(-log_odds))
    encoder = Encoder(ModelInputs.of(schema))
    encoded = encoder.encode(Block(users.floats[user], users.ids[user]), Block(ads.floats[ad], ads.ids[ad]), context)
    return encoded, clicked


def _devices(random: np.random.Generator) -> tuple[npt.NDArray[np.str_], Block]:
    """The device of each impression, and the same as a context block."""
    device = random.choice(DEVICES, N_IMPRESSIONS)
    return device, Block(np.empty((N_IMPRESSIONS, 0), np.float32), hash_ids(device, HASH_SEED).reshape(-1, 1))


def _publish(
    registry_dir: Path,
    inputs: ModelInputs,
    encoded: Encoded,
    clicked: npt.NDArray[np.bool_],
    seed: int,
    learner: str | Trainer = "logistic",
) -> str:
    """Trains, exports, proves and publishes; the version, which is champion."""
    encoder = Encoder(inputs)
    time_ms = np.arange(N_IMPRESSIONS, dtype=np.int64)
    log = TrainingSet(encoded, clicked, time_ms, encoder.float_names, encoder.id_names, layout=encoder.layout)
    trainer = trainer_named(learner) if isinstance(learner, str) else learner
    outcome = train(log, trainer, TrainOptions(), seed, lambda *progress: None)
    graph = export_graph(
        outcome.model.spec, outcome.correction, outcome.calibrator, len(encoder.float_names), len(encoder.id_names)
    )
    proof = prove(graph, outcome.model, outcome.correction, outcome.calibrator, outcome.examples, seed)
    golden = _golden(graph, outcome.examples.features[:100], outcome.examples.ids[:100])
    manifest = Manifest(
        name="default",
        version="",
        created_ms=0,
        learner=outcome.learner,
        inputs=inputs,
        label=Label(name="click"),
        trained_on=TrainedOn(
            source="made by a test",
            impressions=outcome.impressions,
            clicks=outcome.clicks,
            first_ms=outcome.first_ms,
            last_ms=outcome.last_ms,
        ),
        reference_position="there are no positions",
        calibrator=Calibrator(kind="identity"),
        metrics=outcome.metrics,
        seed=seed,
        parameters=outcome.model.parameters,
        core_sha256=core_sha256(graph),
        calibrator_sha256=calibrator_sha256(graph),
        proof=proof,
        files={},
        libraries={},
        better_than_base_rate=outcome.better_than_base_rate,
    )
    reference = msgspec.json.encode(outcome.reference)
    files = {"model.onnx": graph, "golden.npz": golden, "reference.json": reference}
    published = Registry(registry_dir).publish(manifest, files, lambda named: {}, Gate())
    if learner == "base-rate":  # no gate lets it serve, and what it would serve can still be tested
        (registry_dir / "default" / "champion").write_text(published.version)
    else:
        assert published.is_champion, published.verdict
    return published.version


def _golden(graph: bytes, features: Floats, ids: np.ndarray) -> bytes:
    scores = GenericPlan(graph).score(features, ids)
    return Golden(features, ids, scores.raw_logit, scores.p_click).to_bytes()
