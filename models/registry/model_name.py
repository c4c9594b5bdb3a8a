"""What a model may be called. Its name becomes the name of a folder, so it must not lead out of the registry."""

from __future__ import annotations

import re

DEFAULT_NAME = "default"
NAME_RULE = "a model's name is made of a-z, 0-9, - and _, 1 to 64 of them"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def is_model_name(name: str) -> bool:
    """Whether `NAME_RULE` holds."""
    return _NAME.fullmatch(name) is not None
