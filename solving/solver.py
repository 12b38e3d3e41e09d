"""Solves puzzles with a checkpoint: several random starts for each puzzle, of which the best converged answers.

    from solving import Solver

    solver = Solver.load("outputs/quickstart/<time>")
    [answer] = solver.solve(["2....4.3.......4"])
    print(answer.text, answer.valid, answer.residual)

Shapes: R rows (trajectories that run together), S tokens.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from config.schema import EvalConfig
from dataset.boards import Kind, are_alike
from dataset.puzzles import NOT_SCORED, Batch, PuzzleShape
from evaluation.trajectory import begin, evaluating, residual
from models import precision
from models.core import Start
from models.devices import chosen, fork_rng
from models.layers import Linear
from models.reasoner import Reasoner
from runtime.command import out_of_memory
from runtime.hub import address_of
from runtime.load import Loaded, build_for_evaluation, learned_kind, load_model
from solving.answers import Answering, Iteration, Rows

_TOKENS = {"cpu": 2**11, "cuda": 2**16}
"""So many tokens run together: enough to keep a device busy, few enough for memory and for a quick first answer."""


def _device(name: str) -> torch.device:
    """The device of this name, after a test that it works. "auto" is the first of DEVICES that is here."""
    try:
        device = torch.device(chosen(name) if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown, not there, or not in this build of PyTorch
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device should be auto, cpu, cuda, cuda:N, mps or xpu of this machine, not {name!r}: {reason}"
        ) from None
    return device


def _cast_once(model: Reasoner, dtype: torch.dtype) -> None:
    """Casts the networks' weights once, instead of at every use. The numbers stay the same."""
    for network in model.core.networks():
        for module in network.modules():
            if isinstance(module, Linear):
                module.to(dtype)


def puzzle_shape(loaded: Loaded, seq_len: int | None, vocab_size: int | None) -> PuzzleShape:
    """The shape of a checkpoint's puzzles.

    Raises:
        ValueError: neither the checkpoint nor the arguments say it.
    """
    if seq_len is None or vocab_size is None:
        if loaded.puzzle_shape is None:
            raise ValueError(f"{loaded.origin} does not say what it was trained on: give seq_len and vocab_size")
        return loaded.puzzle_shape
    table = [t for name, t in loaded.weights.items() if name.endswith("puzzle_emb.weights")]
    return PuzzleShape(seq_len, vocab_size, len(table[0]) if table else 1)


class Solver(Answering):
    """Answers puzzles of S tokens with a model. Make one with `Solver.load`.

    Args:
        model: on the device that computes. Its mode and its starts stay as they are.
        shape: the shape of its puzzles.
        learned: the kind of puzzles that it was trained on, if that is known. Without it any of this shape will do.
    """

    engine: ClassVar[str] = "torch"

    def __init__(self, model: Reasoner, shape: PuzzleShape, learned: Kind | None = None) -> None:
        self.model, self.puzzle_shape = model, shape
        self.device = next(model.parameters()).device
        rows = max(1, _TOKENS.get(self.device.type, 2**16) // shape.seq_len)
        super().__init__(shape.seq_len, shape.vocab_size, rows, learned)

    @classmethod
    def load(
        cls, checkpoint: str, seq_len: int | None = None, vocab_size: int | None = None, device: str = "auto"
    ) -> "Solver":
        """A solver from one of our checkpoints (a file, or a run directory) or a released `.pth`.

        A GPU computes in the checkpoint's own precision. A CPU computes in float32, but in bfloat16 if that is the
        checkpoint's own and faster on this CPU.

        Args:
            checkpoint: its path, or its address on the hub (hf://owner/name).
            seq_len, vocab_size: the shape of the puzzles. Released checkpoints need it, because they do not say.
            device: "auto" (a GPU if there is one), or any device that PyTorch knows.

        Raises:
            ValueError: there is no such checkpoint or device, or it was not trained on puzzles of this shape.
        """
        torch_device = _device(device)
        loaded = load_model(checkpoint)
        shape = puzzle_shape(loaded, seq_len, vocab_size)
        dtype = loaded.arch.forward_dtype
        if torch_device.type == "cpu" and dtype in ("float16", "bfloat16"):
            dtype = "bfloat16" if dtype == "bfloat16" and precision.FAST_BFLOAT16 else "float32"
        # Nothing is compiled: that takes longer than most puzzles.
        config = EvalConfig(checkpoint=checkpoint, forward_dtype=dtype, kernels="off", compile=False)
        model = build_for_evaluation(loaded, config, shape, torch_device).model
        _cast_once(model, getattr(torch, dtype))
        return cls(model, shape, learned_kind(loaded) if are_alike(*shape[:2]) else None)

    @classmethod
    def from_pretrained(
        cls, name: str, seq_len: int | None = None, vocab_size: int | None = None, device: str = "auto"
    ) -> "Solver":
        """`load` from the Hugging Face hub: "owner/name", with /file and @revision after it if wanted.

        A path that exists here is loaded as well.
        """
        return cls.load(address_of(name), seq_len, vocab_size, device)

    def _begin(self, pieces: list[np.ndarray], several: bool, seed: int) -> Generator[Rows]:
        start = self.model.core.start.randomized(1.0) if several else self.model.core.start
        with fork_rng(self.device), evaluating(self.model):
            torch.manual_seed(seed)
            for inputs_RS in pieces:
                yield _Rows(self.model, inputs_RS, start)


class _Rows:
    """R trajectories."""

    def __init__(self, model: Reasoner, inputs_RS: np.ndarray, start: Start) -> None:
        device = next(model.parameters()).device
        inputs = torch.from_numpy(inputs_RS).to(device)
        ids = torch.zeros(len(inputs), dtype=torch.int32, device=device)
        with _enough_memory():
            self._state = begin(Batch(inputs, torch.full_like(inputs, NOT_SCORED), ids), start(len(inputs)))
        self._model, self._logits = model, torch.empty(0)

    def iterate(self) -> Iteration:
        first = not len(self._logits)
        with _enough_memory(), torch.no_grad():
            self._state, readout = self._model.advance(self._state)
            nan_R = torch.full_like(readout.q_halt, float("nan"))
            residual_R = nan_R if first else residual(readout.logits, self._logits)
            self._logits = readout.logits
            answers_RS = readout.logits.argmax(-1).int()
            q_halt_R = readout.q_halt.cpu().double()
            return Iteration(*(t.cpu().numpy() for t in (answers_RS, residual_R.float(), q_halt_R)))

    def keep(self, rows_A: np.ndarray) -> None:
        index = torch.from_numpy(rows_A).to(self._logits.device)
        self._state, self._logits = tree_map(partial(_rows, index), (self._state, self._logits))


def _rows(index: Tensor, t: Tensor) -> Tensor:
    return t[index]


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Raises MemoryError in place of PyTorch's own exceptions."""
    try:
        yield
    except RuntimeError as error:
        if (memory := out_of_memory(error)) is None:
            raise
        raise MemoryError(memory) from error
