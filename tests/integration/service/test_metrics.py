"""What a worker counts is what callers saw."""

from __future__ import annotations

from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.registry.predictor import Predictor
from models.registry.registry import Registry
from service.settings import Settings
from service.telemetry import exposition
from tests.artifacts import ServedProject
from tests.integration.service.conftest import Worker, running


def values(worker: Worker, name: str, label: str) -> dict[str, float]:
    """Samples of one name that are not 0, by one of their labels, after a flush."""
    worker.runtime.telemetry.flush()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(exposition(worker.runtime.telemetry.registry).decode()):
        for sample in family.samples:
            if sample.name == name and sample.value:
                found[sample.labels.get(label, "")] += sample.value
    return dict(found)


async def test_every_answer_is_counted_by_route_and_code(settings: Settings, shop: ServedProject) -> None:
    """Paths that callers invent share one label: they must not fill the memory of Prometheus."""
    async with running(settings) as worker:
        for _ in range(3):
            await worker.rank(shop.rank_body())
        await worker.rank({"user_id": 1, "candidates": []})
        await worker.ask("POST", "/v1/predict", {"instances": [{"user_id": "u1", "ad_id": "a1"}]})
        await worker.ask("GET", "/livez")
        for path in ("/wp-admin", "/.env"):
            await worker.ask("GET", path)

        by_route = values(worker, "clickserve_requests_total", "route")
        by_code = values(worker, "clickserve_requests_total", "code")
        timed = values(worker, "clickserve_request_duration_seconds_count", "route")

    assert by_route == {"/v1/rank": 4, "/v1/predict": 1, "/livez": 1, "other": 2} == timed
    assert by_code == {"200": 5, "422": 1, "404": 2}


async def test_what_never_reaches_the_application_is_counted(settings: Settings) -> None:
    """An attack, or a client with a broken proxy, must show; the label stays one, whatever was sent."""
    async with running(settings) as worker:
        for bytes_sent in (b"\x16\x03\x01", b"FOO / HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
            connection = await worker.connect()
            connection.send(bytes_sent)
            await connection.answer()

        by_route = values(worker, "clickserve_requests_total", "route")
        by_code = values(worker, "clickserve_requests_total", "code")

    assert by_route == {"refused": 3}
    assert by_code == {"400": 2, "501": 1}


async def test_rows_codes_and_stages_are_counted(settings: Settings, shop: ServedProject) -> None:
    """One ranking of two known ads and an unknown one, for an unknown user."""
    body = {"user_id": "new", "candidates": ["a1", "a2", "new"], "context": {"device": "phone"}}
    async with running(settings) as worker:
        await worker.rank(body)

        rows = values(worker, "clickserve_feature_rows_total", "status")
        views = values(worker, "clickserve_feature_rows_total", "view")
        codes = values(worker, "clickserve_degraded_answers_total", "code")
        stages = values(worker, "clickserve_stage_duration_seconds_count", "stage")
        candidates = values(worker, "clickserve_candidates_total", "")
        answered = values(worker, "clickserve_p_click_count", "model")
        info = values(worker, "clickserve_model_info", "version")

    assert rows == {"present": 2, "missing": 2}
    assert views == {"user_profile": 1, "ad_profile": 3}
    assert codes == {"user_missing": 1, "ad_missing": 1}
    assert stages == dict.fromkeys(("parse", "features", "assemble", "model", "rank", "encode"), 1)
    assert candidates == {"": 3}
    assert answered == {"default": 3}
    assert info == {shop.version: 1}


async def test_what_training_promised_stands_beside_what_is_served(settings: Settings, shop: ServedProject) -> None:
    """Figures, probabilities and times-to-live come from the artifact that serves."""
    predictor = Predictor(Registry(shop.registry_dir).get(shop.version))
    manifest, reference = predictor.manifest, predictor.reference
    assert manifest.trained_on is not None
    assert reference is not None
    async with running(settings) as worker:
        entropy = values(worker, "clickserve_model_normalized_entropy", "model")
        ratio = values(worker, "clickserve_model_calibration_ratio", "model")
        clicks = values(worker, "clickserve_model_click_rate", "model")
        shares = values(worker, "clickserve_model_reference_p_click_share", "bound")
        ttl = values(worker, "clickserve_feature_ttl_seconds", "view")

    assert entropy == {"default": manifest.figures["normalized_entropy"].value}
    assert ratio == {"default": manifest.figures["calibration_ratio"].value}
    assert clicks == {"default": manifest.trained_on.clicks / manifest.trained_on.impressions}
    assert ttl == {"user_profile": 30 * 86_400, "ad_profile": 30 * 86_400}
    assert shares["1.0"] == 1
    assert shares["0.5"] == pytest.approx(reference.p_click.shares_up_to([0.5], 0, 1)[0])
    assert 0.3 < shares["0.5"] < 1
