"""docs/configuration.md is what the code says, and what the code says of each setting is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.serve import FLAG_SETTINGS
from service.errors import SettingsError
from service.settings import Settings
from service.settings_origins import load_settings
from service.settings_reference import COMMAND, Described, sections
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs/configuration.md"
DESCRIBED = [setting for _, _, settings in sections() for setting in settings]


def test_the_committed_page_is_what_the_command_prints() -> None:
    """A setting that is added or changed is not done before its page is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLICKSERVE_")}
    command = [sys.executable, "-m", "service", *COMMAND.split()[1:]]

    printed = subprocess.run(command, env=kept, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert printed == PAGE.read_text(), f"write it anew: {COMMAND} > docs/configuration.md"


def test_every_setting_is_there_with_a_meaning() -> None:
    """No more, no fewer than `config show` prints."""
    shown = {f"{section}.{key}" for section, keys in Settings().shown().items() for key in keys}

    assert {f"{setting.section}.{setting.key}" for setting in DESCRIBED} == shown
    assert [f"{setting.section}.{setting.key}" for setting in DESCRIBED if setting.meaning.strip(" .") == ""] == []


@pytest.mark.parametrize(
    "setting",
    [each for each in DESCRIBED if each.default != "none"],
    ids=lambda setting: f"{setting.section}.{setting.key}",
)
def test_the_variable_of_the_page_sets_it_to_the_default_of_the_page(setting: Described) -> None:
    """What is printed can be pasted."""
    pasted = load_settings(None, {setting.variable: setting.default.strip("`")}, {})

    assert pasted == Settings()


@pytest.mark.parametrize("setting", DESCRIBED, ids=lambda setting: f"{setting.section}.{setting.key}")
def test_the_bounds_of_the_page_are_those_of_the_service(setting: Described) -> None:
    """Just beyond each bound is refused."""
    for bound in setting.bounds:
        number = re.fullmatch(r"(more than|at least|at most) (\d+)|(0 or more)|(less|more) than `(\w+)\.(\w+)`", bound)
        if number is None:
            continue  # words for texts: the loader's own message
        if number[5]:
            beyond = getattr(getattr(Settings(), number[5]), number[6])
        elif number[3]:
            beyond = -1
        else:
            beyond = int(number[2]) + {"more than": 0, "at least": -1, "at most": 1}[number[1]]
        with pytest.raises(SettingsError):
            load_settings(None, {setting.variable: str(beyond)}, {})


def test_flags_go_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    """The order that the page promises, one origin taken away after the other."""
    file = tmp_path / "clickserve.toml"
    file.write_text("[server]\nport = 3\n")
    environment = {"CLICKSERVE_SERVER__PORT": "2"}
    flags = {"server.port": 1}

    ports = [
        load_settings(path, env, given).server.port
        for path, env, given in ((file, environment, flags), (file, environment, {}), (file, {}, {}), (None, {}, {}))
    ]

    assert ports == [1, 2, 3, Settings().server.port]
    assert set(FLAG_SETTINGS.values()) <= {f"{setting.section}.{setting.key}" for setting in DESCRIBED}
