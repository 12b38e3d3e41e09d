"""Speed, memory and errors, measured: each program prints a table (python -m benchmarks.NAME)."""

import config  # noqa: F401
