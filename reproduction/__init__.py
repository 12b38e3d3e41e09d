"""What records runs, makes the tables and figures of results/, and reproduces them."""

import config  # noqa: F401
