"""SQL written by people, read once: normalised, so that layout and comments do not change a view's fingerprint.

sqlglot is imported when SQL is met, because the serving image reads definitions without any and does not carry it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from feature_store.errors import SchemaError

if TYPE_CHECKING:
    from sqlglot.expressions import Expr

DIALECT = "duckdb"


def normalised(sql: str, *, what: Literal["query", "condition"]) -> str:
    """The same SQL in one layout without comments.

    Raises:
        SchemaError: not SQL, more than one statement, or not a query where one is wanted.
    """
    from sqlglot import exp

    tree = _parsed(sql)
    if (what == "query") != isinstance(tree, exp.Query):
        wanted = "one SELECT" if what == "query" else 'a condition such as "rating = 5"'
        raise SchemaError(f"expected {wanted}, got {sql.strip()!r}")
    return tree.sql(dialect=DIALECT, comments=False)


def columns_read(sql: str) -> tuple[str, ...]:
    """Names of the columns an expression reads, sorted."""
    from sqlglot import exp

    return tuple(sorted({column.name for column in _parsed(sql).find_all(exp.Column)}))


def _parsed(sql: str) -> Expr:
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        trees = [tree for tree in sqlglot.parse(sql, dialect=DIALECT) if tree is not None]
    except SqlglotError as error:
        raise SchemaError(f"not SQL: {str(error).splitlines()[0]}") from None
    if len(trees) != 1:
        raise SchemaError(f"expected one statement, got {len(trees)}")
    return trees[0]
