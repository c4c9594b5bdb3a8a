"""Inner parts, timed: what the docstrings of the floors say they cost.

The one place in `loadtest` that imports the floors. Each module runs alone (`python -m loadtest.micro.online_store`),
proves that the timed code gives the right answer, and prints JSON with the machine and the statistic.
"""
