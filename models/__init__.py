"""Models: layers, cores, and the reasoner around them. `models/build.py` makes one from its configuration."""

import config  # noqa: F401
