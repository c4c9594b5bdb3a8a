"""Faults on purpose: real processes, real sockets, a real store; deadlines instead of sleeps."""
