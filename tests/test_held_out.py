"""results/folds.py and results/held_out.py: training puzzles held out, and what they say of the test set."""

import csv

import pytest
from test_results import PAPER

from results import folds, held_out


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


def fold(held: float, forum: float, unbiased: float) -> dict:
    """A fold's record: shares of 300 puzzles held out, and of 600 and 200 of the test set, at every depth."""
    groups = [("held_out", 300, held), ("trained_on", 700, 0.9), ("forum", 600, forum), ("unbiased", 200, unbiased)]
    by = [
        {"group": name, "puzzles": count, "exact_accuracy": {"share": share, "puzzles": count}}
        for name, count, share in [*groups, ("all", 1800, 0.5)]
    ]
    one = {"by": {"source": dict.fromkeys(held_out.DEPTHS, by)}}
    return {"name": f"fold of {held}", "config": {"dataset": {"data_path": "data/fold"}}, "evaluations": [one]}


def test_folds_are_taken_together():
    both = held_out.shares([fold(0.7, 0.4, 0.8), fold(0.9, 0.6, 1.0)], "16")
    assert both["held_out"] == pytest.approx((480, 600))
    assert both["trained_on"] == pytest.approx((1260, 1400))
    assert both["ours"] == pytest.approx((240 + 160 + 360 + 200, 1600))


def test_the_odds_carry_over_to_other_runs():
    """A run with the folds' share of our puzzles gets their share of those held out; others the same factor."""
    recorded = [fold(0.8, 0.4, 0.8)]  # 50% of ours; odds of 4 to 1
    log, error = held_out.harder(recorded, "16")
    assert (log, error) == pytest.approx((1.3862944, (1 / 240 + 1 / 60 + 1 / 400 + 1 / 400) ** 0.5))
    assert held_out.as_if(0.5, 10**9, recorded, "16")[0] == pytest.approx(0.8)
    there, wide = held_out.as_if(0.75, 12_000, recorded, "16")
    assert there == pytest.approx(12 / 13) and wide == pytest.approx(12 / 169 * error, rel=0.02)
    assert held_out.as_if(0.75, 100, recorded, "16")[1] > 1.5 * wide, "fewer puzzles, less certain"


def test_the_table_names_every_run_with_the_papers_number():
    ours = {
        "name": "mine",
        "steps": 7,
        "config": {
            "run_name": "eqr_sudoku",
            "dataset": {"data_path": f"data/{PAPER['sudoku']['data']}"},
            "arch": dict.fromkeys(("lambda_", "noise_scale", "H_init_std", "L_init_std", "forward_dtype")),
        },
        "evaluations": [
            {
                "dataset": PAPER["sudoku"]["data"],
                "puzzles": 12_000,
                "by": {},
                "settings": dict.fromkeys(("lambda_", "noise_scale", "H_init_std", "L_init_std", "forward_dtype"))
                | {"different_init": 1, "streaming": False, "split": "test", "perturb_std": 0.0, "ema": True},
                "metrics": {depth: {"all/exact_accuracy": share} for depth, share in (("16", 0.75), ("64", 0.9))}
                | {"1": {"all/exact_accuracy": 0.0}},
            }
        ],
    }
    text = held_out.text(PAPER, [fold(0.8, 0.4, 0.8), ours])
    assert "| held out | 300 | 80.00 ± 2.31 |" in text and "| our test set | 800 | 50.00 ± 1.77 |" in text
    assert "| mine | 7 | 16 | 86.4 | 75.00 ± 0.40 | 92.3 ± 1.2 |" in text
    assert "| mine | 7 | 64 | 93 | 90.00 ± 0.27 | 97.3 ± 0.4 |" in text
    assert held_out.text(PAPER, [ours]) == "not run\n"
