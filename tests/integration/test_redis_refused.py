"""Stores that cannot be used: each command says why and what to do, ends with its exit code, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.clock import system_clock
from feature_store.errors import StoreDown
from feature_store.online.opening import open_store
from service import cli
from service.checkup.store import check_store
from service.commands.doctor import examine
from service.settings import RedisSettings, RegistrySettings, Settings
from tests.artifacts import ServedProject, make_served_project
from tests.redis_servers.cluster import Cluster
from tests.redis_servers.programs import PROGRAMS, valkey_9
from tests.redis_servers.sentinels import Watched
from tests.redis_servers.server import Server, free_port, start
from tests.redis_servers.stores import PASSWORD, StoreUrls, documented_users, least_rights, with_login

FEATURES = """
[project]
name = "shop"
[log]
user_id = "member"
ad_id = "banner"
time = "at"
clicked = "was_clicked"
[views.scores]
entity = "user"
ttl = "30d"
from = "external"
key = "member"
event_time = "event_time"
[views.scores.features]
score = {}
"""
USAGE, DEPENDENCY_DOWN = 2, 69
READS = {"+mget", "+get", "+hget", "+hgetall", "+smembers", "+xrange"}

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def materialize(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """`clickserve materialize` of a small view into the store at a URL; its exit code and what it said."""
    (tmp_path / "features.toml").write_text(FEATURES)
    now = np.datetime64(system_clock(), "ms")
    rows = pa.table({"member": ["u1", "u2"], "event_time": [now, now], "score": pa.array([1.0, 2.0], pa.float32())})
    pq.write_table(rows, tmp_path / "scores.parquet")

    def run(url: str) -> tuple[int, str]:
        files = ("--features", str(tmp_path / "features.toml"), "--from", str(tmp_path / "scores.parquet"))
        code = cli.run(
            [
                "materialize",
                *files,
                "--view",
                "scores",
                "--redis-url",
                url,
                "--workdir",
                str(tmp_path / "work"),
                "--json",
            ]
        )
        return code, capfd.readouterr().err

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server, with the two documented users."""
    server = start(valkey_9(), tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def urls(server: Server) -> StoreUrls:
    """The documented users, for this project."""
    return least_rights([server], f"redis://127.0.0.1:{server.port}", "shop")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Cluster without rows."""
    with Cluster.running(valkey_9(), tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A master behind Sentinels that want a password."""
    with Watched.running(valkey_9(), tmp_path_factory.mktemp("watched"), sentinel_password=PASSWORD) as watched:
        yield watched


def test_the_writing_user_may_materialize(materialize: Command, server: Server, urls: StoreUrls) -> None:
    """The documented rights suffice for the whole command, and the reading ones for looking at it."""
    code, said = materialize(urls.write)

    assert code == 0, said
    assert len(server.client.keys("cs:shop:scores:*")) == 3
    assert cli.run(["features", "inspect", "user", "u1", "--project", "shop", "--redis-url", urls.read, "--json"]) == 0
    assert cli.run(["features", "delete", "user", "u1", "--project", "shop", "--redis-url", urls.write, "--json"]) == 0


def test_a_right_that_is_missing_is_named_and_nothing_is_written(
    materialize: Command, server: Server, urls: StoreUrls
) -> None:
    """Serving's own user may not write: the first command is refused, so no row and no lock is left behind."""
    server.client.flushall()  # our own server

    code, said = materialize(urls.read)

    assert code == DEPENDENCY_DOWN
    assert "set" in said
    assert "docs/redis.md" in said
    assert server.client.keys("*") == []


@pytest.mark.parametrize("url_of", ["wrong password", "no user", "another port"])
def test_a_login_that_is_refused_says_where_it_belongs(
    materialize: Command, server: Server, urls: StoreUrls, url_of: str
) -> None:
    """The message names the server, and never the password."""
    server.client.execute_command("ACL SETUSER", "default", "reset", "on", f">{PASSWORD}", "+@all", "~*")
    plain = f"redis://127.0.0.1:{server.port}"
    wrong = {
        "wrong password": with_login(plain, "clickserve-write", "hush"),
        "no user": plain,
        "another port": with_login(f"redis://127.0.0.1:{free_port()}", "clickserve-write", PASSWORD),
    }

    code, said = materialize(wrong[url_of])
    server.client.execute_command("ACL SETUSER", "default", "reset", "on", "nopass", "+@all", "~*", "&*")

    assert code == DEPENDENCY_DOWN
    assert "redis://127.0.0.1:" in said
    assert ("USER:PASSWORD@HOST" if url_of != "another port" else "REDIS_URL names another") in said
    assert "hush" not in said
    assert PASSWORD not in said


@pytest.mark.usefixtures("materialize")
@pytest.mark.parametrize(
    "command",
    [
        ("doctor",),
        ("features", "inspect", "user", "u1", "--project", "shop"),
        ("materialize", "--view", "scores", "--features", "features.toml", "--from", "scores.parquet"),
    ],
    ids=lambda command: command[0],
)
def test_a_store_that_is_away_is_named_elsewhere_by_what_the_command_takes(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`doctor` and `serve` have no `--redis-url`: the advice to use it ended in "No such option"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")

    assert cli.run(list(command)) == DEPENDENCY_DOWN

    said = " ".join("".join(capfd.readouterr()).split())
    assert "clickserve.toml or REDIS_URL names another" in said
    subcommand = command[: 1 if command[0] != "features" else 2]
    assert cli.run([*subcommand, "--help"]) == 0
    assert ("--redis-url" in said) == ("--redis-url" in capfd.readouterr().out)


def test_a_node_of_a_cluster_is_not_taken_for_a_server(materialize: Command, cluster: Cluster) -> None:
    """It would hold a third of the rows."""
    code, said = materialize(f"redis://127.0.0.1:{cluster.servers[0].port}")

    assert code == DEPENDENCY_DOWN
    assert "write redis+cluster://" in said


def test_a_server_is_not_taken_for_a_cluster(materialize: Command, server: Server) -> None:
    """The other way round."""
    code, said = materialize(f"redis+cluster://127.0.0.1:{server.port}")

    assert code == DEPENDENCY_DOWN
    assert said.count("write redis://") == 1


def test_tls_is_not_looked_for_where_there_is_none(materialize: Command, server: Server) -> None:
    """A plain server takes the greeting of TLS for half a command, and waits for the rest of it."""
    code, said = materialize(f"rediss://127.0.0.1:{server.port}")

    assert code == DEPENDENCY_DOWN
    assert "Does that port speak TLS?" in said


def test_sentinels_that_refuse_or_know_no_such_master_say_so(materialize: Command, watched: Watched) -> None:
    """Three things can be wrong; the message names them all, with what the Sentinels said."""
    without_password = watched.url.partition("?")[0]
    other_master = watched.url.replace("clickserve-master", "nobody")

    refused = materialize(without_password)
    unknown = materialize(other_master)

    assert refused[0] == unknown[0] == DEPENDENCY_DOWN
    assert "sentinel_password" in refused[1]
    assert "'nobody'" in unknown[1]
    assert PASSWORD not in refused[1] + unknown[1]


async def test_sentinels_are_named_without_the_librarys_objects(materialize: Command, watched: Watched) -> None:
    """redis-py lists each Sentinel with all settings of its pool, before the advice; serving says it in every log."""
    nobody = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    query = "?sentinel_username=watcher&sentinel_password=silent"
    away = f"redis+sentinel://reader:hush@{nobody}/clickserve-master/0{query}"
    refused = watched.url.partition("?")[0] + "?sentinel_password=silent"
    said: list[str] = []

    for url in (away, refused):
        code, text = materialize(url)
        assert code == DEPENDENCY_DOWN
        async with aclosing(open_store(url)) as store:
            with pytest.raises(StoreDown) as while_listening:
                await store.get_many([b"k"], timeout_ms=5_000)
        said += [text.splitlines()[-1], str(while_listening.value)]

    assert "No master found for 'clickserve-master' (Sentinels: no connection). Name Sentinels that run" in said[0]
    assert "No master found for 'clickserve-master' (Sentinels: refused us). Name Sentinels that run" in said[2]
    hidden = ("object at", "<", "reader", "hush", "watcher", "silent", PASSWORD)
    assert [(word, text) for text in said for word in hidden if word in text] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://h:6379",
        "redis://h:6379?ssl_cert_reqs=none",
        "redis://h:6379 ",
        "redis://h:6379/nine",
        "redis+sentinel://h:26379",
        "redis+cluster://h:7000/1",
        "redis://h?tls=1",
    ],
)
def test_a_malformed_url_is_a_mistake_of_usage(materialize: Command, url: str) -> None:
    """No server is asked."""
    code, said = materialize(url)

    assert code == USAGE
    assert "redis.url = " in said


def test_doctor_needs_no_more_rights_than_serving(urls: StoreUrls) -> None:
    """It is what people run when something is wrong; the reading user's rights suffice for it."""
    well = [found.verdict for found in check_store(urls.read, embedded=False)]

    assert "failure" not in well


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, stores: dict[str, Server]) -> ServedProject:
    """A champion, and its rows in every store."""
    project = make_served_project(tmp_path_factory.mktemp("served"), name="shop")
    for server in stores.values():
        project.materialize(f"redis://127.0.0.1:{server.port}")
    return project


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """A server of each version that is here."""
    with ExitStack() as stack:
        started = {}
        for version, program in PROGRAMS.items():
            with suppress(pytest.skip.Exception):
                started[version] = start(program(), tmp_path_factory.mktemp(version))
                stack.callback(started[version].close)
        yield started


RULES_OF_SERVING = [rule for rule in documented_users("shop")["serve"][1] if rule[0] in "+~"]


@pytest.mark.parametrize("missing", ["", *RULES_OF_SERVING])
@pytest.mark.parametrize("version", PROGRAMS)
def test_doctor_names_each_right_that_serving_lacks(
    shop: ServedProject, stores: dict[str, Server], version: str, missing: str
) -> None:
    """Without +xrange a service starts, answers, and never takes a changed ad: nobody else would tell."""
    if version not in stores:
        pytest.skip(f"{version} is not here")
    server = stores[version]
    name, rules = documented_users("shop")["serve"]
    server.client.execute_command("ACL SETUSER", name, *(rule for rule in rules if rule != missing))
    url = with_login(f"redis://127.0.0.1:{server.port}", name, PASSWORD)
    settings = Settings(registry=RegistrySettings(dir=shop.registry_dir), redis=RedisSettings(url=url))

    found = examine(settings)

    failures = [finding for finding in found if finding.verdict == "failure"]
    assert {finding.exit_code for finding in failures} == ({DEPENDENCY_DOWN} if missing else set())
    told = " ".join(f"{finding.seen} {finding.advice}" for finding in failures)
    # Redis 6.2 names the command and not its subcommand.
    named = missing.lstrip("+").split("|")[0] if version == "redis-6.2" else missing.lstrip("+")
    assert named in told
    if missing in READS or missing.startswith("~"):
        (rights,) = (finding for finding in failures if finding.check == "store rights")
        assert rights.advice.startswith(f"ACL SETUSER USER {missing};")


@pytest.mark.parametrize(
    ("mistake", "way_out"),
    [
        ("wrong password", "Correct user and password in the URL: redis://USER:PASSWORD@HOST"),
        ("password of nobody", "This server has no password"),
        ("missing right", "Give the user the rights that docs/redis.md lists"),
        ("database", "no database of that number"),
        ("TLS", "Does that port speak TLS?"),
        ("cluster", "write redis://"),
        ("sentinel", "This server is no Sentinel"),
        ("nobody there", "Is it running there?"),
    ],
)
def test_doctor_has_a_way_out_of_each_mistake(server: Server, urls: StoreUrls, mistake: str, way_out: str) -> None:
    """A server that runs is not to be started: the advice is that of the mistake, and said once."""
    server.client.execute_command(
        "ACL SETUSER", "blind", "reset", "on", f">{PASSWORD}", "~*", "+ping", "+client|setname"
    )
    at = f"127.0.0.1:{server.port}"
    url = {
        "wrong password": with_login(f"redis://{at}", "clickserve-serve", "wrong"),
        "password of nobody": f"redis://:hush@{at}",
        "missing right": with_login(f"redis://{at}", "blind", PASSWORD),
        "database": f"redis://{at}/99",
        "TLS": f"rediss://{at}",
        "cluster": f"redis+cluster://{at}",
        "sentinel": f"redis+sentinel://{at}/main",
        "nobody there": f"redis://127.0.0.1:{free_port()}",
    }[mistake]

    (down,) = check_store(url, embedded=False, timeout_ms=500)

    assert down.verdict == "failure"
    assert way_out in down.advice
    assert way_out not in down.seen
    assert "127.0.0.1" in down.seen
    assert "Start the server" not in down.advice
