"""Proofs that take longer than a test may: each claim is run by its command and leaves value, bound and verdict.

`make prove PART=first-light` runs them all and writes `docs/proofs/first-light.json`; `python -m tests.proofs
first-light --only NAME` runs one and keeps the others' results. Nothing here is collected by pytest.
"""
