"""By which columns impressions can be grouped: known from a log's definition and names, before anything is joined.

Not by what tells of the click: each group would be of one class, and every figure in it undefined.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from feature_store.offline.log import Log
from feature_store.project import Project
from models.errors import NoPropensities, NoSuchColumn

N_NAMED = 40


def check_asked(log: Log, by: Sequence[str], candidates_by: str | None, clip: float | None) -> None:
    """Refuses questions that a log cannot answer, whatever its rows say.

    Args:
        by, candidates_by, clip: as `models.evaluation.further.Asked`.
    Raises:
        NoSuchColumn: no column of a name that was asked for, or one that makes no groups.
        NoPropensities: policies are to be judged, and the log names no propensities.
    """
    names = log.own_names()
    for name in by:
        check_group(log.project, names, name)
    if candidates_by is None and clip is None:
        return
    if log.project.log.propensity is None:
        raise no_propensities()
    if candidates_by is not None and candidates_by not in names:
        raise NoSuchColumn(
            f"--candidates-by {candidates_by}: {log.name} has no column of that name{_hint(candidates_by, names)}"
        )


def check_group(project: Project, names: Sequence[str], by: str) -> None:
    """Refuses a name that makes no groups.

    Args:
        names: the log's own columns.
    Raises:
        NoSuchColumn: nothing is called so, it tells of the click, or it is an embedding.
    """
    schema, log = project.schema, project.log
    context = [feature.name for feature in schema.context]
    attributes = {f"{view.name}.{feature.name}": feature for view in schema.views for feature in view.features}
    if by.removeprefix("context.") in context:
        return
    if by in attributes:
        if attributes[by].width > 1:
            raise NoSuchColumn(f"--by {by}: {attributes[by].width} numbers an impression are no groups")
        return
    told_by_the_click = {*log.clicked.reads, *([log.click_time.column] if log.click_time else [])}
    if by in told_by_the_click:
        raise NoSuchColumn(
            f"--by {by}: it tells whether an impression was clicked, so each group would be of one class"
        )
    if by not in names:
        known = [*context, *attributes, *(name for name in names if name not in told_by_the_click)]
        raise NoSuchColumn(
            f"--by {by}: no feature and no column of the log is called so{_hint(by, list(dict.fromkeys(known)))}"
        )


def no_propensities() -> NoPropensities:
    """The refusal to judge policies on a log that does not say how likely its ads were."""
    return NoPropensities(
        "a policy can only be judged where the log says how likely each ad was to be shown; name the column with "
        "log.propensity in features.toml, or leave out --candidates-by and --clip"
    )


def _hint(asked: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(asked, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(known[:N_NAMED])}{', …' if len(known) > N_NAMED else ''}"
