"""Compiles every kernel for an H100 in bfloat16, without a GPU. Prints each as file::kernel with its shared memory.

tests/test_kernels.py runs it in a process of its own, where Triton compiles and does not interpret.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.kernels import noise, norm, sru
from models.kernels.attention import backward, forward, rotary
from models.kernels.mlp import narrow, narrow_backward, wide

ACTIVATIONS, FLOAT, NUMBER = "*bf16", "*fp32", "i32"
TYPES = {
    "scale_ptr": FLOAT,
    "lse_ptr": FLOAT,
    "delta_ptr": FLOAT,
    "longest_ptr": FLOAT,
    "cos_ptr": FLOAT,
    "sin_ptr": FLOAT,
    "parts_ptr": FLOAT,
    "key_ptr": "*i64",
    "turn": "fp32",
    "scale": "fp32",
    "std": "fp32",
    "tail": "fp32",
    "lambda_": "fp32",
    "noise_scale": "fp32",
}
ROW = {"D": 128, "DP": 128, "BLOCK": 32}
MAZE = {"D": 128, "D1": 128, "D2": 0, "M": 0, "N": 512}
NARROW = {"D": 44, "D1": 32, "D2": 16, "M": 0, "N": 256}
NARROW_64 = {"D": 64, "D1": 64, "D2": 0, "M": 0, "N": 256}
MIXER = {"D": 81, "D1": 64, "D2": 32, "M": 512, "N": 256}
MIXER_97 = {"D": 97, "D1": 128, "D2": 0, "M": 512, "N": 512}
HEADS = {"H": 8, "K": 16, "KP": 16, "BLOCK": 64}
HEADS_22 = {"H": 2, "K": 24, "KP": 32, "BLOCK": 64}
MADE_AGAIN = {"KEEP": False, "BLOCK": 64, "BLOCK_N": 32}
NO_STEP = {"h_ptr": None, "key_ptr": None, "out_ptr": None}
STEPS = [NO_STEP, {"norm_ptr": None, "key_ptr": None}, {"key_ptr": None}, {"norm_ptr": None}, {}]
SOFTMAX = {"TAIL": 16, "EACH": 8, "TOKENS": 16, "MANY": 64, "BLOCK_N": 64}
HEADS_64 = {"H": 8, "K": 64, "KP": 64, "KW": 64, "BLOCK": 64, "WIDE": False}
WIDE = {"KW": 32, "BLOCK_N": 64, "TAIL": 16, "WIDE": True, "delta_ptr": None}
TILES = {name: f"tensordesc<bf16[{size}]>" for name, size in
         {"x": "128,64", "weight": "64,64", "act": "128,64", "gates": "128,64"}.items()}  # fmt: skip
TILES_8 = {name: f"tensordesc<fp8e4nv[{size}]>" for name, size in
           {"x": "128,128", "weight": "64,128", "act": "128,64", "gates": "128,64"}.items()}  # fmt: skip
WIDE_MLP = {"D": 512, "N": 1536, "EXACT": False, "BLOCK": 128, "BLOCK_N": 64}
CASES = [
    *((norm._add_norm, {**ROW, "D": 512, "DP": 512, "BLOCK": 8, **step}, (4, 3), {}) for step in (NO_STEP, {})),
    (norm._add_norm_backward, ROW, (4, 3), {}),
    (norm._linear_norm, {**ROW, "E": 128, "EP": 128, "BLOCK": 64}, (4, 3), {}),
    *((narrow._forward, {**MAZE, "BLOCK": 64, "BLOCK_N": 32, **step}, (4, 2), {}) for step in (NO_STEP, {})),
    *((narrow._forward, {**NARROW, "BLOCK": 128, "BLOCK_N": 32, **step}, (4, 3), {}) for step in STEPS),
    (narrow._forward, {**MIXER, "BLOCK": 128, "BLOCK_N": 64, **NO_STEP}, (4, 2), {}),
    (narrow._forward, {**MIXER_97, "BLOCK": 128, "BLOCK_N": 32, **NO_STEP}, (8, 3), {}),
    (narrow_backward._backward, {**MAZE, "KEEP": True, "BLOCK": 64, "BLOCK_N": 32}, (4, 3), {}),
    *((narrow_backward._backward, {**sizes, **MADE_AGAIN}, (4, 3), {}) for sizes in (NARROW, NARROW_64)),
    *((narrow_backward._backward, {**sizes, **MADE_AGAIN}, (4, 2), {}) for sizes in (MIXER, MIXER_97)),
    (narrow_backward._backward, {**MIXER_97, "KEEP": False, "BLOCK": 128, "BLOCK_N": 64}, (8, 3), {}),
    (narrow_backward._weights_backward, {**NARROW, "BLOCK": 64, "BLOCK_N": 64}, (4, 3), {}),
    (narrow_backward._weights_backward, {**NARROW_64, "BLOCK": 64, "BLOCK_N": 64}, (4, 3), {}),
    (narrow_backward._weights_backward, {**MIXER, "BLOCK": 32, "BLOCK_N": 64}, (4, 3), {}),
    (narrow_backward._weights_backward, {**MIXER_97, "BLOCK": 16, "BLOCK_N": 64}, (4, 3), {}),
    (wide._gate_up, {**WIDE_MLP, "SAVE": True, "BLOCK_D": 64, "scale_ptr": None}, (4, 3), TILES),
    (wide._gate_up, {**WIDE_MLP, "SAVE": False, "BLOCK_D": 128}, (4, 3), TILES_8),
    (wide._gates_backward, {"N": 1536, "BLOCK": 1024}, (4, 3), {}),
    (rotary._rotate, {"H": 8, "K": 16, "PART": 16, "BOUND": True, "BLOCK": 256}, (8, 3), {}),
    (rotary._rotate_odd, {"H": 2, "K": 22, "KS": 24, "PART": 22, "BLOCK": 16}, (4, 3), {}),
    (
        rotary._project,
        {"D": 44, "DP": 64, "H": 2, "K": 22, "KS": 24, "WIDTH": 64, "PART": 22, "BLOCK": 64, "TOKENS": 16},
        (4, 2),
        {},
    ),
    (forward._forward, {**HEADS, **SOFTMAX}, (4, 3), {}),
    (forward._forward, {**HEADS_22, **SOFTMAX, "EACH": 1, "BLOCK": 128}, (8, 3), {}),
    *((backward._backward_q, {**sizes, **WIDE}, (4, 4), {}) for sizes in (HEADS, HEADS_22)),
    *((backward._backward_kv, {**sizes, **WIDE, "lse_ptr": None}, (4, 3), {}) for sizes in (HEADS, HEADS_22)),
    (
        backward._backward_q,
        {**HEADS_64, "BLOCK_N": 64, "TAIL": 16, "q_wide_ptr": None, "d_wide_ptr": None},
        (4, 4),
        {},
    ),
    (backward._backward_kv, {**HEADS_64, "BLOCK_N": 32, "TAIL": 16}, (4, 3), {}),
    (noise._truncated_normal, {"BLOCK": 1024}, (4, 3), {}),
    (sru._forward, {"MASKED": True, "KEEP": True, "BLOCK": 128}, (4, 3), {}),
    (sru._backward, {"MASKED": True, "BLOCK": 128}, (4, 3), {}),
]

for kernel, constants, (warps, stages), given in CASES:

    def type_of(name: str, constants=constants, given=given) -> str:
        if name in constants:
            return "constexpr"
        return given.get(name) or TYPES.get(name) or (ACTIVATIONS if name.endswith("_ptr") else NUMBER)

    names = kernel.arg_names
    signature = {name: type_of(name) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    places = {(names.index(name),): value for name, value in constants.items() if name in names}
    source = ASTSource(kernel, signature, constexprs=places, attrs=aligned)
    options = {"num_warps": warps, "num_stages": stages, "ptx_options": "--warn-on-spills --warning-as-error"}
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert ".local" not in done.asm["ptx"], f"{kernel.__name__} keeps something in local memory"
    assert done.metadata.shared <= 227 * 1024, f"{kernel.__name__} asks for more shared memory than there is"
    file = kernel.fn.__module__.removeprefix("models.kernels.").replace(".", "/")
    print(f"{file}.py::{kernel.__name__} shared {done.metadata.shared}", flush=True)
