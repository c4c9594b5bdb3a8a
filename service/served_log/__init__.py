"""What was served, kept: the vector, its ages and its score of every candidate, as Parquet files that others may read.

A request only hands over references to what it already holds (`buffer.py`). A thread that gives way lays the rows out
(`rows.py`), encodes them (`parquet.py`, no library) and names a file only when it is whole (`files.py`).
`docs/served-log.md` lists the columns.
"""
