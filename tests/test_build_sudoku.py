"""Sudoku: the released builder's bits, the rules and their symmetries, new puzzles, and CSVs with faults."""

import gzip
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from conftest import BUILT, ROOT, assert_same_bits, built_by, exit_code
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.build_sudoku_dataset import augment, build, generate, main, parse, read_csv
from dataset.layout import read_split
from dataset.sudoku import (
    BOXES,
    agree,
    clashes,
    count_solutions,
    follow_rules,
    random_puzzle,
    random_symmetries,
    size_of,
    solutions,
    transform,
)

REAL = ROOT.parent / "shared/data/sudoku-extreme-1k"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the Sudoku-Extreme CSVs in {REAL}")
sizes = st.sampled_from(sorted(BOXES))
seeds = st.integers(0, 2**32 - 1)


def solves(answer: np.ndarray, question: np.ndarray) -> bool:
    """Whether an answer keeps the clues and follows the rules."""
    answers_1S = answer.reshape(1, -1)
    return bool(agree(question.reshape(1, -1), answers_1S)[0] and follow_rules(answers_1S, size_of(answer))[0])


def grid(text: str) -> np.ndarray:
    return np.array([0 if character == "." else int(character) for character in text])


@needs_real
@pytest.mark.parametrize("name", built_by("build_sudoku_dataset"))
def test_same_bits_as_the_released_builder(name: str, tmp_path: Path) -> None:
    arguments = [*BUILT[name]["args"], "--source-dir", str(REAL), "--output-dir", str(tmp_path / "set")]
    build(parse(arguments))
    assert_same_bits(tmp_path / "set", name)
    assert read_split(tmp_path / "set", "train").metadata.vocab_size == 11


def test_symmetries_are_drawn_as_specified() -> None:
    """Repeats the exact order of the draws: guards the released bits without the real CSVs."""
    old = np.arange(81).reshape(9, 9) % 10
    theirs = np.random.RandomState(42)
    copies = transform(old.reshape(-1), random_symmetries(np.random.RandomState(42), 9, 20))
    for copy in copies:
        digits = np.concatenate([[0], theirs.permutation(np.arange(1, 10))])
        source = old.T if theirs.rand() < 0.5 else old
        rows, columns = (
            [3 * band + line for band in theirs.permutation(3) for line in theirs.permutation(3)] for _ in range(2)
        )
        new = [[digits[source[row, column]] for column in columns] for row in rows]
        np.testing.assert_array_equal(copy.reshape(9, 9), new)


@settings(max_examples=25, deadline=None)
@given(sizes, seeds)
def test_a_symmetric_copy_is_a_puzzle_with_the_symmetric_solution(size: int, seed: int) -> None:
    question_S, answer_S = random_puzzle(np.random.default_rng(seed), size)
    symmetries = random_symmetries(np.random.RandomState(seed), size, 3)
    for question, answer in zip(transform(question_S, symmetries), transform(answer_S, symmetries), strict=True):
        assert solves(answer, question)
        assert (question > 0).sum() == (question_S > 0).sum()
        assert count_solutions(question) == 1


@settings(max_examples=25, deadline=None)
@given(sizes, seeds)
def test_new_puzzles_have_one_solution_and_need_every_clue(size: int, seed: int) -> None:
    question_S, answer_S = random_puzzle(np.random.default_rng(seed), size)
    assert solves(answer_S, question_S)
    [solution] = solutions(question_S, 2)
    np.testing.assert_array_equal(solution, answer_S)
    for cell in np.flatnonzero(question_S):
        weaker = question_S.copy()
        weaker[cell] = 0
        assert count_solutions(weaker) == 2


def all_4x4() -> list[tuple[int, ...]]:
    """Every full 4x4 grid, by brute force: rows are permutations; columns and boxes are tested."""
    rows = list(permutations(range(1, 5)))
    tops = [(a, b) for a in rows for b in rows if len({*a[:2], *b[:2]}) == 4 == len({*a[2:], *b[2:]})]
    return [
        (*a, *b, *c, *d)
        for a, b in tops
        for c, d in tops
        if all(len(set(column)) == 4 for column in zip(a, b, c, d, strict=True))
    ]


ALL_4X4 = np.array(all_4x4())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4]), min_size=16, max_size=16))
def test_counting_solutions_agrees_with_brute_force(digits: list[int]) -> None:
    puzzle_S = np.array(digits)
    number = int(((puzzle_S == 0) | (puzzle_S == ALL_4X4)).all(axis=1).sum())
    assert count_solutions(puzzle_S, 1000) == number
    assert count_solutions(puzzle_S.reshape(4, 4), 2) == min(number, 2)


def test_there_are_288_grids_of_4x4() -> None:
    assert len(ALL_4X4) == count_solutions(np.zeros((4, 4), int), 1000) == 288


@needs_real
def test_improper_puzzles_have_more_than_one_solution() -> None:
    lines = (REAL / "more_than_one_solution.txt").read_text().split()
    improper = [grid(line) for line in lines if len(line) == 81 and set(line) <= set(".123456789")]
    assert len(improper) == 200
    assert all(count_solutions(puzzle_S) == 2 for puzzle_S in improper)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.integers(0, 10))
def test_clashes_are_pairs_of_equal_digits_that_see_each_other(size: int, seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.zeros((size, size), int)
    for _ in range(number):
        cells[tuple(rng.integers(size, size=2))] = rng.integers(1, size + 1)
    height, width = BOXES[size]
    wrong = set()
    for a in np.ndindex(size, size):
        for b in np.ndindex(size, size):
            box = a[0] // height == b[0] // height and a[1] // width == b[1] // width
            if a != b and cells[a] == cells[b] > 0 and (a[0] == b[0] or a[1] == b[1] or box):
                wrong.add(a[0] * size + a[1])
    assert clashes(cells).tolist() == clashes(cells.reshape(-1)).tolist() == sorted(wrong)
    if wrong:
        assert count_solutions(cells) == 0 and not solves(cells, cells)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (np.zeros((5, 5), int), r"shape \[5, 5\] is no Sudoku"),
        (np.zeros((2, 8), int), r"shape \[2, 8\] is no Sudoku"),
        (np.full((4, 4), 5), "digits 0 to 4, not 5 to 5"),
        (np.full(16, -1), "digits 0 to 4, not -1 to -1"),
    ],
)
def test_what_is_no_grid(cells: np.ndarray, sentence: str) -> None:
    for check in (clashes, count_solutions):
        with pytest.raises(ValueError, match=sentence):
            check(cells)


def test_generated_sets_are_distinct_and_reproducible(tmp_path: Path) -> None:
    arguments = "--source generate --size 4 --train-samples 60 --test-samples 40 --num-aug 3 --seed 5"
    for name in ("a", "b"):
        build(parse([*arguments.split(), "--output-dir", str(tmp_path / name)]))
    train, test = read_split(tmp_path / "a", "train"), read_split(tmp_path / "a", "test")
    assert train.inputs.shape == (240, 16) and test.inputs.shape == (40, 16)
    assert train.metadata.vocab_size == 6 and train.metadata.total_groups == 60
    assert set(np.unique(train.inputs)) == {1, 2, 3, 4, 5}
    questions = {row.tobytes() for row in train.inputs[::4].astype(np.uint8)}
    copies = {row.tobytes() for row in train.inputs.astype(np.uint8)}
    held_out = {row.tobytes() for row in test.inputs}
    assert len(questions) == 60 and len(held_out) == 40 and not copies & held_out
    for question_S, answer_S in zip(train.inputs, train.labels, strict=True):
        assert solves(answer_S - 1, question_S - 1)
    np.testing.assert_array_equal(read_split(tmp_path / "b", "train").inputs, train.inputs)
    np.testing.assert_array_equal(read_split(tmp_path / "b", "test").inputs, test.inputs)


CTRL_C = """
import os, signal, subprocess
import numpy as np
from dataset.sudoku import count_solutions, random_puzzle

rng = np.random.default_rng(0)
for again in range(2):
    subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}"])
    try:
        while True:
            random_puzzle(rng, 9)
    except KeyboardInterrupt:
        print("stopped", count_solutions(np.zeros((9, 9), int)))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal with sh")
def test_ctrl_c_stops_the_solver_which_would_catch_it_itself() -> None:
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped 2\n" * 2, "")


def test_generation_stops_where_no_more_puzzles_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset.build_sudoku_dataset.PATIENCE", 1)
    with pytest.raises(ValueError, match="new 4x4 puzzles; ask for fewer"):
        generate(10**9, 4, np.random.default_rng(0))


def test_more_puzzles_than_there_are_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--source", "generate", "--size", "4", "--output-dir", str(tmp_path / "set"), "--test-samples", "1000"]
    assert exit_code(main, [*words, "--train-samples", "84633"]) == 2
    assert capsys.readouterr().err == "error: --size 4: there are only 85,632 such puzzles, not 85,633\n"


def test_a_long_build_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    puzzles = generate(3, 4, np.random.default_rng(0))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("dataset.progress.SECONDS", 0.0)
    again = generate(3, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(again.questions_NS, puzzles.questions_NS)
    assert capsys.readouterr().err == "0 of 3 puzzles\n1 of 3 puzzles\n2 of 3 puzzles\n"


QUESTION = "...7.2..5....95.8.19..8..67..4...6....79...2.26...1......5......39.....8....784.."
ANSWER = "846712935372695184195483267984237651517964823263851749728549316439126578651378492"
HEADER = "source,question,answer,rating\n"
GOOD = f"x,{QUESTION},{ANSWER},7\n"
SWAPPED = ANSWER.translate(str.maketrans("12", "21"))


def puzzle_csv(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "train.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_a_csv_is_read(tmp_path: Path) -> None:
    rows = GOOD + "\r\n" + f'"y, z",{QUESTION.replace(".", "0")},{ANSWER},-3\r\n'
    file = puzzle_csv(tmp_path, b"\xef\xbb\xbf" + (HEADER + rows).encode())
    puzzles = read_csv(file)
    assert puzzles.questions_NS.dtype == np.uint8
    for question_S, answer_S in zip(*puzzles, strict=True):
        np.testing.assert_array_equal(question_S, grid(QUESTION))
        np.testing.assert_array_equal(answer_S, grid(ANSWER))
    assert [len(read_csv(file, least).questions_NS) for least in (-3, -2, 7)] == [2, 1, 1]
    assert augment(puzzles, 9, 0, np.random.RandomState(0)) is puzzles


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "train.csv: is empty"),
        (HEADER, "train.csv: holds no puzzle"),
        ("source,question,rating\n", "train.csv, line 1: has no column 'answer'"),
        (HEADER + GOOD + "x,1\n", "train.csv, line 3: has 2 columns instead of 4"),
        (HEADER + f"x,{QUESTION[1:]},{ANSWER},7\n", "line 2: the question has 80 characters instead of 81"),
        (HEADER + f"x,{QUESTION},{ANSWER}1,7\n", "line 2: the answer has 82 characters instead of 81"),
        (HEADER + f"x,{QUESTION[1:]}x,{ANSWER},7\n", "line 2: the question holds the character 'x'"),
        (HEADER + f"x,{QUESTION[1:]}²,{ANSWER},7\n", "line 2: the question holds the character '²'"),
        (HEADER + f"x,{QUESTION},{ANSWER[1:]}.,7\n", "line 2: the answer holds the character '.'"),
        (HEADER + GOOD * 2 + f"x,{QUESTION},{SWAPPED},7\n", "line 4: the answer contradicts the question"),
        (HEADER + GOOD + f"x,{'.' * 81},{'123456789' * 9},7\n", "line 3: the answer breaks the rules"),
        (f"x,{QUESTION},{ANSWER}\n", "line 1: has no column 'question' (or questions, puzzle, puzzles, quiz, "),
        (f"x,{QUESTION},{ANSWER}\n", f"sudoku, maze), but x, {QUESTION[:17]}..., {ANSWER[:17]}..."),
        (HEADER + f"x,{'1' + '.' * 15},{'1234341221434321'},7\n", "16 characters instead of 81 (--size 4 builds such"),
        (HEADER.encode("utf-16"), "train.csv: holds no puzzle"),
        (b"\x89PNG\r\n\x1a\n", "train.csv: is a PNG picture, not text"),
        ("version https://git-lfs.github.com/spec/v1\n", "train.csv: is a Git LFS pointer"),
        (HEADER.encode() + GOOD.encode() + b"\xff\xfe\n", "line 3: is not UTF-8 text"),
        (HEADER + f'"x"y,{QUESTION},{ANSWER},7\n', "line 2: ',' expected after"),
    ],
)
def test_faults_of_a_csv_are_named(
    content: str | bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    puzzle_csv(tmp_path, content)
    (tmp_path / "test.csv").write_text(HEADER + GOOD)
    assert exit_code(main, ["--source-dir", str(tmp_path), "--output-dir", str(tmp_path / "set")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path}") and sentence in message and message.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.csv", "train.csv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--num-aug -1", "--num-aug -1 is less than 0"),
        ("--seed -1", "--seed -1 is less than 0"),
        ("--seed 4294967296", "is not less than 2^32"),
        ("--subsample-size 0", "--subsample-size 0 is less than 1"),
        ("--source generate --train-samples 0", "--train-samples 0 is less than 1"),
        ("--source generate --min-difficulty 3", "--min-difficulty does not go with --source generate"),
        ("--size 4", "the question has 81 characters instead of 16 (--size 9 builds such puzzles)"),
        ("--min-difficulty 8", "train.csv: holds no puzzle with a rating of 8 or more"),
        ("--source-dir nowhere", "train.csv: no such file"),
    ],
)
def test_bad_options_are_named(
    arguments: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    puzzle_csv(tmp_path, HEADER + GOOD)
    source = [] if "generate" in arguments else ["--source-dir", str(tmp_path)]
    assert exit_code(main, [*source, *arguments.split(), "--output-dir", str(tmp_path / "set")]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_another_size_needs_puzzles_of_that_size() -> None:
    with pytest.raises(ValueError, match="--size 4 needs --source generate, or --source-dir"):
        build(parse(["--size", "4"]))


ZEROS, STARS = QUESTION.replace(".", "0"), QUESTION.replace(".", "*")


@pytest.mark.parametrize(
    "content",
    [
        f"quizzes,solutions\n{ZEROS},{ANSWER}\n",
        f'"unsolved","solved"\n"{ZEROS}","{ANSWER}"\n',
        f"puzzle,solution,clues,difficulty\n{QUESTION},{ANSWER},24,2.2\n",
        f"source, question, answer, rating\nx, {QUESTION}, {ANSWER}, 3\n",
        f"id;Puzzle;Solution\n1;{STARS};{ANSWER}\n",
        f"Question\tAnswer\n{STARS}\t{ANSWER}\n",
        f'question,answer\n"{" ".join(ZEROS)}",{ANSWER}\n',
        f"question,answer\n{QUESTION},{ANSWER}\n".encode("utf-16"),
        gzip.compress(f"question,answer\n{QUESTION},{ANSWER}\n".encode()),
    ],
)
def test_csvs_of_others_are_read(content: str | bytes, tmp_path: Path) -> None:
    """Other names of columns, delimiters, blanks and encodings; no rating, unless one is asked for."""
    [question_S], [answer_S] = read_csv(puzzle_csv(tmp_path, content))
    np.testing.assert_array_equal(question_S, grid(QUESTION))
    np.testing.assert_array_equal(answer_S, grid(ANSWER))


def test_ratings_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    spaced = puzzle_csv(tmp_path, HEADER.replace("rating", "rating ") + GOOD.replace(",7", ", 7 "))
    assert len(read_csv(spaced, 7).questions_NS) == 1
    for rating in ("7.5", ""):
        file = puzzle_csv(tmp_path, HEADER + f"x,{QUESTION},{ANSWER},{rating}\n")
        assert len(read_csv(file).questions_NS) == 1
        with pytest.raises(ValueError, match=f"line 2: the rating '{rating}' is not an integer"):
            read_csv(file, 3)
    with pytest.raises(ValueError, match="line 1: has no column 'rating', but question, answer"):
        read_csv(puzzle_csv(tmp_path, f"question,answer\n{QUESTION},{ANSWER}\n"), 3)


def test_small_puzzles_of_a_csv_and_what_they_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Test puzzles that are training puzzles, and puzzles with several solutions."""
    proper, several, other = "1..2.....13.....", "1...............", "134242132134...."
    answer = "1342421321343421"
    for name, questions in (("train", [proper, several]), ("test", [proper, other])):
        rows = "".join(f"{question},{answer}\n" for question in questions)
        (tmp_path / f"{name}.csv").write_text(f"question,answer\n{rows}")
    words = ["--source-dir", str(tmp_path), "--size", "4", "--output-dir", str(tmp_path / "set")]
    assert exit_code(main, words) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {tmp_path}/train.csv: 1 of 2 puzzles have several solutions, so a right answer may count as wrong",
        "warning: 1 of 2 test puzzles also stand in the training set",
    ]
    assert read_split(tmp_path / "set", "train").metadata.vocab_size == 6
