"""`rediss://`: rows go through TLS, and a connection that cannot be trusted is refused with the way out.

The embedded server speaks no TLS, so this runs where Debian's `redis-server` is installed.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from feature_store.errors import StoreDown
from feature_store.online.codec import decode_rows
from feature_store.online.layout import ViewKeys
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


def certificate(directory: Path, name: str) -> Path:
    """A certificate that signs itself, for 127.0.0.1 alone; its key lies beside it."""
    path = directory / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "1"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A Redis server that speaks nothing but TLS."""
    for program in ("redis-server", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {program}")
    directory = tmp_path_factory.mktemp("tls")
    own = certificate(directory, "own")
    certificate(directory, "other")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *("redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--save", ""),
            *("--tls-cert-file", str(own), "--tls-key-file", str(own.with_suffix(".key"))),
            *("--tls-ca-cert-file", str(own), "--tls-auth-clients", "no"),
        ],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as log:
        said = []
        for line in log:
            said.append(line)
            if "Ready to accept connections" in line:
                break
        else:
            pytest.fail("the server did not start:\n" + "".join(said))
        yield TlsServer(port, own)
        process.terminate()
        process.wait()


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
