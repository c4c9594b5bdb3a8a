"""What a process says with its exit status: the numbers of `clickserve`, and which error means which."""

from __future__ import annotations

from feature_store.errors import EngineError, LogNameError, SchemaError, StoreError
from models.errors import ModelNotFound, NoPropensities, NoSuchColumn, NothingToSearch
from service.errors import SettingsError

FAILURE = 1
USAGE = 2
GATE = 3
DEPENDENCY_DOWN = 69
HUNG_UP = 129
INTERRUPTED = 130

_WRONGLY_ASKED = (
    SchemaError,
    LogNameError,
    SettingsError,
    ModelNotFound,
    NoPropensities,
    NoSuchColumn,
    NothingToSearch,
)
"""What was typed, or a definition, is to be changed: the same command can never succeed."""


def exit_code(error: Exception) -> int:
    """The exit code that an error raised on purpose ends a process with."""
    if isinstance(error, (StoreError, EngineError)):
        return DEPENDENCY_DOWN
    if isinstance(error, _WRONGLY_ASKED):
        return USAGE
    return FAILURE
