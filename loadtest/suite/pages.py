"""Pages of a suite: one self-contained HTML page with its JSON, and a Markdown document with drawings beside it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtest.errors import LoadTestError
from loadtest.page import page_environment
from loadtest.suite.results import SuiteResult
from loadtest.suite.section import Section, SuiteTable
from loadtest.suite.tables import sections
from loadtest.whole_files import write_whole

GENERATED_BY = "clickserve bench --suite --write"
SHORT_RUN = "This is a quick look: short runs, once or twice each, and parts left out."


def read_result(path: Path) -> SuiteResult:
    """A result that `write_report` wrote.

    Raises:
        LoadTestError: it is not one.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=SuiteResult)
    except (OSError, msgspec.DecodeError) as error:
        raise LoadTestError(f"{path} is no result of a suite: {error}") from error


def write_report(result: SuiteResult, out_dir: Path) -> Path:
    """Write `suite.json` and `suite.html` into a folder; answers the page's path. Raises as `write_whole`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    page, figures = out_dir / "suite.html", msgspec.json.encode(result)
    write_whole(
        {
            out_dir / "suite.json": msgspec.json.format(figures, indent=2) + b"\n",
            page: render_html(result),
        }
    )
    return page


def render_html(result: SuiteResult) -> str:
    """The page: everything that came from outside is escaped by the template engine, only our own drawings are not."""
    template = page_environment().get_template("suite.html")
    return template.render(
        result=result, sections=sections(result), raw=msgspec.to_builtins(result), warning=_warning(result)
    )


def _warning(result: SuiteResult) -> str:
    """What a reader must know before the first figure; empty for a full run."""
    return "" if result.plan.mode == "full" else SHORT_RUN


def write_document(result: SuiteResult, path: Path) -> None:
    """Write the Markdown document, and its drawings into the folder of the same name beside it.

    Raises as `write_whole`.
    """
    found = sections(result)
    folder = path.with_suffix("")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    drawings = [drawing for section in found for drawing in section.drawings]
    write_whole(
        {
            **{folder / f"{drawing.name}.svg": drawing.svg() + "\n" for drawing in drawings},
            path: _markdown(result, found, folder.name),
        }
    )


def _markdown(result: SuiteResult, found: list[Section], folder: str) -> str:
    warning = f" {_warning(result)}" if _warning(result) else ""
    lines = [
        "# Performance",
        "",
        f"<!-- Written by `{GENERATED_BY} FILE`; do not edit by hand. -->",
        "",
        f"`{result.subject}` beside other servers that answer the same requests, in one run on one machine: "
        f"{result.cores.describe()}. Absolute times drift with the machine, ratios inside a run hold. "
        f"Machine, commit and workload stand at the end; what a figure is a statistic of, above each table.{warning}",
        "",
    ]
    for section in found:
        lines += [f"## {section.title}", ""]
        for sentence in filter(None, section.sentences):
            lines += [sentence, ""]
        for drawing in section.drawings:
            lines += [f"![{drawing.title}]({folder}/{drawing.name}.svg)", ""]
        if section.table is not None:
            lines += [*_markdown_table(section.table), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: SuiteTable) -> list[str]:
    def row(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [row(table.header), "|" + "---|" * len(table.header), *map(row, table.rows)]
