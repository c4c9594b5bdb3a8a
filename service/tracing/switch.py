"""Whether this process records spans: the standard variables say so, and a library that is missing never stops it.

Platforms set `OTEL_*` for every container they start. What cannot be done here (no library, another protocol) is
therefore a warning, and the service serves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.tracing.tracing import Tracing

SPOKEN_PROTOCOL = "http/protobuf"

logger = logging.getLogger(__name__)


def start_tracing(environment: Mapping[str, str]) -> Tracing | None:
    """The tracing of this process, begun; None where the variables do not ask for it, or it cannot be had.

    Args:
        environment: of the process. The SDK reads the same variables by itself.
    """
    if not _is_asked_for(environment):
        return None
    protocol = _value(environment, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or _value(
        environment, "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    if protocol not in ("", SPOKEN_PROTOCOL):
        logger.warning(
            "traces are not exported: their protocol is not spoken here",
            extra={"protocol": protocol, "way_out": f"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL={SPOKEN_PROTOCOL}, port 4318"},
        )
        return None
    try:
        from service.tracing.export import SpanExport
        from service.tracing.tracing import Tracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        logger.warning(
            "traces are not exported: a library is missing",
            extra={"error": str(error), "way_out": "pip install 'clickserve[otel]', or OTEL_SDK_DISABLED=true"},
        )
        return None
    return Tracing(SpanExport.start(environment))


def _is_asked_for(environment: Mapping[str, str]) -> bool:
    if _value(environment, "OTEL_SDK_DISABLED").lower() == "true":
        return False
    exporters = {name.strip() for name in _value(environment, "OTEL_TRACES_EXPORTER").split(",")} - {""}
    if exporters:
        return "otlp" in exporters
    return any(
        _value(environment, name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )


def _value(environment: Mapping[str, str], name: str) -> str:
    """An empty variable counts as unset, as the specification has it."""
    return environment.get(name, "").strip()
