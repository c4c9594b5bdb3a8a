"""The claims of the stack: what a stranger builds, runs and sees on their own machine."""

from __future__ import annotations

from tests.proofs.stack_image import CLAIMS as OF_THE_IMAGE

CLAIMS = [*OF_THE_IMAGE]
