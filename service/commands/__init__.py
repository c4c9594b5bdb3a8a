"""One command family a file. Each imports what it needs inside the command, so that `--help` loads no heavy library."""
