"""The service on a Cluster and behind Sentinels: a master is lost under load, and nobody restarts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.online.layout import ViewKeys
from tests.artifacts import ServedProject
from tests.e2e.conftest import serve_arguments
from tests.e2e.failover import lose
from tests.e2e.service_process import service
from tests.redis_servers.cluster import Cluster
from tests.redis_servers.programs import PROGRAMS
from tests.redis_servers.sentinels import Watched
from tests.redis_servers.server import wait_for

PAUSE_S = 0.02
"""Shares of answers are judged here and no times."""


@pytest.mark.parametrize(("version", "how"), [("valkey-9", "kill"), ("valkey-9", "freeze"), ("redis-6.2", "kill")])
async def test_a_cluster_that_loses_a_master_degrades_its_users_alone_and_recovers(
    project: ServedProject, tmp_path: Path, version: str, how: str
) -> None:
    """No error while the replica takes over, and users of the other masters keep their rows."""
    with Cluster.running(PROGRAMS[version](), tmp_path / "redis", "--cluster-require-full-coverage", "no") as cluster:
        project.materialize(cluster.url)
        wait_for(cluster.is_replicated, "the replicas to follow")
        keys = ViewKeys(project.schema.project, project.users.view)
        victim = cluster.masters()[1]
        of_victim = [user for user in project.users.entity_ids if cluster.owner(keys.row(user)) is victim][:3]
        others = [user for user in project.users.entity_ids if cluster.owner(keys.row(user)) is not victim][:6]
        with service(*serve_arguments(project, cluster.url, tmp_path)) as process:
            process.wait_for("ready")

            loss = await lose(process, project, of_victim, others, getattr(victim, how), pause_s=PAUSE_S)

    assert set(loss.statuses) == {200}
    assert loss.lost == 0
    assert loss.healthy_share == 0
    assert loss.hurt_share > 0.5
    assert loss.other_share < 0.1  # not 0: a node that saves its part of the Cluster's state waits for the disk
    assert set(loss.codes) <= {"store_down", "store_timeout"}


@pytest.mark.parametrize(("version", "how"), [("valkey-9", "kill"), ("valkey-9", "freeze"), ("redis-7.0", "kill")])
async def test_a_master_behind_sentinels_is_followed(
    project: ServedProject, tmp_path: Path, version: str, how: str
) -> None:
    """The service finds whom the Sentinels made master."""
    with Watched.running(PROGRAMS[version](), tmp_path / "redis") as watched:
        project.materialize(watched.url)
        wait_for(watched.is_replicated, "the replica to follow")
        users = project.users.entity_ids[:4]
        with service(*serve_arguments(project, watched.url, tmp_path)) as process:
            process.wait_for("ready")

            loss = await lose(process, project, users, [], getattr(watched.master(), how), pause_s=PAUSE_S)

    assert set(loss.statuses) == {200}
    assert loss.lost == 0
    assert loss.healthy_share == 0
    assert loss.hurt_share > 0
    assert set(loss.codes) <= {"store_down", "store_timeout"}
