"""Files that others wrote, or that a disk damaged: one sentence each, never a traceback or a silent other number.

Every row of the tables is a fault that was once found by mutating files at random.
"""

import io
import json
import os
import pickletools
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, exit_code, header_and_tensors, results_of
from safetensors.torch import save_file
from torch import Tensor

import evaluate
import pretrain
from config.yaml_file import read_yaml
from dataset.layout import read_split
from dataset.puzzles import Puzzles, TrainingBatches
from evaluation.by_group import read_outcomes
from evaluation.merge import merge
from evaluation.observers.arc import Votes
from evaluation.observers.per_puzzle import COLUMNS, read_per_puzzle
from evaluation.partial import Partial
from evaluation.results import read_results
from runtime.run_log import final_step
from training import released as export

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
    "depth": (EVALUATE, setting("arch.halt_max_steps", 2**30), "arch.halt_max_steps should be less than"),
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
    header, tensors = header_and_tensors(run / "last.safetensors")
    damage(header, tensors)
    del header["crc32"]  # which would tell first
    file = tmp_path / "run" / "last.safetensors"
    file.parent.mkdir()
    save_file(tensors, file, header)
    words = [f"checkpoint={file}", "halt_max_steps=1", f"eval_dir={tmp_path / 'eval'}"]
    main = evaluate.main if command == EVALUATE else pretrain.main
    assert exit_code(main, words if command == EVALUATE else [f"resume={file}", "max_steps=6"]) == 1
    said = sentence(capsys)
    assert str(file) in said and re.search(fault, said), said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["last.safetensors", "run"], "nothing was begun"


def test_nothing_of_a_checkpoint_is_interpolated(run, tmp_path, monkeypatch, capsys):
    """Its configuration may be somebody else's, and ask for secrets. The command's own words may."""
    monkeypatch.setenv("SECRET", "hunter2")
    header, tensors = header_and_tensors(run / "last.safetensors")
    del header["crc32"]
    for number, name in enumerate(("p-${oc.env:SECRET}", "${", "???")):
        setting("project_name", name)(header, tensors)
        file = tmp_path / str(number) / "last.safetensors"
        file.parent.mkdir()
        save_file(tensors, file, header)
        assert pretrain.configure([f"resume={file}"]).project_name == name
        assert pretrain.configure([f"resume={file}", "project_name=${oc.env:SECRET}"]).project_name == "hunter2"
    assert exit_code(pretrain.main, [f"resume={tmp_path / '0'}", "max_steps=6"]) == 0
    assert not any(b"hunter2" in file.read_bytes() for file in (tmp_path / "0").iterdir())


@pytest.mark.parametrize("name", ["metrics.jsonl", ".last.safetensors.unfinished"])
def test_links_in_a_runs_folder_are_not_followed(name, run, tmp_path, capsys):
    mine, folder = tmp_path / "mine", tmp_path / "run"
    mine.write_text("precious")
    folder.mkdir()
    (folder / "last.safetensors").write_bytes((run / "last.safetensors").read_bytes())
    (folder / name).symlink_to(mine)
    code = exit_code(pretrain.main, [f"resume={folder}", "max_steps=6"])
    assert mine.read_text() == "precious"
    if name == "metrics.jsonl":
        assert code == 1 and "metrics.jsonl should be a plain file" in sentence(capsys)
    else:
        assert code == 0 and not (folder / name).is_symlink()


def test_a_pipe_in_a_runs_folder_is_refused(run, tmp_path, capsys):
    (tmp_path / "last.safetensors").write_bytes((run / "last.safetensors").read_bytes())
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert exit_code(pretrain.main, [f"resume={tmp_path}", "max_steps=6"]) == 1
    assert "metrics.jsonl should be a plain file" in sentence(capsys)


def test_what_a_terminal_obeys_is_escaped(run, tmp_path, capsys):
    header, tensors = header_and_tensors(run / "last.safetensors")
    config = json.loads(header["config"])
    del header["crc32"]
    config["dataset"]["data_path"] = "\x1b]0;owned\x07\x1b[2J\u202e"
    save_file(tensors, tmp_path / "last.safetensors", header | {"config": json.dumps(config)})
    assert exit_code(evaluate.main, [f"checkpoint={tmp_path}"]) == 1
    printed = capsys.readouterr()
    assert r"\x1b]0;owned\x07\x1b[2J\u202e" in printed.err
    assert all(c.isprintable() or c == "\n" for c in printed.err + printed.out)


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


# -- data sets ------------------------------------------------------------------------------------------------


def npy(header: str) -> bytes:
    """A .npy file with a header of one's own, and 64 zeros."""
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


def arrays(**values: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **values)
    return out.getvalue()


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


HEADERS = {
    "no dimension": "()",
    "an endless dimension": f"({10**400},)",
    "a truth value": "(True, 8)",
    "a set": "({1}, 8)",
    "not closed": "(40, 8",
    "unhashable": "({[]: 1}, 8)",
    "below 0": "(-1, 8)",
}
DATA: dict[str, tuple[str, bytes, str]] = {
    **{
        f"a shape of {what}": ("all__inputs.npy", npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {s}}}"), "")
        for what, s in HEADERS.items()
    },
    "an empty file": ("all__labels.npy", b"", "is not a complete .npy file"),
    "a zip": ("all__labels.npy", arrays(x=np.zeros(3)), "is not a complete .npy file"),
    "a damaged zip": ("all__labels.npy", b"PK\x03\x04" + bytes(99), "is not a complete .npy file"),
    "a pickle": ("all__labels.npy", saved(np.array([None])), "is not a complete .npy file"),
    "one identifier": ("all__puzzle_identifiers.npy", saved(np.int32(0)), "holds a single value"),
    "deep": ("dataset.json", DEEP.encode(), "is not JSON"),
}
METADATA: dict[str, Any] = {
    "ignore_label_id": 2**70,
    "mean_puzzle_examples": float("inf"),
    "vocab_size": 10**400,
    "sets": [[]],
}


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A data set that somebody else built, without checksums."""
    shutil.copytree(tiny_data, tmp_path / "data", ignore=shutil.ignore_patterns("SHA256SUMS"))
    return tmp_path / "data"


@pytest.mark.parametrize("name", DATA)
def test_a_wrong_data_set_is_one_sentence(name, data):
    file, content, fault = DATA[name]
    (data / "train" / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{data / 'train' / file}: [^\n]*{fault}[^\n]*$"):
        read_split(data, "train")


@pytest.mark.parametrize("key, value", [*METADATA.items(), ("mean_puzzle_examples", 10**6)])
def test_wrong_metadata_is_one_sentence(key, value, data):
    file = data / "train" / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=f"^{file}: [^\n]*{key}[^\n]*$"):
        read_split(data, "train")


def test_indices_without_a_sign_are_read(data, tiny_data):
    own = TrainingBatches(Puzzles(tiny_data, "train", torch.device("cpu")), 8, 0).examples(1)
    for name in ("puzzle_indices", "group_indices", "puzzle_identifiers"):
        file = data / "train" / f"all__{name}.npy"
        np.save(file, np.load(file).astype(np.uint64))
    again = TrainingBatches(Puzzles(data, "train", torch.device("cpu")), 8, 0)
    assert again.examples(1).tolist() == own.tolist() and again.batch(0).puzzle_ids.dtype == torch.int32


def test_a_token_that_changed_is_noticed(tiny_data, tmp_path):
    """Within its range, where only a checksum knows."""
    shutil.copytree(tiny_data, tmp_path / "data")
    file = tmp_path / "data" / "test" / "all__labels.npy"
    labels = np.load(file)
    np.save(file, labels[::-1])
    with pytest.raises(ValueError, match=f"^{file}: is damaged, or was changed"):
        read_split(tmp_path / "data", "test")
    np.save(file, labels)
    assert len(read_split(tmp_path / "data", "test").labels) == len(labels)


@pytest.mark.parametrize("cut", [True, False])
def test_data_that_change_while_they_are_in_use_are_noticed(cut, data):
    file = data / "train" / "all__inputs.npy"
    puzzles = Puzzles(data, "train", torch.device("cpu"))
    puzzles.rows(np.arange(3))
    with open(file, "r+b") as opened:
        if cut:
            opened.truncate(140)
        else:
            opened.seek(128)
            opened.write(b"\xff" * 64)
    with pytest.raises(ValueError, match="while they were in use"):
        puzzles.rows(np.arange(3))


# -- evaluations ----------------------------------------------------------------------------------------------


def within(path: str, value: Any) -> Callable[[Any], Any]:
    """Puts a value into nested objects, or removes what is there (DROP)."""

    def change(content: Any) -> Any:
        *above, last = path.split("/")
        place = content
        for key in above:
            place = place[key]
        if value is DROP:
            del place[last]
        else:
            place[last] = value
        return content

    return change


DROP = object()
RESULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{f"no {key}": (within(key, DROP), key) for key in ("checkpoint", "settings", "step")},
    "no metrics": (within("metrics", DROP), "no results"),
    "a checkpoint of numbers": (within("checkpoint", [1]), "checkpoint should be"),
    "settings of text": (within("settings", "x"), "settings should be"),
    "metrics of text": (within("metrics", "x"), "metrics should be"),
    "metrics of lists": (within("metrics/1", [1]), "metrics.1"),
    "metrics of a word": (within("metrics/first", {}), "metrics.first"),
    "a metric of text": (within("metrics/1", {"puzzles": 11.0, "all/exact_accuracy": "x"}), "all/exact_accuracy"),
    "a metric without end": (within("metrics/1", {"puzzles": 11, "all/exact_accuracy": 10**400}), "exact_accuracy"),
    "no puzzles": (within("metrics/1/puzzles", DROP), "puzzles is missing"),
    "depth of a number": (within("settings/halt_max_steps", 4), "halt_max_steps should be"),
    "an endless depth": (within("settings/halt_max_steps", [100_000]), r"halt_max_steps is \[100000\], but metrics"),
    "a data set of numbers": (within("dataset", 7), "dataset should be"),
    "an arch of numbers": (within("arch", [7]), "arch should be"),
    "examples of text": (within("examples", "x"), "examples should be"),
    "deep": (lambda content: DEEP, "is not JSON"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_wrong_results_are_one_sentence(name, tiny_work, tmp_path):
    change, fault = RESULTS[name]
    content = change(results_of(tiny_work / "one"))
    file = tmp_path / "results.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"^{file}[^\n]*{fault}[^\n]*$"):
        read_results(tmp_path)


@pytest.fixture(scope="module")
def parts(tiny_run, tmp_path_factory) -> Path:
    """One of two shards of an evaluation of four units."""
    folder = tmp_path_factory.mktemp("parts") / "evaluation"
    words = [f"checkpoint='{tiny_run}'", "halt_max_steps=[1,2]", "global_batch_size=3", f"eval_dir={folder}"]
    assert exit_code(evaluate.main, [*words, "shard=1/2"]) == 0
    return folder


ABOUT: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{f"no {key}": (within(key, DROP), key) for key in ("same", "units", "puzzles", "settings", "facts")},
    **{
        f"no facts {key}": (within(f"facts/{key}", DROP), key) for key in ("settings", "checkpoint", "versions", "arch")
    },
    "same of text": (within("same", "x"), "same should be"),
    "no backend": (within("same/backend", DROP), "same: backend"),
    "another arch": (within("same/arch", {"name": "gpt"}), "same: arch"),
    "puzzles below 0": (within("puzzles", -1), "puzzles should be"),
    "other puzzles": (within("puzzles", 12), "puzzles is 12, but"),
    "deep": (lambda content: DEEP, "is not JSON"),
}


@pytest.mark.parametrize("name", ABOUT)
def test_a_wrong_about_is_one_sentence(name, parts, tmp_path):
    change, fault = ABOUT[name]
    shutil.copytree(parts, tmp_path / "evaluation")
    file = tmp_path / "evaluation" / "partial" / "about.json"
    content = change(json.loads(file.read_text()))
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"^{file} is damaged[^\n]*{fault}[^\n]*$"):
        merge([tmp_path / "evaluation"], tmp_path / "merged")


def test_an_endless_evaluation_lacks_units(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "evaluation")
    file = tmp_path / "evaluation" / "partial" / "about.json"
    file.write_text(json.dumps(within("units", 10**9)(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=r"\(numbers 1, 3, 4, 5, 6 and 999999993 more\)"):
        merge([tmp_path / "evaluation"], tmp_path / "merged")


def lines(parts: Path) -> tuple[Path, list[bytes]]:
    [file] = (parts / "partial").glob("units*.jsonl")
    return file, [line for line in file.read_bytes().split(b"\n") if line]


def test_a_digit_that_changed_is_noticed(parts, tmp_path):
    """In every place of a line: its unit counts as missing, and is run again."""
    _, [line, *_] = lines(parts)
    assert len(Partial(parts).parts()) == 2
    shutil.copytree(parts, tmp_path / "evaluation")
    file, whole = lines(tmp_path / "evaluation")
    places = [match.start() for match in re.finditer(rb"\d", line)]
    for place in places[:: len(places) // 40]:
        digit = b"%d" % ((int(line[place : place + 1]) + 1) % 10)
        file.write_bytes(b"\n".join([line[:place] + digit + line[place + 1 :], *whole[1:], b""]))
        assert [part.unit for part in Partial(tmp_path / "evaluation").parts()] == [2], place


def older(line: bytes, **changes: Any) -> bytes:
    """A line as it was written before lines had checksums, with other values."""
    values = json.loads(line)
    del values["crc32"]
    return json.dumps(values | changes).encode()


def test_lines_without_checksums_are_read_unless_they_cannot_be_parts(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "evaluation")
    file, [line, *others] = lines(tmp_path / "evaluation")
    file.write_bytes(b"\n".join([older(line), *others]))
    assert Partial(tmp_path / "evaluation").parts() == Partial(parts).parts()
    wrong = [older(line, unit=unit) for unit in (-1, 999, 10**40)] + [older(line, tallies={}), b"[" * 10_000]
    file.write_bytes(b"\n".join([*wrong, *others]))
    assert [part.unit for part in Partial(tmp_path / "evaluation").parts()] == [2]


def test_pipes_and_links_in_an_evaluations_folder_are_refused(parts, tmp_path, tiny_run, capsys):
    shutil.copytree(parts, tmp_path / "evaluation")
    file, _ = lines(tmp_path / "evaluation")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match=f"^{file} should be a plain file$"):
        Partial(tmp_path / "evaluation").parts()
    words = [f"checkpoint='{tiny_run}'", "halt_max_steps=1", f"eval_dir={tmp_path / 'linked'}"]
    (tmp_path / "linked" / "partial").mkdir(parents=True)
    (tmp_path / "linked" / "partial" / "shard1of1.lock").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("precious")
    assert exit_code(evaluate.main, words) == 1 and "should be a plain file" in sentence(capsys)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("name", ["identifiers.json", "test_puzzles.json"])
@pytest.mark.parametrize("text", [DEEP, "{}", "[1]", '{"a": {"train": ' + DEEP])
def test_a_wrong_file_of_arc_is_one_sentence(name, text, tmp_path):
    for file, content in {"identifiers.json": '["<blank>"]', "test_puzzles.json": "{}", name: text}.items():
        (tmp_path / file).write_text(content)
    if (name, text) != ("test_puzzles.json", "{}"):
        with pytest.raises(ValueError, match=f"^{tmp_path / name}: [^\n]*$"):
            Votes.read(tmp_path)


def test_an_export_onto_a_full_disk_is_one_sentence(run, tmp_path, monkeypatch, capsys):
    """PyTorch's own error there is no OSError."""

    def full(content: Any, file: Any) -> None:
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    assert exit_code(export.main, [str(run), str(tmp_path / "eqr.pth")]) == 1
    assert f"{tmp_path / 'eqr.pth'} was not written" in sentence(capsys) and not list(tmp_path.iterdir())


def test_results_without_a_number_of_puzzles_have_no_outcomes(tiny_work, tmp_path):
    content = results_of(tiny_work / "one")
    (tmp_path / "results.json").write_text(json.dumps(content | {"examples": None}))
    with pytest.raises(ValueError, match="evaluate with per_puzzle=true"):
        read_outcomes(tmp_path)


def test_a_number_without_end_in_a_csv_is_one_sentence(tmp_path):
    (tmp_path / "per_puzzle.csv").write_text(",".join(COLUMNS) + f"\n1,0,1,1,{'9' * 400},1,1\n")
    with pytest.raises(ValueError, match="line 2: holds something else than whole numbers"):
        read_per_puzzle(tmp_path)


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"step": "x"}', '{"step": -1}', DEEP])
def test_a_wrong_final_json_is_one_sentence(text, tmp_path):
    (tmp_path / "final.json").write_text(text)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'final.json'}: [^\n]*$"):
        final_step(tmp_path)


def test_a_deep_or_endless_yaml_is_one_sentence(tmp_path):
    file = tmp_path / "config.yaml"
    aliases = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
    for text in ("{a: " * 20_000, "arch: " + "[" * 5000 + "]" * 5000, aliases, "[]", "a: 2001-01-01", "\0", None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        with pytest.raises(ValueError, match=f"^{file}[^\n]*$"):
            read_yaml(file)
