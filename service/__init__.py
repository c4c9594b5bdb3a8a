"""The service: answer in time, or answer less.

A request walks hot path → admission → scoring → ranking → answer; `bootstrap.py` is the one place where parts meet.
"""
