"""What a script learns from an exit status alone: call me differently, mend a dependency, or look at the message."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_store.errors import LogError, StoreDown
from service import cli, exit_codes

FEATURES = '[project]\nname = "shop"\n[log]\nuser_id = "nobody"\n'


@pytest.mark.parametrize(
    ("error", "code"), [(LogError("torn"), exit_codes.FAILURE), (StoreDown("away"), exit_codes.DEPENDENCY_DOWN)]
)
def test_a_bad_input_and_a_lost_store_are_told_apart(error: Exception, code: int) -> None:
    """The second may be tried again, the first may not."""
    assert exit_codes.exit_code(error) == code


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["materialize"], "features.toml says what the columns mean"),
        (["materialize", "--data", "csv:log.csv"], "features.toml says what the columns mean"),
        (["train", "--data", "log.csv"], '"log.csv" names no log; write KIND:PATH'),
        (
            ["train", "--data", "csv:log.csv", "--features", "features.toml"],
            'log.user_id: log.csv has no column "nobody"',
        ),
    ],
)
def test_a_command_that_cannot_be_meant_ends_as_a_usage_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    """Flags or features.toml are to be changed, not the data."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user,clicked\nu1,1\nu2,0\n")
    (tmp_path / "features.toml").write_text(FEATURES)

    code = cli.run(arguments)

    assert code == exit_codes.USAGE
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "recalibrate", "models list", "models show", "models import"])
@pytest.mark.parametrize("name", ["../x", "", "Mine", "x" * 65])
def test_a_name_that_is_none_is_a_usage_error(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It becomes the name of a folder, so it must not lead out of the registry."""
    code = cli.run([*command.split(), "--name", name])

    assert code == exit_codes.USAGE
    assert f"a model's name is made of a-z, 0-9, - and _, 1 to 64 of them; got {name!r}" in capsys.readouterr().err
