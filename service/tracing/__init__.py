"""Spans of requests for OpenTelemetry (`docs/tracing.md`), where an operator names a place to send them to.

`switch.py` decides by the standard `OTEL_*` variables; without them nothing here but the switch is ever loaded, and the
parts that requests walk through are the plain ones. With them, `spans.py` puts layers around these parts: the hot path
gets a span `rank` or `predict`, the store `features.fetch`, the model `model.run`. `export.py` sends them, in a thread.
"""
