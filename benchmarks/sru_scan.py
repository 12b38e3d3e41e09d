"""Compares the kernel of the SRU recurrence with the loop over positions, on a GPU: python -m benchmarks.sru_scan

Times are medians by CUDA events. The error is relative, in norm, against the loop in float64: the worst of the outputs,
the last cells and the gradients of all inputs. The kernel's outputs are NaN before it writes them. In rows named
"planes", u lies in memory as [B, L, 3, D] instead of [B, L, D, 3].
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from config.options import count
from models.sru import Scan, sru_scan
from runtime.command import computing

LIMITS = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
FORWARD, BACKWARD = 5, 11  # how often [B, L, D] must be read or written at least; training also keeps the cells
TRAINED = (0, 1, 2, 4)  # of u, x, c, weight_c and bias


def draw(B: int, L: int, D: int, dtype: torch.dtype, planes: bool) -> list[Tensor]:
    """Random u, x, c, weight_c and bias, then the gradients of the outputs and of the last cells."""
    torch.manual_seed(0)
    u_shape = (B, L, 3, D) if planes else (B, L, D, 3)
    shapes = [u_shape, (B, L, D), (B, D), (2 * D,), (2 * D,), (B, L, D), (B, D)]
    u, x, c, weight_c, *others = (torch.randn(shape, device="cuda", dtype=dtype) for shape in shapes)
    weight_c = weight_c.uniform_(-1, 1)  # like the models' weights; larger ones make the recurrence amplify rounding
    return [u.transpose(2, 3) if planes else u, x, c, weight_c, *others]


def gradients(scan: Scan, tensors: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor]:
    """The outputs, the last cells, and the gradients of the wanted inputs."""
    *inputs, d_out, d_last = tensors
    inputs = [t.detach().requires_grad_(place in wanted) for place, t in enumerate(inputs)]
    outputs = scan(*inputs)
    wanted_gradients = torch.autograd.grad(outputs, [inputs[place] for place in wanted], (d_out, d_last))
    return [*(t.detach() for t in outputs), *wanted_gradients]


def in_float64(tensors: Sequence[Tensor], rows: int = 32) -> Iterator[tuple[slice, list[Tensor]]]:
    """Yields the loop's results in float64, for so many rows at a time."""
    u, x, c, weight_c, bias, d_out, d_last = tensors
    for begin in range(0, len(x), rows):
        part = slice(begin, begin + rows)
        batch = [t.double() for t in (u[part], x[part], c[part], weight_c, bias, d_out[part], d_last[part])]
        yield part, gradients(sru_scan, batch, range(5))


def error(scan: Scan, tensors: Sequence[Tensor]) -> float:
    """The worst relative error of a scan; NaN if it left an output unwritten."""
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    *by_row, weight_c, bias = gradients(scan, tensors, range(5))
    torch.use_deterministic_algorithms(False)
    apart, size = torch.zeros(2, 5, device="cuda", dtype=torch.float64)
    sums = [torch.zeros_like(t, dtype=torch.float64) for t in (weight_c, bias)]
    for part, (*right_rows, right_weight, right_bias) in in_float64(tensors):
        for place, (ours, right) in enumerate(zip(by_row, right_rows, strict=True)):
            apart[place] += (ours[part].double() - right).square().sum()
            size[place] += right.square().sum()
        sums = [sums[0] + right_weight, sums[1] + right_bias]
    errors = [*(apart / size).sqrt()]
    errors += [
        (ours.double() - right).norm() / right.norm() for ours, right in zip((weight_c, bias), sums, strict=True)
    ]
    return float(torch.stack(errors).max())  # max is NaN if one of them is


def milliseconds(step: Callable[[], object], repeats: int) -> float:
    """The median time of `step` after two calls to warm up."""
    times = []
    for _ in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])


def times(scan: Scan, tensors: Sequence[Tensor], repeats: int) -> tuple[float, float]:
    """Milliseconds of the forward pass without gradients, and of forward and backward."""

    def forward() -> None:
        with torch.no_grad():
            scan(*tensors[:5])

    return milliseconds(forward, repeats), milliseconds(lambda: gradients(scan, tensors, TRAINED), repeats)


def compare(scan: Scan, B: int, L: int, D: int, dtype: torch.dtype) -> bool:
    """Prints the table's rows for one precision. Returns whether the errors are small."""
    tensors = draw(B, L, D, dtype, planes=False)
    loop = times(sru_scan, tensors, repeats=3)
    fine = True
    for planes in (False, True):
        tensors = draw(B, L, D, dtype, planes)
        wrong = error(scan, tensors)
        fine = fine and wrong < LIMITS[dtype]
        what = f"{str(dtype).removeprefix('torch.')}{', planes' if planes else ''}"
        passes = (("forward", FORWARD), ("both", FORWARD + BACKWARD))
        for (name, moved), ours, theirs in zip(passes, times(scan, tensors, repeats=20), loop, strict=True):
            rate = moved * tensors[1].nbytes / ours / 1e9
            print(f"| {what} | {name} | {ours:.2f} | {rate:.2f} | {theirs:.1f} | {theirs / ours:.0f} | {wrong:.1e} |")
    return fine


@computing("give fewer --rows")
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The SRU recurrence as a kernel against the loop over positions.")
    parser.add_argument("--rows", type=count, default=768)
    parser.add_argument("--positions", type=count, default=900)
    parser.add_argument("--features", type=count, default=512)
    arguments = parser.parse_args(words)
    if not torch.cuda.is_available():
        raise ValueError("this benchmark needs a GPU, and PyTorch finds none here")
    from models.kernels.sru import sru_scan as kernel  # not at the top: it needs Triton

    shape = (arguments.rows, arguments.positions, arguments.features)
    print(f"{torch.cuda.get_device_name()}, {' x '.join(map(str, shape))}")
    print("| precision | pass | kernel ms | TB/s | loop ms | times faster | error |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    fine = [compare(kernel, *shape, dtype) for dtype in LIMITS]
    if not all(fine):
        raise ValueError("the kernel's results are wrong")


if __name__ == "__main__":
    main(sys.argv[1:])
