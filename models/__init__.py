"""Models: layers, cores, the reasoner around them; `models.build` makes one from its configuration."""

import config  # noqa: F401
