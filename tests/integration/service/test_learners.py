"""Whatever learnt a model, the service answers what the model says."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.online.embedded import EmbeddedServer
from models.trainers.trainer import Trainer
from tests.artifacts import served_by
from tests.integration.service.conftest import running, settings_of
from tests.integration.service.test_rank import expected_p_click
from tests.learning import EVERY_LEARNER
from tests.nets import NETS, DrawnNetTrainer

pytestmark = pytest.mark.asyncio(loop_scope="session")


DRAWN_NETS = [pytest.param(DrawnNetTrainer(kind), id=f"{kind}, drawn") for kind in NETS]
"""Nets are served where nobody can learn one."""


@pytest.mark.parametrize("learner", [*EVERY_LEARNER, *DRAWN_NETS])
async def test_every_learners_model_is_ranked_over_http(
    learner: str | Trainer, valkey_server: EmbeddedServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trained, exported, proven, published, planned, served: the same probabilities, the best first."""
    project = served_by(tmp_path_factory, learner)
    project.materialize(valkey_server.url)
    ads = list(range(0, 120, 3))
    body = {"user_id": "u5", "candidates": [f"a{ad}" for ad in ads], "context": {"device": "tablet"}}

    async with running(settings_of(project.registry_dir, valkey_server.url, tmp_path)) as worker:
        answer = (await worker.rank(body)).json()

    wanted = expected_p_click(project, 5, ads, "tablet")
    assert answer["degraded"] == []
    assert {result["ad_id"]: result["p_click"] for result in answer["results"]} == pytest.approx(wanted, abs=1e-9)
    assert [result["ad_id"] for result in answer["results"]] == sorted(wanted, key=wanted.__getitem__, reverse=True)
