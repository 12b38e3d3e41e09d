"""Observers of an evaluation: each is shown every trajectory and adds numbers or files of its own."""
