"""Solves puzzles with an ONNX file of a model (docs/onnx.md) by onnxruntime, without PyTorch.

Shapes: R rows (trajectories that run together), S tokens, N draws of noise.
"""

import json
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dataset.boards import Maze, Sudoku
from runtime.hub import address_of, resolve
from solving.answers import Answering, Iteration, Rows
from solving.draws import Draws
from solving.onnx_file import FORMAT, digest
from solving.onnx_session import Graph, open_session

_KINDS: dict[str, type[Sudoku] | type[Maze]] = {"sudoku": Sudoku, "maze": Maze}
_TOKENS = 2**11
"""So many tokens run together: enough to keep a CPU busy, few enough for a quick first answer."""


class OnnxSolver(Answering):
    """Answers puzzles with an ONNX file. Make one with `OnnxSolver.load`."""

    engine: ClassVar[str] = "onnx"

    def __init__(self, graph: Graph, facts: dict[str, Any]) -> None:
        task: str | None = facts["task"]
        learned = _KINDS[task](facts["board"][0]) if task else None
        super().__init__(facts["seq_len"], facts["vocab_size"], max(1, _TOKENS // facts["seq_len"]), learned)
        self.graph, self._facts = graph, facts

    @classmethod
    def load(cls, checkpoint: str | Path) -> "OnnxSolver":
        """A solver from a file that `python -m solving.export` wrote.

        Args:
            checkpoint: its path, or a checkpoint, a run directory or an address on the hub that has one beside it.

        Raises:
            ValueError: there is no such file, it is of another program, or the checkpoint with its weights has changed.
        """
        file = resolve(checkpoint).with_suffix(".onnx")
        if not file.is_file():
            raise ValueError(f"there is no {file}, which python -m solving.export writes")
        graph = Graph(partial(open_session, file))
        try:
            facts = {key: json.loads(text) for key, text in graph.session.get_modelmeta().custom_metadata_map.items()}
        except ValueError:
            facts = {}
        if facts.get("format") != FORMAT:
            raise ValueError(f"{file} is not a model of this program (its format should be {FORMAT})")
        weights = facts.get("weights")
        if weights and digest(file.with_name(weights["file"])) != weights["header"]:
            raise ValueError(f"{file} was written for another {weights['file']} than the one beside it: export it anew")
        return cls(graph, facts)

    @classmethod
    def from_pretrained(cls, name: str) -> "OnnxSolver":
        """`load` from the Hugging Face hub: "owner/name", with /file and @revision after it if wanted."""
        return cls.load(address_of(name))

    def _begin(self, pieces: list[np.ndarray], several: bool, seed: int) -> Generator[Rows]:
        draws = Draws(seed)
        for inputs_RS in pieces:
            latents = {
                latent["name"]: _start(latent, len(inputs_RS), several, draws) for latent in self._facts["latents"]
            }
            yield _Rows(self.graph, self._facts["noise"]["draws"], inputs_RS, latents, draws)


def _start(latent: dict[str, Any], rows: int, several: bool, draws: Draws) -> np.ndarray:
    """R fresh latents, as the metadata says."""
    shape = (rows, *latent["shape"])
    if "std" in latent and (several or "values" not in latent):
        return draws.truncated_normal(*shape, std=latent["std"])
    if several and "std" not in latent and latent["name"] == "z":
        raise ValueError("a feedforward model starts from zero, so it has no breadth above 1")
    return np.resize(np.array(latent["values"], np.float32), shape)


class _Rows:
    """R trajectories."""

    def __init__(
        self,
        graph: Graph,
        noise: int,
        inputs_RS: np.ndarray,
        latents: dict[str, np.ndarray],
        draws: Draws,
    ) -> None:
        self._graph, self._noise, self._draws = graph, noise, draws
        self._inputs_RS, self._latents = inputs_RS, latents
        self._logits_RSV: np.ndarray | None = None

    def iterate(self) -> Iteration:
        R = len(self._inputs_RS)
        given = {"inputs": self._inputs_RS, "puzzle_ids": np.zeros(R, np.int32), **self._latents}
        if self._noise:
            shape = next(iter(self._latents.values())).shape
            given["noise"] = self._draws.normals(self._noise, *shape, each=self._graph.each)
        told = self._graph.run(given)
        before_RSV, logits_RSV = self._logits_RSV, told["logits"]
        self._latents, self._logits_RSV = {name: told[f"next_{name}"] for name in self._latents}, logits_RSV
        residual_R = np.full(R, np.nan, np.float32)
        if before_RSV is not None:
            residual_R = np.linalg.norm(logits_RSV - before_RSV, axis=-1).mean(-1)
        return Iteration(logits_RSV.argmax(-1).astype(np.int32), residual_R, told["q_halt"])

    def keep(self, rows_A: np.ndarray) -> None:
        assert self._logits_RSV is not None
        self._inputs_RS, self._logits_RSV = self._inputs_RS[rows_A], self._logits_RSV[rows_A]
        self._latents = {name: z[rows_A] for name, z in self._latents.items()}
