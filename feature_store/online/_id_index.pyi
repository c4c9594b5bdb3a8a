from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

_Array = npt.NDArray[Any]

def lookup(ids: Sequence[str], slots: _Array, offsets: _Array, blob: _Array, unknown: int, out: _Array, /) -> int: ...
def build(slots: _Array, offsets: _Array, blob: _Array, /) -> int: ...
