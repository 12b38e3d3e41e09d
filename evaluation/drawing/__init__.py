"""Pictures of a run or an evaluation, and the page that shows them (python -m evaluation.report)."""
