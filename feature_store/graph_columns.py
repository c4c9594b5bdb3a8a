"""The order in which somebody else's model reads features: `[model]` of `features.toml`.

Our own models need no such list, because one encoder lays out their columns for training and serving alike. A graph
that was trained elsewhere has an order of its own, which only its owner knows: a list of names for a graph that reads
one matrix, a table for one with named inputs. Whether the names exist is checked against the graph (`models/export`).
"""

from __future__ import annotations

from feature_store.toml_table import TomlTable

THE_MATRIX = ""
"""Key of the columns of a graph's only input, whatever it is called."""


def read_graph_columns(table: TomlTable) -> dict[str, tuple[str, ...]]:
    """Names of features, such as `user_profile.age`, by the input that reads them; empty where nothing is said.

    Raises:
        SchemaError: neither texts nor a table of them, or nothing in it.
    """
    table.expect(("columns",))
    if "columns" not in table:
        return {}
    if not table.is_table("columns"):
        return {THE_MATRIX: table.texts("columns")}
    inputs = table.table("columns")
    named = {name: (inputs.text(name),) if inputs.is_text(name) else inputs.texts(name) for name in inputs}
    if not named:
        raise table.error("columns", "names no input of the graph")
    return named
