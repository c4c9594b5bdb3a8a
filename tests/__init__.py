"""One rule a test; real servers on private sockets; see `pyproject.toml` for how pytest runs."""
