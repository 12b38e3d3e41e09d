"""A function's work on the GPU as one CUDA graph: Python runs once, after which a call is one launch."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from models.kernels import weights


class Graphed:
    """`function` of nested tuples of tensors on a GPU, recorded in the second call on equal shapes, then replayed.

    The first call on new shapes runs as ever (kernels are compiled in it) and forgets the graph of others. Random
    numbers are drawn as without a graph. What the function reads besides its arguments (weights) is read anew every
    time, at the same place in memory; what it adds up beside its results (gradients) must exist by the second call.
    Results are copies.

    Raises:
        RuntimeError: `function` waits for the device, which cannot be recorded.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._shapes: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *arguments: Any) -> Any:
        given: list[Tensor] = tree_leaves(arguments)
        shapes = torch.is_grad_enabled(), *((t.shape, t.dtype) for t in given)
        if shapes != self._shapes:
            self._shapes, self._graph = shapes, None
            return self._function(*arguments)
        if self._graph is None:
            self._record(arguments)
        assert self._graph is not None
        torch._foreach_copy_(self._given, given)
        self._graph.replay()
        return tree_map(torch.clone, self._results)

    def _record(self, arguments: Any) -> None:
        held = tree_map(torch.clone, arguments)
        self._given: list[Tensor] = tree_leaves(held)
        graph = torch.cuda.CUDAGraph()
        weights.forget()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._results = self._function(*held)
        except RuntimeError as error:
            raise RuntimeError(
                f"an iteration cannot be a CUDA graph; cuda_graphs=false does without: {error}"
            ) from error
        finally:
            weights.forget()  # what was made in between lives in the graph, and changes when it is replayed
        self._graph = graph


class GraphedWithoutGradient(Graphed):
    """Graphed where no gradient is asked for and no other graph is being recorded; elsewhere `function` itself."""

    def __call__(self, *arguments: Any) -> Any:
        if torch.is_grad_enabled() or torch.cuda.is_current_stream_capturing():
            return self._function(*arguments)
        return super().__call__(*arguments)
