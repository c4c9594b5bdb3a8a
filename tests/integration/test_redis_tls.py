"""`rediss://`: rows go through TLS, and a connection that cannot be trusted is refused with the way out.

The embedded server speaks no TLS, so most of this runs where a Redis 7 is (`tests/redis_servers/programs.py`).
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from feature_store.errors import StoreDown
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys
from service import cli
from service.checkup.store import check_store
from tests.redis_servers.cluster import Cluster
from tests.redis_servers.programs import redis_7
from tests.redis_servers.sentinels import Watched
from tests.redis_servers.server import certificates, start_tls
from tests.redis_servers.stores import PASSWORD
from tests.stores import RedisParts, make_view, numbered, project

__all__ = ["project"]

USERS = make_view("user_profile", "user")
ADS = make_view("ad_profile", "ad")


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A running server, and the authority that a client must name; others lie beside it."""

    port: int
    own_authority: Path

    def url(self, authority: Path, *, host: str = "127.0.0.1") -> str:
        """The server, trusted if that authority signed its certificate."""
        return f"rediss://{host}:{self.port}?ssl_ca_certs={authority}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A Redis server that speaks nothing but TLS."""
    program, directory = redis_7(), tmp_path_factory.mktemp("tls")
    own = certificates(directory, ("own", "other"))["own"]
    running = start_tls(program, directory, own, "--tls-ca-cert-file", str(own), "--tls-auth-clients", "no")
    yield TlsServer(running.port, own)
    running.close()


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """One that also asks its clients for a certificate: `client.pem`, which lies beside its own."""
    program, directory = redis_7(), tmp_path_factory.mktemp("strict")
    files = certificates(directory, ("own", "client", "stranger"))
    running = start_tls(program, directory, files["own"], "--tls-ca-cert-file", str(files["client"]))
    yield TlsServer(running.port, files["own"])
    running.close()


async def test_rows_go_through_tls(server: TlsServer, project: str) -> None:
    """Written by the blocking client, read by both kinds: each makes its TLS connections in its own way."""
    parts = RedisParts(server.url(server.own_authority), project)
    try:
        for view, ids in ((USERS, ["u1", "u2"]), (ADS, ["a1"])):
            with parts.writer.session(view) as session:
                session.write(ids, *numbered(view, [7.0] * len(ids), parts.clock()))
                session.finish()

        values = await parts.store.get_many(ViewKeys(project, USERS).rows(["u1", "u404"]), timeout_ms=5_000)
        states = parts.catalogue.states()

        rows = decode_rows(USERS, values)
        assert rows.found.tolist() == [True, False]
        assert rows.floats[0].tolist() == [7.0, 7.0]
        assert {(state.view, state.rows) for state in states} == {("user_profile", 2), ("ad_profile", 1)}
    finally:
        await parts.aclose()


@pytest.mark.parametrize(
    ("authority", "host", "way_out"),
    [
        ("other.pem", "127.0.0.1", "?ssl_ca_certs=FILE"),
        ("absent.pem", "127.0.0.1", "ssl_ca_certs"),
        ("own.pem", "localhost", "a name that the server's certificate has"),
    ],
)
async def test_a_server_that_cannot_be_trusted_is_refused_with_the_way_out(
    server: TlsServer, project: str, authority: str, host: str, way_out: str
) -> None:
    """OpenSSL's words alone say what failed, not what to write into the URL."""
    parts = RedisParts(server.url(server.own_authority.with_name(authority), host=host), project)
    try:
        with pytest.raises(StoreDown) as while_reading:
            await parts.store.get_many(ViewKeys(project, USERS).rows(["u1"]), timeout_ms=5_000)
        with pytest.raises(StoreDown) as while_listing:
            parts.catalogue.states()

        assert way_out in str(while_reading.value)
        assert way_out in str(while_listing.value)
    finally:
        await parts.aclose()


@pytest.mark.parametrize("shown", ["nothing", "stranger.pem"])
async def test_a_server_that_wants_another_certificate_refuses(
    strict_server: TlsServer, project: str, shown: str
) -> None:
    """With the right one the whole contract passes (`tests/contracts`)."""
    url = strict_server.url(strict_server.own_authority)
    if shown != "nothing":
        path = strict_server.own_authority.with_name(shown)
        url += f"&ssl_certfile={path}&ssl_keyfile={path.with_suffix('.key')}"
    parts = RedisParts(url, project)
    try:
        with pytest.raises(StoreDown, match="rediss://127"):
            await parts.store.get_many(ViewKeys(project, USERS).rows(["u1"]), timeout_ms=5_000)
        with pytest.raises(StoreDown, match="rediss://127"):
            parts.catalogue.states()
    finally:
        await parts.aclose()


def test_a_command_ends_with_the_code_of_a_dependency(server: TlsServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A name that the certificate does not have: one line with the way out."""
    url = server.url(server.own_authority, host="localhost")

    code = cli.run(["features", "inspect", "user", "u1", "--project", "shop", "--redis-url", url, "--json"])

    assert code == 69
    assert "Connect by a name that the server's certificate has" in capfd.readouterr().err


@pytest.fixture
def tls_listener(tmp_path: Path) -> Iterator[int]:
    """The port of something that speaks TLS and nothing else, so that this needs no server with TLS."""
    own = certificates(tmp_path, ("own",))["own"]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own, own.with_suffix(".key"))

    def refuse_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                tls.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse_all)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("redis://127.0.0.1:{}", "Then write rediss://"),
        ("redis+cluster://127.0.0.1:{}", "Then write rediss://"),
        ("rediss+cluster://127.0.0.1:{}", "?ssl_ca_certs=FILE"),
        ("rediss+cluster://127.0.0.1:{}?ssl_ca_certs=/absent.pem", "A file that the URL names"),
    ],
)
def test_doctor_has_a_way_out_where_tls_is_spoken(tls_listener: int, url: str, way_out: str) -> None:
    """A server that wants TLS hangs up on whoever does not; in a Cluster the node's own words lie one error deeper."""
    (down,) = check_store(url.format(tls_listener), embedded=False)

    assert way_out in down.advice


async def test_a_cluster_speaks_tls_too(tmp_path: Path, project: str) -> None:
    """Every node is reached by its TLS port and trusted as the URL says."""
    program = redis_7()
    own = certificates(tmp_path, ("own",))["own"]
    key = own.with_suffix(".key")
    tls = ("--tls-cert-file", str(own), "--tls-key-file", str(key), "--tls-ca-cert-file", str(own))
    with Cluster.running(program, tmp_path / "cluster", *tls, "--tls-auth-clients", "no", tls_ports=True) as cluster:
        parts = RedisParts(f"{cluster.tls_url}?ssl_ca_certs={own}", project)
        try:
            with parts.writer.session(USERS) as session:
                session.write(["u1", "u2", "u3"], *numbered(USERS, [7.0] * 3, parts.clock()))
                session.finish()

            values = await parts.store.get_many(ViewKeys(project, USERS).rows(["u1", "u2", "u3"]), timeout_ms=5_000)

            assert decode_rows(USERS, values).found.tolist() == [True] * 3
        finally:
            await parts.aclose()


async def test_sentinels_and_the_master_they_name_speak_tls_too(tmp_path: Path, project: str) -> None:
    """The authority in the URL holds for both."""
    program = redis_7()
    own = certificates(tmp_path, ("own",))["own"]
    key = own.with_suffix(".key")
    tls = ("--tls-cert-file", str(own), "--tls-key-file", str(key), "--tls-ca-cert-file", str(own))
    options = (*tls, "--tls-auth-clients", "no")
    with Watched.running(program, tmp_path / "watched", sentinel_password=PASSWORD, tls=options) as watched:
        parts = RedisParts(f"{watched.url}&ssl_ca_certs={own}", project)
        try:
            with parts.writer.session(USERS) as session:
                session.write(["u1"], *numbered(USERS, [7.0], parts.clock()))
                session.finish()

            values = await parts.store.get_many(ViewKeys(project, USERS).rows(["u1"]), timeout_ms=5_000)

            assert decode_rows(USERS, values).found.tolist() == [True]
        finally:
            await parts.aclose()
