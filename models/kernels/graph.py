"""A function's work on a GPU as one CUDA graph: Python runs once, and then every call is one launch."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from models.kernels import weights


class Graphed:
    """`function` of nested tuples of tensors on a GPU. The second call on equal shapes records it; later ones replay.

    The first call runs `function` itself, and compiles kernels. A call drops the graph and runs `function` itself if
    shapes have changed, a tensor of `model` has moved, or the model has switched between training and evaluation.
    A replay reads the model's tensors anew and draws fresh random numbers. Numbers of Python (noise_scale, the cycles)
    stay those of the recording; to change them, build the model anew. Results are copies.

    Raises:
        ValueError: `function` waits for the device, which no graph can record.
    """

    def __init__(self, function: Callable[..., Any], model: nn.Module) -> None:
        self._function, self._model = function, model
        self._known: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *arguments: Any) -> Any:
        given: list[Tensor] = tree_leaves(arguments)
        modes = self._model.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        known = *modes, *((t.shape, t.dtype) for t in given), *self._places()
        if known != self._known:
            self._known, self._graph = known, None
            return self._function(*arguments)
        if self._graph is None:
            self._record(arguments)
        assert self._graph is not None
        torch._foreach_copy_(self._given, given)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            if parameter.grad is None:  # as while recording
                parameter.grad = gradient
        return tree_map(torch.clone, self._results)

    def _places(self) -> Iterator[int]:
        """Addresses of the model's tensors, and of the gradients to which a recorded backward pass adds."""
        for parameter in self._model.parameters():
            yield parameter.data_ptr()
            if torch.is_grad_enabled():
                yield 0 if parameter.grad is None else parameter.grad.data_ptr()
        for buffer in self._model.buffers():
            yield buffer.data_ptr()

    def _record(self, arguments: Any) -> None:
        held = tree_map(torch.clone, arguments)
        self._given: list[Tensor] = tree_leaves(held)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        weights.forget()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._results = self._function(*held)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _leave_recording(stream)
            raise ValueError(f"an iteration cannot be a CUDA graph; cuda_graphs=false does without: {error}") from error
        finally:
            weights.forget()  # copies made meanwhile live in the graph, and a replay changes them
        self._gradients = [(p, p.grad) for p in self._model.parameters()] if torch.is_grad_enabled() else []
        self._graph = graph


def _leave_recording(stream: torch.cuda.Stream) -> None:
    """Goes back to `stream` after a failed recording. PyTorch draws random numbers again only after a good one."""
    torch.cuda.set_stream(stream)
    with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode="thread_local"):
        torch.zeros(1, device="cuda")


def graphed_without_gradient(function: Callable[..., Any], model: nn.Module) -> Callable[..., Any]:
    """`function`, Graphed where no gradient is asked for and no other graph is being recorded."""
    graphed = Graphed(function, model)

    def run(*arguments: Any) -> Any:
        as_it_is = torch.is_grad_enabled() or torch.cuda.is_current_stream_capturing()
        return function(*arguments) if as_it_is else graphed(*arguments)

    return run
