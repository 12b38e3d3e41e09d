"""What options of a command line may be: types for argparse."""

from argparse import ArgumentTypeError


def count(text: str) -> int:
    """A whole number from 1 on. Raises ArgumentTypeError for other words."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"should be a whole number from 1 on, but it is {text}")
    return number
