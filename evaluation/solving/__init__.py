"""Solving puzzles that a user brings: text to tokens, answers checked by the rules, boards in terminals and GIFs."""
