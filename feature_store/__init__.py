"""What is known about an entity, and since when.

`online/` answers "what do we know now" in well under a millisecond; `offline/` answers "what did we know then".
Both speak of the same feature views (`schema.py`), so a model cannot be trained on one meaning and served another.
Imports neither `models` nor `service`.
"""
