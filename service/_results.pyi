from typing import Any

import numpy.typing as npt

_Array = npt.NDArray[Any]

def results(
    ids: list[str], order: _Array, p_click: _Array, scores: _Array | None, own_codes: dict[int, list[Any]], /
) -> bytes: ...
