"""URLs of a store: what each kind means, and what is refused with the way out."""

from __future__ import annotations

import re

import pytest

from feature_store.online.redis_address import RedisAddress, shown_url


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("redis://h", "server", "redis://h:6379"),
        ("rediss://me:pw@h:1/2?ssl_ca_certs=/ca.pem", "server", "rediss://h:1"),
        ("unix:///run/redis.sock?db=3", "server", "unix:///run/redis.sock"),
        ("redis+sentinel://a,b:2/main", "sentinel", "redis+sentinel://a:26379,b:2/main"),
        ("rediss+sentinel://me:pw@a/main/4?sentinel_password=hush", "sentinel", "rediss+sentinel://a:26379/main"),
        ("redis+cluster://a,[::1]:7001", "cluster", "redis+cluster://a:6379,[::1]:7001"),
        ("rediss+cluster://me:pw@a:1,b:2/0?ssl_certfile=c", "cluster", "rediss+cluster://a:1,b:2"),
    ],
)
def test_each_kind_is_understood_and_shown_without_its_secrets(url: str, kind: str, shown: str) -> None:
    """Logs travel further than passwords may."""
    address = RedisAddress.parse(url)

    assert (address.kind, address.shown, shown_url(url)) == (kind, shown, shown)
    assert "pw" not in repr(address)
    assert "hush" not in repr(address)


@pytest.mark.parametrize(
    ("one", "same", "another"),
    [
        ("redis://h", "rediss://me:pw@H:6379/0?ssl_ca_certs=/ca", "redis://h:6380"),
        ("redis://h/3", "redis://me:pw@h?db=3", "redis://h/4"),
        ("unix:///run/s", "unix://me:pw@/run/s?db=0", "unix:///run/s?db=1"),
        ("redis+cluster://a,b:2", "redis+cluster://me:pw@b:2,a:6379", "redis+cluster://a,c:2"),
        ("redis+sentinel://a,b/main", "redis+sentinel://b,a/main/0", "redis+sentinel://a,b/other"),
    ],
)
def test_a_store_has_one_identity_however_it_is_spelt(one: str, same: str, another: str) -> None:
    """What is kept on disk of one store is found by all its services, and by nobody else."""
    identity = RedisAddress.parse(one).identity

    assert RedisAddress.parse(same).identity == identity
    assert RedisAddress.parse(another).identity != identity
    assert "pw" not in RedisAddress.parse(same).identity


def test_every_server_behind_a_url_gets_the_same_login_and_trust() -> None:
    """A replica that takes over is reached as its master was."""
    address = RedisAddress.parse("rediss+cluster://me:p%40w@a:1,b:2?ssl_ca_certs=%2Fca.pem")

    assert address.server_url(("::1", 7)) == "rediss://me:p%40w@[::1]:7/?ssl_ca_certs=%2Fca.pem"


def test_sentinels_have_a_login_of_their_own() -> None:
    """The password of the data is none of theirs, and theirs is none of the data's."""
    address = RedisAddress.parse("redis+sentinel://me:pw@a:1/main/2?sentinel_username=s&sentinel_password=p%2Fq")

    assert address.sentinel_url(("a", 1)) == "redis://s:p%2Fq@a:1"
    assert address.server_url(("m", 6)) == "redis://me:pw@m:6/2"


@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("", "must begin with redis://, rediss://, unix://, redis+sentinel://"),
        ("localhost:6379", "must begin with redis://"),
        ("http://h", "must begin with redis://"),
        ("valkey://h", "write redis://"),
        ("sentinel://a/main", "write redis+sentinel://"),
        ("redis-cluster://a", "write redis+cluster://"),
        ("redis+socket:///x", "write unix://"),
        ("redis://a,b", "redis+sentinel:// or a redis+cluster://"),
        ("redis+sentinel://a:1", "name yours: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"),
        ("redis+cluster://a/3", "database 0 alone, got '3'"),
        ("redis+cluster://a:x", "expected HOST:PORT, or USER:PASSWORD@HOST:PORT, got 'a:***'"),
        ("redis+cluster://a,,b", "expected HOST:PORT, got ''"),
        ("redis://h:0", "expected HOST:PORT, or USER:PASSWORD@HOST:PORT, got 'h:0'"),
        ("redis://", "expected HOST:PORT"),
        ("redis://h/abc", "a database is a number, got 'abc'"),
        ("redis://h?ssl_cacert=x", "unknown option 'ssl_cacert'; there are db, password, ssl_ca_certs"),
        ("redis://h?sentinel_password=x", "unknown option 'sentinel_password'"),
        ("unix://", "a socket has a path"),
        ("unix:///x?db=abc", "a database is a number, got 'abc'"),
        ("redis://:sec/ret@h:1", "/ as %2F, @ as %40, # as %23, ? as %3F"),
        ("redis://me:12#ret@h:1", "# as %23"),
        ("redis://:sec?ret@h:1", "? as %3F"),
        ("redis://me:p@ss/w@h:1", "/ as %2F, @ as %40"),
        ("redis://me:a[b@h", "percent-encoding"),
        ("redis://h?password=a@b", "@ as %40"),
        ("REDIS://h", "write redis:// in small letters"),
        (" redis://h", "holds a blank"),
        ("redis://h ", "holds a blank"),
        ("redis://me:pass\tword@h", "another character that is not seen"),
        ("redis://h\n", "a line end"),
        ("redis://h?ssl_ca_certs=/x", "ssl_ca_certs is for TLS; write rediss://"),
        ("redis://h?ssl_cert_reqs=none", "write rediss://"),
        ("redis+cluster://h?ssl_keyfile=k", "write rediss+cluster://"),
        ("unix:///x?ssl_ca_certs=/x", "a socket of this machine has not"),
        ("rediss://h?ssl_cert_reqs=bogus", "ssl_cert_reqs must be one of required, optional, none"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname must be one of true, false"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(url: str, way_out: str) -> None:
    """A mistake in an address must not become a store that is down for no reason."""
    with pytest.raises(ValueError, match=re.escape(way_out)):
        RedisAddress.parse(url)


@pytest.mark.parametrize("url", ["rdis://me:hush@h:1/0?password=hush", "redis://me:hush@h:0", "redis://me:hush@[::1"])
def test_a_wrong_url_is_shown_without_its_password_too(url: str) -> None:
    """The message about a mistake is logged like others."""
    assert "hush" not in shown_url(url)
