"""Redis and Valkey servers of every kind for tests: alone, behind TLS, watched by Sentinels, in a Cluster.

Each is started on free ports of the loopback, waited for, and stopped by who started it.
"""
