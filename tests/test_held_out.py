"""reproduction/folds.py and reproduction/held_out.py: training puzzles held out, and what they say of the test set."""

import csv
import re

import pytest
from conftest import ROOT
from test_results import PAPER

from reproduction import folds, held_out


def write(folder, name: str, rows: list[list[str]]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([folds.COLUMNS, *rows])


def puzzles(folder, name: str) -> dict[str, str]:
    """The source of each question of a CSV."""
    with (folder / name).open(newline="") as file:
        return {row["question"]: row["source"] for row in csv.DictReader(file)}


def test_folds_hold_out_other_puzzles(tmp_path):
    train = [["sudoku_extreme_train", f"question {i}", f"answer {i}", "7"] for i in range(605)]
    write(tmp_path / "csv", "train.csv", train)
    write(tmp_path / "csv", "test.csv", [["17_clue", "new", "answer", "1"]])
    assert folds.main([str(tmp_path / "csv"), str(tmp_path / "out")]) == 0
    seen: set[str] = set()
    for fold in ("fold-a", "fold-b"):
        learned, asked = (puzzles(tmp_path / "out" / fold, name) for name in ("train.csv", "test.csv"))
        held = {question for question, source in asked.items() if source == "held_out"}
        assert len(held) == 300 and not held & learned.keys() and not held & seen
        assert {question for question, source in asked.items() if source == "trained_on"} == learned.keys()
        assert len(learned) == 305 and list(asked)[:605] == [row[1] for row in train], "in the order of train.csv"
        assert asked["new"] == "17_clue" and len(asked) == 606
        assert set(learned.values()) == {"sudoku_extreme_train"}
        drawn = [number for number in range(8) if f"question {number}" in held]
        assert drawn == {"fold-a": [0, 2, 5], "fold-b": [1, 3, 4, 6, 7]}[fold], "the records depend on the draw"
        seen |= held


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [(600, "train.csv holds 600 puzzles, but more than 600 are needed"), (None, "train.csv: no such file")],
)
def test_what_cannot_be_split_is_one_sentence(rows, sentence, tmp_path, capsys):
    if rows is not None:
        write(tmp_path, "train.csv", [["a", "b", "c", "1"]] * rows)
        write(tmp_path, "test.csv", [])
    assert folds.main([str(tmp_path), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and sentence in said
    assert not (tmp_path / "out").exists()


def fold(held: float, forum: float, unbiased: float, **settings) -> dict:
    """A fold's record: shares of 300 puzzles held out, and of 600 and 200 of the test set; half of them at depth 4."""

    def groups(times: float) -> list[dict]:
        shares = [("held_out", 300, held), ("trained_on", 700, 0.9), ("forum", 600, forum), ("unbiased", 200, unbiased)]
        return [
            {"group": name, "puzzles": count, "exact_accuracy": {"share": share * times, "puzzles": count}}
            for name, count, share in [*shares, ("all", 1800, 0.5)]
        ]

    by = {depth: groups(0.5 if depth == "4" else 1) for depth in held_out.DEPTHS}
    one = {"by": {"source": by}, "settings": {"different_init": 1, "streaming": False} | settings}
    return {"name": f"fold of {held}", "config": {"dataset": {"data_path": "data/fold"}}, "evaluations": [one]}


def test_folds_are_taken_together():
    """Other puzzles are held out in each, the test set is the same."""
    both = [fold(0.7, 0.4, 0.8), fold(0.9, 0.6, 1.0)]
    found = held_out.shares(both, "16")
    assert found["held_out"] == pytest.approx((480, 600)) and found["trained_on"] == pytest.approx((1260, 1400))
    assert found["ours"] == pytest.approx(((240 + 160 + 360 + 200) / 2, 800))
    assert held_out.shares(both, "4")["held_out"] == pytest.approx((240, 600))
    for settings in ({"different_init": 8}, {"streaming": True}, {"kernels": "float8"}):
        assert held_out.shares([*both, fold(0.1, 0.1, 0.1, **settings)], "16") == found


def test_the_odds_carry_over_to_other_runs():
    """A run with the folds' share of our puzzles gets their share of those held out; others the same factor."""
    recorded = [fold(0.8, 0.4, 0.8)]  # 50% of ours, 80% held out: odds of 1 and 4
    log, error = held_out.factor(recorded, "16")
    assert log == pytest.approx(1.3862944, abs=0.01)
    assert error == pytest.approx((1 / 240 + 1 / 60 + 1 / 400 + 1 / 400) ** 0.5, rel=0.02)
    assert held_out.on_held_out(0.5, 10**9, recorded, "16")[0] == pytest.approx(0.8, abs=2e-3)
    there, wide = held_out.on_held_out(0.75, 12_000, recorded, "16")
    assert there == pytest.approx(12 / 13, abs=2e-3) and wide == pytest.approx(12 / 169 * error, rel=0.03)
    assert held_out.on_held_out(0.75, 100, recorded, "16")[1] > 1.5 * wide, "fewer puzzles, less certain"
    at_4 = held_out.factor(recorded, "4")[0]  # 25% and 40%: odds of 1/3 and 2/3
    assert at_4 == pytest.approx(0.6931472, abs=0.01)
    assert held_out.on_held_out(0.25, 10**9, recorded, "4")[0] == pytest.approx(0.4, abs=2e-3)
    assert held_out.on_held_out(1.0, 100, [fold(1.0, 0.0, 0.0)], "16")[0] > 0.999


def run(name: str, config: str) -> dict:
    """A record of 75 and 90% of 12,000 of our puzzles at depths 16 and 64."""
    its_own = dict.fromkeys(("lambda_", "noise_scale", "H_init_std", "L_init_std", "forward_dtype"))
    data = {"data_path": f"data/{PAPER['sudoku']['data']}"}
    settings = {
        "different_init": 1,
        "streaming": False,
        "split": "test",
        "perturb_std": 0.0,
        "different_init_reset_std": 1.0,
        "ema": True,
    }
    one = {
        "dataset": PAPER["sudoku"]["data"],
        "puzzles": 12_000,
        "by": {},
        "settings": its_own | settings,
        "metrics": {"16": {"all/exact_accuracy": 0.75}, "64": {"all/exact_accuracy": 0.9}},
    }
    return {
        "name": name,
        "steps": 7,
        "config": {"run_name": config, "dataset": data, "arch": its_own},
        "evaluations": [one],
    }


def test_the_table_names_every_run_with_the_papers_number():
    runs = [run("mine", "eqr_sudoku"), run("other", "trm_sudoku")]
    text = held_out.text(PAPER, [fold(0.8, 0.4, 0.8), *runs])
    assert "| held out | 300 | 40.00 ± 2.83 | 80.00 ± 2.31 |" in text
    assert "| our test set | 800 | 25.00 ± 1.53 | 50.00 ± 1.77 |" in text
    assert "| odds, held out to ours |  | 2.00 ± 0.29 | 3.98 ± 0.64 |" in text
    assert "| mine | 7 | 16 | 86.4 | 75.00 ± 0.40 | 92.3 ± 1.2 |" in text
    assert "| mine | 7 | 64 | 93 | 90.00 ± 0.27 | 97.3 ± 0.4 |" in text
    assert "| other | 7 | 16 | 84.8 | 75.00 ± 0.40 | 92.3 ± 1.2 |" in text
    assert "| other | 7 | 64 |  | 90.00 ± 0.27 | 97.3 ± 0.4 |" in text
    assert held_out.text(PAPER, runs) == "not run\n"


def test_the_front_page_has_the_estimates_of_the_table():
    said = re.findall(r"(\d+\.\d ± \d\.\d)%", (ROOT / "README.md").read_text())
    table = (ROOT / "results" / "README.md").read_text()
    assert len(said) == 7 and all(f"| {estimate} |" in table for estimate in said)
