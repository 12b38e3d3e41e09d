"""Kernels against the plain code whose results they compute: float32, odd shapes, forward and backward.

Without a GPU they run in Triton's interpreter (conftest.py). Memory is poisoned before they write to it.
"""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_docs import defined, references

from models.backend import has_triton

if not has_triton():
    pytest.skip("needs Triton 3.4 or newer", allow_module_level=True)

import triton
import triton.language as tl

from benchmarks import check_kernels
from config.load import load_pretrain
from dataset.puzzles import Batch, PuzzleShape
from models.backend import Backend
from models.build import build
from models.kernels import noise, weights
from models.kernels.attention import rotary, self_attention
from models.kernels.attention.backward import attend_backward
from models.kernels.attention.forward import attend
from models.kernels.attention.rotary import Rotation, project, rotate_
from models.kernels.mlp import mlp_norm, narrow_backward, wide
from models.kernels.noise import Relaxation
from models.kernels.norm import linear_norm
from models.kernels.parts import FusedBlock, FusedMixerBlock, FusedRelaxed
from models.layers import (
    CUT_STD,
    TAIL,
    Attention,
    Block,
    MixerBlock,
    Rotary,
    Stack,
    SwiGLU,
    rms_norm,
    rope_1d,
    rope_2d,
    truncated_normal,
)
from models.losses import step_loss
from models.relaxation import Relaxed
from training.ema import EMA

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FUSED = Backend(kernels=True, attention=None)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fills what the launchers allocate with NaN, and checks that nothing writes into the room behind it."""
    behind, new = [], torch.empty
    for place, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        original = getattr(place, name)

        def poison(*sizes, original=original, **options):
            made = original(*sizes, **options)
            if not made.is_floating_point() or not made.is_contiguous():
                return made
            room = new(made.numel() + 1000, dtype=made.dtype, device=made.device).fill_(float("nan"))
            behind.append(room[made.numel() :])
            return room[: made.numel()].view(made.shape)

        monkeypatch.setattr(place, name, poison)
    yield
    assert all(rest.isnan().all() for rest in behind)


def agree(fused, plain, *leaves: torch.Tensor, tolerance: float = 2e-6) -> None:
    """Both functions give the same result, and the same gradients of the leaves."""
    results = []
    for function in (fused, plain):
        out = function()
        torch.manual_seed(5)
        results.append([out, *torch.autograd.grad((out * torch.randn(out.shape).to(DEVICE)).sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert torch.linalg.norm((ours - theirs).double()) <= tolerance * torch.linalg.norm(theirs.double())


def leaf(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return (scale * torch.randn(shape, device=DEVICE)).requires_grad_()


@pytest.mark.parametrize("B, L, D", [(2, 5, 44), (1, 1, 42), (1, 150, 44), (3, 70, 128), (1, 7, 130), (1, 40, 192)])
def test_mlp_over_features(B, L, D):
    torch.manual_seed(0)
    layer, x = SwiGLU(D, 4).to(DEVICE), leaf(B, L, D)
    both = layer.gate_up_proj.weight, layer.down_proj.weight
    agree(lambda: mlp_norm(x, *both), lambda: rms_norm(x + layer(x)), x, *both)


def test_products_in_float8():
    """Results are float32. In float8 the interpreter rounds a number just below a power of two to half of it."""
    torch.manual_seed(0)
    x, layer = rms_norm(torch.randn(70, 192, device=DEVICE)), SwiGLU(192, 4).to(DEVICE)
    weight, scale, _ = weights.in_float8(layer.gate_up_proj.weight)
    assert weight.float().abs().max() == 448
    assert (weight.float() * scale - layer.gate_up_proj.weight).abs().max() <= 16 * scale
    act = torch.empty(70, layer.down_proj.weight.shape[1], device=DEVICE)
    rounded = x.to(torch.float8_e4m3fn)
    wide._multiply(rounded, weight, act, True, scale=scale)
    gate, up = (rounded.float() @ (weight.float() * scale).T).chunk(2, -1)
    torch.testing.assert_close(act, F.silu(gate) * up)


def test_float8_weights_follow_updates():
    weight = torch.nn.Parameter(torch.randn(16, 32, device=DEVICE))
    optimizer, ema = torch.optim.AdamW([weight], lr=0.1, fused=True), EMA({"weight": weight}, 0.9)

    def fresh() -> bool:
        made, scale, _ = weights.in_float8(weight)
        return torch.equal(made, (weight.detach() / scale).to(torch.float8_e4m3fn))

    assert fresh() and weights.in_float8(weight)[0] is weights.in_float8(weight)[0]
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert fresh()
    with ema.applied():
        assert fresh()
    assert fresh()


def test_float8_is_for_passes_without_gradient_alone():
    torch.manual_seed(0)
    layer, x = SwiGLU(192, 4).to(DEVICE), rms_norm(torch.randn(2, 35, 192, device=DEVICE))
    both = layer.gate_up_proj.weight, layer.down_proj.weight
    exact = rms_norm(x + layer(x))
    torch.testing.assert_close(mlp_norm(x, *both, float8=True), exact)
    with torch.no_grad():
        apart = mlp_norm(x, *both, float8=True) - exact
    assert 1e-3 < apart.norm() / exact.norm() < 0.1


def test_programs_take_several_tiles_each_where_there_are_more_tiles(monkeypatch):
    monkeypatch.setattr(wide, "_PROGRAMS", 3)
    test_mlp_over_features(1, 130, 136)
    monkeypatch.setattr(rotary, "_PROGRAMS", 2)
    test_self_attention(3, 97, 2, 22, "rope")
    test_the_longest_keys_are_known_and_change_nothing_where_they_are_short(2, 22, "rope")


@pytest.mark.parametrize("B, L, D", [(2, 81, 20), (1, 16, 1), (1, 20, 150), (1, 97, 20), (1, 130, 24)])
def test_mlp_over_positions(B, L, D):
    torch.manual_seed(0)
    layer, x = SwiGLU(L, 4).to(DEVICE), leaf(B, L, D)
    both = layer.gate_up_proj.weight, layer.down_proj.weight

    def plain() -> torch.Tensor:
        turned = x.transpose(1, 2)
        return rms_norm(turned + layer(turned)).transpose(1, 2)

    agree(lambda: mlp_norm(x, *both, over_positions=True), plain, x, *both)


def test_a_gpu_with_little_shared_memory_takes_smaller_tiles(monkeypatch):
    large = narrow_backward._tile(128, 512, torch.device("cpu"))
    monkeypatch.setattr(narrow_backward, "shared_memory", lambda device: 101376)  # of capability 8.9
    assert narrow_backward._tile(128, 512, torch.device("cuda"))[0] < large[0]


@pytest.mark.parametrize("programs", [1, 12])
def test_gradients_of_weights_are_summed_over_programs_and_their_tiles(monkeypatch, programs):
    monkeypatch.setattr(narrow_backward, "_PROGRAMS", programs)
    test_mlp_over_positions(2, 81, 20)
    test_mlp_over_features(1, 150, 44)


@pytest.mark.parametrize("D, H, K", [(44, 2, 22), (42, 3, 14), (128, 8, 16), (129, 2, 20), (512, 1, 64)])
@pytest.mark.parametrize("rows", [1, 37])
def test_linear_norm(rows, D, H, K):
    torch.manual_seed(0)
    h, y, weight = leaf(rows, 1, D), leaf(rows, 1, H * K), leaf(D, H * K, scale=(H * K) ** -0.5)
    spread = weights.spread
    agree(lambda: linear_norm(h, spread(y, 2, K), weight, K), lambda: rms_norm(h + F.linear(y, weight)), h, y, weight)


def test_heads_are_spread_and_gathered_along_an_axis():
    x = torch.arange(1.0, 13.0).view(2, 6)
    assert weights.spread(x, 1, 3)[0].tolist() == [1, 2, 3, 0, 0, 0, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0]
    assert torch.equal(weights.gather(weights.spread(x, 1, 3), 1, 3), x)
    assert torch.equal(weights.gather(weights.spread(x.T, 0, 3), 0, 3), x.T)
    assert torch.equal(weights.spread(torch.ones(2, 8, 3), 1, 8), torch.ones(2, 8, 3))


@pytest.mark.parametrize(
    "B, L, H, K, positions",
    [
        (2, 5, 2, 22, "rope"),
        (1, 70, 2, 16, "rope"),
        (1, 1, 2, 16, "rope"),
        (1, 1, 2, 22, "rope"),
        (3, 47, 3, 14, "rope"),
        (2, 33, 3, 16, "rope"),
        (2, 36, 2, 8, "rope2d"),
        (2, 36, 2, 20, "rope2d"),
        (2, 36, 2, 32, "rope2d"),
        (1, 64, 3, 14, "none"),
        (1, 130, 1, 64, "rope"),
        (2, 37, 1, 31, "none"),
        (2, 33, 8, 16, "rope"),
        (1, 21, 6, 16, "rope"),
        (2, 21, 5, 14, "rope"),
        (1, 36, 9, 8, "rope2d"),
        (1, 36, 4, 32, "rope2d"),
    ],
)
def test_self_attention(B, L, H, K, positions):
    torch.manual_seed(0)
    rotary = None if positions == "none" else rotary_of(positions, L, K)
    layer, h = Attention(H * K, H, rotary).to(DEVICE), leaf(B, L, H * K)
    with torch.no_grad():
        layer.o_proj.weight.copy_(torch.eye(H * K))
    rotation = None if rotary is None else rotation_of(rotary)
    weight = layer.qkv_proj.weight
    agree(lambda: attention(h, weight, H, rotation), lambda: layer(h), h, weight, tolerance=5e-6)


def attention(h: torch.Tensor, weight: torch.Tensor, H: int, rotation: Rotation | None) -> torch.Tensor:
    return weights.gather(self_attention(h, weight, H, rotation), 2, h.shape[2] // H)


def rotary_of(positions: str, L: int, K: int) -> Rotary:
    return Rotary(*([rope_1d(L, K)] if positions == "rope" else rope_2d(6, L // 6, 0, K)))


def rotation_of(rotary: Rotary) -> Rotation:
    return rotary.cos_LK, rotary.sin_LK, rotary.widths[0]


@pytest.mark.parametrize(
    "H, K, positions", [(2, 22, "rope"), (3, 14, "rope"), (4, 16, "rope"), (2, 20, "rope2d"), (8, 16, "rope")]
)
def test_the_longest_keys_are_known_and_change_nothing_where_they_are_short(H, K, positions):
    torch.manual_seed(0)
    h, weight = torch.randn(2, 42, H * K, device=DEVICE), leaf(3 * H * K, H * K, scale=(H * K) ** -0.5)
    qkv, longest = project(h, weight, H, rotation_of(rotary_of(positions, 42, K).to(DEVICE)))
    keys = qkv.view(-1, 3 * H, weights.stride(K))[:, H : 2 * H].square().sum(-1)
    each = longest.repeat_interleave(16, dim=0)[: len(keys)].expand(-1, H)
    assert (keys <= each * 1.00001).all() and (each <= keys.sum(1).max() * 1.00001).all()
    for bounded, plain in zip(attend(qkv, H, longest), attend(qkv, H), strict=True):
        torch.testing.assert_close(bounded, plain, rtol=2e-6, atol=2e-6)
    assert not torch.equal(attend(qkv, H, longest)[1], attend(qkv, H)[1])  # they took different ways


def test_large_scores_do_not_overflow():
    torch.manual_seed(0)
    layer, h = Attention(32, 2, None).to(DEVICE), leaf(1, 70, 32, scale=12.0)
    with torch.no_grad():
        layer.o_proj.weight.copy_(torch.eye(32))
    weight = layer.qkv_proj.weight
    agree(lambda: attention(h, weight, 2, None), lambda: layer(h), h, weight, tolerance=1e-4)


@pytest.mark.parametrize("H, K", [(2, 16), (3, 16), (2, 22)])
def test_rotation_there_and_back_keeps_to_its_memory(H, K):
    torch.manual_seed(0)
    rotary, E = Rotary(rope_1d(5, K)).to(DEVICE), H * weights.stride(K)
    size = 2 * 5 * 3 * E
    room = torch.full((size + 5000,), 7.0, device=DEVICE)
    qkv = room[:size].view(2, 5, -1).copy_(weights.spread(torch.randn(2, 5, 3 * H * K), 2, K))
    before = qkv.clone()
    for turn in (1.0, -1.0):
        rotate_(qkv, H, K, rotation_of(rotary), turn)
        if turn > 0:
            assert not torch.allclose(qkv[..., E : 2 * E], before[..., E : 2 * E], atol=1e-2)
    qkv[..., :E] /= math.log2(math.e) ** 2 / K  # there and back
    assert torch.allclose(qkv, before, atol=1e-5)
    assert torch.equal(qkv[..., 2 * E :], before[..., 2 * E :]) and (room[size:] == 7.0).all()


@pytest.mark.parametrize("large, H", [(0, 2), (69, 8)])
def test_one_large_key_among_small_ones_does_not_overflow(large, H):
    """Bounded scores need no maximum in the softmax. This key breaks the bound of its row; the queries do not."""
    torch.manual_seed(0)
    rotary, D = Rotary(rope_1d(70, 16)), H * 16
    layer, h = Attention(D, H, rotary).to(DEVICE), leaf(2, 70, D)
    weight = layer.qkv_proj.weight
    with torch.no_grad():
        h[1, large] *= 60.0
        layer.o_proj.weight.copy_(torch.eye(D))
        weight[:D] *= 0.02
        weight[D : 2 * D] *= 50.0
    agree(lambda: attention(h, weight, H, rotation_of(rotary)), lambda: layer(h), h, weight, tolerance=1e-4)


@pytest.mark.parametrize("K", [24, 32])
def test_sums_that_float16_cannot_hold_leave_gradients_finite(K):
    """Output times gradient, summed over a head, passes 65504. The gradients of the scores do not."""
    torch.manual_seed(0)
    qkv = 0.3 * torch.randn(1, 20, 3 * K, device=DEVICE)
    qkv[..., 2 * K :] += 100.0
    out, lse = attend(qkv.half(), 1)
    d_out = (40.0 + torch.randn_like(out, dtype=torch.float32)).half()
    assert (out.float() * d_out.float()).sum(-1).max() > 65504
    assert attend_backward(qkv.half(), 1, out, lse, d_out).isfinite().all()


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_one_sign(sign):
    """All scores lie far above or far below zero. The scores of the padding are zero and must not mix in."""
    torch.manual_seed(0)
    layer, h = Attention(16, 1, None).to(DEVICE), leaf(1, 70, 16)
    with torch.no_grad():
        h += 8.0
        layer.o_proj.weight.copy_(torch.eye(16))
        layer.qkv_proj.weight.copy_(torch.cat((torch.eye(16), sign * torch.eye(16), torch.eye(16))))
    weight = layer.qkv_proj.weight
    agree(lambda: attention(h, weight, 1, None), lambda: layer(h), h, weight, tolerance=1e-4)


@pytest.mark.parametrize(
    "B, L, D", [(1, 1, 42), (2, 70, 44), (1, 9, 64), (2, 65, 128), (1, 7, 130), (1, 130, 136), (1, 1, 512), (2, 5, 520)]
)
def test_relaxed_without_noise(B, L, D):
    torch.manual_seed(0)
    block, h, inject = Block(D, 2, 1, None).to(DEVICE), leaf(B, L, D), leaf(B, L, D)
    plain = Relaxed(Stack([block]), 0.7, 0.0)
    fused = FusedRelaxed(Stack([FusedBlock(block, own_attention=False)]), 0.7, 0.0)
    assert fused.state_dict().keys() == plain.state_dict().keys()
    agree(lambda: fused(h, inject), lambda: plain(h, inject), h, inject, *block.parameters(), tolerance=5e-6)
    with torch.no_grad():
        torch.testing.assert_close(fused(h, inject), plain(h, inject))


@pytest.mark.parametrize("blocks", [1, 2])
def test_relaxed_of_mixers(blocks):
    torch.manual_seed(0)
    mixers, h, inject = [MixerBlock(136, 21, 1).to(DEVICE) for _ in range(blocks)], leaf(1, 21, 136), leaf(1, 21, 136)
    both = Stack(mixers), Stack(FusedMixerBlock(block) for block in mixers)
    plain, fused = Relaxed(both[0], 0.7, 0.0), FusedRelaxed(both[1], 0.7, 0.0)
    agree(lambda: fused(h, inject), lambda: plain(h, inject), h, inject, *plain.parameters(), tolerance=5e-6)
    with torch.no_grad():
        torch.testing.assert_close(fused(h, inject), plain(h, inject))


def noise_of(rows: int, D: int, seed: int) -> torch.Tensor:
    """The noise [2 rows, D] of two calls: a step from zeros towards zeros."""
    torch.manual_seed(seed)
    x, gate_up_, down = (torch.zeros(*shape, device=DEVICE) for shape in ((1, rows, D), (256, D), (D, 128)))
    return torch.cat([mlp_norm(x, gate_up_, down, relaxation=Relaxation(x, 0.5, 1.0))[0] for _ in range(2)]).double()


@pytest.mark.parametrize("D", [42, 128, 130, 520])
def test_noise_is_normal_and_independent_and_repeats_with_the_seed(D):
    x = noise_of(133, D, 1)
    n = x.numel()
    assert abs(x.mean()) < 5 / n**0.5
    assert abs(x.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs(x.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert x.unique().numel() > 0.97 * n  # float32 cannot tell a few of them apart
    for lines in (x, x.T):  # rows of both calls; columns
        between = torch.corrcoef(lines) - torch.eye(len(lines), device=x.device)
        assert between.abs().max() < 6 / lines.shape[1] ** 0.5
    square = (x.square() - 1) / 2**0.5  # one radius of Box and Muller's makes two numbers
    for lag in range(1, 8):
        for y in (x, square):
            assert abs((y[:, lag:] * y[:, :-lag]).mean()) < 5 / y[:, lag:].numel() ** 0.5
    assert torch.equal(x, noise_of(133, D, 1))
    assert torch.isin(x, noise_of(133, D, 2)).double().mean() < 0.05


@pytest.mark.parametrize("D", [44, 136])
def test_noise_is_the_same_without_gradient_and_changes_none(D):
    torch.manual_seed(0)
    x, h, layer = leaf(1, 70, D), leaf(1, 70, D), SwiGLU(D, 1).to(DEVICE)
    leaves = x, h, layer.gate_up_proj.weight, layer.down_proj.weight

    def step(noise_scale: float) -> torch.Tensor:
        torch.manual_seed(1)
        return mlp_norm(x, *leaves[2:], relaxation=Relaxation(h, 0.9, noise_scale))

    weight = torch.randn(1, 70, D, device=DEVICE)
    noisy, plain = (torch.autograd.grad((step(s) * weight).sum(), leaves) for s in (0.3, 0.0))
    assert all(torch.equal(a, b) for a, b in zip(noisy, plain, strict=True))
    assert not torch.equal(step(0.3), step(0.0))
    with torch.no_grad():
        without = step(0.3)
    assert torch.equal(step(0.3), without)


@triton.jit
def _noise_at(row_ptr, zeros_ptr, key_ptr, out_ptr):
    at = 16 * tl.arange(0, 2)[:, None] + tl.arange(0, 16)[None, :]
    zeros, row = tl.load(zeros_ptr + at), tl.load(row_ptr + tl.arange(0, 2))
    noise.store_step(zeros, None, zeros_ptr, key_ptr, out_ptr, at, at >= 0, row, 0.5, 1.0, 16)


def test_places_that_differ_by_2_to_the_32_have_noise_of_their_own():
    """A row of 16 takes 4 places."""
    rows = torch.tensor([3, 3 + 2**30], device=DEVICE)
    zeros, key = torch.zeros(2, 16, device=DEVICE), torch.tensor([5], device=DEVICE)
    out = torch.zeros_like(zeros)
    _noise_at[1,](rows, zeros, key, out)
    assert out.unique().numel() == 32


def test_truncated_normal_has_the_distribution_of_the_plain_one():
    torch.manual_seed(0)
    ours = noise.truncated_normal(40, 500, std=0.5, device=DEVICE, dtype=torch.float32).flatten()
    theirs = truncated_normal(40, 500, std=0.5, device=DEVICE).flatten()
    assert ours.unique().numel() > 0.97 * len(ours)
    assert torch.isfinite(ours).all() and ours.abs().max() <= theirs.abs().max() * 1.001
    assert abs(ours.double().mean()) < 5 * 0.5 / len(ours) ** 0.5
    gap = (ours.sort().values - theirs.sort().values).abs()[100:-100].max()
    assert gap < 0.03
    assert not noise.truncated_normal(3, 5, std=0.0, device=DEVICE, dtype=torch.float32).any()


def test_erfinv_is_exact_enough():
    torch.manual_seed(0)
    x = noise.truncated_normal(4000, std=1.0, device=DEVICE, dtype=torch.float32).double() * CUT_STD
    back = torch.erf(x / 2**0.5)  # of uniform numbers in +-TAIL
    assert abs(back.abs().max() - TAIL) < 2e-3
    assert (torch.erfinv(back) * 2**0.5 - x).abs().max() < 1e-6


def test_weights_are_made_once_an_update():
    weight = torch.nn.Parameter(torch.randn(3, 5))
    first = weights.kernel_copy(weight, torch.bfloat16, columns=8)
    assert first.shape == (3, 8) and not first[:, 5:].any() and torch.equal(first[:, :5], weight.bfloat16())
    assert weights.kernel_copy(weight, torch.bfloat16, columns=8) is first
    with torch.no_grad():
        weight.add_(1.0)
    assert torch.equal(weights.kernel_copy(weight, torch.bfloat16, columns=8)[:, :5], weight.bfloat16())
    same = weights.kernel_copy(weight, torch.float32)
    with torch.no_grad():
        weight.zero_()
    assert same.any()  # a copy, even though nothing had to change


def test_weights_follow_optimizers_that_count_no_version():
    weight = torch.nn.Parameter(torch.randn(3, 5, device=DEVICE))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for _ in range(2):
        assert torch.equal(weights.kernel_copy(weight, torch.bfloat16), weight.bfloat16())
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert torch.equal(weights.kernel_copy(weight, torch.bfloat16), weight.bfloat16())


def test_weights_follow_the_average_and_come_back():
    weight = torch.nn.Parameter(torch.randn(3, 5))
    ema, live = EMA({"weight": weight}, 0.9), weights.kernel_copy(weight, torch.float32)
    ema.shadow["weight"].fill_(2.0)
    with ema.applied():
        assert (weights.kernel_copy(weight, torch.float32) == 2.0).all()
    assert torch.equal(weights.kernel_copy(weight, torch.float32), live)


def test_training_after_inference_mode_and_inference_tensors():
    x, layer = leaf(2, 3, 24), SwiGLU(24, 4).to(DEVICE)
    with torch.inference_mode():
        seen = mlp_norm(x, layer.gate_up_proj.weight, layer.down_proj.weight)
        made_here = SwiGLU(24, 4).to(DEVICE)
        for _ in range(2):  # PyTorch does not count these changes
            found = mlp_norm(x, made_here.gate_up_proj.weight, made_here.down_proj.weight)
            torch.testing.assert_close(found, rms_norm(x + made_here(x)))
            made_here.down_proj.weight.mul_(2.0)
    out = mlp_norm(x, layer.gate_up_proj.weight, layer.down_proj.weight)
    out.sum().backward()
    assert torch.equal(out, seen)


@pytest.mark.parametrize("D", [24, 136])
def test_second_derivatives_are_refused(D):
    x, layer = leaf(1, 3, D), SwiGLU(D, 4).to(DEVICE)
    out = mlp_norm(x, layer.gate_up_proj.weight, layer.down_proj.weight)
    [gradient] = torch.autograd.grad(out.pow(3).sum(), layer.down_proj.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_every_kernel_compiles_for_a_gpu_that_is_not_here():
    """For an H100 in bfloat16. A compiler may refuse what the interpreter accepts. Nothing goes to local memory."""
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    program = [sys.executable, "-m", "tests.compile_kernels"]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = {line.split()[0] for line in done.stdout.splitlines()}
    assert compiled == launched()


def launched() -> set[str]:
    """`mlp/narrow.py::_forward` for every kernel that a launcher calls."""
    folder = ROOT / "models" / "kernels"
    calls = {file: re.findall(r"^ +(_\w+)\[", file.read_text(), re.MULTILINE) for file in folder.rglob("*.py")}
    return {f"{file.relative_to(folder)}::{name}" for file, names in calls.items() for name in names}


def test_the_map_names_every_kernel_and_nothing_else():
    page = (ROOT / "models" / "kernels" / "README.md").read_text()
    assert {word for word in references(page) if word.split("::")[1].startswith("_")} == launched()
    assert [word for word in references(page) if not defined(f"models/kernels/{word}")] == []


SMALL = ["arch.forward_dtype=float32", "arch.hidden_size=32", "arch.num_heads=2"]
MODELS = {
    "eqr_sudoku": [*SMALL, "arch.noise_scale=0", "arch.H_cycles=2", "arch.L_cycles=1"],
    "eqr_maze_unique": [*SMALL, "arch.noise_scale=0", "arch.H_cycles=2", "arch.L_cycles=1"],
    "trm_maze_hard": [*SMALL, "arch.H_cycles=2", "arch.L_cycles=1"],
    "hrm_sudoku": [*SMALL, "arch.H_layers=1", "arch.L_layers=1"],
    "feedforward_sudoku": [*SMALL, "arch.L_layers=2"],
}


@pytest.mark.parametrize("name", MODELS)
def test_whole_models(name):
    """The second step of training, and every gradient."""
    config = load_pretrain([f"train={name}", *MODELS[name]])
    shape = PuzzleShape(16, 6, 3)
    torch.manual_seed(1)
    plain = build(config.arch, shape).to(DEVICE)
    fused = build(config.arch, shape, FUSED).to(DEVICE)
    fused.load_state_dict(plain.state_dict(), strict=True)
    tokens = torch.randint(1, 6, (2, 2, 16), dtype=torch.int32, device=DEVICE)
    batch = Batch(tokens[0], tokens[1], torch.arange(2, dtype=torch.int32, device=DEVICE))
    state = plain.advance(plain.start(batch))[0]
    gradients = []
    for model in (plain, fused):
        new, readout = model.advance(state)
        step_loss(readout, new, config.arch)[0].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        gradients[-1]["logits"], gradients[-1]["latent"] = readout.logits, new.latents[0]
    assert gradients[0].keys() == gradients[1].keys()
    for n, expected in gradients[0].items():
        assert torch.linalg.norm(gradients[1][n] - expected) <= 1e-5 * torch.linalg.norm(expected), n


def test_the_check_for_a_gpu_finds_faults():
    """benchmarks/check_kernels.py, in float32 on any device."""
    cases = {case.name: case for case in check_kernels.cases(rows=1)}
    case = cases["linear_norm, D 44"]
    assert max(check_kernels.errors(case, torch.float32, DEVICE)) < 1e-6
    wrong = case._replace(kernel=lambda h, y, w: case.kernel(h, 1.01 * y, w))
    assert check_kernels.errors(wrong, torch.float32, DEVICE)[0] > 1e-3
    unwritten = case._replace(kernel=lambda h, y, w: case.kernel(h, y, w) + torch.empty_like(h))
    assert math.isnan(check_kernels.errors(unwritten, torch.float32, DEVICE)[0])
    assert check_kernels.small([1e-3, 1e-3, math.nan, 1.0])
    for found in ([1e-3, math.nan], [math.nan, 1e-3], [1e-3, 1.0]):
        assert not check_kernels.small([*found, 0.0, 0.0])


def test_no_gradient_is_kept_where_none_is_wanted():
    x, layer = torch.randn(2, 3, 24, device=DEVICE), SwiGLU(24, 4).to(DEVICE)
    with torch.no_grad():
        assert not mlp_norm(x, layer.gate_up_proj.weight, layer.down_proj.weight).requires_grad
