"""`"explain": true` over a real socket: sums that hold, names a person knows, bounds that protect others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest

from feature_store.online.embedded import EmbeddedServer
from loadtest.rank_frame import RANKING_MEDIA, REQUEST_MEDIA, rank_frame
from models.export.graph import calibrator_sha256, core_sha256, export_graph
from models.plans.generic import GenericPlan
from models.plans.source import plan_source
from models.registry.artifact import Golden
from models.registry.gate import Gate
from models.registry.predictor import Predictor
from models.registry.registry import Registry
from models.specs import TreeEnsembleSpec
from service.deadline import Deadline
from service.errors import InvalidRequest, Overloaded
from service.explaining import MAX_AT_ONCE, Explaining
from service.wire import MAX_EXPLAINED
from tests.artifacts import ServedProject, served_by
from tests.integration.service.conftest import Worker, body_of, running, settings_of
from tests.integration.service.json_schema import violations
from tests.integration.service.test_scoring import Bench, bench, in_time, rank
from tests.learning import ADDITIVE_LEARNERS
from tests.nets import NETS, DrawnNetTrainer

__all__ = ["bench"]

pytestmark = pytest.mark.asyncio(loop_scope="session")

T = TypeVar("T")


def check_sums(explanation: Mapping[str, Any], p_click: float, predictor: Predictor) -> None:
    """From the baseline over the contributions and the raw logit to the probability, without a gap."""
    contributions = [entry["contribution"] for entry in explanation["contributions"]]
    assert explanation["baseline"] + math.fsum(contributions) == pytest.approx(explanation["raw_logit"], abs=1e-9)
    assert [abs(c) for c in contributions] == sorted(map(abs, contributions), reverse=True)
    assert 0.0 not in contributions
    assert predictor.source is not None
    for logit, wanted in ((explanation["raw_logit"], p_click), (explanation["baseline"], None)):
        log_odds = predictor.source.calibrator(np.array([logit + explanation["correction"]]))[0]
        given = 1 / (1 + math.exp(-log_odds))
        assert given == pytest.approx(explanation["baseline_p_click"] if wanted is None else wanted, abs=1e-9)


@pytest.mark.parametrize("learner", ADDITIVE_LEARNERS)
async def test_every_learners_answers_are_explained(
    learner: str, valkey_server: EmbeddedServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The best three of forty, each with what its own rows said; the same probabilities as without."""
    project = served_by(tmp_path_factory, learner)
    project.materialize(valkey_server.url)
    predictor = Predictor(Registry(project.registry_dir).get(project.version))
    body = {**project.rank_body(40), "top_k": 3}

    async with running(settings_of(project.registry_dir, valkey_server.url, tmp_path)) as worker:
        plain = (await worker.rank(body)).json()
        answer = (await worker.rank({**body, "explain": True})).json()

    explanations = [result.pop("explanation") for result in answer["results"]]
    assert answer["results"] == plain["results"]
    assert answer["degraded"] == []
    for result, explanation in zip(plain["results"], explanations, strict=True):
        check_sums(explanation, result["p_click"], predictor)
        values = {entry["feature"]: entry["value"] for entry in explanation["contributions"]}
        price, ctr = project.ads.floats[int(result["ad_id"][1:])]
        assert values.get("ad_profile.ctr_7d", ctr) == pytest.approx(ctr, rel=1e-6)
        assert ("ad_profile.ctr_7d" in values) == (learner != "base-rate")  # which looks at nothing
        assert values.get("ad_profile.price", price) == pytest.approx(price, rel=1e-6)
        assert values.get("context.device", "phone") == "phone"
    assert learner == "base-rate" or explanations[0]["contributions"][0]["contribution"] > 0


async def test_predictions_are_explained_each_with_its_own_context(worker: Worker, shop: ServedProject) -> None:
    """Ids of the store are known by their hash alone; what is missing is null; what the request did not say, too."""
    instances = [
        {"user_id": "u5", "ad_id": "a7", "context": {"device": "tablet"}},
        {"user_id": "u6", "ad_id": "a3", "context": {"device": "phone"}},
        {"user_id": "new", "ad_id": "a3"},
    ]
    predictor = Predictor(Registry(shop.registry_dir).get(shop.version))

    predictions = (await worker.ask("POST", "/v1/predict", {"instances": instances, "explain": True})).json()[
        "predictions"
    ]

    found = []
    for prediction in predictions:
        check_sums(prediction["explanation"], prediction["p_click"], predictor)
        found.append({entry["feature"]: entry["value"] for entry in prediction["explanation"]["contributions"]})
    assert [values.get("context.device") for values in found] == ["tablet", "phone", None]
    assert found[0]["ad_profile.category"] == f"#{int(shop.ads.ids[7, 0]):08x}"
    assert found[1]["user_profile.activity"] == pytest.approx(float(shop.users.floats[6, 1]), rel=1e-6)


async def test_an_explained_answer_is_what_the_document_says(worker: Worker, shop: ServedProject) -> None:
    """The schema knows every field of it."""
    document = (await worker.ask("GET", "/openapi.json")).json()

    for route, body in (
        ("/v1/rank", {**shop.rank_body(5), "explain": True}),
        ("/v1/predict", {"instances": [{"user_id": "u1", "ad_id": "a1"}], "explain": True}),
    ):
        answer = (await worker.ask("POST", route, body)).json()

        content = document["paths"][route]["post"]["responses"]["200"]["content"]["application/json"]
        assert "baseline_p_click" in str(answer)
        assert violations(answer, content["schema"], document["components"]["schemas"]) == []


async def test_without_explain_nothing_is_explained(worker: Worker, shop: ServedProject) -> None:
    """False is the default, and says the same as nothing."""
    silent, plain = [await worker.rank({**shop.rank_body(5), **asked}) for asked in ({"explain": False}, {})]

    assert b"explanation" not in plain.body
    assert silent.json()["results"] == plain.json()["results"]


async def test_more_than_can_be_explained_is_refused_with_the_way_out(worker: Worker, shop: ServedProject) -> None:
    """Nobody shall occupy a worker; the results count, not the candidates."""
    body = {**shop.rank_body(200), "explain": True}
    instances = [{"user_id": "u1", "ad_id": "a1"}] * (MAX_EXPLAINED + 1)

    ranked = await worker.rank(body)
    predicted = await worker.ask("POST", "/v1/predict", {"instances": instances, "explain": True})
    few = await worker.rank({**body, "top_k": MAX_EXPLAINED})

    assert (ranked.status, predicted.status, few.status) == (422, 422, 200)
    assert ranked.json()["path"] == predicted.json()["path"] == "explain"
    assert ranked.json()["detail"].endswith("at once, got 200; set top_k to 50 or less")
    assert predicted.json()["detail"].endswith("got 51; send them in several requests")
    assert all("explanation" in result for result in few.json()["results"])


async def test_frames_carry_no_explanations(worker: Worker, shop: ServedProject) -> None:
    """A caller who asks for both hears it, instead of waiting for what never comes."""
    body = body_of({**shop.rank_body(5), "explain": True})

    refused = await worker.ask("POST", "/v1/rank", body, content_type="application/json", accept=RANKING_MEDIA)
    framed = await worker.ask("POST", "/v1/rank", rank_frame(["a1"], user_id="u1"), content_type=REQUEST_MEDIA)

    assert (refused.status, framed.status) == (422, 200)
    assert refused.json()["detail"].startswith("explain: frames carry no explanations; accept application/json")


async def test_a_model_that_cannot_be_explained_says_why(
    valkey_server: EmbeddedServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trees of an earlier version, or of another library, whose graph counts no training rows; they rank as ever."""
    project = served_by(tmp_path_factory, "gbdt")
    project.materialize(valkey_server.url)
    registry_dir = tmp_path / "uncounted"
    publish_without_covers(Registry(project.registry_dir), project.version, Registry(registry_dir))

    async with running(settings_of(registry_dir, valkey_server.url, tmp_path)) as worker:
        plain = await worker.rank(project.rank_body(5))
        refused = await worker.rank({**project.rank_body(5), "explain": True})

    assert (plain.status, refused.status) == (200, 422)
    assert refused.json()["path"] == "explain"
    assert "model 'default' cannot be explained: its graph does not say how many" in refused.json()["detail"]


@pytest.mark.parametrize("kind", NETS)
async def test_a_nets_answers_are_not_explained(
    kind: str, valkey_server: EmbeddedServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Contributions that were made up would be believed; the reason names what can be explained."""
    project = served_by(tmp_path_factory, DrawnNetTrainer(kind))
    project.materialize(valkey_server.url)

    async with running(settings_of(project.registry_dir, valkey_server.url, tmp_path)) as worker:
        refused = await worker.rank({**project.rank_body(5), "explain": True})

    assert (refused.status, refused.json()["path"]) == (422, "explain")
    assert "it is a net, whose answer is no sum" in refused.json()["detail"]
    assert "which can be explained" in refused.json()["detail"]


def publish_without_covers(registry: Registry, version: str, other: Registry) -> None:
    """The same model, as a version without covers would have exported it."""
    artifact = registry.get(version)
    source = plan_source(artifact.graph)
    assert isinstance(source.spec, TreeEnsembleSpec)
    assert source.calibrator.segments is None
    spec = replace(source.spec, cover=None)
    golden = artifact.golden
    widths = golden.features.shape[1], golden.ids.shape[1]
    graph = export_graph(spec, source.correction, source.calibrator, *widths)
    scores = GenericPlan(graph).score(golden.features, golden.ids)
    manifest = msgspec.structs.replace(
        artifact.manifest,
        core_sha256=core_sha256(graph),
        calibrator_sha256=calibrator_sha256(graph),
        proof=msgspec.structs.replace(artifact.manifest.proof, core_sha256=core_sha256(graph)),
    )
    files = {"model.onnx": graph, "golden.npz": Golden(golden.features, golden.ids, *scores).to_bytes()}
    assert other.publish(manifest, files, lambda named: {}, Gate()).is_champion


async def test_what_is_not_ready_in_time_is_null(
    shop: ServedProject, valkey_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The ranking stands all the same, and the answer says that time ran out."""
    body = {**shop.rank_body(5), "explain": True}

    settings = settings_of(shop.registry_dir, valkey_server.url, tmp_path, deadline__explain_ms=1e-6)

    async with running(settings) as hasty:
        answer = (await hasty.rank(body)).json()

    assert [result["explanation"] for result in answer["results"]] == [None] * 5
    assert all(result["p_click"] is not None for result in answer["results"])
    assert answer["degraded"] == ["deadline_partial"]


async def test_the_callers_deadline_bounds_an_explanation() -> None:
    """`X-Deadline-Ms` may be longer than a ranking is allowed, and shorter than an explanation is."""
    now_s = 10.0
    for wanted_ms, left_ms in ((math.inf, 1_000.0), (5_000.0, 1_000.0), (200.0, 190.0), (10.0, 0.0)):
        deadline = Deadline(9.99, min(wanted_ms, 30.0), lambda: now_s, wanted_ms)

        assert deadline.left_for_more_ms(1_000.0) == pytest.approx(left_ms)


class Latch:
    """Lets work run when the test says so."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def run(self, work: Callable[[], T]) -> T:
        await self.opened.wait()
        return work()


async def test_no_more_than_two_requests_are_explained_at_once(bench: Bench) -> None:
    """They hold places behind the door, which rankings need; a place is free again when its work has ended."""
    model, latch = await bench.model(), Latch()
    explaining = Explaining(1_000.0, lambda: 0.0, latch.run)
    scored = await bench.scoring.rank(model, rank(3), in_time())

    def explained() -> Awaitable[list[msgspec.Raw | None]]:
        return explaining.explain(model, scored, np.array([2, 0]), [{"device": "phone"}] * 2, in_time())

    waiting = [asyncio.ensure_future(explained()) for _ in range(MAX_AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="explain_busy"):
        await explained()
    latch.opened.set()
    found = [*await asyncio.gather(*waiting), await explained()]

    assert [len(some) for some in found] == [2] * (MAX_AT_ONCE + 1)
    raw_logits = [msgspec.json.decode(entry)["raw_logit"] for entry in found[0] if entry is not None]
    assert raw_logits == pytest.approx(scored.scores.raw_logit[[2, 0]].tolist(), abs=1e-9)


async def test_a_graph_that_was_read_wrongly_explains_nothing(bench: Bench) -> None:
    """An explanation that adds up to something else than what was answered would be believed."""
    model = await bench.model("generic")
    scored = await bench.scoring.rank(model, rank(3), in_time())
    off = msgspec.structs.replace(
        scored, scores=scored.scores._replace(raw_logit=scored.scores.raw_logit + np.array([0, 0, 1e-4]))
    )

    honest = await Explaining(1_000.0, lambda: 0.0).explain(
        model, scored, np.arange(3), [{"device": "phone"}] * 3, in_time()
    )

    assert None not in honest
    with pytest.raises(InvalidRequest, match=r"differs from what it answers, by up to 0\.0001"):
        await Explaining(1_000.0, lambda: 0.0).explain(model, off, np.arange(3), [{"device": "phone"}] * 3, in_time())


async def test_results_without_a_score_have_no_explanation(bench: Bench) -> None:
    """What the deadline overtook was never scored."""
    model = await bench.model()
    scored = await bench.scoring.rank(model, rank(3), in_time())
    cut = msgspec.structs.replace(scored, scores=type(scored.scores)(*(values[:2] for values in scored.scores)))

    found = await Explaining(1_000.0, lambda: 0.0).explain(model, cut, np.array([1, 0, 2]), [{}] * 3, in_time())

    assert [entry is None for entry in found] == [False, False, True]
