"""Configuration: YAML groups composed by Hydra, validated by the strict models of `schema`.

Every package imports this one first: it says how PyTorch's threads wait, which they ask once, when torch is imported.
"""

import os

# A thread without work sleeps. It would spin, and on cores that other programs use a training takes ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
