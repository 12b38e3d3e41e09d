"""The benchmarks say how they are used, name mistakes and write files; no test holds them to their times."""

import json
import signal

import pytest
from conftest import ROOT, exit_code, start

from benchmarks import compute_curve, model_table, recipes, scaling, speed, sru_scan
from config.load import load_pretrain


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a benchmark in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda name, *words: start("-m", f"benchmarks.{name}", *words, PYTHONPATH=str(ROOT)).end()


@pytest.mark.parametrize("name", ["compute_curve", "model_table", "recipes", "scaling", "speed", "sru_scan"])
def test_they_say_how_they_are_used(name, run):
    done = run(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: ") and name in done.stdout, done.stderr


@pytest.mark.parametrize(
    "name, words, why",
    [
        ("speed", ["nosuch"], "nosuch"),
        ("scaling", ["--output", "nosuch.json", "--draw", "x.png"], "nosuch.json"),
        ("recipes", ["--seconds", "0", "quickstart"], "--seconds and --trial should be finite and above 0"),
        ("recipes", ["--seconds", "9", "--trial", "nan", "quickstart"], "--seconds and --trial should be finite"),
        ("recipes", ["--seconds", "9", "quickstart 'lr=1"], "a recipe should be quoted as in a shell, but quickstart"),
        ("recipes", ["--seconds", "9", "hrm_arc2 lr=fast"], "lr should be a valid number"),
        ("recipes", ["--seconds", "9", "hrm_arc2 dataset.data_path=nosuch"], "nosuch/train/dataset.json: no such file"),
        ("compute_curve", ["nosuch", "--halt-q", "0.5", "1.5"], "halt_q should be less than 1, but it is 1.5"),
        ("compute_curve", ["nosuch", "--output", __file__], "--output should be a folder, but "),
        ("speed", ["quickstart", "--output", "nosuch/speed.json"], "in a folder that exists"),
        ("scaling", ["quickstart", "--output", "nosuch/scaling.json"], "in a folder that exists"),
    ],
)
def test_a_mistake_is_one_sentence(name, words, why, run, tmp_path):
    done = run(name, *words)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    [error] = done.stderr.splitlines()
    assert error.startswith("error: ") and why in error


@pytest.mark.parametrize(
    "program, words",
    [
        *((compute_curve, ["nosuch", f"--{name}"]) for name in ("depth", "breadth", "rows", "agree", "puzzles")),
        (model_table, ["quickstart", "--rows"]),
        (speed, ["quickstart", "--rows"]),
        (speed, ["quickstart", "--processes"]),
        (scaling, ["quickstart", "--rows"]),
        (scaling, ["quickstart", "--devices"]),
        (sru_scan, ["--features"]),
    ],
)
@pytest.mark.parametrize("number", ["0", "-3", "1.5", "many"])
def test_a_number_of_things_is_1_or_more(program, words, number, capsys):
    assert exit_code(program.main, [*words, number]) == 2
    said = capsys.readouterr()
    assert f"argument {words[-1]}: should be a whole number from 1 on, but it is {number}\n" in said.err
    assert not said.out


def test_speed_prints_a_table_and_writes_what_it_found(run, tmp_path):
    """Up to a case that cannot run."""
    done = run("speed", "quickstart", "--how", "plain", "float8", "--rows", "4")
    [error] = done.stderr.splitlines()
    assert done.returncode == 1 and error.startswith("error: ") and "kernels=float8 cannot run here" in error
    found = json.loads((tmp_path / "speed.json").read_text())
    [case] = found["cases"]
    assert (case["config"], case["how"], case["rows"], case["processes"]) == ("quickstart", "plain", 4, 1)
    assert case["training ms"] > case["iteration ms"] > 0 and case["GiB"] > 0 and case["first step s"] > 0
    for what in ("training", "iteration"):
        assert case[f"{what} share"] == pytest.approx(case[f"{what} TFLOP/s"] / found["ceilings"]["TFLOP/s"])
    assert done.stdout.splitlines()[-1].startswith("| `quickstart` | plain | 4 |")


def test_devices_are_compared_with_one_of_equal_rows_in_all_and_a_device(tmp_path):
    def line(processes: int, rows: int, ms: float, commit: str = "c") -> dict:
        facts = {"config": "x", "engine": "torch", "commit": commit, "processes": processes, "rows": rows}
        return facts | {"training ms": ms, "iteration ms": ms}

    assert scaling.sizes(8, 1) == [8] and scaling.sizes(8, 4) == [8, 32]
    cases = [line(1, 8, 10), line(2, 8, 6), line(2, 16, 10), line(4, 8, 1, "another")]
    found = scaling.speedups(cases, "training ms")
    assert found.pop(("x", "torch", "in all")) == pytest.approx({1: 1, 2: 10 / 6})
    assert found == {("x", "torch", "a device"): pytest.approx({1: 1, 2: 2})}
    scaling.draw(cases, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 5000


def test_a_recipe_trains_for_as_many_steps_as_fit_into_the_time(monkeypatch):
    """Steps of the trial's second half take 64 rows / (640 rows a second) = 0.1 s."""
    calls = []

    def train(words, folder):
        calls.append(words)
        ends = load_pretrain(words)
        if ends.max_seconds:
            assert (ends.epochs, ends.max_steps, ends.max_seconds) == (10**9, None, 4), "the recipe's own end is gone"
            return [{"step": i, "train/samples_per_second": rate} for i, rate in enumerate([1, 1, 9, 640, 640, 640])]
        last = {"final/puzzles": 10.0, "final/all/exact_accuracy": 0.5, "final/all/accuracy": 0.9}
        return [{"train/process_seconds": 3.0}, {"train/process_seconds": 4.5}, last]

    monkeypatch.setattr(recipes, "train", train)
    row = recipes.measure("quickstart lr=1e-3", seconds=7.05, trial=4.0)
    assert (row["steps"], row["seconds"], row["puzzles"], row["exact_accuracy"]) == (70, 7.5, 10, 0.5)
    for words in calls:
        assert words[:2] == ["train=quickstart", "lr=1e-3"]
    ends = load_pretrain(calls[1])
    assert (ends.epochs, ends.max_steps, ends.max_seconds) == (10**9, 70, None)
    monkeypatch.setattr(recipes, "train", lambda *_: [{"step": 5, "train/samples_per_second": 640}])
    with pytest.raises(ValueError, match="--trial should be longer: in 4 s there were fewer than 20 steps"):
        recipes.step_seconds(["train=quickstart"], None, 4.0)


@pytest.fixture
def fatal():
    """A SIGTERM that nothing unwinds fails the test. It would kill Python, and leave its children behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nothing unwinds"))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("fatal")
def test_a_signal_unwinds_the_training_and_leaves_the_rows_that_are_done(tiny_data, tmp_path, monkeypatch):
    """`subprocess.run` ends the training when it unwinds."""
    done = {"recipe": "x", "steps": 1, "seconds": 1.0, "puzzles": 4, "exact_accuracy": 0.5, "token_accuracy": 0.9}
    rows = [done]

    def measure(*_: object) -> dict:
        if not rows:
            signal.raise_signal(signal.SIGTERM)
        return rows.pop()

    monkeypatch.setattr(recipes, "measure", measure)
    recipe, file = f"quickstart dataset.data_path={tiny_data}", tmp_path / "rows.json"
    assert exit_code(recipes.main, ["--seconds", "9", recipe, recipe, "--output", str(file)]) == 143
    assert json.loads(file.read_text())["recipes"] == [done]
    assert exit_code(recipes.main, ["--seconds", "9", recipe, "--output", str(file)]) == 1, "what is done is not lost"

    monkeypatch.chdir(tmp_path)
    rows.append(done)
    assert exit_code(recipes.main, ["--seconds", "9", recipe]) == 0
    [new] = tmp_path.glob("outputs/recipes_*.json")
    assert json.loads(new.read_text())["recipes"] == [done]


@pytest.mark.usefixtures("fatal")
@pytest.mark.parametrize("program", [scaling, speed])
def test_a_signal_unwinds_the_measurement_of_a_case(program, monkeypatch):
    monkeypatch.setattr(speed, "ceilings", lambda: {"TFLOP/s": 1.0, "TB/s": 1.0})
    monkeypatch.setattr(speed, "case", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert exit_code(program.main, ["quickstart", "--rows", "4"]) == 143
