"""Released checkpoints of HRM and TRM: bare state dicts, with or without `_orig_mod.`, beside all_config.yaml."""

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, tiny_split

from config.load import load_pretrain
from config.schema import EvalConfig
from dataset.layout import write_dataset
from dataset.puzzles import Puzzles
from models.build import build
from runtime.load import build_for_evaluation, load_model
from runtime.released import released_name

CPU = torch.device("cpu")

NAMES = {
    "hrm": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1",
    "trm": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
}


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data", {"test": tiny_split(6, 1, identifiers=3)}, ["<blank>", "a", "b"])
    return Puzzles(tmp_path / "data", "test", torch.device("cpu"))


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


@pytest.mark.parametrize("kind", ["hrm", "trm"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_bare_state_dict_gives_the_same_model(tmp_path, data, kind, prefix):
    arch, model = release(tmp_path, kind, prefix, data)
    loaded = load_model(str(tmp_path / "step_7"))
    assert loaded.arch == arch and loaded.data_path == "data/x"
    assert loaded.notes == []
    again = build_for_evaluation(loaded, EvalConfig(checkpoint="x"), data.shape, CPU).model
    batch = data.rows(np.arange(6))
    for a, b in zip(model.advance(model.start(batch))[1], again.advance(again.start(batch))[1], strict=True):
        assert torch.equal(a, b)


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
