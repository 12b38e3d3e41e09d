"""Released checkpoints of HRM and TRM: bare state dicts, with or without `_orig_mod.`, beside all_config.yaml."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import CPU, TINY, command, tiny_split
from safetensors.torch import save_file

from config.load import load_pretrain
from config.schema import EvalConfig
from dataset.layout import write_dataset
from dataset.puzzles import Puzzles, PuzzleShape
from models.build import build
from runtime.load import begin_from, build_for_evaluation, load_model
from runtime.released import released_name

NAMES = {
    "hrm": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
    "trm": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
}


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data", {"test": tiny_split(6, 1, identifiers=3)}, ["<blank>", "a", "b"])
    return Puzzles(tmp_path / "data", "test", CPU)


def release(folder, kind, prefix, data):
    """A model of ours, written as HRM and TRM release theirs."""
    words = [word for word in TINY if not word.startswith("train=")]
    words += [f"train={kind}_sudoku", "arch.forward_dtype=float32", "arch.puzzle_emb_ndim=16", "arch.mlp_t=false"]
    arch = load_pretrain(words).arch
    torch.manual_seed(0)
    model = build(arch, data.shape)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    state = {prefix + released_name(name): t for name, t in model.state_dict().items()}
    torch.save(state, folder / "step_7")
    theirs = arch.model_dump() | {"name": NAMES[kind], "loss": {"name": "losses@ACTLossHead"}, "rope_theta": 10000.0}
    theirs["loss"]["loss_type"] = arch.loss.loss_type
    del theirs["learned_halting"]
    paths = {"data_path": "data/x"} if kind == "hrm" else {"data_paths": ["data/x"]}
    (folder / "all_config.yaml").write_text(yaml.safe_dump({"arch": theirs, **paths}))
    return arch, model


def same(model, loaded, data) -> bool:
    """Whether what was loaded computes what the model does."""
    again = build_for_evaluation(loaded, EvalConfig(checkpoint="x"), data.shape, CPU).model
    batch = data.rows(np.arange(6))
    pairs = zip(model.advance(model.start(batch))[1], again.advance(again.start(batch))[1], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["hrm", "trm"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_bare_state_dict_gives_the_same_model(tmp_path, data, kind, prefix):
    arch, model = release(tmp_path, kind, prefix, data)
    loaded = load_model(str(tmp_path / "step_7"))
    assert loaded.arch == arch and loaded.data_path == "data/x"
    assert loaded.notes == [] and loaded.step == 7
    assert same(model, loaded, data)


def rename(mark: str, beginning: str = "model.inner."):
    def renamed(state):
        return {mark + key.replace("model.inner.", beginning): t for key, t in state.items()}

    return renamed


FORMS = {
    "DataParallel": rename("module."),
    "DataParallel, compiled": rename("_orig_mod.module."),
    "FSDP": rename("_fsdp_wrapped_module.", "model._fsdp_wrapped_module.inner._checkpoint_wrapped_module."),
    "compiled, DataParallel": rename("module._orig_mod."),
    "compiled within": rename("", "model._orig_mod.inner.module."),
    "without loss head": rename("", "inner."),
    "the model alone": rename("", ""),
    "in a module of a trainer": rename("net."),
    "with optimizers": lambda state: {"model": state, "optimizers": [{"state": {}}], "step": 7},
    "state_dict": lambda state: {"state_dict": rename("model.")(state), "epoch": 3, "global_step": 9},
    "in two dicts": lambda state: {"model": {"state_dict": state, "version": 1}, "step": 7},
    "with an average": lambda state: {
        "model": {key: t + 1 for key, t in state.items()},
        "ema": rename("module.")(state),
        "step": 7,
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_whatever_wraps_the_weights_they_are_found(form, tmp_path, data):
    _, model = release(tmp_path, "trm", "", data)
    file = tmp_path / "step_7"
    torch.save(FORMS[form](torch.load(file)), file)
    loaded = load_model(str(file))
    assert loaded.step == 7 and loaded.averaged == ("average" in form) and same(model, loaded, data)


@pytest.mark.parametrize("form", ["DataParallel", "the model alone"])
def test_safetensors_of_another_program(form, tmp_path, data):
    _, model = release(tmp_path, "hrm", "", data)
    save_file(FORMS[form](torch.load(tmp_path / "step_7")), tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "step_7").unlink()
    assert same(model, load_model(str(tmp_path / "model.safetensors")), data)
    assert same(model, load_model(str(tmp_path)), data), "the folder's only checkpoint"


def test_a_name_that_would_stand_for_two_weights_is_refused(tmp_path, data):
    release(tmp_path, "trm", "", data)
    state = torch.load(tmp_path / "step_7")
    torch.save(state | rename("module.")(state), tmp_path / "step_7")
    with pytest.raises(ValueError, match="step_7.* twice") as caught:
        load_model(str(tmp_path / "step_7"))
    assert "\n" not in str(caught.value)


def test_a_folder_stands_for_its_newest_checkpoint(tmp_path, data):
    release(tmp_path, "trm", "", data)
    for name in ("step_20", "step_9"):
        shutil.copy(tmp_path / "step_7", tmp_path / name)
    (tmp_path / "step_30_all_preds.0").write_text("no checkpoint")
    assert load_model(str(tmp_path)).origin == tmp_path / "step_20"
    for file in tmp_path.glob("step_*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"there is no checkpoint .*; the folder holds all_config.yaml$"):
        load_model(str(tmp_path))
    (tmp_path / "last.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
    with pytest.raises(ValueError, match="last.safetensors is a Git LFS pointer.* `git lfs pull`"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["eqr_variant2@AnotherModel", "recursive_reasoning.trm_singlez@TinyRecursiveReasoningModel_ACTV1", "trm_hier6"]
    + ["hrm.hrm_act_v2@HierarchicalReasoningModel_ACTV2", "trm@GatedTRMModel", "transformers_baseline@Model_ACTV2"],
)
def test_a_model_that_only_sounds_alike_is_refused(name, tmp_path, data):
    """It may have the same weights and another forward pass."""
    release(tmp_path, "trm", "", data)
    file = tmp_path / "all_config.yaml"
    config = yaml.safe_load(file.read_text())
    config["arch"]["name"] = name
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=f"arch.name is '{name}', which this program does not have") as caught:
        load_model(str(tmp_path / "step_7"))
    assert "\n" not in str(caught.value)


def test_another_programs_checkpoint_is_for_load_checkpoint(tmp_path, data, tiny):
    release(tmp_path, "trm", "", data)
    done = command("pretrain.py", f"resume={tmp_path}")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "step_7 is not a checkpoint of this program" in done.stderr and "load_checkpoint" in done.stderr


def test_a_training_gives_new_puzzles_the_mean_embedding(tmp_path, data):
    """As TRM does. An evaluation refuses."""
    _, model = release(tmp_path, "trm", "", data)
    table = model.puzzle_emb.weights.detach()
    loaded = load_model(str(tmp_path / "step_7"))
    more = PuzzleShape(data.shape.seq_len, data.shape.vocab_size, 7)
    other = build(loaded.arch, more)
    [note] = begin_from(other, loaded)
    assert "embeddings for 3 puzzle identifiers, but these puzzles have 7" in note
    torch.testing.assert_close(other.puzzle_emb.weights.detach(), table.mean(0).expand(7, -1))
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)
    again = build(loaded.arch, data.shape)
    assert begin_from(again, loaded) == [] and torch.equal(again.puzzle_emb.weights, table)
    with pytest.raises(ValueError, match="puzzle_emb.weights is"):
        build_for_evaluation(loaded, EvalConfig(checkpoint="x"), more, CPU)


def test_weights_alone_are_not_enough(tmp_path, data):
    release(tmp_path, "hrm", "", data)
    (tmp_path / "all_config.yaml").unlink()
    with pytest.raises(ValueError, match="configuration should be beside it"):
        load_model(str(tmp_path / "step_7"))


def test_breadth_gives_stored_starts_random_ones(tmp_path, data):
    release(tmp_path, "hrm", "", data)
    loaded = load_model(str(tmp_path / "step_7"))
    start = build_for_evaluation(loaded, EvalConfig(checkpoint="x", different_init=2), data.shape, CPU).start
    z_H, z_L = start(1000)
    assert z_H.shape == (1000, 9, 16)
    assert float(z_H.std()) == pytest.approx(1.0, rel=0.02) and float((z_H * z_L).mean()) == pytest.approx(0, abs=0.02)
