"""Files that others wrote, or that a disk damaged: one sentence each, never a traceback or a silent other number.

Every row of the tables is a fault that was once found by mutating files at random.
"""

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY, exit_code
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import evaluate
import pretrain

DEEP = "[" * 100_000
GOLDEN = ROOT / "tests" / "golden" / "checkpoints"


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory) -> Path:
    """A run with slots, which could go on."""
    place = tmp_path_factory.mktemp("damaged")
    words = [*TINY, f"dataset.data_path={tiny_data}", f"checkpoint_path={place}", "wandb_mode=disabled", "max_steps=4"]
    assert exit_code(pretrain.main, [*words, "checkpoint_interval_steps=2", "arch.halt_max_steps=3"]) == 0
    [file] = place.glob("*/*/last.safetensors")
    return file.parent


def sentence(capsys: Any) -> str:
    """The one line of standard error that says what is wrong."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, lines
    return lines[0]


# -- our checkpoints ------------------------------------------------------------------------------------------

Header, Tensors = dict[str, str], dict[str, Tensor]
NAME = "core.L_level.f.layers.0.mlp.down_proj.weight"


def put(key: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[Header, Tensors], None]:
    """Changes a tensor, or removes it."""

    def damage(header: Header, tensors: Tensors) -> None:
        changed = change(tensors.pop(key))
        if changed is not None:
            tensors[key] = changed.contiguous()

    return damage


def setting(key: str, value: Any) -> Callable[[Header, Tensors], None]:
    """Changes a key of the configuration, or of the header (of which the text is replaced)."""

    def damage(header: Header, tensors: Tensors) -> None:
        if key in header:
            header[key] = value
        else:
            config = json.loads(header["config"])
            within = config["arch"] if key.startswith("arch.") else config
            within[key.removeprefix("arch.")] = value
            header["config"] = json.dumps(config)

    return damage


def all_moments(header: Header, tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith(f"optimizer/{NAME}/")]:
        del tensors[name]


def not_a_number(t: Tensor) -> Tensor:
    return t.clone().index_fill_(0, torch.tensor([0]), float("nan"))


WEIGHT, AVERAGE, MOMENT = f"model/{NAME}", f"ema/{NAME}", f"optimizer/{NAME}/exp_avg"
EVALUATE, RESUME = "evaluate", "resume"
FAULTS: dict[str, tuple[str, Callable[[Header, Tensors], None], str]] = {
    "deep configuration": (EVALUATE, setting("config", DEEP), "config is not JSON"),
    "deep task": (EVALUATE, setting("task", DEEP), "task is not JSON"),
    "deep versions": (EVALUATE, setting("versions", DEEP), "versions is not JSON"),
    "no JSON": (EVALUATE, setting("config", ""), "config is not JSON"),
    "a task without tokens": (EVALUATE, setting("task", '{"seq_len": 0}'), "task.*seq_len"),
    "a negative step": (EVALUATE, setting("step", "-1"), "step should be"),
    "a name that is a number": (EVALUATE, setting("arch.name", 1), "arch.name"),
    "no name": (EVALUATE, setting("arch.name", None), "arch.name"),
    "no arch": (EVALUATE, setting("arch", None), "arch"),
    "a weight in 8 bits": (EVALUATE, put(WEIGHT, lambda t: t.to(torch.float8_e4m3fn)), "float8_e4m3fn instead of"),
    "a weight of integers": (EVALUATE, put(WEIGHT, lambda t: t.int()), "int32 instead of float32"),
    "hidden_size": (EVALUATE, setting("arch.hidden_size", 2**20), "does not fit"),
    "layers": (EVALUATE, setting("arch.L_layers", 100_000), "100000 layers, but only"),
    "puzzle embeddings": (EVALUATE, setting("arch.puzzle_emb_ndim", 2**30), "arch.puzzle_emb_ndim|does not fit"),
    "cycles": (EVALUATE, setting("arch.H_cycles", 2**30), "arch.H_cycles should be less than or equal to 1000"),
    "no average of a weight": (EVALUATE, put(AVERAGE, lambda t: None), f"{AVERAGE} is missing"),
    "an average of another shape": (EVALUATE, put(AVERAGE, lambda t: t[:1, :1]), f"{AVERAGE} is .1, 1. instead of"),
    "an average transposed": (EVALUATE, put(AVERAGE, lambda t: t.T), f"{AVERAGE} is"),
    "an average that is not finite": (EVALUATE, put(AVERAGE, not_a_number), f"{NAME} is not finite"),
    "a tensor without a group": (EVALUATE, lambda header, tensors: tensors.update(x=torch.zeros(1)), "a tensor 'x'"),
    "no moment": (RESUME, put(MOMENT, lambda t: None), f"{MOMENT} is missing"),
    "a moment of another shape": (RESUME, put(MOMENT, lambda t: t[:1]), f"{MOMENT} is"),
    "a moment of integers": (RESUME, put(MOMENT, lambda t: t.long()), f"{MOMENT} holds int64"),
    "a moment that is not finite": (RESUME, put(MOMENT, not_a_number), f"{MOMENT} is not finite"),
    "no moments of a weight": (RESUME, all_moments, f"{MOMENT} is missing"),
    "no steps": (RESUME, put(f"optimizer/{NAME}/step", lambda t: t * 0), "counts steps from 1, but it is 0"),
    "few slots": (RESUME, put("slots/latents.0", lambda t: t[:3]), r"slots/latents.0 is \[3, "),
    "a scalar in slots": (RESUME, put("slots/steps", lambda t: t[0]), r"slots/steps is \[\]"),
    "complex latents": (RESUME, put("slots/latents.1", lambda t: t.to(torch.complex64)), "holds complex64"),
    "halted as numbers": (RESUME, put("slots/halted", lambda t: t.int()), "slots/halted holds int32"),
    "no field of slots": (RESUME, put("slots/labels", lambda t: None), "its slots hold"),
    "tokens too large": (RESUME, put("slots/inputs", lambda t: t + 10**6), "slots/inputs holds values"),
    "tokens too small": (RESUME, put("slots/inputs", lambda t: t - 7), "slots/inputs holds values"),
    "labels too large": (RESUME, put("slots/labels", lambda t: t + 10**6), "slots/labels holds values"),
    "too many steps": (RESUME, put("slots/steps", lambda t: t + 10**6), "slots/steps holds values"),
    "steps below 0": (RESUME, put("slots/steps", lambda t: t - 7), "slots/steps holds values"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_checkpoint_is_one_sentence(name, run, tmp_path, capsys):
    command, damage, fault = FAULTS[name]
    with safe_open(run / "last.safetensors", "pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    damage(header, tensors)
    file = tmp_path / "run" / "last.safetensors"
    file.parent.mkdir()
    save_file(tensors, file, header)
    words = [f"checkpoint={file}", "halt_max_steps=1", f"eval_dir={tmp_path / 'eval'}"]
    main = evaluate.main if command == EVALUATE else pretrain.main
    assert exit_code(main, words if command == EVALUATE else [f"resume={file}", "max_steps=6"]) == 1
    said = sentence(capsys)
    assert str(file) in said and re.search(fault, said), said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["last.safetensors", "run"], "nothing was begun"


# -- released checkpoints -------------------------------------------------------------------------------------


def repacked(compress: int, **entries: bytes) -> bytes:
    """The golden file with other entries, compressed or not."""
    out = io.BytesIO()
    with zipfile.ZipFile(GOLDEN / "eqr_maze9.pth") as before, zipfile.ZipFile(out, "w", compress) as after:
        for name in before.namelist():
            after.writestr(name, entries.get(name.split("/")[-1].replace(".", "_"), before.read(name)))
    return out.getvalue()


def flipped(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    place = entry.header_offset + entry.file_size // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def pickled(code: bytes) -> bytes:
    pickletools.dis(code, io.StringIO())  # it is a pickle
    return repacked(zipfile.ZIP_STORED, data_pkl=code)


def bytearray_of(size: int) -> bytes:
    return b"\x80\x02cbuiltins\nbytearray\n(I" + str(size).encode() + b"\ntR."


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    from runtime import released

    with torch.serialization.safe_globals(released._HARMLESS):
        content = torch.load(GOLDEN / "eqr_maze9.pth", weights_only=True)
    content.pop("carry")
    change(content)
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def wide() -> list[Any]:
    value: list[Any] = ["x"]
    for _ in range(9):
        value = [value] * 9
    return value


WEIGHT_THERE = "model.inner.lm_head.weight"
RELEASED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a flipped bit": (lambda: flipped((GOLDEN / "eqr_maze9.pth").read_bytes()), "has another checksum"),
    "a bomb": (lambda: repacked(zipfile.ZIP_DEFLATED, version=bytes(2**26)), "bytes are packed into it"),
    "a huge array of bytes": (lambda: pickled(bytearray_of(10**30)), "no checkpoint"),
    "an array of bytes": (lambda: pickled(bytearray_of(10**15)), "no checkpoint"),
    "an endless step": (lambda: changed(lambda c: c.update(step=float("inf"))), "not a released checkpoint"),
    "ema of numbers": (lambda: changed(lambda c: c.update(ema=torch.ones(3))), "not a released checkpoint"),
    "rope_theta of numbers": (
        lambda: changed(lambda c: c["config"]["arch"].update(rope_theta=torch.ones(3))),
        "neither text nor number",
    ),
    "a deep name": (lambda: changed(lambda c: c["config"]["arch"].update(name=deep(100))), "too deeply"),
    "a wide name": (lambda: changed(lambda c: c["config"]["arch"].update(name=wide())), "too many values"),
    **{
        f"a weight {what}": (lambda value=value: changed(lambda c: c["model"].update({WEIGHT_THERE: value})), fault)
        for what, value, fault in [
            ("of None", None, "lm_head.weight is no tensor"),
            ("of text", "x", "lm_head.weight is no tensor"),
            ("that is sparse", torch.eye(3).to_sparse(), "lm_head.weight is no plain tensor"),
            ("in 8 bits", torch.zeros(6, 16).to(torch.float8_e4m3fn), "lm_head.weight"),
        ]
    },
    "no average of a weight": (
        lambda: changed(
            lambda c: c["ema"]["shadow"].pop(next(name for name in c["ema"]["shadow"] if "lm_head" in name))
        ),
        "its average has no",
    ),
    "layers": (lambda: changed(lambda c: c["config"]["arch"].update(L_layers=100_000)), "100000 layers, but only"),
    "hidden_size": (lambda: changed(lambda c: c["config"]["arch"].update(hidden_size=2**20)), "does not fit"),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_wrong_released_checkpoint_is_one_sentence(name, tiny_data, tmp_path, capsys):
    make, fault = RELEASED[name]
    file = tmp_path / "eqr.pth"
    file.write_bytes(make())
    words = [f"checkpoint={file}", f"dataset_data_path={tiny_data}", "ema=false", "halt_max_steps=1"]
    assert exit_code(evaluate.main, [*words, f"eval_dir={tmp_path / 'eval'}"]) == 1
    said = sentence(capsys)
    assert str(file) in said and re.search(fault, said), said
    assert not (tmp_path / "eval").exists()
