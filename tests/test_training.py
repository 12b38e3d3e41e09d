"""Training: resuming to the bit, stopping, failing, several processes, accumulation, learning."""

import json
import os
import re
import resource
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from campaign import same_tensors, step_of, until
from conftest import ALONE, CPU, ROOT, command, exit_code, make_trainer, only_run, start, tiny_split, torchrun
from safetensors.torch import load_file

import pretrain
from config.load import load_pretrain
from dataset.layout import puzzle_split, write_dataset
from dataset.puzzles import Puzzles, TrainingBatches
from runtime import checkpoint
from runtime.distributed import World
from runtime.run_log import read_metrics
from training import begin, loop


def evaluated(run: Path) -> list[tuple[float | None, ...]]:
    """Step, accuracy (on the subset or on all) and the best so far of every evaluation in a run's log."""
    names = ("step", "eval/all/exact_accuracy", "final/all/exact_accuracy", "eval/best")
    lines = read_metrics(run / "metrics.jsonl")
    return [tuple(line.get(name) for name in names) for line in lines if "eval/best" in line]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("word", ["arch.puzzle_emb_ndim=0", "arch.puzzle_emb_ndim=16", "arch.learned_halting=false"])
def test_resuming_is_exact_to_the_bit(tiny, tmp_path, processes, word):
    """2N steps equal N, save, end, resume, N: weights, EMA, moments, latents and every other slot field."""
    words = [*tiny, word, "arch.halt_max_steps=4", "arch.halt_exploration_prob=0.5"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    run = command("pretrain.py", *words, "max_steps=10", f"checkpoint_path={whole}", processes=processes)
    assert run.returncode == 0, run.stderr
    run = command("pretrain.py", *words, "max_steps=5", f"checkpoint_path={halves}", processes=processes)
    assert run.returncode == 0, run.stderr
    half = only_run(halves)
    assert not same_tensors(half / "last.safetensors", only_run(whole) / "last.safetensors")
    run = command("pretrain.py", f"resume={half}", "max_steps=10", processes=processes)
    assert run.returncode == 0, run.stderr
    assert same_tensors(half / "last.safetensors", only_run(whole) / "last.safetensors")
    assert any(key.startswith("slots/latents") for key in load_file(half / "last.safetensors"))
    lines = read_metrics(half / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/lm_loss" in line] == list(range(1, 11))


def test_two_processes_do_what_one_does(tiny, tmp_path):
    """TRM has no random draws once exploration is off: the loss must be the same however slots are shared out."""
    losses = []
    for processes in (1, 2):
        words = [*tiny, "max_steps=6", "arch.halt_exploration_prob=0", f"checkpoint_path={tmp_path / str(processes)}"]
        trm = ["arch=trm", *words]
        trm = [word for word in trm if word != "train=quickstart"] + ["train=trm_sudoku", "arch.num_heads=2"]
        trm += ["arch.forward_dtype=float32", "arch.L_layers=1", "arch.H_cycles=2", "arch.L_cycles=1", "compile=false"]
        run = command("pretrain.py", *trm, "arch.hidden_size=16", "lr_warmup_steps=1", processes=processes)
        assert run.returncode == 0, run.stderr
        log = read_metrics(only_run(tmp_path / str(processes)) / "metrics.jsonl")
        losses.append([line["train/lm_loss"] for line in log if "train/lm_loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != pytest.approx(losses[0][-1], rel=1e-3)


def test_accumulation_gives_the_same_gradient(tiny):
    """The slots in four pieces or at once: the same update, with noise, starts and exploration out of the way."""
    quiet = ["arch.noise_scale=0", "arch.H_init_std=0", "arch.L_init_std=0", "arch.halt_exploration_prob=0"]
    whole = make_trainer([*tiny, *quiet])
    pieces = make_trainer([*tiny, *quiet, "gradient_accumulation_steps=4"])
    for _ in range(3):
        a, b = whole.train_step(), pieces.train_step()
        assert float(a["lm_loss"]) == pytest.approx(float(b["lm_loss"]), rel=1e-5)
    assert len(pieces.states) == 4 and pieces.states[0].steps.shape == (2,)
    for p, q in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_clipping_acts(tiny):
    """A bound on the gradient's norm bounds the first moment: m = (1 - beta1) g after one step."""
    trainer = make_trainer([*tiny, "grad_clip_norm=1e-3"])
    trainer.train_step()
    norm = torch.stack([s["exp_avg"].norm() for s in trainer.optimizer.state.values()]).norm() / (1 - 0.9)
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_slots_go_on_until_they_halt(tiny):
    """A slot keeps its puzzle until it halts, then takes its row of the batch; q_halt starts too low to halt early."""
    trainer = make_trainer([*tiny, "arch.halt_max_steps=3", "arch.halt_exploration_prob=0"])
    trainer.train_step()
    [first] = trainer.states
    for step in (2, 3):
        trainer.train_step()
        assert torch.equal(trainer.states[0].inputs, first.inputs)
        assert trainer.states[0].steps.tolist() == [step] * 8
    assert bool(trainer.states[0].halted.all())
    trainer.train_step()
    assert torch.equal(trainer.states[0].inputs, trainer.batches.batch(3).inputs)
    assert trainer.states[0].steps.tolist() == [1] * 8


def test_a_checkpoint_without_latents_says_so(tiny, tmp_path):
    run = command("pretrain.py", *tiny, "max_steps=3", "checkpoint_latents=false")
    assert run.returncode == 0, run.stderr
    directory = only_run(tmp_path)
    assert not any(key.startswith("slots/") for key in load_file(directory / "last.safetensors"))
    run = command("pretrain.py", f"resume={directory}", "max_steps=5")
    assert run.returncode == 0 and "every row starts anew" in run.stderr


@pytest.mark.parametrize(
    ("number", "start"),
    [
        (signal.SIGINT, start),
        (signal.SIGTERM, start),
        (signal.SIGHUP, start),
        (signal.SIGINT, partial(torchrun, processes=1)),
    ],
)
def test_signals_save_and_stop(tiny, tmp_path, start, number):
    running = start("pretrain.py", *tiny, "epochs=100000")
    until(lambda: any(step_of(log.parent) > 3 for log in tmp_path.glob("*/*/metrics.jsonl")), 60, "no steps")
    running.send_signal(number)
    done = running.end()
    assert done.returncode == 128 + number, done.stderr
    saved = checkpoint.load(only_run(tmp_path))
    assert saved.step >= 3 and f"stopped at step {saved.step}" in done.stderr and "resume=" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_stops_when_its_time_is_up_and_goes_on(tiny, tmp_path, processes):
    run = command("pretrain.py", *tiny, "epochs=100000", "max_seconds=2", processes=processes)
    assert run.returncode == 0 and "Traceback" not in run.stderr
    step = checkpoint.load(only_run(tmp_path)).step
    assert step >= 1 and f"stopped at step {step}; go on with resume=" in run.stderr
    words = [f"resume={only_run(tmp_path)}", f"max_steps={step + 2}"]
    assert pretrain.configure(words).max_seconds is None, "that was of the first slice"
    assert command("pretrain.py", *words, processes=processes).returncode == 0
    assert checkpoint.load(only_run(tmp_path)).step == step + 2


def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path):
    """lr=1e30 makes the weights overflow after the first updates: the step is named, no bad checkpoint is written."""
    run = command("pretrain.py", *tiny, "max_steps=50", "lr=1e30", "lr_warmup_steps=0")
    assert run.returncode == 1
    assert "is not finite" in run.stderr and "step" in run.stderr and "Traceback" not in run.stderr
    assert not list(only_run(tmp_path).glob("*.safetensors*"))


def test_weights_that_are_not_finite_are_never_saved(tiny, tmp_path):
    trainer = make_trainer(tiny)
    trainer.train_step()
    trainer.save(tmp_path / "last.safetensors", slots=True)
    before = (tmp_path / "last.safetensors").read_bytes()
    next(trainer.model.parameters()).data[0] = float("nan")
    with pytest.raises(ValueError, match="step 1: .* is not finite"):
        trainer.save(tmp_path / "last.safetensors", slots=True)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_training_learns(tiny):
    size = ["arch.hidden_size=32", "arch.H_cycles=2", "arch.L_cycles=2", "global_batch_size=40"]
    trainer = make_trainer([*tiny, *size, "lr=3e-3", "lr_min_ratio=1.0", "lr_warmup_steps=10", "weight_decay=0.1"])
    losses = [float(trainer.train_step()["lm_loss"]) / 40 for _ in range(100)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_batches_are_a_function_of_seed_and_step(tiny_data):
    puzzles = Puzzles(tiny_data, "train", ALONE.device)
    batches = TrainingBatches(puzzles, 12, seed=5)
    assert batches.steps(2) == 6
    forward = [batches.examples(step).tolist() for step in range(9)]
    again = TrainingBatches(puzzles, 12, seed=5)
    assert [again.examples(step).tolist() for step in reversed(range(9))] == forward[::-1]
    assert TrainingBatches(puzzles, 12, seed=6).examples(0).tolist() != forward[0]
    # within an epoch no group twice; together the ranks have the whole batch
    assert len(set(sum(forward[:3], []))) == 36
    parts = [TrainingBatches(puzzles, 12, 5, (rank, 3)).batch(4).inputs for rank in range(3)]
    assert torch.equal(torch.cat(parts), batches.batch(4).inputs)


def thousand_groups(tiny_data) -> Puzzles:
    """1000 groups of a puzzle each; the examples are those of the tiny data, over and over."""
    puzzles = Puzzles(tiny_data, "train", ALONE.device)
    metadata = puzzles.split.metadata.model_copy(update={"total_groups": 1000, "mean_puzzle_examples": 1.0})
    indices = {"puzzle_indices": np.arange(1001), "group_indices": np.arange(1001)}
    puzzles.split = replace(puzzles.split, metadata=metadata, **indices)
    return puzzles


def test_joined_epochs_drop_nothing(tiny_data):
    """As in the loaders of HRM and TRM: 20,000 epochs are 26,041 steps, and 50,000 are 65,104."""
    puzzles = thousand_groups(tiny_data)
    alone, joined = (TrainingBatches(puzzles, 768, seed=5, join_epochs=join) for join in (False, True))
    assert (alone.steps(20_000), joined.steps(20_000), joined.steps(50_000)) == (20_000, 26_041, 65_104)
    stream = np.concatenate([joined.examples(step) for step in range(250)])
    for epoch in stream.reshape(-1, 1000):
        assert len(set(epoch)) == 1000, "every group once an epoch"
    assert (stream[:96_000] != stream[96_000:]).any(), "the next draw is another"
    again = TrainingBatches(puzzles, 768, seed=5, join_epochs=True)
    assert (again.examples(249) == joined.examples(249)).all() and (again.examples(3) == joined.examples(3)).all()


def test_joined_epochs_of_a_large_set_are_drawn_in_parts(tiny_data, monkeypatch):
    puzzles = thousand_groups(tiny_data)
    monkeypatch.setattr("dataset.puzzles.JOINED", 2500)
    batches = TrainingBatches(puzzles, 768, seed=5, join_epochs=True)
    assert batches.steps(96) == 125
    assert len(set(np.concatenate([batches.examples(0), batches.examples(1)[:232]]))) == 1000


@pytest.mark.parametrize(("size", "steps"), [(10, 3), (7, 5), (50, 1)])
def test_examples_of_a_puzzle_that_do_not_fit_are_dropped(tiny_data, size, steps):
    """Twelve puzzles of three examples. Of the second size an epoch fills four batches, so it draws again."""
    puzzles = Puzzles(tiny_data, "train", ALONE.device)
    metadata = puzzles.split.metadata.model_copy(update={"total_groups": 12, "mean_puzzle_examples": 3.0})
    indices = {"puzzle_indices": np.arange(0, 37, 3), "group_indices": np.arange(13)}
    puzzles.split = replace(puzzles.split, metadata=metadata, **indices)
    batches = TrainingBatches(puzzles, size, seed=5)
    assert batches.steps(1) == steps
    found = [batches.examples(step) // 3 for step in range(2 * steps)]
    for of_rows in found:
        starts = np.flatnonzero(np.diff(of_rows, prepend=-1))
        assert len(of_rows) == size and (np.diff(starts) % 3 == 0).all(), "only the last puzzle of a batch is cut"
    if size == 10:
        assert len(set(np.concatenate(found[:3]))) == 12, "no puzzle goes on in the next batch"


def test_an_epoch_has_every_batch_that_it_fills(tiny_data):
    """Although the product of the mean and the number of groups falls short of the examples by rounding."""
    puzzles = Puzzles(tiny_data, "train", ALONE.device)
    rounded = {"total_groups": 294, "mean_puzzle_examples": 1536 / 294}
    assert 294 * (1536 / 294) < 1536
    puzzles.split = replace(puzzles.split, metadata=puzzles.split.metadata.model_copy(update=rounded))
    assert TrainingBatches(puzzles, 768, seed=0).steps(1) == 2


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["resume=nowhere"], "there is no checkpoint nowhere"),
        (["train=quickstart", "dataset.data_path=nowhere"], "nowhere"),
        (["train=quickstart", "device=cuda:7"], "cuda:7"),
        (["train=quickstart", "arch.hidden_size=20000000"], "out of memory; raise gradient_accumulation_steps"),
        (["train=quickstart", "optimizer=adam_atan2_package"], "adam-atan2"),
    ],
)
def test_mistakes_end_with_one_sentence(tiny_data, words, sentence):
    words = [words[0], f"dataset.data_path={tiny_data}", *words[1:]] if words[0].startswith("train") else words
    run = command("pretrain.py", *words)
    assert run.returncode == 1
    [line] = run.stderr.strip().splitlines()
    assert line.startswith("error: ") and sentence in line


def test_a_resumed_run_keeps_its_kind_of_puzzles(tiny, tmp_path):
    """An attention model has no weights that depend on the number of tokens."""
    tokens = np.ones((40, 9), np.uint8)
    assert command("pretrain.py", *tiny, "arch.mlp_t=false", "max_steps=2").returncode == 0
    directory = only_run(tmp_path)
    before = (directory / "config.yaml").read_text()
    for name, sentence in [
        ("tiny", "8 tokens out of 6 with 3 identifiers, but these have 9 out of 6 with 1"),
        ("other", "a run goes on with the puzzles that it began with, "),
    ]:
        data = tmp_path / "elsewhere" / name
        write_dataset(data, dict.fromkeys(("train", "test"), puzzle_split(tokens, tokens, 6)), ["<blank>"])
        run = command("pretrain.py", f"resume={directory}", "max_steps=4", f"dataset.data_path={data}")
        [line] = run.stderr.strip().splitlines()
        assert run.returncode == 1 and sentence in line
        assert (directory / "config.yaml").read_text() == before


def test_a_run_goes_on_from_any_path(tiny, tmp_path):
    assert command("pretrain.py", *tiny, "max_steps=2").returncode == 0
    odd = tmp_path / "it's (a), run=1"
    only_run(tmp_path).rename(odd)
    run = command("pretrain.py", f"resume={odd}", "max_steps=4")
    assert run.returncode == 0 and checkpoint.load(odd).step == 4, run.stderr


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_one_sentence(split, tiny, tmp_path):
    """Also that of the tests, at whose first evaluation a run would have ended."""
    empty = replace(tiny_split(1, 0), inputs=np.zeros((0, 8), np.uint8), labels=np.zeros((0, 8), np.uint8))
    one = np.zeros(1, np.int32)
    empty = replace(empty, puzzle_identifiers=one[:0], puzzle_indices=one, group_indices=one)
    empty = replace(empty, metadata=empty.metadata.model_copy(update={"total_groups": 0, "total_samples": 0}))
    data = tmp_path / "empty"
    write_dataset(data, {"train": tiny_split(11, 0), "test": tiny_split(11, 1), split: empty}, ["<blank>"])
    run = command("pretrain.py", *tiny, f"dataset.data_path={data}", "max_steps=2")
    assert run.returncode == 1 and run.stderr == f"error: {data}: its {split} split has no puzzles\n", run.stderr


def test_splits_of_two_kinds_end_before_any_work(tiny, tmp_path):
    data = tmp_path / "data"
    for name, split in (("train", tiny_split(11, 0)), ("test", tiny_split(11, 1, identifiers=2))):
        write_dataset(tmp_path / name, {name: split}, ["<blank>"])
        (tmp_path / name).rename(data) if name == "train" else (tmp_path / name / name).rename(data / name)
    words = [*tiny, f"dataset.data_path={data}", "max_steps=2"]
    run = command("pretrain.py", *words, "arch.puzzle_emb_ndim=16")
    said = "num_puzzle_identifiers should be the same in all splits, but it is 1 in train, 2 in test"
    assert run.returncode == 1 and run.stderr == f"error: {data}: {said}\n", run.stderr
    assert command("pretrain.py", *words, "arch.puzzle_emb_ndim=0").returncode == 0, "nothing asks for identifiers"


def test_a_wrong_wandb_mode_leaves_nothing_behind(tiny, tmp_path):
    run = command("pretrain.py", *tiny, "max_steps=2", "wandb_mode=auto", WANDB_MODE="bogus")
    assert run.returncode == 1 and "WANDB_MODE should be" in run.stderr and not list(tmp_path.iterdir())


def test_ctrl_c_before_the_first_step(tiny, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "run", interrupted)
    assert exit_code(pretrain.main, tiny) == 130


def test_a_resumed_run_keeps_its_architecture(tiny, tmp_path):
    assert command("pretrain.py", *tiny, "max_steps=2").returncode == 0
    run = command("pretrain.py", f"resume={only_run(tmp_path)}", "arch.hidden_size=32")
    assert run.returncode == 1 and "arch cannot change" in run.stderr


def test_a_signal_ends_an_evaluation_too(tiny, tmp_path):
    """The final evaluation of many puzzles is left between two batches; the last checkpoint stands."""
    data = tmp_path / "data"
    write_dataset(data, {"train": tiny_split(40, 0), "test": tiny_split(100_000, 1)}, ["<blank>"])
    words = [*tiny, f"dataset.data_path={data}", "max_steps=2", "eval_puzzles=8"]
    running = start("pretrain.py", *words)
    until(lambda: list(tmp_path.glob("*/*/best.safetensors")), 60, "the evaluation of the subset is not done")
    time.sleep(0.5)
    running.send_signal(signal.SIGTERM)
    stopped = running.end()
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    run = only_run(tmp_path)
    assert "stopped at step 2" in stopped.stderr and checkpoint.load(run).step == 2
    assert not (run / "final.json").exists()
    write_dataset(data, {"train": tiny_split(40, 0), "test": tiny_split(11, 1)}, ["<blank>"])
    done = command("pretrain.py", f"resume={run}")
    assert done.returncode == 0 and json.loads((run / "final.json").read_text())["step"] == 2, done.stderr


@pytest.mark.parametrize("stopped", [5, 12])
def test_an_evaluation_that_a_stop_cut_off_is_made_after_all(tiny, tmp_path, monkeypatch, stopped):
    """SIGTERM comes with an evaluation: the run that goes on is the one that never stopped, evaluations and all."""
    evaluate = loop._Run._evaluate

    def evaluate_in_vain(run, *how):
        if run.trainer.step == stopped and not run.noted:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(run, *how)

    words = [*tiny, "eval_interval_steps=5", "max_steps=12", "eval_puzzles=10"]
    pretrain.run(load_pretrain([*words, f"checkpoint_path={tmp_path / 'whole'}"]), ALONE)
    with monkeypatch.context() as patched, pytest.raises(loop.Stopped):
        patched.setattr(loop._Run, "_evaluate", evaluate_in_vain)
        pretrain.run(load_pretrain([*words, f"checkpoint_path={tmp_path / 'halves'}"]), ALONE)
    whole, halves = only_run(tmp_path / "whole"), only_run(tmp_path / "halves")
    assert command("pretrain.py", f"resume={halves}").returncode == 0
    assert same_tensors(halves / "best.safetensors", whole / "best.safetensors")
    assert evaluated(halves) == evaluated(whole)
    assert "NaN" not in "".join((whole / name).read_text() for name in ("metrics.jsonl", "final.json"))
    assert [step for step, *_ in evaluated(whole)] == [5, 10, 12, 12]


def test_evaluations_of_all_puzzles_on_the_way(tiny, tmp_path):
    """Where there are no more than eval_puzzles: `eval` as ever, and the last one is `final` too."""
    pretrain.run(load_pretrain([*tiny, "eval_interval_steps=2", "max_steps=4", "eval_puzzles=1000"]), ALONE)
    (step, eval_2, final_2, _), (last, eval_4, final_4, _) = evaluated(only_run(tmp_path))
    assert (step, last) == (2, 4) and None not in (eval_2, eval_4) and final_2 is None and final_4 == eval_4


def test_the_best_is_that_of_as_many_puzzles(tiny, tmp_path):
    """One puzzle may be solved by luck; a run that goes on with more of them compares with none."""
    words = [*tiny, "eval_interval_steps=2", "checkpoint_interval_steps=2"]
    assert command("pretrain.py", *words, "max_steps=2", "eval_puzzles=1").returncode == 0
    run = only_run(tmp_path)
    log = run / "metrics.jsonl"
    log.write_text(re.sub(r'("eval/all/exact_accuracy"|"eval/best"): [\d.]+', r"\1: 1.0", log.read_text()))
    assert command("pretrain.py", f"resume={run}", "max_steps=4", "eval_puzzles=5").returncode == 0
    assert checkpoint.load(run / "best.safetensors").step == 4
    assert [best for *_, best in evaluated(run)][0] == 1.0 and evaluated(run)[-1][-1] < 1.0


@pytest.mark.parametrize("kib", [1, 3])
def test_a_full_disk_does_not_cost_a_resumed_run_its_log(tiny, tmp_path, kib, capsys):
    """Where there is no room to write the configuration anew, and where there is none for a next line."""
    assert command("pretrain.py", *tiny, "max_steps=12").returncode == 0
    run = only_run(tmp_path)
    names = ("metrics.jsonl", "config.yaml")
    before = [(run / name).read_text() for name in names]
    assert len(before[0]) > 3072 > len(before[1]) > 1024
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kib, usual[1]))  # a longer file is an OSError, as on a full disk
    try:
        code = exit_code(pretrain.main, [f"resume={run}", "max_steps=14", "wandb_mode=disabled"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert code == 1 and capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    after = [(run / name).read_text() for name in names]
    assert after[0] == before[0] and after[1].count("\n") == before[1].count("\n")


def test_no_run_goes_on_from_weights_alone(tiny, tmp_path):
    assert command("pretrain.py", *tiny, "max_steps=2").returncode == 0
    weights = tmp_path / "weights"
    weights.mkdir()
    saved = checkpoint.load(only_run(tmp_path) / "last.safetensors", weights_only=True)
    checkpoint.save(weights / "last.safetensors", saved)
    run = command("pretrain.py", f"resume={weights}", "max_steps=4")
    assert run.returncode == 1 and f"give load_checkpoint={weights}" in run.stderr


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_run_that_goes_on_takes_no_other_weights(plus):
    with pytest.raises(ValueError, match="not both"):
        pretrain.configure([f"{plus}resume={ROOT / 'checkpoints' / 'maze_unique_small'}", "load_checkpoint=other"])


def test_a_run_does_not_go_back_behind_itself(tiny, tmp_path):
    assert command("pretrain.py", *tiny, "max_steps=2").returncode == 0
    directory = only_run(tmp_path)
    (directory / "early.safetensors").write_bytes((directory / "last.safetensors").read_bytes())
    assert command("pretrain.py", f"resume={directory}", "max_steps=4").returncode == 0
    assert "max_steps: 4" in (directory / "config.yaml").read_text()
    run = command("pretrain.py", f"resume={directory / 'early.safetensors'}", "max_steps=6")
    assert run.returncode == 1 and "is at step 4" in run.stderr
    run = command("pretrain.py", f"resume={directory}", "max_steps=3")
    assert run.returncode == 1 and "is at step 4 of 3: give more epochs or max_steps" in run.stderr


def test_a_run_in_a_folder_of_ones_own_begins_and_goes_on_by_the_same_command(tiny, tmp_path):
    words = [*tiny, "checkpoint_interval_steps=2", f"run_dir={tmp_path / 'mine'}"]
    pretrain.run(load_pretrain([*tiny, "max_steps=4", f"run_dir={tmp_path / 'whole'}"]), ALONE)
    pretrain.run(pretrain.configure([*words, "max_steps=3"]), ALONE)
    pretrain.run(pretrain.configure([*words, "max_steps=4"]), ALONE)
    assert same_tensors(tmp_path / "mine" / "last.safetensors", tmp_path / "whole" / "last.safetensors")
    log = [line["step"] for line in read_metrics(tmp_path / "mine" / "metrics.jsonl")]
    assert log[:3] == [1, 2, 3] and sorted(set(log)) == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="seed cannot change when a run goes on"):
        pretrain.configure([*words, "seed=1"])
    (tmp_path / "mine" / "last.safetensors").unlink()  # killed before its first checkpoint: it begins again
    pretrain.run(pretrain.configure([*words, "max_steps=4"]), ALONE)
    assert same_tensors(tmp_path / "mine" / "last.safetensors", tmp_path / "whole" / "last.safetensors")
    with pytest.raises(ValueError, match="holds something else than a run"):
        pretrain.run(pretrain.configure([*tiny, f"run_dir={tmp_path}"]), ALONE)


def test_a_complete_run_says_so(tiny, tmp_path):
    """A job that is started again until it ends well comes to an end."""
    words = [*tiny, "max_steps=2", f"run_dir={tmp_path / 'run'}"]
    assert command("pretrain.py", *words).returncode == 0
    before = (tmp_path / "run" / "last.safetensors").read_bytes()
    for again in (words, [f"resume={tmp_path / 'run'}"]):
        run = command("pretrain.py", *again)
        assert (
            run.returncode == 0 and "the run is complete" in run.stderr and run.stdout == f"done: {tmp_path / 'run'}\n"
        )
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == before


def test_processes_that_start_again_go_on_with_their_run_in_the_time_that_is_left(tiny, tmp_path):
    config, memory = load_pretrain([*tiny, "max_seconds=50", "max_steps=2"]), torch.distributed.HashStore()
    world = World(0, 1, CPU, memory)
    assert begin.started_again(config, world) == config and begin.started_again(config, world).max_seconds < 50
    memory.set("began", str(time.time() - 20))
    assert 0 < begin.started_again(config, world).max_seconds <= 30
    pretrain.run(config, world)
    again = begin.started_again(config, world)
    assert again.resume == str(only_run(tmp_path)) and again.max_seconds <= 30
    memory.set("began", str(time.time() - 200))
    assert begin.started_again(config, world).max_seconds == 1
