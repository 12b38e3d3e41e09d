"""scripts/reproduce.sh: a run is trained and evaluated again, and what ships is compared with its record."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, command, exit_code, only_run, parsed, tiny_split

import pretrain
from config.load import load_pretrain
from dataset.layout import write_dataset
from reproduction import accuracy, paper, programs, recipes, records, reproduce, ship
from runtime import checkpoint
from runtime.run_log import METRICS, read_metrics


@pytest.fixture
def quick(echo, monkeypatch) -> None:
    """Scripts say what they would run. It runs in a forked process, which need not import torch."""
    monkeypatch.setenv("VIRTUAL_ENV", str(echo))

    def finish(words: list[str], stdout: int | None = None) -> str:
        given = words[1:]
        if words[0] == "bash":
            given = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        done = command(*given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(programs, "finish", finish)


@pytest.mark.usefixtures("quick")
def test_a_checkpoint_is_compared_with_its_record(
    tiny_record, tiny_values, tiny_run, tiny_work, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tiny_work)
    assert exit_code(ship.main, [str(tiny_run), str(tmp_path)]) == 0
    file = tmp_path / "last.safetensors"
    with pytest.raises(ValueError, match="--puzzles should be at most 11, .* data/tiny, but it is 12"):
        reproduce.check(tiny_record, file, "tiny", 12, 4)
    assert reproduce.check(tiny_record, file, "tiny", 5, 4)
    assert "5 puzzles (recorded: 11)" in capsys.readouterr().out

    one = tiny_values["evaluations"][0]
    one["metrics"]["1"]["all/exact_accuracy"] += 0.9
    assert not reproduce.check(parsed(tiny_values), file, "tiny", None, 3)
    out = capsys.readouterr().out
    assert "NOT as recorded" in out and "\n    4" not in out, "deeper than asked for"

    one["puzzles"] = 12
    with pytest.raises(ValueError, match="data/tiny has 11 test puzzles, but 12 others"):
        reproduce.check(parsed(tiny_values), file, "tiny", None, None)
    with pytest.raises(ValueError, match="no evaluation of one start"):
        reproduce.check(tiny_record, file, "other", None, None)


@pytest.mark.usefixtures("quick")
def test_a_run_is_evaluated_again_as_recorded(
    tiny_record, tiny_values, tiny_run, tiny_work, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tiny_work)
    again = tmp_path / "again (ü), x"
    shutil.copytree(tiny_run, again)
    with pytest.raises(ValueError, match="again .* is at step 40, but the recorded run ended at step 41"):
        reproduce.reproduce(parsed(tiny_values | {"steps": 41}), None, again)
    elsewhere = tiny_values["evaluations"][0] | {"dataset": "elsewhere"}
    four = parsed(tiny_values | {"evaluations": [elsewhere, tiny_values["evaluations"][1]]})
    new = records.read_record(reproduce.reproduce(four, None, again))
    out = capsys.readouterr().out
    assert new.config == tiny_record.config and "best converged of 4, 11 puzzles" in out
    assert "left out are the evaluations on data/elsewhere, which is missing and cannot be built\n" in out
    assert [evaluation.metrics for evaluation in new.evaluations] == [four.evaluations[1].metrics]
    file = again / "evaluation_0" / "results.json"
    file.write_text(file.read_text().replace('"different_init": 4', '"different_init": 3'))
    with pytest.raises(ValueError, match="evaluation_0 holds an evaluation with another different_init"):
        reproduce.reproduce(four, None, again)
    text = file.read_text().replace('"different_init": 3', '"different_init": 4')
    file.write_text(re.sub(r'"max_puzzles": \w+', '"max_puzzles": 3', text).replace('"puzzles": 11', '"puzzles": 3'))
    with pytest.raises(ValueError, match="with another number of puzzles"):
        reproduce.reproduce(four, None, again)


def test_a_recorded_run_is_trained_and_evaluated_again(tiny_record, tmp_path, tiny_data, monkeypatch, capsys):
    """All that `scripts/reproduce.sh NAME` does on a GPU, but for building the data; on a CPU it is the same run."""
    shutil.copytree(tiny_data, tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the recorded run had: another number rounds otherwise
    one = tiny_record.model_copy(update={"evaluations": tiny_record.evaluations[:1]})
    new = records.read_record(reproduce.reproduce(one, None, None))
    assert only_run(tmp_path / "outputs").name == new.name and new.config == tiny_record.config
    assert [evaluation.metrics for evaluation in new.evaluations] == [tiny_record.evaluations[0].metrics]
    assert new.training == tiny_record.training and "tiny, one start, 11 puzzles" in capsys.readouterr().out


@pytest.fixture
def small_work(tmp_path, quick, monkeypatch) -> Path:
    """A folder with the data of `quickstart` and `latin_squares`, in tiny, where programs run as in a shell."""
    for name in ("sudoku-4x4", "latin-squares"):
        splits = {"train": tiny_split(100, 0), "test": tiny_split(11, 1)}
        write_dataset(tmp_path / "data" / name, splits, ["<blank>"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_ladder_trains_its_rungs_one_after_the_other_and_goes_on_after_a_stop(small_work, monkeypatch, capsys):
    """All that `scripts/reproduce.sh ladder max_steps=3` does on a GPU, with two small recipes in place of the four."""
    monkeypatch.setattr(reproduce, "LADDER", ("quickstart", "latin_squares"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert exit_code(reproduce.main, ["ladder", "max_steps=3", "max_seconds=0.001"]) == 1
    assert capsys.readouterr().err.startswith("error: max_seconds ended the training before its last step")
    first, second = (small_work / "outputs" / "ladder" / name for name in ("quickstart", "latin_squares"))
    assert checkpoint.load(first, weights_only=True).step == 1 and not second.exists()

    assert exit_code(reproduce.main, ["ladder", "max_steps=3"]) == 0
    out = capsys.readouterr().out
    assert [line["step"] for line in read_metrics(first / METRICS)][:2] == [1, 3], "it went on"
    made = [records.read_record(folder / "record.json") for folder in (first, second)]
    assert [(run.name, run.recipe, run.steps) for run in made] == [(name, name, 3) for name in reproduce.LADDER]
    assert all(list(run.evaluations[0].metrics) == [1, 2, 4, 8, 16, 32, 64] for run in made)
    assert re.findall("recorded in (.*)/record.json", out) == [
        "outputs/ladder/quickstart",
        "outputs/ladder/latin_squares",
    ]

    written = [(folder / "last.safetensors").stat().st_mtime_ns for folder in (first, second)]
    assert exit_code(reproduce.main, ["ladder", "max_steps=3"]) == 0
    assert [(folder / "last.safetensors").stat().st_mtime_ns for folder in (first, second)] == written
    capsys.readouterr()
    assert exit_code(reproduce.main, ["ladder", "max_steps=3", "lr=1e-3"]) == 1
    sentence = "outputs/ladder/quickstart is a run with another lr: give run_dir=FOLDER, a new one"
    assert capsys.readouterr().err == f"error: {sentence}\n"
    words = ["ladder", "max_steps=3", "run_dir=apart", "max_seconds=0.001"]
    assert exit_code(reproduce.main, words) == 1 and (small_work / "apart" / "quickstart" / METRICS).is_file()


def test_a_recipe_that_is_trained_is_evaluated_and_put_beside_the_paper(small_work, monkeypatch, capsys):
    """`--run` needs no GPU. The real test puzzles count too, if they are here; a feedforward net has depth 1 alone."""
    shutil.copytree(small_work / "data" / "sudoku-4x4", small_work / "data" / "real")
    values = paper.read_paper().model_dump(mode="json")
    values["test_sets"]["real"] |= {"datasets": ["missing", "real"], "puzzles": 11}
    number = {"model": "x", "recipes": ["quickstart"], "exact": 2.6, "source": "EqR"}
    others = [number | {"breadth": 8}, number | {"depth": 2}, number | {"recipes": ["eqr_sudoku"]}]
    values["tasks"]["sudoku"] |= {"dataset": "sudoku-4x4", "numbers": [number, *others]}
    monkeypatch.setattr(recipes, "read_paper", lambda: paper.Paper.model_validate(values))
    words = ["train=quickstart", "max_steps=2", "arch.halt_max_steps=1", "arch.learned_halting=false", "run_dir=run"]
    assert exit_code(pretrain.main, words) == 0
    assert exit_code(reproduce.main, ["quickstart", "--run", "run"]) == 0
    out = capsys.readouterr().out
    run = records.read_record(small_work / "run" / "record.json")
    assert [(e.dataset, list(e.metrics)) for e in run.evaluations] == [("sudoku-4x4", [1]), ("real", [1])]
    said = [line for line in out.splitlines() if "the paper:" in line]
    assert len(said) == 2 and said[1].startswith("quickstart, 2 steps, depth 1: ")
    assert said[1].endswith("% of 11 puzzles of real; the paper: 2.6% of all 422,786 test puzzles")
    assert exit_code(reproduce.main, ["latin_squares", "--run", "run"]) == 1
    assert capsys.readouterr().err == "error: run is a run of quickstart, not of latin_squares\n"


def test_the_ladder_leads_to_trm_by_recipes_of_equal_length():
    lengths = {
        recipe: (load_pretrain([f"train={recipe}"]).epochs, load_pretrain([f"train={recipe}"]).join_epochs)
        for recipe in paper.read_paper().tasks["sudoku"].ladder
    }
    assert tuple(lengths)[:4] == recipes.LADDER and tuple(lengths)[4:] == ("trm_sudoku", "eqr_sudoku")
    assert set(lengths.values()) == {(50_000, False)}


def test_how_probable_a_difference_is():
    assert accuracy.chance(1.0, 10, 1.0, 1000) == accuracy.chance(0.0, 1, 0.0, 5) == 1
    assert accuracy.chance(8 / 10, 10, 1 / 6, 6) == pytest.approx(5 / 143)  # right and wrong: 8, 2 and 1, 5
    assert accuracy.chance(1.0, 1000, 89 / 90, 90) == pytest.approx(90 / 1090), "which is no mistake"
    assert accuracy.chance(0.7148, 11_999, 0.7148, 11_999) == pytest.approx(1)
    normal = math.erfc(3 / 2**0.5)
    three_errors = 0.5 + 3 * (0.25 * 2 / 100_000) ** 0.5
    assert accuracy.chance(0.5, 100_000, three_errors, 100_000) == pytest.approx(normal, rel=0.05)
    assert reproduce.RARE == pytest.approx(normal, rel=0.01)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("maze_unique --check --puzzles 0", "--puzzles should be 1 or more"),
        ("maze_unique --puzzles 5", "--puzzles goes with --check"),
        ("maze_unique --check --source-dir .", "--source-dir goes with runs on Sudoku-Extreme"),
        ("sudoku --check --source-dir no", "--source-dir should hold train.csv and test.csv, but no/train.csv"),
        ("sudoku", "training needs a GPU"),
        ("hrm_sru --source-dir no", "--source-dir should hold train.csv and test.csv, but no/train.csv"),
        (
            "hrm_sru --check",
            "--check goes with what ships (maze_unique, maze_unique_small, sudoku), and hrm_sru",
        ),
        ("hrm_srv", "results/runs/hrm_srv.json is not there, and no recipe of config/train has this name"),
        ("hrm_sudoku", "training needs a GPU"),
        ("ladder", "training needs a GPU"),
        ("ladder max_steps=0", "max_steps"),
        ("hrm_sru max_steps=100", "max_steps=100 goes with the training of a recipe that has no record, and not with"),
        (
            "hrm_sudoku --run . max_steps=9",
            "max_steps=9 goes with the training of a recipe that has no record, and not",
        ),
        ("ladder --run .", "--run goes with one of feedforward_sudoku, ladder_1_weight_tied_sudoku, ladder_2"),
        ("ladder --check", "--check goes with what ships"),
        ("hrm_sudoku train=trm_sudoku", "train and run_name stay the recipe's own"),
        ("ladder run_name=mine", "train and run_name stay the recipe's own"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # on a GPU the last one would train
    assert exit_code(reproduce.main, words.split()) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.startswith(f"error: {sentence}") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_of_the_recipe_is_compared(tiny_run, capsys):
    assert exit_code(reproduce.main, ["maze_unique", "--run", str(tiny_run)]) == 1
    assert capsys.readouterr().err == f"error: {tiny_run} is a run of quickstart, not of eqr_maze_unique_tuned\n"
    assert not list(tiny_run.glob("evaluation_*"))


def test_that_data_are_there_already_is_said(tiny_work, monkeypatch, capsys):
    monkeypatch.chdir(tiny_work)
    assert programs.build("tiny") == 11 and capsys.readouterr().err == ""
    assert programs.build("tiny", Path("csvs")) == 11
    assert capsys.readouterr().err == "data/tiny is there already, so csvs is not read\n"


TRAINING = """trap 'sleep 1; touch saved; exit 1' INT TERM
touch started
while :; do sleep 0.1; done
"""
PARENT = """import signal, sys
from pathlib import Path
from reproduction import programs, reproduce
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
programs.ROOT = Path(sys.argv[1])
reproduce._run = lambda given: programs.script("train.sh")
sys.exit(reproduce.main(["sudoku"]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_that_is_stopped_saves_first(number, code, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.sh").write_text(TRAINING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True) as parent:
        try:
            waited = time.monotonic()
            while not (tmp_path / "started").is_file() and time.monotonic() < waited + 120:
                time.sleep(0.1)
            time.sleep(0.2)
            if number == signal.SIGINT:
                os.killpg(parent.pid, number)  # as a terminal does
            else:
                parent.send_signal(number)
            assert parent.wait(60) == code and (tmp_path / "saved").is_file()
        except BaseException:
            os.killpg(parent.pid, signal.SIGKILL)
            raise


@pytest.mark.parametrize("missing", ["results/runs/maze_unique.json", "checkpoints/maze_unique"])
def test_what_is_missing_is_named(missing, tiny_record, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "RUNS", tmp_path / "results" / "runs")
    if missing.startswith("checkpoints"):
        (tmp_path / "results" / "runs").mkdir(parents=True)
        (tmp_path / "results" / "runs" / "maze_unique.json").write_text(records.to_text(tiny_record))
    assert exit_code(reproduce.main, ["maze_unique", "--check"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert missing in line and "is not there" in line


def test_the_data_are_built_by_the_documented_commands():
    pages = [(ROOT / "README.md").read_text(), *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
    text = re.sub(r"\\\n\s*", "", "".join(pages))
    for name in ("maze-30x30-unique-1k", "sudoku-extreme-1k-aug-1000"):
        assert f"python -m dataset.{programs.BUILDERS[name]} --output-dir data/{name}\n" in text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", reproduce.SHIPPED)
def test_a_shipped_model_is_what_was_recorded(name, tmp_path, monkeypatch, capsys):
    """The check that a user makes, on few puzzles of the same kind, and not deep."""
    dataset = reproduce.SHIPPED[name].dataset
    few = re.sub(r"-samples \d+", "-samples 8", programs.BUILDERS[dataset])
    monkeypatch.setitem(programs.BUILDERS, dataset, few)
    run = records.read_record(reproduce.RUNS / f"{name}.json")
    evaluations = [evaluation.model_copy(update={"puzzles": 8}) for evaluation in run.evaluations]
    (tmp_path / f"{name}.json").write_text(records.to_text(run.model_copy(update={"evaluations": evaluations})))
    monkeypatch.setattr(reproduce, "RUNS", tmp_path)
    monkeypatch.setattr(reproduce, "CPU_DEPTH", 2)
    monkeypatch.chdir(tmp_path)
    assert exit_code(reproduce.main, [name, "--check", "--puzzles", "2"]) == 0
    assert f"{dataset}, one start, 2 puzzles (recorded: 8)" in capsys.readouterr().out


def test_the_script_takes_the_words_of_the_program():
    words = ["bash", str(ROOT / "scripts" / "reproduce.sh"), "sudoku", "--puzzles", "5"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"VIRTUAL_ENV": sys.prefix})
    assert (done.returncode, done.stderr) == (1, "error: --puzzles goes with --check, and --run without it\n")
