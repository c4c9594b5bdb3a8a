"""What an operator writes is read exactly, or refused with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.addresses import is_loopback
from service.errors import SettingsError
from service.settings import Settings
from service.settings_origins import load_settings


def written(folder: Path, text: str) -> Path:
    """A `clickserve.toml` with that text."""
    path = folder / "clickserve.toml"
    path.write_text(text)
    return path


def test_the_first_origin_that_speaks_decides(tmp_path: Path) -> None:
    """Flag over environment over file over default, each for its own keys."""
    path = written(tmp_path, "[server]\nport = 1\nworkers = 1\nbacklog = 1\n")
    env = {"CLICKSERVE_SERVER__PORT": "2", "CLICKSERVE_SERVER__WORKERS": "2"}

    server = load_settings(path, env, {"server.port": 3, "server.host": None}).server

    assert (server.port, server.workers, server.backlog, server.host) == (3, 2, 1, "127.0.0.1")


def test_relative_paths_start_from_the_file_that_names_them(tmp_path: Path) -> None:
    """`clickserve serve --config elsewhere/clickserve.toml` works from any folder."""
    path = written(tmp_path, '[registry]\ndir = "models"\n[items]\nsnapshot_dir = "/absolute"\n')

    settings = load_settings(path, {"CLICKSERVE_REDIS__EMBEDDED_DIR": "here"}, {})

    assert settings.registry.dir == tmp_path / "models"
    assert settings.items.snapshot_dir == Path("/absolute")
    assert settings.redis.embedded_dir == Path("here")


def test_redis_url_is_another_name_of_the_setting() -> None:
    """Hosting platforms set `REDIS_URL`."""
    settings = load_settings(None, {"REDIS_URL": "redis://cache:6379/0"}, {})

    assert settings.redis.url == "redis://cache:6379/0"


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    """Container secrets are files, and a trailing newline is not part of them."""
    secret = tmp_path / "url"
    secret.write_text("rediss://user:word@cache:6379\n")

    settings = load_settings(None, {"CLICKSERVE_REDIS__URL_FILE": str(secret)}, {})

    assert settings.redis.url == "rediss://user:word@cache:6379"


def test_settings_are_shown_without_passwords() -> None:
    """They are logged at every start."""
    settings = load_settings(None, {"REDIS_URL": "redis://user:word@cache:6379"}, {})

    assert settings.shown()["redis"]["url"] == "redis://***@cache:6379"
    assert "word" not in repr(settings)


def test_a_password_in_the_query_is_masked_too() -> None:
    """redis-py takes it there as well."""
    settings = load_settings(None, {"REDIS_URL": "redis://cache:6379?password=word&db=2"}, {})

    assert settings.shown()["redis"]["url"] == "redis://cache:6379?password=***&db=2"


def test_names_that_kubernetes_sets_are_not_ours() -> None:
    """Beside a Service called clickserve every pod has them; the program must still start."""
    env = {
        "CLICKSERVE_PORT": "tcp://10.0.0.1:8080",
        "CLICKSERVE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "CLICKSERVE_SERVICE_HOST": "10.0.0.1",
        "CLICKSERVE_SERVICE_PORT_HTTP": "8080",
        "CLICKSERVE_DEBUG": "1",
    }

    assert load_settings(None, env, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", "[server] has no key 'prot'; did you mean 'port'?"),
        ("[servr]\nport = 1\n", "unknown section [servr]; did you mean [server]?"),
        ("server = 1\n", "server must be a section, written [server]"),
        ("[server]\nport = '80'x\n", "is not TOML"),
        ("[server]\nport = 1.5\n", "[server] port must be a whole number, got 1.5"),
        ("[server]\nport = true\n", "[server] port must be a whole number, got True"),
        ("[server]\nhost = 1\n", "[server] host must be text, got 1"),
        ("[registry]\ndir = ''\n", "[registry] dir must be a path, got ''"),
        ("[deadline]\ntotal_ms = nan\n", "[deadline] total_ms must be a number, got nan"),
        ("[server]\nport = 70000\n", "server.port = 70000 must be at most 65535"),
        ("[server]\nworkers = 0\n", "server.workers = 0 must be more than 0"),
        ("[server]\ndrain_ms = -1\n", "server.drain_ms = -1 must be 0 or more"),
        ("[admin]\nport = 8080\n", "server.port and admin.port are both 8080"),
        ("[admin]\nhost = '0.0.0.0'\n", "set admin.token_file"),
        ("[deadline]\nfeatures_ms = 30\n", "deadline.features_ms = 30 must be less than deadline.total_ms = 30"),
        ("[admission]\nqueue_ms = 40\n", "admission.queue_ms = 40 must be less than deadline.total_ms = 30"),
        ("[server]\ngrace_ms = 10\n", "server.drain_ms = 2000 must be less than server.grace_ms = 10"),
        ("[items]\nstale_ms = 10\n", "items.refresh_ms = 250 must be less than items.stale_ms = 10"),
        ("[items]\nsource = 'disk'\n", "items.source = 'disk' must be table or store"),
        ("[plan]\nkind = 'generic'\nkernel = 'compiled'\n", "plan.kernel = 'compiled' insists on a kernel"),
        ("[redis]\nmax_merged_reads = 0\n", "redis.max_merged_reads = 0 must be more than 0"),
        ("[log]\nlevel = 'loud'\n", "log.level = 'loud' must be debug, info, warning or error"),
        ("[log]\naccess_sample = 2\n", "log.access_sample = 2 must be at most 1"),
        ("[served_log]\nsample = 1.5\n", "served_log.sample = 1.5 must be at most 1"),
        ("[served_log]\nsample = 0\n", "served_log.sample = 0 must be more than 0"),
        ("[redis]\nurl = 'http://u:secret@h'\n", "redis.url = 'http://***@h': it must begin with redis://"),
        ("[redis]\nurl = 'redis://h:notaport'\n", "redis.url = 'redis://***': expected HOST:PORT, or USER"),
        ("[redis]\nurl = 'redis://h/abc'\n", "redis.url = 'redis://h/abc': a database is a number"),
        ("[redis]\nurl = 'redis://h?foo=bar'\n", "redis.url = 'redis://h?foo=***': unknown option 'foo'"),
        ("[redis]\nurl = ['redis://:word@h']\n", "[redis] url must be text, got list"),
        ("[redis]\nurl = 'redis://[::1'\n", "redis.url = 'redis://[::1': no HOST:PORT can be read"),
        ("[server]\nworkers = 100000\n", "server.workers = 100000 must be at most 1024"),
        ("[server]\nmax_body_bytes = 10\n", "server.max_body_bytes = 10 must be at least 1024"),
        ("[registry]\nmodels = ['../x']\n", "registry.models: a model's name is made of a-z, 0-9, - and _"),
        ("[registry]\nmodels = ['a', 'b', 'a']\n", "registry.models names 'a' twice"),
        ("[server]\nbacklog = 99999999999\n", "server.backlog = 99999999999 must be at most 2147483647"),
    ],
)
def test_a_wrong_file_is_refused_with_the_way_out(tmp_path: Path, text: str, message: str) -> None:
    """A setting that is silently ignored looks like one that does not work."""
    path = written(tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        load_settings(path, {}, {})

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"CLICKSERVE_SERVER__PRT": "1"},
            "unknown environment name CLICKSERVE_SERVER__PRT; did you mean CLICKSERVE_SERVER__PORT?",
        ),
        ({"CLICKSERVE_SERVER__PORT": "eighty"}, "CLICKSERVE_SERVER__PORT must be a whole number, got 'eighty'"),
        (
            {"REDIS_URL": "redis://a", "CLICKSERVE_REDIS__URL": "redis://b"},
            "CLICKSERVE_REDIS__URL and REDIS_URL are both set and differ",
        ),
        ({"CLICKSERVE_REDIS__URL_FILE": "/nowhere/at/all"}, "CLICKSERVE_REDIS__URL_FILE names /nowhere/at/all"),
    ],
)
def test_a_wrong_environment_is_refused_with_the_way_out(env: dict[str, str], message: str) -> None:
    """As for the file."""
    with pytest.raises(SettingsError) as caught:
        load_settings(None, env, {})

    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path is usually misspelt."""
    with pytest.raises(SettingsError, match=r"absent\.toml cannot be read: No such file"):
        load_settings(tmp_path / "absent.toml", {}, {})


def test_a_setting_of_no_such_name_is_answered_with_the_nearest() -> None:
    """`--set` names section and key in one word."""
    with pytest.raises(SettingsError, match=r"no setting server\.prt; did you mean server\.port\?"):
        load_settings(None, {}, {"server.prt": "1"})


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.1.2.3", False), ("db", False)],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    """Only there may the admin port do without a token."""
    assert is_loopback(host) is expected
