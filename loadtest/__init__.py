"""Load tests: how fast the service answers, and how sure we may be of that number.

Two generators send the same prepared requests over HTTP. The open loop (`open_loop.py`) sends on a schedule that was
fixed beforehand and counts latency from it; its percentiles are the ones that are judged. Locust (`locustfile.py`)
stands beside it because people know it. `bench.py` runs them one after the other and writes a report.

This package speaks HTTP and imports nothing of the service it measures. Importing locust patches sockets of the whole
process, so only `locustfile.py` does it, in a process of its own.
"""
