"""The reasoner: embeds a puzzle, recurs on its latents, reads out an answer and a halting logit (models/reasoner.py).

Shapes: B rows, S tokens of a puzzle, L positions, D features, V vocabulary.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from torch import Tensor

from models.layers import sinusoids
from xla.cores import Latents, Noise, outer_iteration
from xla.layers import Parameters, Static, product, puzzle_embedding


class Readout(NamedTuple):
    """The answer after an outer iteration, and the halting logits."""

    logits: Array  # [B, S, V]
    q_halt: Array  # [B] float32: above 0 means "my answer is right"
    q_continue: Array  # [B] float32: used by HRM only


def parameters(weights: dict[str, Tensor], static: Static) -> Parameters:
    """A model's state dict as a tree of arrays, on the host.

    All are cast to the dtype of the activations, in which they are used, but for the q head's. The layers of a stack
    lie along the first axis.
    """
    tree: Parameters = {}
    for name, tensor in weights.items():
        dtype = jnp.float32 if name.startswith("q_head") else static.dtype
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = np.asarray(tensor.detach().float().cpu().numpy(), dtype)
    return _stacked(tree)


def _stacked(tree: Parameters) -> Parameters:
    if not isinstance(tree, dict):
        return tree
    branches = {name: _stacked(branch) for name, branch in tree.items()}
    if "0" not in branches:
        return branches
    return jax.tree.map(lambda *layers: np.stack(layers), *(branches[str(i)] for i in range(len(branches))))


def embed(p: Parameters, static: Static, inputs_BS: Array, puzzle_ids_B: Array) -> Array:
    """x [B, L, D]: puzzle-embedding tokens, then the puzzle's tokens, with positions, times sqrt(D)."""
    arch, dim = static.arch, static.arch.hidden_size
    x_BLD = p["embed_tokens"]["embedding_weight"][inputs_BS]
    if arch.puzzle_tokens:
        tokens = puzzle_embedding(p["puzzle_emb"], puzzle_ids_B, arch.puzzle_tokens, dim)
        x_BLD = jnp.concatenate((tokens, x_BLD), axis=1)
    table = None
    if arch.pos_encodings == "learned":
        table = p["embed_pos"]["embedding_weight"]
    elif arch.pos_encodings == "absolute":
        table = sinusoids(static.length, dim).numpy().astype(static.dtype)
    if table is not None:
        x_BLD = 0.707106781 * (x_BLD + table)
    return math.sqrt(dim) * x_BLD


def read_out(p: Parameters, z_BLD: Array, tokens: int) -> Readout:
    """The answer, from the last `tokens` positions, and the halting logits, from the first position."""
    q_B2 = product(z_BLD[:, 0].astype(jnp.float32), p["q_head"]["weight"]) + p["q_head"]["bias"]
    return Readout(product(z_BLD[:, -tokens:], p["lm_head"]["weight"]), q_B2[:, 0], q_B2[:, 1])


def iterate(p: Parameters, static: Static, latents: Latents, x_BLD: Array, noise: Noise) -> tuple[Latents, Readout]:
    """One outer iteration of every row on its embedded puzzle x."""
    latents = outer_iteration(p["core"], static, latents, x_BLD, noise)
    return latents, read_out(p, latents[0], static.seq_len)
