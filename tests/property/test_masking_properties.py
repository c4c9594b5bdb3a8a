"""Redis URLs with any password, escaped or pasted in as it is: no message and no `config show` gives a piece of it."""

from __future__ import annotations

import json
import string
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_store.errors import StoreDown
from feature_store.online.redis_address import RedisAddress, shown_url
from feature_store.online.redis_url import understood
from service.errors import SettingsError
from service.settings_origins import load_settings

FORMS = (
    "redis://:{}@127.0.0.1:16399",
    "redis://me:{}@h:6379/0",
    "redis://{}@h",
    "rediss://me:{}@[::1]:6379/2?ssl_ca_certs=/ca.pem&db=1",
    "redis://h:6379?password={}",
    "redis://h:6379/1?password={}&db=2",
    "redis://me:{}@h?password=plain",
    "redis+sentinel://me:{}@a:1,b:2/main/0",
    "rediss+sentinel://a:1/main?sentinel_password={}",
    "redis+cluster://me:{}@a,b:2",
    "unix://me:{}@/run/redis.sock?db=0",
    "http://me:{}@h",
    "me:{}@h:6379",
    ":{}@h",
    "redis:/:{}@h",
    "redis://h/{}@x",
    "redis://h?pass={}",
)
"""Right ones, and those with a mistake beside the password."""
WITHOUT_HOST = ("redis://me:{}", "redis://:{}")
"""A piece behind an `@` is taken for the host that is missing."""

PIECES = st.lists(st.text("QXZJ", min_size=4, max_size=6), min_size=1, max_size=4)
"""What no message of ours holds by itself."""
BETWEEN = st.text(string.punctuation + " \t", min_size=1, max_size=3)
ANY_PASSWORD = st.text(
    st.one_of(st.sampled_from("QXZJ" + string.punctuation), st.characters(min_codepoint=128, exclude_categories=["C"])),
    min_size=8,
    max_size=20,
)
"""Printable, and without what our own words are made of, or it would be found in them."""


def said_about(url: str) -> str:
    """All that an operator or a log gets to read about it."""
    said = [shown_url(url)]
    for origin in ({"REDIS_URL": url}, {"CLICKSERVE_SERVER__PORT": url}, {"CLICKSERVE_REDIS__URL_FILE": url}):
        try:
            said.append(json.dumps(load_settings(None, origin, {}).shown()))
        except SettingsError as error:
            said.append(str(error))
    for read in (RedisAddress.parse, understood):
        try:
            said.append(repr(read(url)))
        except (ValueError, StoreDown) as error:
            said.append(str(error))
    return "\n".join(said)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(pieces=PIECES, between=st.lists(BETWEEN, min_size=4, max_size=4))
@example(pieces=["QXZJ", "ZXQJ"], between=["/"] * 4)
@example(pieces=["QXZJ", "ZXQJ"], between=["#"] * 4)
@example(pieces=["QXZJ", "ZXQJ"], between=["?"] * 4)
@example(pieces=["QXZJ", "ZXQJ", "QQQQ"], between=["@", "/", "@", "/"])
@example(pieces=["QXZJ", "ZXQJ"], between=["&"] * 4)
@example(pieces=["QXZJ", "ZXQJ"], between=["://"] * 4)
def test_no_piece_of_a_password_is_shown(form: str, pieces: list[str], between: list[str]) -> None:
    """A piece is enough to guess the rest, so none may be shown, whichever character cuts the password there."""
    password = pieces[0] + "".join(mark + piece for mark, piece in zip(between, pieces[1:], strict=False))

    said = said_about(form.format(password))

    assert not [piece for piece in pieces if piece in said]


@pytest.mark.parametrize("form", WITHOUT_HOST)
@given(pieces=PIECES, mark=BETWEEN.filter(lambda mark: "@" not in mark))
def test_a_login_whose_host_was_forgotten_is_not_shown_as_one(form: str, pieces: list[str], mark: str) -> None:
    """What stands where the port does is quoted only if it could be one."""
    said = said_about(form.format(mark.join(pieces)))

    assert not [piece for piece in pieces if piece in said]


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(password=ANY_PASSWORD)
def test_no_printable_password_is_shown(form: str, password: str) -> None:
    """The whole of it, of whatever letters there are in the world; percent-encoded as well."""
    said = said_about(form.format(password)) + said_about(form.format(quote(password, safe="")))

    assert password not in said
    assert quote(password, safe="") not in said


@given(password=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20))
def test_a_percent_encoded_password_arrives_as_it_is(password: str) -> None:
    """The way out that the messages name leads out."""
    written = quote(password, safe="")

    address = RedisAddress.parse(f"redis://me:{written}@h:6379/0")

    assert address.server_url(("h", 6379)) == f"redis://me:{written}@h:6379/0"
