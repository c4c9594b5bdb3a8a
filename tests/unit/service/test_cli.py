"""The command line as a whole; what single commands do is tested with the parts they call."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.registry.artifact import MANIFEST
from service import exit_codes
from service.cli import run
from service.product_version import product_version

ADMIN_TOKEN = "[admin]\ntoken_file = 'absent'\n"


def test_the_version_is_told_where_everybody_looks_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts ask every program so."""
    assert run(["--version"]) == 0

    assert capsys.readouterr().out == f"clickserve {product_version()}\n"


@pytest.mark.parametrize("group", ["features", "models", "config"])
def test_lines_of_help_are_whole(
    group: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns the first sentence must fit, or the listing ends in dots where it gets interesting."""
    monkeypatch.setenv("COLUMNS", "80")

    assert run([group, "--help"]) == 0

    shown = capsys.readouterr().out
    assert "Commands:" in shown
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("command", [["models", "list"], ["models", "show"], ["models", "promote"]])
def test_the_registry_is_where_the_configuration_says(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`serve` reads it there: a promotion elsewhere would succeed and change nothing."""
    config = tmp_path / "clickserve.toml"
    config.write_text("[registry]\ndir = 'elsewhere'\n")

    run([*command, "--config", str(config)])

    said = "".join(capsys.readouterr())
    assert str(tmp_path / "elsewhere") in "".join(said.split("\n"))


def test_the_list_of_a_name_without_models_names_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever published under a name and lists without it would believe that the model is lost."""
    version = tmp_path / "summer" / "v000001-c0c0c0c0"
    version.mkdir(parents=True)
    (version / MANIFEST).write_text("{}")

    assert run(["models", "list", "--registry", str(tmp_path)]) == 0

    assert "(--name NAME; registry.models of the service): summer" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("command", "ad"), [("rank", ["a1"]), ("explain", ["--ad", "a1"])])
def test_a_key_of_the_context_is_given_once(command: str, ad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The last would win in silence, and the answer be of another hour than the one that was looked at."""
    asked = ["--url", "http://127.0.0.1:9", "--user", "u1", "--context", "hour=20", "--context", "hour=21", *ad]

    assert run([command, *asked]) == exit_codes.USAGE

    assert "--context hour is given twice, with 20 and 21" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[registry]\nmodels = ['../x']\n", "registry.models"),
        ("[registry]\nmodels = ['a', 'a']\n", "registry.models"),
        ("[server]\nworkers = 100000\n", "server.workers"),
        ("[server]\nmax_body_bytes = 10\n", "server.max_body_bytes"),
        (ADMIN_TOKEN, "admin.token_file"),
    ],
)
@pytest.mark.parametrize("command", [["config", "check"], ["serve", "--port", "0", "--admin-port", "0"]])
def test_what_serve_refuses_the_check_refuses(
    command: list[str], text: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check that says `ok` to what cannot start is worth nothing before a deployment."""
    config = tmp_path / "clickserve.toml"
    config.write_text(text)

    assert run([*command, "--config", str(config)]) == exit_codes.USAGE

    assert name in "".join(capsys.readouterr())
