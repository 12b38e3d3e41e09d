"""Solves puzzles with an ONNX file of a model (docs/onnx.md) by onnxruntime, without PyTorch.

Shapes: R rows (trajectories that run together), S tokens, N draws of noise.
"""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime

from dataset.boards import Maze, Sudoku
from runtime.hub import address_of, resolve
from solving.answers import Answering, Iteration, Rows
from solving.draws import Draws
from solving.onnx_file import FORMAT, digest

_KINDS: dict[str, type[Sudoku] | type[Maze]] = {"sudoku": Sudoku, "maze": Maze}
_TOKENS = 2**11
"""So many tokens run together: enough to keep a CPU busy, few enough for a quick first answer."""


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # of nested threads, the outer ones
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one for each core
    waiting = os.environ.get("OMP_WAIT_POLICY", "passive")
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(waiting.lower() == "active")))
    options.log_severity_level = 4  # what goes wrong is an exception, too
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class of their own in common
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} is not an ONNX file that onnxruntime can run: {reason}") from None


class OnnxSolver(Answering):
    """Answers puzzles with an ONNX file. Make one with `OnnxSolver.load`."""

    engine: ClassVar[str] = "onnx"

    def __init__(self, session: onnxruntime.InferenceSession, facts: dict[str, Any]) -> None:
        task: str | None = facts["task"]
        learned = _KINDS[task](facts["board"][0]) if task else None
        super().__init__(facts["seq_len"], facts["vocab_size"], max(1, _TOKENS // facts["seq_len"]), learned)
        self._session, self._facts = session, facts

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
        session = _session(file)
        try:
            facts = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
        except ValueError:
            facts = {}
        if facts.get("format") != FORMAT:
            raise ValueError(f"{file} is not a model of this program (its format should be {FORMAT})")
        weights = facts.get("weights")
        if weights and digest(file.with_name(weights["file"])) != weights["header"]:
            raise ValueError(f"{file} was written for another {weights['file']} than the one beside it: export it anew")
        return cls(session, facts)

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
            yield _Rows(self._session, self._facts["noise"]["draws"], inputs_RS, latents, draws)


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
        session: onnxruntime.InferenceSession,
        noise: int,
        inputs_RS: np.ndarray,
        latents: dict[str, np.ndarray],
        draws: Draws,
    ) -> None:
        self._session, self._noise, self._draws = session, noise, draws
        self._inputs_RS, self._latents = inputs_RS, latents
        self._logits_RSV: np.ndarray | None = None
        self._wanted = {node.name for node in session.get_inputs()}
        self._told = [node.name for node in session.get_outputs()]

    def iterate(self) -> Iteration:
        R = len(self._inputs_RS)
        given = {"inputs": self._inputs_RS, **self._latents}
        if self._noise:
            shape = next(iter(self._latents.values())).shape
            given["noise"] = np.stack([self._draws.normal(*shape) for _ in range(self._noise)], axis=1)
        if "puzzle_ids" in self._wanted:
            given["puzzle_ids"] = np.zeros(R, np.int32)
        # the graph does not look at an output that is only read out (the y of HRM-SRU), so it has no such input
        given = {name: value for name, value in given.items() if name in self._wanted}
        told = dict(zip(self._told, self._session.run(None, given), strict=True))
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
