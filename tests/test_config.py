"""Configuration: every shipped one composes and says what the paper says; every mistake is one sentence."""

import re
import shutil
from functools import cache
from typing import get_args

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from pydantic import BaseModel

from config.architectures import Arch, EqRArch, Loss, TRMArch
from config.fields import Role, keys
from config.load import load_eval, load_pretrain, resume_config, to_yaml
from config.schema import Dataset, EvalConfig, PretrainConfig
from config.synonyms import SYNONYMS
from config.words import CONFIG_DIR, choices, usage
from dataset.puzzles import PuzzleShape
from models.build import build

SUDOKU, MAZE, SMALL = PuzzleShape(81, 11, 1), PuzzleShape(900, 6, 1), PuzzleShape(16, 6, 1)
NOISE = {"lambda_": 0.95, "noise_scale": 0.01, "H_init_std": 1.0, "L_init_std": 1.0}

# name -> (class, shape, parameters, what sets it apart)
SUDOKU_ARCH = {"hidden_size": 512, "L_layers": 2, "L_cycles": 6, "mlp_t": True, "pos_encodings": "none"}
MAZE_ARCH = {"hidden_size": 128, "L_layers": 1, "L_cycles": 4, "mlp_t": False, "pos_encodings": "rope"}
PUBLISHED = {"puzzle_emb_ndim": 512, "puzzle_emb_len": 16}
TUNED = NOISE | {"noise_scale": 0.1}
EXPERIMENTS = {
    "eqr_sudoku": (EqRArch, SUDOKU, 4_855_298, SUDOKU_ARCH | NOISE, {"epochs": 50_000}),
    "eqr_sudoku_published": (
        EqRArch,
        SUDOKU,
        5_028_866,
        SUDOKU_ARCH | NOISE | PUBLISHED,
        {"epochs": 50_000, "puzzle_emb_lr": 1e-4, "puzzle_emb_weight_decay": 1.0},
    ),
    "trm_sudoku": (TRMArch, SUDOKU, 4_855_298, SUDOKU_ARCH, {"epochs": 50_000}),
    "eqr_maze_unique": (EqRArch, MAZE, 263_938, MAZE_ARCH | NOISE, {"epochs": 100_000}),
    "trm_maze_unique": (TRMArch, MAZE, 263_938, MAZE_ARCH, {"epochs": 100_000}),
}
COMMON = {
    "global_batch_size": 768,
    "lr": 1e-4,
    "lr_warmup_steps": 2000,
    "lr_min_ratio": 1.0,
    "lr_decay_steps": None,
    "weight_decay": 1.0,
    "beta1": 0.9,
    "beta2": 0.95,
    "ema": True,
    "ema_rate": 0.999,
    "optimizer": "adam_atan2",
    "max_steps": None,
    "grad_clip_norm": None,
    "gradient_accumulation_steps": 1,
}
COMMON_ARCH = {
    "H_cycles": 3,
    "halt_max_steps": 16,
    "halt_exploration_prob": 0.1,
    "num_heads": 8,
    "expansion": 4.0,
    "loss": {"loss_type": "stablemax_cross_entropy"},
    "forward_dtype": "bfloat16",
    "puzzle_emb_ndim": 0,
    "puzzle_emb_len": 0,
}


@cache
def shipped(name: str) -> PretrainConfig:
    """An experiment as it is shipped."""
    return load_pretrain([f"train={name}"])


def failure(load, *words: str) -> str:
    """The sentence with which `load` refuses `words`."""
    with pytest.raises(ValueError) as caught:
        load(list(words))
    sentence = str(caught.value)
    assert sentence and len(sentence.splitlines()) == 1, sentence
    return sentence


# -- what is shipped ------------------------------------------------------------------------------------------


def test_every_experiment_is_described_here():
    assert set(choices("train")) >= {*EXPERIMENTS, *STUDY, "quickstart"}


@pytest.mark.parametrize("name", choices("train"))
def test_every_experiment_composes(name):
    config = shipped(name)
    assert config.run_name == name
    assert PretrainConfig.model_validate(yaml.safe_load(to_yaml(config))) == config, "what a run writes is the config"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_those_of_the_paper(name):
    kind, shape, parameters, arch, training = EXPERIMENTS[name]
    config = shipped(name)
    assert type(config.arch) is kind
    found = config.arch.model_dump()
    assert {key: found[key] for key in COMMON_ARCH | arch} == COMMON_ARCH | arch
    found = config.model_dump()
    assert {key: found[key] for key in COMMON | training} == COMMON | training
    assert ("sudoku" in config.dataset.data_path) == (shape is SUDOKU)
    with torch.device("meta"):
        model = build(config.arch, shape)
    # the released programs keep the puzzle embeddings (512 numbers here) out of the parameters
    counted = sum(p.numel() for key, p in model.named_parameters() if key != "puzzle_emb.weights")
    assert counted == parameters


def test_the_quickstart_is_small():
    config = shipped("quickstart")
    assert isinstance(config.arch, EqRArch) and config.arch.forward_dtype == "float32"
    assert sum(p.numel() for p in build(config.arch, SMALL).parameters()) < 100_000
    assert config.dataset.data_path == "data/sudoku-4x4" and config.wandb_mode == "disabled"


@pytest.mark.parametrize("name", choices("eval"))
def test_every_evaluation_composes(name):
    config = load_eval([f"eval={name}", "checkpoint=x"])
    assert EvalConfig.model_validate(yaml.safe_load(to_yaml(config))) == config


def test_a_recipe_is_named_with_what_the_command_changes():
    words = ["checkpoint=x", "eval=sudoku_full"]
    assert load_eval(words).recipe == load_eval([*words, "device=cpu", "compile=false"]).recipe == "sudoku_full"
    changed = load_eval([*words, "noise_scale=0.01", "max_puzzles=7"])
    assert changed.recipe == "sudoku_full, but max_puzzles=7, noise_scale=0.01"
    assert load_eval(["checkpoint=x"]).recipe is None


def test_evaluations_are_those_of_the_paper():
    full = load_eval(["checkpoint=x", "eval=sudoku_full"])
    assert (full.halt_max_steps, full.different_init, full.convergence_top_k) == ([64], 128, 4)
    assert (full.noise_scale, full.H_init_std, full.L_init_std) == (0.5, 1.0, 1.0)
    assert full.max_eval_steps is None
    for name, puzzles in (("sudoku_full_noise05", None), ("sudoku_lite_noise05", 2048)):
        theirs = load_eval(["checkpoint=x", f"eval={name}"])
        same = {"global_batch_size": 768, "max_puzzles": puzzles, "recipe": name, "note": theirs.note}
        assert theirs == full.model_copy(update=same)
        assert ("99.20%" if puzzles else "99.79%") in theirs.note
        streaming = load_eval(["checkpoint=x", f"eval={name.replace('noise05', 'act_streaming_noise05')}"])
        same = {"recipe": streaming.recipe, "note": streaming.note}
        assert streaming == theirs.model_copy(update=same | {"streaming": True, "halt_q": 0.5, "halt_min_steps": 1})
    lite = load_eval(["checkpoint=x", "eval=sudoku_lite"])
    assert lite.max_puzzles == 2048 and lite.max_eval_steps is None
    plain = load_eval(["checkpoint=x"])
    assert plain.convergence_window == 3 and plain.different_init == 1 and plain.halt_max_steps is None
    assert (plain.noise_scale, plain.lambda_, plain.H_init_std, plain.L_init_std) == (None,) * 4


ARCHS = {get_args(kind.model_fields["name"].annotation)[0]: kind for kind in get_args(Arch)}
OWN_RECIPES = {
    "hrm": {"puzzle_emb_ndim": 512},
    "hrm_sru": {"puzzle_emb_ndim": 512},
    "feedforward": {"halt_max_steps": 1, "halt_exploration_prob": 0.0, "learned_halting": False},
}
"""What a new model gets. A released configuration that lacks the key means the schema's default."""


@pytest.mark.parametrize(
    "file, model, own",
    [
        ("cfg_pretrain", PretrainConfig, {}),
        ("cfg_eval", EvalConfig, {}),
        *((f"arch/{name}", kind, OWN_RECIPES.get(name, {})) for name, kind in ARCHS.items()),
    ],
)
def test_yaml_and_schema_have_the_same_keys_and_defaults(file, model, own):
    """A user reads the YAML. A checkpoint that is older than a key takes the schema's default."""
    values = OmegaConf.to_container(OmegaConf.load(CONFIG_DIR / f"{file}.yaml"))
    groups = {"arch", "dataset"}  # files of their own
    assert values.keys() - {"defaults"} == model.model_fields.keys() - groups
    default = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    default = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in default.items()}
    assert {name: values[name] for name in default if values[name] != default[name]} == own


def test_overrides_win():
    config = load_pretrain(["train=eqr_sudoku_published", "lr=5e-4", "arch.puzzle_emb_len=0", "max_steps=7"])
    assert (config.lr, config.max_steps, config.arch.puzzle_tokens) == (5e-4, 7, 1)
    config = load_pretrain(["train=eqr_sudoku", "arch=trm", "dataset=maze_unique_1k"])
    assert type(config.arch) is TRMArch and config.arch.mlp_t and "maze" in config.dataset.data_path
    assert load_eval(["eval=sudoku_full", "checkpoint=x", "noise_scale=null"]).noise_scale is None


def test_a_configuration_cannot_be_changed():
    config = shipped("eqr_sudoku")
    with pytest.raises(ValueError, match="frozen"):
        config.lr = 1.0


@pytest.mark.parametrize("word, depths", [("4", [4]), ("[16,1,4]", [16, 1, 4]), ("[8]", [8]), ("null", None)])
def test_depth_is_a_number_or_a_list(word, depths):
    assert load_eval(["checkpoint=x", f"halt_max_steps={word}"]).halt_max_steps == depths


# -- roles of keys --------------------------------------------------------------------------------------------

MODEL = "lambda_ noise_scale H_init_std L_init_std forward_dtype"
STREAMING = "streaming halt_q halt_residual halt_patience halt_min_steps agree look_interval"
EXTENT = "halt_max_steps different_init convergence_top_k max_eval_steps max_puzzles"


@pytest.mark.parametrize(
    "config, role, names",
    [
        (PretrainConfig, Role.FIXED, "arch seed global_batch_size join_epochs optimizer ema checkpoint_path run_name"),
        (
            PretrainConfig,
            Role.LOCAL,
            "max_seconds checkpoint_path run_dir project_name entity wandb_mode resume device",
        ),
        (EvalConfig, Role.LOCAL, "checkpoint dataset_data_path max_eval_steps recipe note eval_dir shard device"),
        (EvalConfig, Role.COMPUTE, "engine attention compile cuda_graphs"),
        (EvalConfig, Role.MODEL, MODEL),
        (EvalConfig, Role.STREAMING, STREAMING),
        (EvalConfig, Role.EXTENT, EXTENT),
    ],
)
def test_what_depends_on_a_role_is_said_here(config, role, names):
    """FIXED: what a resumed run keeps. LOCAL: what parts of an evaluation may differ in. Both are promises to users."""
    assert keys(config, role) == tuple(names.split())


def test_a_model_setting_has_the_name_that_the_model_gives_it():
    assert set(keys(EvalConfig, Role.MODEL)) < set(EqRArch.model_fields)


# -- mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, nearest",
    [
        ("lrr=1", "lr"),
        ("wieght_decay=1", "weight_decay"),
        ("arch.hidden_sizes=64", "arch.hidden_size"),
        ("arch.noise_scal=0.1", "arch.noise_scale"),
        ("arch.loss.loss_typ=x", "arch.loss.loss_type"),
        ("datset.data_path=x", "dataset"),
        ("dataset.data_pth=x", "dataset.data_path"),
        ("+global_batchsize=3", "global_batch_size"),
        ("learning_rate=1e-3", "lr"),
        ("load_weights_only=x.pth", "load_checkpoint"),
        ("batch_size=8", "global_batch_size"),
        ("arch.d_model=64", "arch.hidden_size"),
        ("data_paths=[x]", "dataset.data_path"),
        ("grad_clip=1", "grad_clip_norm"),
        ("loss=softmax_cross_entropy", "arch.loss.loss_type"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(word, nearest):
    sentence = failure(load_pretrain, "train=eqr_sudoku", word)
    assert sentence.startswith("unknown key ") and sentence.endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize("word", ["evaluators=[]", "gradient_checkpoint=true", "freeze_weights=true", "zzz=1"])
def test_a_key_that_nothing_here_is_like_gets_no_guess(word):
    key = word.split("=")[0]
    assert failure(load_pretrain, "train=eqr_sudoku", word) == f"unknown key {key}"


def test_suggestions_are_keys():
    """Of a training, of a model or of an evaluation."""
    models = [PretrainConfig, EvalConfig, Dataset, Loss, *get_args(Arch)]
    known = {name for model in models for name in model.model_fields}
    assert set().union(*SYNONYMS.values()) <= {*known, ""}
    assert not {"lr", "seed", "halt_max_steps"} & SYNONYMS.keys()


def test_words_of_the_released_commands_mean_what_they_do_there():
    """EqR names an experiment with --config-name; in TRM's README a known key has a +."""
    plain = load_pretrain(["train=trm_sudoku", "run_name=mine", "lr=2e-4"])
    for words in (
        ["--config-name=train/trm_sudoku", "+run_name=mine", "++lr=2e-4"],
        ["--config-name", "train/trm_sudoku.yaml", "run_name=mine", "lr=2e-4"],
        ["--config-name=cfg_pretrain", "+train=trm_sudoku", "+run_name=mine", "lr=2e-4"],
    ):
        assert load_pretrain(words) == plain
    base = plain.model_copy(update={"run_name": "trm_sudoku"})
    resumed = resume_config(base, ["--config-name=train/trm_sudoku", "+resume=there", "+max_steps=7"])
    assert (resumed.resume, resumed.max_steps) == ("there", 7)
    recipe = load_eval(["checkpoint=x", "eval=sudoku_full"])
    assert load_eval(["--config-name=eval/sudoku_full", "+checkpoint=x"]) == recipe
    assert "train=NAME" in failure(load_pretrain, "--config-name=mine")
    for word in ("--lr=1", "-m", "--config-path=x"):
        assert failure(load_pretrain, word, "train=trm_sudoku").startswith(f"{word} is no option: ")


@pytest.mark.parametrize("word", ["dataset=sudoku_4x4", "arch=trm", "train=eqr_sudoku"])
def test_an_evaluation_says_where_its_puzzles_come_from(word):
    sentence = failure(load_eval, "checkpoint=x", word)
    assert sentence.startswith(f"{word} belongs to a training") and "dataset_data_path=FOLDER" in sentence
    assert failure(load_eval, "checkpoint=x", "dataset.data_path=y").endswith("did you mean dataset_data_path?")


@pytest.mark.parametrize("root, model", [("cfg_pretrain", PretrainConfig), ("cfg_eval", EvalConfig)])
def test_help_explains_every_key_and_ends(root, model, capsys):
    load = load_pretrain if model is PretrainConfig else load_eval
    for words in (["--help"], ["lr=1", "-h"]):
        with pytest.raises(SystemExit) as end:
            load(words)
        assert end.value.code == 0
    said = usage(root)
    assert capsys.readouterr().out == said + said
    assert all(f"\n{key}: " in said for key in model.model_fields if key not in ("arch", "dataset"))
    names = choices("train" if model is PretrainConfig else "eval")
    assert all(re.search(rf"\s{name}\s", said) for name in names) and "override" not in said
    assert max(len(line) for line in said.splitlines()) <= 120


def test_a_key_of_another_architecture_is_unknown():
    sentence = failure(load_pretrain, "train=trm_sudoku", "arch.noise_scale=0.1")
    assert sentence.startswith("unknown key arch.noise_scale: arch.name=trm has none; ")
    sentence = failure(load_pretrain, "train=quickstart", "arch=feedforward")
    assert sentence.startswith("unknown key arch.H_cycles: arch.name=feedforward has none; if train=NAME sets it")
    sentence = failure(load_pretrain, "train=hrm_srupp", "arch=eqr")
    assert sentence == "arch.H_layers is missing, which arch.name=hrm_srupp needs"


def test_an_unknown_key_of_an_evaluation_names_the_nearest_one():
    assert failure(load_eval, "checkpoint=x", "diferent_init=4") == (
        "unknown key diferent_init; did you mean different_init?"
    )
    for word, meant in {"depth": "halt_max_steps", "breadth": "different_init"}.items():
        assert failure(load_eval, "checkpoint=x", f"{word}=4") == f"unknown key {word}; did you mean {meant}?"
    for word in ("depth", "arch.depth"):
        assert failure(load_pretrain, "train=eqr_sudoku", f"{word}=4").endswith("did you mean arch.halt_max_steps?")
    assert failure(load_pretrain, "train=eqr_sudoku", "breadth=4") == "unknown key breadth", "training has none"
    assert "unknown key arch" in failure(load_eval, "checkpoint=x", "arch.hidden_size=4")


@pytest.mark.parametrize(
    "word, parts",
    [
        ("lr=abc", ["lr", "number", "'abc'"]),
        ("lr=nan", ["lr", "finite"]),
        ("weight_decay=-1", ["weight_decay", "greater than or equal to 0", "-1"]),
        ("max_steps=1.5", ["max_steps", "integer", "1.5"]),
        ("epochs=0", ["epochs", "greater than 0"]),
        ("arch.halt_max_steps=100000000000000000000", ["arch.halt_max_steps", "less than or equal to 10000"]),
        ("lr=1e300", ["lr", "less than or equal to 1"]),
        ("max_seconds=inf", ["max_seconds", "less than or equal to 1"]),
        ("arch.expansion=1e-9", ["arch.expansion", "greater than or equal to 0.1"]),
        ("run_name=2024", ["run_name", "a number in quotes", "2024"]),
        ("checkpoint_path=/tmp/a (b)", ["checkpoint_path=/tmp/a (b) cannot be read, or needs quotes"]),
        ("epochs=null", ["epochs", "None"]),
        ("arch.L_layers=true", ["arch.L_layers", "integer", "True"]),
        ("arch.mlp_t=1", ["arch.mlp_t", "boolean"]),
        ("arch.pos_encodings=ropee", ["arch.pos_encodings", "'rope2d'", "'ropee'"]),
        ("arch.lambda_=0", ["arch.lambda_", "greater than 0"]),
        ("arch.name=gpt", ["arch.name", "'trm', 'eqr'", "'gpt'"]),
        ("arch.loss=softmax", ["arch.loss should be a group of keys (arch.loss.loss_type), but it is 'softmax'"]),
        ("dataset.data_path=5", ["dataset.data_path", "string"]),
        ("optimizer=adamw", ["optimizer", "adam_atan2"]),
        ("ema_rate=1", ["ema_rate", "less than 1"]),
        ("beta1=1", ["beta1", "less than 1"]),
        ("beta2=1", ["beta2", "less than 1"]),
        ("compile=maybe", ["compile should be auto, true or false, but it is 'maybe'"]),
        ("device=gpu", ["device should be auto, cpu, cuda, cuda:N, mps (a Mac) or xpu, but it is 'gpu'"]),
        ("run_name=a/b", ["run_name should be letters, digits and any of . + - _", "'a/b'"]),
        ("run_name=..", ["run_name", "not dots alone", "'..'"]),
        ("train=eqr_sudok", ["did you mean eqr_sudoku?", "quickstart"]),
        ("arch=eqrr", ["did you mean eqr?"]),
        ("sudoku", ["key=value", "'sudoku'"]),
        ("lr=[", ["["]),
        ("lr=${nothing}", ["nothing"]),
        ("eval=sudoku_lite", ["eval"]),
    ],
)
def test_a_wrong_value_says_key_and_value(word, parts):
    sentence = failure(load_pretrain, "train=eqr_sudoku", word)
    assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize(
    "words, parts",
    [
        (["arch.num_heads=3"], ["arch.num_heads=3", "arch.hidden_size=512"]),
        (["arch.mlp_t=false", "arch.pos_encodings=rope", "arch.hidden_size=24"], ["even head size", "3"]),
        (["arch.mlp_t=false", "arch.pos_encodings=rope2d", "arch.hidden_size=48"], ["divisible by 4", "6"]),
        (["arch.pos_encodings=absolute", "arch.hidden_size=9", "arch.num_heads=3"], ["even arch.hidden_size", "9"]),
        (["arch.puzzle_emb_len=4"], ["arch.puzzle_emb_len=4", "arch.puzzle_emb_ndim"]),
        (["arch.puzzle_emb_len=2", "arch.puzzle_emb_ndim=1025"], ["1025", "does not fit"]),
        (["gradient_accumulation_steps=5"], ["gradient_accumulation_steps=5", "global_batch_size=768"]),
        (["lr_decay_steps=9"], ["lr_decay_steps=9 has no effect with lr_min_ratio=1.0"]),
    ],
)
def test_what_does_not_go_together_is_named(words, parts):
    sentence = failure(load_pretrain, "train=eqr_sudoku", *words)
    assert all(part in sentence for part in parts), sentence


def test_recurrent_units_take_no_settings_of_blocks():
    assert "arch.num_heads" in failure(load_pretrain, "train=hrm_srupp", "arch.num_heads=2")
    sentence = failure(load_pretrain, "train=hrm_sru", "arch.pos_encodings=rope")
    assert sentence == "arch.name=hrm_sru takes arch.pos_encodings none, learned or absolute, not rope"


def test_what_does_go_together_is_not_refused():
    load_pretrain(["train=eqr_sudoku", "arch.hidden_size=24", "arch.pos_encodings=rope"])  # mlp_t uses no positions
    load_pretrain(["train=eqr_sudoku", "arch.puzzle_emb_len=2", "arch.puzzle_emb_ndim=1024"])
    load_pretrain(["train=eqr_sudoku", "gradient_accumulation_steps=6"])
    load_pretrain(["train=eqr_sudoku", "lr_decay_steps=15000", "lr_min_ratio=0"])
    load_eval(["checkpoint=x", "different_init=4", "convergence_top_k=4"])
    assert load_eval(["checkpoint=x", "shard=3/16"]).shard_of == (3, 16)
    assert load_eval(["checkpoint=x"]).shard_of == (1, 1)


@pytest.mark.parametrize("board", [("null", "null"), ("9", "null"), ("9", "8"), ("3", "30")])
def test_rope2d_must_match_the_board(board):
    words = ["arch.mlp_t=false", "arch.pos_encodings=rope2d"]
    words += [f"arch.board_height={board[0]}", f"arch.board_width={board[1]}"]
    arch = load_pretrain(["train=trm_sudoku", *words]).arch
    with pytest.raises(ValueError, match="rope2d needs arch.board_height x arch.board_width to be the 81 ") as caught:
        build(arch, SUDOKU)
    assert len(str(caught.value).splitlines()) == 1
    with torch.device("meta"):
        for height, width in ((9, 9), (3, 27)):
            build(arch.model_copy(update={"board_height": height, "board_width": width}), SUDOKU)


def test_the_batch_is_shared_out_evenly():
    config = load_pretrain(["train=eqr_sudoku", "global_batch_size=24", "gradient_accumulation_steps=4"])
    assert [config.rows_per_rank(world) for world in (1, 2, 3, 6)] == [24, 12, 8, 4]
    for world in (4, 5, 12):
        with pytest.raises(ValueError, match=f"global_batch_size=24 is not divisible by {world} process") as caught:
            config.rows_per_rank(world)
        assert len(str(caught.value).splitlines()) == 1


def test_what_to_train_must_be_said():
    sentence = failure(load_pretrain, "lr=1")
    assert sentence.startswith("say what to train") and "eqr_sudoku" in sentence
    assert failure(load_eval).startswith("say what to evaluate: bash scripts/eval.sh CHECKPOINT")


@pytest.mark.parametrize(
    "words, parts",
    [
        (["different_init=4", "convergence_top_k=5"], ["convergence_top_k=5", "different_init=4"]),
        (["eval=sudoku_full", "different_init=3"], ["convergence_top_k=4", "different_init=3"]),
        (["halt_max_steps=[]"], ["halt_max_steps"]),
        (["halt_max_steps=0"], ["halt_max_steps should be a whole number from 1 on, or a list of them, but it is 0"]),
        (["halt_max_steps=[1,2.5]"], ["halt_max_steps", "2.5"]),
        (["halt_max_steps=deep"], ["halt_max_steps", "'deep'"]),
        (["noise_scale=-1"], ["noise_scale", "-1"]),
        (["lambda_=1.5"], ["lambda_", "1.5"]),
        (["convergence_window=0"], ["convergence_window"]),
        (["split=val"], ["split", "'train'"]),
        (["eval=sudoku_fll"], ["did you mean sudoku_full?"]),
        (["streaming=true", "halt_min_steps=5"], ["halt_min_steps=5 has no effect without halt_q or halt_residual"]),
        (["streaming=true", "halt_q=0.5", "halt_patience=9"], ["halt_patience=9 has no effect without halt_residual"]),
        (["compile=maybe"], ["compile should be auto, true or false, but it is 'maybe'"]),
        (["halt_q=0.9"], ["halt_q=0.9 has no effect without streaming=true"]),
        (["halt_patience=9"], ["halt_patience=9 has no effect without streaming=true"]),
        (["streaming=true", "halt_max_steps=[1,4]"], ["takes one halt_max_steps"]),
        (["streaming=true", "different_init=4", "agree=2"], ["needs halt_q or halt_residual"]),
        (["streaming=true", "halt_q=0.5", "agree=2"], ["cannot be larger than different_init=1"]),
        (["eval=streaming", "convergence_top_k=4"], ["cannot be larger than agree=3"]),
        (["streaming=true", "halt_q=1"], ["halt_q"]),
        (["shard=4/3"], ["shard should be like 3/16"]),
        (["shard=0/3"], ["shard should be like 3/16"]),
    ],
)
def test_mistakes_in_an_evaluation_are_named(words, parts):
    sentence = failure(load_eval, "checkpoint=x", *words)
    assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize(
    "load, first, keys",
    [
        (load_pretrain, "train=eqr_sudoku", ["run_dir", "checkpoint_path", "load_checkpoint", "dataset.data_path"]),
        (load_eval, "checkpoint=x", ["checkpoint", "eval_dir", "shard", "dataset_data_path"]),
    ],
)
def test_an_empty_text_is_not_taken_for_a_value_or_for_none(load, first, keys):
    """As of `run_dir=$UNSET`, which would be the current folder."""
    for key in keys:
        assert failure(load, first, f"{key}=") == f"{key} should have at least 1 character, but it is ''"


@pytest.mark.parametrize(
    "text, fault",
    [
        ("# @package _global_\nepochs: 3\n\tlr: 1\n", "a configuration is not readable YAML: .*mine.yaml., line 3"),
        ("# @package _global_\nepochs: 3\nepochs: 4\n", "a configuration is not readable YAML: .*duplicate key epochs"),
        ("epochs: 3\n", "the first bytes of .*mine.yaml should be `# @package _global_`"),
        ("\ufeff# @package _global_\nepochs: 3\n", "the first bytes of .*mine.yaml should be"),
    ],
)
def test_a_mistake_in_an_experiment_of_ones_own_is_named(text, fault, tmp_path, monkeypatch):
    own = shutil.copytree(CONFIG_DIR, tmp_path / "config", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for module in ("config.words", "config.load"):
        monkeypatch.setattr(f"{module}.CONFIG_DIR", own)
    assert load_pretrain(["train=quickstart"]).epochs == 100
    (own / "train" / "mine.yaml").write_text(text, encoding="utf-8")
    assert re.match(fault, failure(load_pretrain, "train=mine"))


# -- going on with a run --------------------------------------------------------------------------------------


def test_a_run_goes_on_with_its_own_configuration():
    base = load_pretrain(["train=eqr_sudoku", "lr=7e-4", "arch.L_cycles=2"])
    same = resume_config(base, ["resume=there"])
    assert same == base.model_copy(update={"resume": "there"})
    assert resume_config(base, ["train=eqr_sudoku", "resume=there"]) == same, "train= may stand there again"
    named = load_pretrain(["train=eqr_sudoku", "run_name=mine"])
    assert resume_config(named, ["train=eqr_sudoku", "run_name=mine", "resume=there"]).run_name == "mine"
    changed = resume_config(base, ["resume=there", "max_steps=9", "lr=1e-5", "+checkpoint_latents=false"])
    assert (changed.max_steps, changed.lr, changed.checkpoint_latents) == (9, 1e-5, False)
    assert changed.arch == base.arch and base.max_steps is None


@pytest.mark.parametrize(
    "word",
    ["arch.hidden_size=64", "arch.noise_scale=0", "global_batch_size=4", "seed=1", "ema=false", "run_name=other"]
    + ["checkpoint_path=elsewhere"],
)
def test_what_the_saved_state_rests_on_cannot_change(word):
    base = shipped("eqr_sudoku")
    sentence = failure(lambda words: resume_config(base, words), "resume=x", word)
    assert sentence.startswith(word.split("=")[0].split(".")[0]) and "cannot change" in sentence


@pytest.mark.parametrize(
    "name, part",
    [
        ("trm_sudoku", "one of eqr_sudoku, not of trm_sudoku: leave train=trm_sudoku out"),
        ("eqr_sudok", "did you mean eqr_sudoku?"),
    ],
)
def test_a_run_goes_on_under_its_own_name_only(name, part):
    base = shipped("eqr_sudoku")
    assert part in failure(lambda words: resume_config(base, words), f"train={name}", "resume=there")


@pytest.mark.parametrize(
    "word, part",
    [
        ("lrr=1", "did you mean lr?"),
        ("lr=x", "'x'"),
        ("lr", "key=value"),
        ("lr=[", "["),
        ("lr=1e-4,1e-5", "lr has several values"),
        ("+load_checkpoint=y", "give resume (go on with a run) or load_checkpoint (start from weights), not both"),
    ],
)
def test_mistakes_on_resuming_are_named(word, part):
    base = shipped("eqr_sudoku")
    assert part in failure(lambda words: resume_config(base, words), "resume=x", word)


def test_a_run_that_started_from_weights_goes_on():
    base = load_pretrain(["train=eqr_sudoku", "load_checkpoint=weights.safetensors"])
    resumed = resume_config(base, ["resume=there"])
    assert (resumed.resume, resumed.load_checkpoint) == ("there", "weights.safetensors"), "it still says so"


STUDY = {  # arch, hidden size, heads, parameters, lr, weight decay, noise
    "eqr_maze_unique_d36_tuned": (EqRArch, 36, 2, 33_338, 2e-3, 0.1, 0.01),
    "eqr_maze_unique_d40_tuned": (EqRArch, 40, 2, 37_682, 3e-3, 0.1, 0.01),
    "eqr_maze_unique_d42_tuned": (EqRArch, 42, 3, 39_902, 1e-3, 0.1, 0.01),
    "eqr_maze_unique_d44_tuned": (EqRArch, 44, 2, 42_154, 1e-3, 0.1, 0.01),
    "eqr_maze_unique_d64_tuned": (EqRArch, 64, 8, 66_434, 1.5e-3, 0.1, 0.01),
    "eqr_maze_unique_tuned": (EqRArch, 128, 8, 263_938, 3e-4, 0.5, 0.1),
    "eqr_maze_unique_published": (EqRArch, 128, 8, 263_938, 1e-4, 1.0, 0.01),
    "trm_maze_unique_d42_tuned": (TRMArch, 42, 3, 39_902, 1e-3, 0.1, None),
    "trm_maze_unique_d44_tuned": (TRMArch, 44, 2, 42_154, 1e-3, 0.1, None),
    "trm_maze_unique_tuned": (TRMArch, 128, 8, 263_938, 3e-4, 0.5, None),
    "hrm_maze_unique": (TRMArch, 24, 3, 41_810, 5e-4, 0.01, None),
}


@pytest.mark.parametrize("name", STUDY)
def test_maze_models_are_as_the_authors_have_them(name):
    """All have 16 puzzle-embedding tokens. The authors do not count their table either."""
    kind, hidden_size, heads, parameters, lr, weight_decay, noise_scale = STUDY[name]
    config = shipped(name)
    arch = config.arch
    assert (type(arch), arch.hidden_size, arch.num_heads) == (kind, hidden_size, heads)
    assert (config.lr, config.weight_decay, config.epochs) == (lr, weight_decay, 150_000)
    assert (arch.puzzle_emb_len, arch.puzzle_emb_ndim, arch.L_layers, arch.L_cycles) == (16, hidden_size, 1, 4)
    assert (config.puzzle_emb_lr, config.puzzle_emb_weight_decay) == (1e-4, 1.0)
    assert arch.model_dump().get("noise_scale") == noise_scale
    with torch.device("meta"):
        model = build(arch, MAZE)
    assert sum(p.numel() for key, p in model.named_parameters() if key != "puzzle_emb.weights") == parameters
