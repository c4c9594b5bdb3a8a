"""Reports on a disk that is full: the old ones stay, nothing half lies about, and the file is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.whole_files import write_whole
from tests.conftest import REPOSITORY

WRITERS = {
    "report": ("report.html", "from loadtest.bench import write_report", "write_report(full_report(), folder)"),
    "compare": (
        "compare.html",
        "from loadtest.comparing.page import write_page",
        "write_page(compare(*[Side(folder, (full_report(seed),)) for seed in (1, 2)]), folder)",
    ),
    "suite": ("suite.html", "from loadtest.suite.pages import write_report", "write_report(suite_result(), folder)"),
    "document": (
        "performance.md",
        "from loadtest.suite.pages import write_document",
        "write_document(suite_result(), folder / 'performance.md')",
    ),
}
"""Per command, the largest file that it writes, and how."""

WRITE = """
import resource, sys
from pathlib import Path
from loadtest.comparing.sides import Side
from loadtest.comparing.verdict import compare
from tests.loadtest.report_samples import full_report
from tests.loadtest.suite_runs import suite_result
{imports}
folder = Path(sys.argv[1])
{write}
limit = max(file.stat().st_size for file in folder.rglob("*") if file.is_file()) - 1
for file in folder.rglob("*"):
    if file.is_file():
        file.write_text("older")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    {write}
except OSError as error:
    print(error.strerror, error.filename)
"""


@pytest.mark.parametrize("what", WRITERS)
def test_all_files_of_a_report_are_new_or_none_is(what: str, tmp_path: Path) -> None:
    """A limit just below the largest file stands for a full disk: the others would have fitted."""
    largest, imports, write = WRITERS[what]

    ended = subprocess.run(
        [sys.executable, "-c", WRITE.format(imports=imports, write=write), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout == f"File too large {tmp_path / largest}\n"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert {path.read_text() for path in files} == {"older"}


def test_what_cannot_be_replaced_leaves_the_others_alone(tmp_path: Path) -> None:
    """A folder in the place of the second file is found before the first is changed."""
    (tmp_path / "a").write_text("older")
    (tmp_path / "b").mkdir()

    with pytest.raises(IsADirectoryError) as refused:
        write_whole({tmp_path / "a": "newer", tmp_path / "b": "newer"})

    assert refused.value.filename == str(tmp_path / "b")
    assert (tmp_path / "a").read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_link_keeps_pointing_and_a_device_stays_one(tmp_path: Path) -> None:
    """Whoever keeps reports elsewhere, or writes to /dev/stdout, means the place and not the name."""
    (tmp_path / "kept").write_text("older")
    (tmp_path / "link").symlink_to(tmp_path / "kept")

    write_whole({tmp_path / "link": "newer\u00e4", Path("/dev/null"): b"gone"})

    assert (tmp_path / "kept").read_text(encoding="utf-8") == "newer\u00e4"
    assert (tmp_path / "link").is_symlink()
    assert Path("/dev/null").is_char_device()
