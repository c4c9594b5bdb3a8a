"""Impression logs: readers of real ones, and a simulator whose true click probability is known."""
