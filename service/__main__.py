"""`python -m service …` is `clickserve …`, for places where the script is not installed."""

from __future__ import annotations

from service.cli import main

main()
