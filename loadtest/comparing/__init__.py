"""Comparing: did the service become slower from one report to another, and how sure may we be?

`sides.py` reads what is compared and names what must not be compared; `ratio.py` is the statistic; `verdict.py` puts
them together, `page.py` shows them. What the statistic can and cannot see stands in docs/bench.md.
"""
