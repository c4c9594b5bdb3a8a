"""What was known about an entity, and when: click logs, features as SQL, and the joins that cannot see the future.

DuckDB has one owner here (`engine.py`), pyarrow another (`arrow.py`). Needs the `train` extra; what serves imports none
of this.
"""
