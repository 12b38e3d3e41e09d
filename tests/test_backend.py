"""The choice of a backend: all combinations of settings, precisions and models, on devices that are not here."""

import importlib.util
import itertools
import sys
from types import ModuleType

import pytest
import torch

from config.load import load_pretrain
from config.schema import EvalConfig
from models import backend
from models.attention import flash, sdpa


def choose(kernels, attention, compiled, arch, device, graphs=True) -> backend.Backend:
    words = {"kernels": kernels, "attention": attention, "compile": compiled, "cuda_graphs": graphs}
    return backend.choose(EvalConfig(checkpoint="run", **words), arch, device)


CPU, GPU = torch.device("cpu"), torch.device("cuda")
MAZE = ["train=eqr_maze_unique"]  # 8 heads of 16
FLASH = ("flash_attn_interface", "flash_attn")


def arch(*words: str):
    return load_pretrain([*(words or MAZE)]).arch


@pytest.fixture
def machine(monkeypatch):
    """A function that makes PyTorch see a GPU of this capability, with this Triton ("new", "old" or None)."""

    def become(capability=(9, 0), triton="new", hip=None) -> None:
        find = importlib.util.find_spec

        def found(name: str, package: str | None = None):
            if name.split(".")[0] != "triton":
                return find(name, package)
            if triton is None and "." in name:
                raise ModuleNotFoundError(name)
            present = triton == "new" or (triton == "old" and name == "triton")
            return importlib.util.spec_from_loader(name, loader=None) if present else None

        monkeypatch.setattr(importlib.util, "find_spec", found)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Some GPU")
        monkeypatch.setattr(torch.version, "hip", hip)

    monkeypatch.delenv("DISABLE_FLASH_ATTN", raising=False)
    for name in FLASH:
        monkeypatch.setitem(sys.modules, name, None)  # not installed
    become()
    return become


@pytest.fixture
def package(monkeypatch):
    """A function that installs a package of that name whose attention is `function`."""

    def install(name: str, function) -> None:
        module = ModuleType(name)
        module.flash_attn_func = function
        monkeypatch.setitem(sys.modules, name, module)

    return install


def test_a_new_gpu_has_kernels(machine):
    assert choose("auto", "auto", "auto", arch(), GPU) == backend.Backend(True, False, None, "CUDA graphs", True)
    assert choose("auto", "triton", False, arch(), GPU).attention is None
    assert choose("auto", "auto", "auto", arch(), GPU, graphs=False) == backend.Backend(True, attention=None)
    assert choose("auto", "sdpa", "auto", arch(), GPU) == backend.Backend(True, False, sdpa, "CUDA graphs", True)


def test_a_cpu_is_plain_unless_compilation_is_asked_for(machine):
    assert choose("auto", "auto", "auto", arch(), CPU) == backend.Backend(
        False, False, sdpa, "no kernels: the device is cpu"
    )
    asked = choose("auto", "auto", True, arch(), CPU)
    assert asked.compiled and asked.why == "compiled PyTorch, no kernels: compile=true"


@pytest.mark.parametrize(
    "here, words, compiled, why",
    [
        ({"triton": None}, [], False, "Triton is missing or older than 3.4"),
        ({"triton": "old"}, [], True, "Triton is missing or older than 3.4"),
        ({"capability": (7, 5)}, [], False, "Some GPU is older than they support"),
        ({"capability": (7, 5)}, ["arch.forward_dtype=float16"], True, "Some GPU is older than they support"),
        ({"capability": (6, 1)}, ["arch.forward_dtype=float32"], False, "Some GPU is older than they support"),
        ({"hip": "6.4"}, [], True, "they are written for NVIDIA's GPUs"),
        ({}, ["arch.forward_dtype=float32"], True, "they compute in bfloat16 or float16, not float32"),
        ({}, ["arch.forward_dtype=float64"], True, "they compute in bfloat16 or float16, not float64"),
    ],
)
def test_a_gpu_without_kernels_compiles_where_it_can(machine, here, words, compiled, why):
    machine(**here)
    model = arch(*MAZE, *words)
    expected = backend.Backend(False, compiled, sdpa, f"no kernels: {why}")
    assert choose("auto", "auto", "auto", model, GPU) == expected
    assert expected.why == f"{'compiled' if compiled else 'plain'} PyTorch, no kernels: {why}"
    assert not choose("auto", "auto", False, model, GPU).compiled
    with pytest.raises(ValueError, match=f"^attention=triton .*: {why}$"):
        choose("auto", "triton", "auto", model, GPU)
    if compiled:
        assert choose("auto", "auto", True, model, GPU).compiled
    else:
        with pytest.raises(ValueError, match="^compile=true cannot run here: torch.compile"):
            choose("auto", "auto", True, model, GPU)


def test_kernels_off_and_compile_true_take_the_plain_code(machine):
    off = choose("off", "auto", "auto", arch(), GPU)
    assert off == backend.Backend(False, True, sdpa, "no kernels: kernels=off")
    assert choose("off", "auto", False, arch(), GPU).why == "plain PyTorch, no kernels: kernels=off"
    assert choose("auto", "auto", True, arch(), GPU).why == "compiled PyTorch, no kernels: compile=true"


def test_float8_is_had_by_name_alone(machine):
    sudoku = arch("train=eqr_sudoku")
    expected = backend.Backend(True, False, None, "float8 where there is no gradient", False, True)
    assert choose("float8", "auto", "auto", sudoku, GPU, graphs=False) == expected
    assert not choose("auto", "auto", "auto", sudoku, GPU).float8
    for words, why in ((MAZE, "more than 128 features"), (["train=hrm_sru"], "it is for blocks")):
        with pytest.raises(ValueError, match=f"^kernels=float8 cannot run here: .*{why}"):
            choose("float8", "auto", "auto", arch(*words), GPU)
    with pytest.raises(ValueError, match="the device is cpu"):
        choose("float8", "auto", "auto", sudoku, CPU)
    machine(capability=(8, 0))
    with pytest.raises(ValueError, match="Some GPU does not multiply in 8 bits"):
        choose("float8", "auto", "auto", sudoku, GPU)


def test_wide_heads_keep_the_other_kernels(machine):
    wide = arch(*MAZE, "arch.num_heads=1")
    details = "CUDA graphs, no attention kernel: its heads have at most 64 features"
    assert choose("auto", "auto", "auto", wide, GPU) == backend.Backend(True, False, sdpa, details, True)
    with pytest.raises(ValueError, match="^attention=triton .*at most 64 features$"):
        choose("auto", "triton", "auto", wide, GPU)
    for words in (["train=eqr_sudoku", "arch.num_heads=1"], ["train=hrm_sru"]):  # mixers and recurrences have no heads
        assert choose("auto", "triton", "auto", arch(*words), GPU).why == "Triton kernels, CUDA graphs"


@pytest.mark.parametrize("name", FLASH)
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_flash_by_either_package(machine, package, name, kernels):
    calls = []

    def flash_attn_func(q, k, v):
        calls.append(name)
        out = sdpa(q, k, v)
        return (out, None) if name == "flash_attn_interface" else out

    package(name, flash_attn_func)
    chosen = choose(kernels, "flash", False, arch(), GPU)
    assert chosen.kernels == (kernels == "auto") and chosen.attention not in (None, sdpa)
    q, k, v = torch.randn(3, 2, 5, 2, 8)
    assert torch.equal(chosen.attention(q, k, v), sdpa(q, k, v)) and calls == [name]


def test_flash_prefers_the_newer_package(machine, package):
    package("flash_attn_interface", lambda q, k, v: (v, None))
    package("flash_attn", lambda q, k, v: q)
    q, k, v = torch.randn(3, 1, 2, 1, 4)
    assert flash(GPU, "bfloat16")(q, k, v) is v


def test_flash_is_refused_in_a_sentence_or_disabled(machine, package, monkeypatch):
    with pytest.raises(ValueError, match="needs the package flash_attn_interface or flash_attn"):
        choose("auto", "flash", "auto", arch(), GPU)
    package("flash_attn", lambda q, k, v: q)
    with pytest.raises(ValueError, match="needs a GPU .*not cpu and bfloat16"):
        choose("auto", "flash", "auto", arch(), CPU)
    with pytest.raises(ValueError, match="not cuda and float32"):
        choose("auto", "flash", "auto", arch(*MAZE, "arch.forward_dtype=float32"), GPU)
    monkeypatch.setenv("DISABLE_FLASH_ATTN", "1")
    for device in (CPU, GPU):
        assert choose("auto", "flash", "auto", arch(), device).attention is sdpa


@pytest.mark.parametrize("name", ["eqr_maze_unique", "eqr_sudoku", "trm_sudoku", "hrm_sudoku", "hrm_sru"])
def test_every_combination_is_sensible_or_says_why_not(machine, package, name):
    package("flash_attn", lambda q, k, v: q)
    archs = {
        dtype: arch(f"train={name}", f"arch.forward_dtype={dtype}") for dtype in ("bfloat16", "float16", "float32")
    }
    machines = [{}, {"capability": (8, 0)}, {"capability": (7, 5)}, {"triton": None}, {"triton": "old"}, {"hip": "6.4"}]
    choices = (("auto", "off"), ("auto", "triton", "flash", "sdpa"), ("auto", True, False))
    for here, device, dtype in itertools.product(machines, (CPU, GPU), archs):
        machine(**here)
        for kernels, attention, compiled in itertools.product(*choices):
            try:
                chosen = choose(kernels, attention, compiled, archs[dtype], device)
            except ValueError as error:
                asked = str(error).split()[0]  # auto is never refused
                assert asked in (f"attention={attention}", f"compile={str(compiled).lower()}") and "auto" not in asked
                assert "\n" not in str(error)
                continue
            assert not (chosen.kernels and chosen.compiled) and "\n" not in chosen.why
            assert chosen.kernels or chosen.attention is not None
            assert not chosen.kernels or (kernels == "auto" and compiled is not True and device == GPU)
            assert chosen.compiled == ("compiled" in chosen.why) and (compiled is not False or not chosen.compiled)
            assert (chosen.attention is sdpa) or attention != "sdpa"
