"""Reads numbers from environment variables, which a user or a launcher sets."""

import os


def whole_number(name: str, least: int, default: int | None = None) -> int:
    """The whole number in an environment variable, or the default where it is not set.

    Raises:
        ValueError: it is something else, is below `least`, or is not set and has no default.
    """
    text = os.environ.get(name) or ("" if default is None else str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        state = f"it is {text!r}" if text else "it is not set"
        raise ValueError(f"{name} should be a whole number from {least} on, but {state}")
    return int(text)
