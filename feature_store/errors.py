"""Every error the feature store raises on purpose.

FeatureStoreError
├── SchemaError               features.toml or a view says something that cannot be
├── EntityIdError             an id that may not become part of a key
├── CodecError                stored bytes are not a row of the view they claim to be
├── LogError                  a click log cannot be read, or means something impossible
│   └── LogNameError          the text that should name a log names none
├── EngineError               the engine that should run the SQL of features is not to be had
├── MaterializeError          rows cannot be made or written
├── NoRowLeft                 of all rows of a view's source none can be used; carries the rejected ones
├── SnapshotError             an item table on disk is damaged or of other views
├── TooManyItems              the catalogue of items is larger than the setting allows
└── StoreError                the online store failed; the request goes on without its rows
    ├── StoreTimeout          no answer within the time the caller gave
    ├── StoreDown             no connection, or the server refused the command
    ├── ViewNotMaterialized   the store has never held finished rows of that view with that meaning
    ├── WriterBusy            another writer has the view
    ├── WriterLockLost        a writer paused for so long that another may have begun
    └── EmbeddedServerError   the private Valkey server cannot be started
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feature_store.offline.rejects import Rejects


class FeatureStoreError(Exception):
    """Base of all errors raised by `feature_store`."""


class SchemaError(FeatureStoreError):
    """A definition of features is wrong; the message names the key, the value and the way out."""


class EntityIdError(FeatureStoreError):
    """A text cannot be an entity id (1 to 64 bytes of UTF-8 without braces, space or control characters)."""


class CodecError(FeatureStoreError):
    """Stored bytes do not decode as a row of the expected view."""


class LogError(FeatureStoreError):
    """A click log cannot be read as described."""


class LogNameError(LogError):
    """A text names no click log, or one that nobody described."""


class EngineError(FeatureStoreError):
    """DuckDB or Spark cannot run the SQL of features here."""


class MaterializeError(FeatureStoreError):
    """Feature rows could not be made or written."""


class NoRowLeft(FeatureStoreError):
    """A view's source has rows, and each was rejected, is later than the as-of time, or has expired."""

    def __init__(self, message: str, rejected: Mapping[str, Rejects]) -> None:
        """Why no row is left, and by view what was rejected up to then: without it nobody could mend the file."""
        super().__init__(message)
        self.rejected = rejected


class StoreError(FeatureStoreError):
    """The online store did not answer as it should."""

    def __init__(self, message: str, *, way_out: str = "") -> None:
        """What failed, with the way out in it; that alone, for whoever shows the two apart."""
        super().__init__(message)
        self.way_out = way_out


class StoreTimeout(StoreError):
    """The online store did not answer within the time given."""


class StoreDown(StoreError):
    """The online store cannot be reached or refused the command."""


class SnapshotError(FeatureStoreError):
    """A snapshot of the item table is damaged, or holds other views than the model wants."""


class TooManyItems(FeatureStoreError):
    """A catalogue holds more items than the process may keep in memory."""


class ViewNotMaterialized(StoreError):
    """The store holds no finished rows of a view under the fingerprint that is asked for."""


class WriterBusy(StoreError):
    """Another writer holds the lock of a view."""


class WriterLockLost(StoreError):
    """A writer's lock ran out before its work did."""


class EmbeddedServerError(StoreError):
    """The private Valkey server cannot be started, reached or stopped."""
