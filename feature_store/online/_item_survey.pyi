from typing import Any

import numpy.typing as npt

_Array = npt.NDArray[Any]

def survey(
    rows: _Array,
    split: int,
    base_time_ms: _Array,
    base_found: _Array,
    delta_time_ms: _Array,
    delta_found: _Array,
    ttl_ms: _Array,
    now_ms: int,
    out: _Array,
    /,
) -> None: ...
