"""What we know about an entity now: packed rows in Redis, read in well under a millisecond.

Protocols in `store.py`, keys in `layout.py`, bytes in `codec.py` and `chunk.py`; `docs/redis-layout.md` is the
specification of all of them. The only owner of the `redis` library.
"""
