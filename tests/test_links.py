"""Pages lead where they say: links and anchors exist, every page can be reached, modules that are named are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.snippets import PAGES

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    """A page's path in the repository."""
    return str(path.relative_to(REPOSITORY))


def prose(path: Path) -> str:
    """A page without its blocks of code, in which brackets are no links and `#` is no heading."""
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them: lower case, punctuation gone, repeats counted."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} (.+)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip())
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, last in found.items() for n in range(last + 1)}


def targets(path: Path) -> Iterator[tuple[str, Path, str]]:
    """Each relative link of a page: as written, the file it means, and its anchor."""
    for written in LINK.findall(prose(path)):
        if not re.match(r"[a-z][a-z+.-]*:", written):
            file, _, anchor = written.partition("#")
            yield written, (path.parent / file).resolve() if file else path, anchor


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_and_anchors_exist(path: Path) -> None:
    """A reader who follows one arrives."""
    broken = [
        written
        for written, file, anchor in targets(path)
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file))
    ]

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """What nobody links to is found by nobody."""
    reached, waiting = set(), [REPOSITORY / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md" and path.is_file():
            reached.add(path)
            waiting += [file for _, file, _ in targets(path)]

    assert {name_of(path) for path in PAGES} - {name_of(path) for path in reached} == {"requirements/README.md"}


def test_modules_that_pages_name_are_there() -> None:
    """A path in a page outlives the file that it names, unless somebody looks."""
    named = {
        (name_of(path), word)
        for path in PAGES
        if "docs/performance.md" not in name_of(path)
        for word in re.findall(r"`((?:service|models|feature_store|loadtest|tests|deploy)/[\w./-]+)`", prose(path))
    }

    assert {(page, word) for page, word in named if not (REPOSITORY / word).exists()} == set()


def test_the_drawing_names_packages_that_are_there() -> None:
    """The same for its labels, which are paths, or modules of `service`."""
    drawing = (REPOSITORY / "docs/architecture.svg").read_text()
    labels = [label.split(", ") for label in re.findall(r'class="code"[^>]*>([^<]+)<', drawing)]
    missing = []
    for first, *others in labels:
        folder = first.rpartition("/")[0] or "service"
        paths = [first if "/" in first else f"service/{first}", *(f"{folder}/{other}" for other in others)]
        missing += [path for path in paths if not any((REPOSITORY / f"{path}{end}").exists() for end in ("", ".py"))]

    assert len(labels) >= 10
    assert missing == []
