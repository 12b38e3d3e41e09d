"""Checkpoints: whole or not at all, strict, readable without running code; released `.pth` files, in and out."""

import json
import math
import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ALONE, CPU, GOLDEN, header_and_tensors, make_trainer, start
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import models.eqr
from config.architectures import Arch
from config.load import load_eval, load_pretrain
from config.schema import PretrainConfig
from dataset.puzzles import Puzzles, PuzzleShape
from evaluation.settings import Settings
from evaluation.units import evaluate
from models.build import build
from runtime import checkpoint, released
from runtime.load import build_for_evaluation, load_model
from training.trainer import Trainer

TRM = ["train=trm_sudoku", "arch.forward_dtype=float32", "arch.L_layers=1", "arch.H_cycles=2", "arch.L_cycles=1"]


def trained(words: list[str], steps: int = 2) -> Trainer:
    """A trainer after a few steps, with weights and averages that differ."""
    trainer = make_trainer(words)
    for _ in range(steps):
        trainer.train_step()
    return trainer


def trm(tiny: list[str]) -> list[str]:
    """The words of a tiny TRM."""
    return [word for word in tiny if word != "train=quickstart"] + TRM


@pytest.fixture
def saved(tiny, tmp_path) -> Path:
    file = tmp_path / "run" / "last.safetensors"
    trained(tiny).save(file, slots=True)
    return file


def one_sentence(caught: Any) -> str:
    message = str(caught.value)
    assert message and len(message.splitlines()) == 1, message
    return message


def evaluated(file: str | Path, data: Path, *words: str) -> dict[int, dict[str, float]]:
    config = load_eval([f"checkpoint='{file}'", "different_init=2", *words])
    loaded = load_model(config.checkpoint, config.ema)
    puzzles = Puzzles(data, "test", ALONE.device)
    model = build_for_evaluation(loaded, config, puzzles.shape, CPU).model
    return evaluate(model, puzzles, Settings(depths=[2, 3], breadth=2, top_k=1, rows=8), ALONE)


# -- ours -----------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tiny, tmp_path):
    trainer = trained([*tiny, "arch.puzzle_emb_ndim=8"])
    file = tmp_path / "deep" / "folder" / "last.safetensors"
    trainer.save(file, slots=True)
    loaded = checkpoint.load(file)
    assert (loaded.step, loaded.config, loaded.puzzle_shape) == (2, trainer.config, trainer.batches.puzzles.shape)
    assert {name: t.tolist() for name, t in loaded.model.items()} == {
        name: t.tolist() for name, t in trainer.model.state_dict().items()
    }
    assert loaded.ema is not None and "puzzle_emb.weights" not in loaded.ema
    assert all(torch.equal(loaded.ema[name], t) for name, t in trainer.ema.shadow.items())
    assert not all(torch.equal(loaded.model[name], t) for name, t in loaded.ema.items())
    [state] = trainer.states
    assert loaded.slots is not None and len(loaded.slots.latents) == 2
    for ours, theirs in zip((*loaded.slots.latents, *loaded.slots[1:]), (*state.latents, *state[1:]), strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    light = checkpoint.load(file.parent, weights_only=True)
    assert light.optimizer == {} and light.slots is None and light.model.keys() == loaded.model.keys()


def test_the_header_says_all_without_this_program(saved):
    with safe_open(saved, "pt") as file:
        header, names = file.metadata(), list(file.keys())
    assert header["format"] == "eqr-checkpoint-1" and header["step"] == "2"
    config = json.loads(header["config"])
    assert (
        config["arch"]["name"] == "eqr"
        and config["arch"]["hidden_size"] == 16
        and config["lr"] == load_pretrain(["train=quickstart"]).lr
    )
    assert PretrainConfig.model_validate(config) == checkpoint.load(saved).config
    assert json.loads(header["task"]) == {"seq_len": 8, "vocab_size": 6, "num_puzzle_identifiers": 3}
    assert {"python", "torch", "numpy", "commit"} <= json.loads(header["versions"]).keys()
    assert {name.split("/")[0] for name in names} == {"model", "ema", "optimizer", "slots"}
    assert "optimizer/lm_head.weight/exp_avg" in names and "model/lm_head.weight" in names


def half_a_file(tensors, path, metadata=None):
    save_file(tensors, path, metadata)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    raise OSError("no space left on device")


def refuse(*_):
    raise OSError("interrupted")


@pytest.mark.parametrize("where, crash", [("save_file", half_a_file), ("os.fsync", refuse), ("os.replace", refuse)])
def test_a_crash_while_saving_leaves_the_old_file(tiny, saved, monkeypatch, where, crash):
    before = saved.read_bytes()
    trainer = trained(tiny, steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(f"runtime.checkpoint.{where}", crash)
        with pytest.raises(OSError):
            trainer.save(saved, slots=True)
    assert saved.read_bytes() == before and checkpoint.load(saved).step == 2
    assert list(saved.parent.glob("*.safetensors")) == [saved], "half a file would be taken for a checkpoint"
    trainer.save(saved, slots=True)
    assert checkpoint.load(saved).step == 3
    assert list(saved.parent.iterdir()) == [saved], "what the crash left is gone"


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="is not a complete checkpoint") as caught:
        checkpoint.load(saved)
    assert str(saved) in one_sentence(caught)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_programs_safetensors_file_is_named(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(ValueError, match="is not a checkpoint of this program") as caught:
        load_model(str(tmp_path / "model.safetensors"))
    assert str(tmp_path / "model.safetensors") in one_sentence(caught)


@pytest.mark.parametrize("whole, damaged", [(b',"ema/q_head', b',"eme/q_head'), (b"vocab_size", b"wocab_size")])
def test_a_damaged_header_is_named(saved, whole, damaged):
    content = saved.read_bytes()
    assert whole in content
    saved.write_bytes(content.replace(whole, damaged, 1))
    with pytest.raises(ValueError) as caught:
        checkpoint.load(saved)
    assert str(saved) in one_sentence(caught)


@pytest.mark.parametrize("key", ["model/lm_head.weight", "ema/lm_head.weight", "slots/steps"])
def test_a_flipped_bit_is_named(key, saved):
    content = bytearray(saved.read_bytes())
    size = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + size])[key]["data_offsets"]
    content[8 + size + (begin + end) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        checkpoint.load(saved)
    assert one_sentence(caught) == f"{saved} is damaged: {key} is not what was saved, by its checksum"


@pytest.mark.parametrize("before, after", [(b'"step":"2"', b'"step":"3"'), (b'\\"lr\\":0.00', b'\\"lr\\":0.01')])
def test_a_changed_header_is_named(before, after, saved):
    content = saved.read_bytes()
    assert content.count(before) == 1
    saved.write_bytes(content.replace(before, after))
    with pytest.raises(ValueError) as caught:
        checkpoint.load(saved)
    assert one_sentence(caught) == f"{saved} is damaged: its header is not what was saved, by its checksum"


def test_a_tensor_whose_checksum_is_gone_is_named(saved):
    content, name = saved.read_bytes(), b'model/lm_head.weight\\"'
    assert content.count(name) == 1
    saved.write_bytes(content.replace(name, name.replace(b"weight", b"weighs")))
    with pytest.raises(ValueError, match="model/lm_head.weight is not what was saved"):
        checkpoint.load(saved)


def test_an_older_checkpoint_without_checksums_loads(saved):
    metadata, tensors = header_and_tensors(saved)
    crc32 = json.loads(metadata.pop("crc32"))
    assert crc32.pop("header") and crc32.keys() == tensors.keys()
    for older in (metadata | {"crc32": json.dumps(crc32)}, metadata):
        save_file(tensors, saved, older)
        assert checkpoint.load(saved).step == 2


def test_a_missing_checkpoint_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.safetensors", tmp_path / "none.pth"):
        with pytest.raises(ValueError, match="there is no checkpoint") as caught:
            load_model(str(path))
        assert str(path) in one_sentence(caught)


def test_weights_must_fit(saved, tiny):
    weights = checkpoint.load(saved).model
    shape = PuzzleShape(8, 6, 3)

    def fault(*words: str) -> str:
        with pytest.raises(ValueError, match="does not fit the model") as caught:
            checkpoint.put(build(load_pretrain([*tiny, *words]).arch, shape), weights, "FILE")
        return one_sentence(caught)

    assert "core.L_level.f.layers.0.mlp.down_proj.weight is [16, 256] instead of [32, 256]" in fault(
        "arch.hidden_size=32"
    )
    assert "core.L_level.f.layers.1.mlp.down_proj.weight is missing" in fault("arch.L_layers=2")
    said = fault("arch=trm")
    assert "core.L_level.f.layers.0.mlp.down_proj.weight is unknown" in said and "7 more" in said
    assert "core.L_level.f.layers.0.mlp_t.down_proj.weight is unknown" in fault("arch.mlp_t=false")


def test_an_older_checkpoint_of_recurrent_units_loads(tiny, tmp_path):
    """Its configuration has the settings of blocks, which had no effect."""
    words = [word for word in tiny if word != "train=quickstart" and "num_heads" not in word]
    trained([*words, "train=hrm_sru", "arch.puzzle_emb_ndim=16"]).save(tmp_path / "now.safetensors", slots=False)
    metadata, tensors = header_and_tensors(tmp_path / "now.safetensors")
    config = json.loads(metadata["config"])
    blocks = {"num_heads": 8, "expansion": 4.0, "mlp_t": False, "board_height": None, "pos_encodings": "rope"}
    older = json.dumps(config | {"arch": config["arch"] | blocks})
    del metadata["crc32"]
    save_file(tensors, tmp_path / "older.safetensors", metadata | {"config": older})
    before, now = (checkpoint.load(tmp_path / f"{name}.safetensors") for name in ("older", "now"))
    assert before.config == now.config


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda t: t[:3], r"lm_head.weight is \[3, 16\] instead of \[6, 16\]"),
        (lambda t: t.index_fill(0, torch.tensor([2]), math.nan), "^FILE cannot be used: lm_head.weight is not finite$"),
    ],
)
def test_nothing_is_loaded_from_weights_that_do_not_fit_or_are_not_finite(saved, tiny, change, sentence):
    model = build(load_pretrain(tiny).arch, PuzzleShape(8, 6, 3))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    weights = checkpoint.load(saved).model
    weights["lm_head.weight"] = change(weights["lm_head.weight"])
    with pytest.raises(ValueError, match=sentence):
        checkpoint.put(model, weights, "FILE")
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_averaged_or_raw_weights(saved, tiny):
    ours = checkpoint.load(saved)
    averaged, raw = load_model(str(saved)), load_model(str(saved), ema=False)
    assert averaged.averaged and not raw.averaged and averaged.step == raw.step == 2
    assert all(torch.equal(averaged.weights[name], t) for name, t in ours.ema.items())
    assert all(torch.equal(raw.weights[name], t) for name, t in ours.model.items())
    trainer = trained([*tiny, "ema=false"])
    trainer.save(saved, slots=False)
    assert not load_model(str(saved)).averaged and checkpoint.load(saved).slots is None


# -- released `.pth` files ------------------------------------------------------------------------------------


def golden_content(name: str) -> dict[str, Any]:
    """The content of a golden `.pth`, without the carry, whose class does not exist here."""
    with torch.serialization.safe_globals(released._HARMLESS):
        content = torch.load(GOLDEN / "checkpoints" / f"{name}_maze9.pth", weights_only=True)
    content.pop("carry")
    return content


def changed(tmp_path: Path, content: dict[str, Any]) -> released.Released:
    torch.save(content, tmp_path / "changed.pth")
    return released.load(tmp_path / "changed.pth")


@pytest.mark.parametrize("name", ["eqr", "trm"])
def test_golden_files_load(name):
    loaded = released.load(GOLDEN / "checkpoints" / f"{name}_maze9.pth")
    content = golden_content(name)
    assert (loaded.step, loaded.arch.name, loaded.data_path, loaded.ignored) == (700, name, "data/maze9", [])
    assert loaded.arch.hidden_size == 32 and loaded.arch.forward_dtype == "float32"
    assert loaded.ema is not None and loaded.ema.keys() == loaded.model.keys() == content["model"].keys()
    for key, tensor in content["model"].items():
        assert torch.equal(loaded.model[key], tensor)
        assert torch.equal(loaded.ema[key], content["ema"]["shadow"].get(key, tensor))
    head = "model.inner.lm_head.weight"
    assert not torch.equal(loaded.ema[head], loaded.model[head])
    for ema, weights in ((True, loaded.ema), (False, loaded.model)):
        taken = load_model(str(GOLDEN / "checkpoints" / f"{name}_maze9.pth"), ema)
        assert taken.averaged is ema and all(torch.equal(taken.weights[key], t) for key, t in weights.items())


@pytest.mark.parametrize("place", ["{}", "_orig_mod.{}", "model._orig_mod.inner.{2}", "model.inner._orig_mod.{2}"])
@pytest.mark.parametrize("layer", ["L_level.", "L_level._orig_mod.", "_orig_mod.L_level._orig_mod."])
def test_marks_of_compilation_may_stand_anywhere(tmp_path, place, layer):
    content = golden_content("trm")

    def marked(key: str) -> str:
        return place.format(key, "", key.removeprefix("model.inner.")).replace("L_level.", layer)

    expected = released.load(GOLDEN / "checkpoints" / "trm_maze9.pth")
    content["model"] = {marked(key): t for key, t in content["model"].items()}
    content["ema"]["shadow"] = {marked(key): t for key, t in content["ema"]["shadow"].items()}
    loaded = changed(tmp_path, content)
    assert loaded.model.keys() == loaded.ema.keys() == expected.model.keys()
    assert all(torch.equal(loaded.ema[key], t) for key, t in expected.ema.items())


def test_without_an_average(tmp_path):
    """None, or left out."""
    content = golden_content("eqr")
    del content["ema"]
    for without in (content, content | {"ema": None}):
        assert changed(tmp_path, without).ema is None
        taken, head = load_model(str(tmp_path / "changed.pth")), "model.inner.lm_head.weight"
        assert not taken.averaged and torch.equal(taken.weights[head], content["model"][head])


@pytest.mark.parametrize("in_average", [True, False])
def test_with_puzzle_embeddings(tmp_path, in_average):
    """As in the published EqR Sudoku checkpoint; the average may leave the table out."""
    content = golden_content("trm")
    table = torch.arange(3.0 * 40).view(3, 40)
    content["config"]["arch"] |= {"puzzle_emb_ndim": 40, "puzzle_emb_len": 2}
    content["model"]["model.inner.puzzle_emb.weights"] = table
    if in_average:
        content["ema"]["shadow"]["model.inner.puzzle_emb.weights"] = table + 1
    changed(tmp_path, content)
    config = load_eval([f"checkpoint={tmp_path / 'changed.pth'}"])
    model = build_for_evaluation(load_model(config.checkpoint), config, PuzzleShape(81, 6, 3), CPU).model
    assert torch.equal(model.puzzle_emb.weights, table + in_average)
    assert torch.equal(model.core.start.H_init, content["model"]["model.inner.H_init"])
    tokens = model.puzzle_emb(torch.tensor([2]))
    assert tokens.shape == (1, 2, 32) and torch.equal(tokens.flatten()[:40], table[2] + in_average)


def test_positions_that_are_computed_are_not_missed(tmp_path):
    """Released models with `absolute` positions store their sinusoids; here they are computed."""
    content = golden_content("trm")
    content["config"]["arch"]["pos_encodings"] = "absolute"
    content["model"]["model.inner.absolute_pos_embedding"] = torch.zeros(81, 32)
    changed(tmp_path, content)
    config = load_eval([f"checkpoint={tmp_path / 'changed.pth'}"])
    build_for_evaluation(load_model(config.checkpoint), config, PuzzleShape(81, 6, 1), CPU)


def test_a_released_file_that_does_not_fit_is_named(tmp_path):
    content = golden_content("eqr")
    for weights in (content["model"], content["ema"]["shadow"]):
        weights["model.inner.surplus"] = torch.zeros(1)
    changed(tmp_path, content)
    config = load_eval([f"checkpoint={tmp_path / 'changed.pth'}"])
    with pytest.raises(ValueError, match="model.inner.surplus is unknown") as caught:
        build_for_evaluation(load_model(config.checkpoint), config, PuzzleShape(81, 6, 1), CPU)
    assert str(tmp_path / "changed.pth") in one_sentence(caught)


def test_what_has_no_counterpart_is_reported(tmp_path):
    content = golden_content("eqr")
    content["config"]["arch"] |= {"colour": "blue", "rope_theta": 10000.0}
    assert changed(tmp_path, content).ignored == ["colour"]
    assert any("colour" in note for note in load_model(str(tmp_path / "changed.pth")).notes)


@pytest.mark.parametrize("key, value", [("rope_theta", 500.0), ("rms_norm_eps", 1e-6), ("causal", True)])
def test_what_would_change_the_model_is_refused(tmp_path, key, value):
    content = golden_content("eqr")
    content["config"]["arch"][key] = value
    with pytest.raises(ValueError, match=key):
        changed(tmp_path, content)


class Command:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluated(Command):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


class ModelCarry:
    """Has the name of the released programs' class, which may stand in a file; what it holds must not."""

    __module__ = "models.eqr"

    def __init__(self, content: Any) -> None:
        self.inner_carry, self.steps = content, torch.zeros(2)


class ModelCarryThatRuns(ModelCarry):
    __module__, __qualname__ = "models.eqr", "ModelCarry"

    def __setstate__(self, state):
        os.system(state["inner_carry"])


@contextmanager
def as_in_the_released_program(carry: type):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.eqr, "ModelCarry", carry, raising=False)
        yield


def legacy(content: Any, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def plain_pickle(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, legacy, plain_pickle])
@pytest.mark.parametrize("attack", [Command, Evaluated])
@pytest.mark.parametrize("place", ["all", "carry", "optimizers", "model"])
def test_a_pickle_that_runs_code_is_refused(tmp_path, save, attack, place):
    """The file really does its harm when loaded the unsafe way, and none here."""
    file, harm = tmp_path / "evil.pth", tmp_path / "harm"
    evil = attack(f"touch '{harm}'")
    harmless = golden_content("eqr") | {"carry": ModelCarry({"latents": [torch.zeros(2)]})}
    content: Any = golden_content("eqr") | {"carry": ModelCarry({"latents": [torch.zeros(2)]})}
    if place == "all":
        content = evil
    elif place == "carry":
        content["carry"].inner_carry["latents"].append(evil)
    elif place == "optimizers":
        content["optimizers"] = [{"state": {0: evil}}]
    else:
        content["model"]["model.inner.lm_head.weight"] = evil
    with as_in_the_released_program(ModelCarry):
        save(harmless, tmp_path / "harmless.pth")
        save(content, file)
        if save is plain_pickle:
            pickle.loads(file.read_bytes())
        else:
            torch.load(file, weights_only=False)
    assert harm.exists(), "this attack would not be one"
    harm.unlink()

    with pytest.raises(ValueError, match="was refused") as caught:
        load_model(str(file))
    assert not harm.exists()
    sentence = one_sentence(caught)
    assert str(file) in sentence and ("system" in sentence or "eval" in sentence or save is plain_pickle)
    if save is torch.save:
        assert load_model(str(tmp_path / "harmless.pth")).step == 700, "it is the attack that was refused"


def test_an_allowed_name_brings_no_code_of_its_own(tmp_path):
    """A carry is rebuilt as an inert stand-in even where a class of that name, with hooks, can be imported."""
    harm = tmp_path / "harm"
    with as_in_the_released_program(ModelCarryThatRuns):
        torch.save(golden_content("eqr") | {"carry": ModelCarryThatRuns(f"touch '{harm}'")}, tmp_path / "carry.pth")
        assert load_model(str(tmp_path / "carry.pth")).step == 700
        assert not harm.exists()
        torch.load(tmp_path / "carry.pth", weights_only=False)
    assert harm.exists(), "this attack would not be one"


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999, "two bytes of a pickle"])
def test_a_truncated_released_file_is_named(tmp_path, share):
    """What an interrupted download leaves."""
    content = (GOLDEN / "checkpoints" / "eqr_maze9.pth").read_bytes()
    (tmp_path / "part.pth").write_bytes(b"\x80\x02" if isinstance(share, str) else content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="is no checkpoint, or not a complete one") as caught:
        load_model(str(tmp_path / "part.pth"))
    assert str(tmp_path / "part.pth") in one_sentence(caught)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.zeros(2),
        {"state_dict": {}},
        {"model": {}},
        {"model": {}, "config": {}},
        {"model": {}, "config": None},
        {"model": {}, "config": {"arch": {"name": "gpt@GPTModel"}}, "step": 1},
        {"model": {}, "config": {"arch": {"name": "eqr@EqRModel"}}, "step": 1},
    ],
    ids=["list", "tensor", "other keys", "no config", "no arch", "null config", "gpt", "no hidden_size"],
)
def test_something_else_is_named(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError) as caught:
        load_model(str(tmp_path / "other.pth"))
    one_sentence(caught)


# -- export ---------------------------------------------------------------------------------------------------


def loaded_dict(file: Path) -> dict[str, Any]:
    content = torch.load(file, weights_only=True)
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("words", [["arch.mlp_t=false", "arch.pos_encodings=rope"], ["arch.puzzle_emb_ndim=24"]])
@pytest.mark.parametrize("name", ["eqr", "trm"])
def test_an_exported_checkpoint_evaluates_to_the_bit(tiny, tiny_data, tmp_path, name, words):
    ours, theirs = tmp_path / "last.safetensors", tmp_path / "exported.pth"
    trained([*(tiny if name == "eqr" else trm(tiny)), *words]).save(ours, slots=True)
    released.export(ours, theirs)
    for ema in ("true", "false"):
        expected = evaluated(ours, tiny_data, f"ema={ema}")
        assert repr(evaluated(theirs, tiny_data, f"ema={ema}")) == repr(expected)
    assert repr(evaluated(theirs, tiny_data, "ema=true")) != repr(expected), "the average says something else"
    assert (load_model(str(theirs)).arch, load_model(str(theirs)).step) == (load_model(str(ours)).arch, 2)
    assert load_model(str(theirs)).notes == []
    assert "ema" in loaded_dict(theirs)


def test_the_command_that_exports(saved, tiny_data, tmp_path):
    def export(*words: str):
        return start("-m", "training.released", *words).end()

    run = export(str(saved.parent), str(tmp_path / "out.pth"))
    assert run.returncode == 0 and str(tmp_path / "out.pth") in run.stdout, run.stderr
    assert evaluated(tmp_path / "out.pth", tiny_data) == evaluated(saved, tiny_data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pth", "run"]
    run = export(str(tmp_path / "none"), str(tmp_path / "other.pth"))
    assert run.returncode == 1 and not (tmp_path / "other.pth").exists()
    assert run.stderr.startswith("error: there is no checkpoint") and len(run.stderr.splitlines()) == 1
    run = export(str(saved.parent), str(tmp_path / "none" / "out.pth"))
    assert run.returncode == 1 and run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1


def test_a_full_disk_leaves_what_was_there(saved, monkeypatch):
    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device")

    before, there = saved.read_bytes(), sorted(saved.parent.iterdir())
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="was not written: No space left"):
        checkpoint.save(saved, checkpoint.load(saved))
    assert saved.read_bytes() == before and sorted(saved.parent.iterdir()) == there


@pytest.mark.parametrize("name", ["eqr", "trm"])
def test_exported_names_are_the_released_ones(tiny, tmp_path, name):
    content = golden_content(name)
    arch = released.load(GOLDEN / "checkpoints" / f"{name}_maze9.pth").arch
    values = [f"arch.{key}={value}" for key, value in arch.model_dump().items() if key not in ("name", "loss")]
    words = [word.replace("=None", "=null") for word in values]
    trainer = trained([*(tiny if name == "eqr" else trm(tiny)), *words])
    trainer.save(tmp_path / "last.safetensors", slots=False)
    released.export(tmp_path / "last.safetensors", tmp_path / "out.pth")
    exported = loaded_dict(tmp_path / "out.pth")
    assert exported.keys() <= content.keys()
    for ours, theirs in ((exported["model"], content["model"]), (exported["ema"]["shadow"], content["ema"]["shadow"])):
        assert {key: t.shape for key, t in ours.items()} == {key: t.shape for key, t in theirs.items()}
    released_arch = content["config"]["arch"]
    assert {key: exported["config"]["arch"][key] for key in released_arch if key != "no_ACT_continue"} == {
        key: value for key, value in released_arch.items() if key != "no_ACT_continue"
    }


@pytest.mark.parametrize("path", sorted((GOLDEN / "models").glob("[!h]*")), ids=lambda path: path.stem)
def test_exported_names_are_those_of_every_golden_model(path, tiny, tmp_path):
    with safe_open(path, "pt") as file:
        golden = {key.removeprefix("weights/") for key in file.keys() if key.startswith("weights/")}
        arguments = json.loads(file.metadata()["config"])
    keys = arguments.keys() - {"batch_size", "seq_len", "vocab_size", "num_puzzle_identifiers", "H_layers"}
    arch = TypeAdapter(Arch).validate_python({"name": path.stem[:3], **{key: arguments[key] for key in keys}})
    shape = PuzzleShape(arguments["seq_len"], arguments["vocab_size"], arguments.get("num_puzzle_identifiers", 1))
    config = load_pretrain(tiny).model_copy(update={"arch": arch})
    content = checkpoint.Checkpoint(1, config, shape, build(arch, shape).state_dict(), None, {}, None, {})
    checkpoint.save(tmp_path / "one.safetensors", content)
    released.export(tmp_path / "one.safetensors", tmp_path / "one.pth")
    exported = loaded_dict(tmp_path / "one.pth")
    assert set(exported["model"]) == golden and "ema" not in exported
