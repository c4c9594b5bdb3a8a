"""Commands that cannot be carried out: one line with the thing, the value and the way out, and an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.trainers import DEEP_LEARNERS
from service import exit_codes
from tests.e2e.command_line import log_of, refusal
from tests.learning import take_torch_away


@pytest.mark.parametrize(
    ("log_table", "message"),
    [
        ('clickd = "clicked"', 'log.clickd: unknown key, did you mean "clicked"?'),  # else a feature that does not help
        ('user_id = "clicked"', "log.clicked already"),  # a rate per "user" would be the outcome itself
    ],
)
def test_features_that_cannot_be_meant_are_a_usage_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], log_table: str, message: str
) -> None:
    (tmp_path / "features.toml").write_text(
        f'[project]\nname = "shop"\n[log]\n{log_table}\n[context.device]\ndtype = "id"\n'
    )

    said = refusal(
        capsys,
        ["train", *log_of(trained), "--features", str(tmp_path / "features.toml"), "--registry", str(tmp_path)],
        code=exit_codes.USAGE,
    )

    assert f"log.{log_table.split()[0]}" in said
    assert message in said.replace("'", '"')


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data", "nowhere"], exit_codes.USAGE, "KIND:PATH"),
        (["train", "--data", "simulated:/no/such/folder"], exit_codes.USAGE, "/no/such/folder"),
        (["train", "--data", "criteo:/no/such.tsv"], exit_codes.USAGE, "/no/such.tsv"),
        (["train", "--data", "criteo:x", "--rows", "0.8:0.2"], exit_codes.USAGE, "FROM < TO"),
        (["train"], exit_codes.USAGE, "--data"),
        (["rnak"], exit_codes.USAGE, "No such command"),
        (["models", "show", "--registry", "/no/such/registry"], exit_codes.USAGE, "clickserve train"),
        (["evaluate", "--data", "criteo:x", "--registry", "/no/such/registry"], exit_codes.USAGE, "clickserve train"),
        (["train", "--data", "criteo:x", "--name", "a/b"], exit_codes.USAGE, "made of a-z"),
        (["models", "list", "--name", "../b"], exit_codes.USAGE, "made of a-z"),
        (["train", "--data", "criteo:x", "--seed", "-1"], exit_codes.USAGE, "x>=0"),
        (["train", "--data", "criteo:x", "--negative-rate", "nan"], exit_codes.USAGE, "no finite number"),
        (["train", "--data", "criteo:x", "--search", "inf"], exit_codes.USAGE, "x<=10080"),
        (["train", "--data", "criteo:x", "--search", "nan"], exit_codes.USAGE, "no finite number"),
        (["train", "--data", "criteo:x", "--search", "1e300"], exit_codes.USAGE, "x<=10080"),
        (["evaluate", "--data", "criteo:x", "--threshold", "nan"], exit_codes.USAGE, "no finite number"),
        (["evaluate", "--data", "criteo:x", "--clip", "nan"], exit_codes.USAGE, "no finite number"),
        (["evaluate", "--data", "criteo:x", "--clip", "inf"], exit_codes.USAGE, "no finite number"),
        (["rank", "--user", "u1", "--timeout", "inf", "a1"], exit_codes.USAGE, "no finite number"),
        (["bench", "--rate", "nan"], exit_codes.USAGE, "no finite number"),
        (["materialize"], exit_codes.USAGE, "features.toml"),
        (["materialize", "--data", "simulated:x", "--as-of", "yesterday"], exit_codes.USAGE, "yesterday"),
        (["materialize", "--data", "simulated:x", "--as-of", "9" * 17], exit_codes.USAGE, "no as-of time"),
        (["rank", "--user", "u1", "--url", "ftp://x", "a1"], exit_codes.USAGE, "http://host:port"),
        (["rank", "--user", "u1", "--url", "http://127.0.0.1:1", "a1"], exit_codes.DEPENDENCY_DOWN, "is it running?"),
        (["bench"], exit_codes.USAGE, "--url"),
        (["simulate", "--out", "/tmp/x", "--preset", "sim-v0"], exit_codes.USAGE, "sim-v1"),
    ],
)
def test_a_command_that_cannot_be_carried_out_says_why(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the thing, the value and the way out; and the status a script can branch on."""
    assert message in refusal(capsys, arguments, code=code)


@pytest.mark.parametrize(
    ("urls", "code", "message"),
    [
        (["--url", "foo"], exit_codes.USAGE, "url 'foo': expected http://HOST:PORT"),
        (["--url", "http://127.0.0.1:18080/?x"], exit_codes.USAGE, "expected http://HOST:PORT"),
        (["--url", "http://127.0.0.1:1"], exit_codes.DEPENDENCY_DOWN, "is the service up?"),
        (["turns", "foo://a", "http://127.0.0.1:1"], exit_codes.USAGE, "url 'foo://a': expected http://HOST:PORT"),
    ],
)
def test_a_load_test_tells_a_wrong_url_from_a_service_that_is_down(
    urls: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipeline waits and tries again at 69; the first will never work. `rank --url foo` ends with 2 as well."""
    (tmp_path / "workload.json").write_text(
        '{"users": {"prefix": "u", "count": 5}, "ads": {"prefix": "a", "count": 5}, "n_candidates": 2}'
    )
    files = ["--workload", str(tmp_path / "workload.json"), "--out", str(tmp_path / "out")]

    assert message in refusal(capsys, ["bench", *urls, *files], code=code)


@pytest.mark.parametrize("learner", sorted(DEEP_LEARNERS))
def test_a_library_that_is_missing_is_said_before_the_log_is_read(
    learner: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joining a large log takes minutes, and nothing of it would be used."""
    take_torch_away(monkeypatch)

    said = refusal(
        capsys, ["train", "--data", "simulated:/no/such/folder", "--model", learner], code=exit_codes.FAILURE
    )

    assert "pip install -r requirements/deep.in" in said
