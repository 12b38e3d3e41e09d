"""Puzzles as text, the rules, and the kinds of boards in data sets."""

import itertools

import numpy as np
import pytest
from conftest import ROOT

from dataset.boards import Maze, Sudoku, kind_of
from dataset.build_maze_unique_dataset import mazes, parse
from dataset.layout import read_split
from dataset.maze import GOAL, OPEN, PATH, START, WALL, is_valid_answer
from dataset.sudoku import random_puzzle
from solving.reading import read, read_each

NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
FOUR = "2....4.3.......4"
MAZE = "#####\n#S  #\n# # #\n#  G#\n#####"


@pytest.mark.parametrize("size", [4, 6, 9])
def test_sudokus_survive_text(size):
    puzzle_S, _ = random_puzzle(np.random.default_rng(0), size)
    text = Sudoku(size).text(puzzle_S + 1)
    as_rows = "\n".join(text[i : i + size] for i in range(0, size * size, size))
    for written in (text, text.replace(".", "0"), as_rows, f" {text}\r\n"):
        [found] = read(written)
        assert found.kind == Sudoku(size) and (found.tokens_S == puzzle_S + 1).all()


@pytest.mark.parametrize("size", [5, 9, 30])
def test_mazes_survive_text(size):
    options = parse(["--grid-size", str(size), "--min-path-length", "2", "--max-path-length", "4"])
    questions = np.stack([question_S for question_S, _ in itertools.islice(mazes(options), 3)])
    texts = [Maze(size).text(question_S) for question_S in questions]
    for written in ("\n\n".join(texts), "\n\n\n".join(texts).replace(" ", ".") + "\n"):
        found = read(written)
        assert [puzzle.kind for puzzle in found] == [Maze(size)] * 3
        assert (np.stack([puzzle.tokens_S for puzzle in found]) == questions).all()
    assert [found.line for found in read("\n\n".join(texts))] == [1, size + 2, 2 * size + 3]
    one_a_line = read("\n".join(text.replace("\n", "") for text in texts))
    assert (np.stack([puzzle.tokens_S for puzzle in one_a_line]) == questions).all()


def test_a_row_of_spaces_belongs_to_its_maze():
    [found] = read("S  \n   \n##G")
    assert found.tokens_S.tolist() == [START, OPEN, OPEN, OPEN, OPEN, OPEN, WALL, WALL, GOAL]


def test_many_puzzles_and_their_lines():
    found = read(f"{FOUR}\n{FOUR}\n\n2...\n.4.3\n....\n...4\n\n{FOUR}")
    assert [puzzle.line for puzzle in found] == [1, 2, 4, 9]
    assert len({puzzle.tokens_S.tobytes() for puzzle in found}) == 1


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["no puzzle"]),
        ("\n\n", ["no puzzle"]),
        (NINE[:-1], ["80 characters", "16, 36 or 81"]),
        (NINE[:10] + "x" + NINE[11:], ["row 2 column 2", "'x'", "123456789", "."]),
        (FOUR[:-1] + "5", ["row 4 column 4", "'5'", "1234"]),
        (NINE[:2] + "5" + NINE[3:], ["clash", "row 1 column 1, row 1 column 3"]),
        (f"{FOUR}\n1...1...........", ["puzzle in line 2", "clash", "row 1 column 1, row 2 column 1"]),
        (f"{FOUR}\n\n{NINE}", ["line 3 is a 9x9 Sudoku", "line 1 a 4x4 Sudoku"]),
        (f"{FOUR}\n{NINE[:-1]}", ["line 2 has 80 characters"]),
        (MAZE.replace("G", " "), ["one S", "1 and 0"]),
        (MAZE.replace("G", "S"), ["one S", "2 and 0"]),
        (MAZE.replace("G", "?"), ["row 4 column 4", "'?'", "# for a wall"]),
        (MAZE.replace("# # #", "# #"), ["line 3 has 3 characters", "5 lines"]),
        (MAZE + "\n#####", ["line 1 has 5 characters", "6 lines"]),
    ],
)
def test_a_mistake_is_one_sentence_that_says_where(text, words):
    with pytest.raises(ValueError) as error:
        read(text)
    sentence = str(error.value)
    assert "\n" not in sentence and all(word in sentence for word in words), sentence


def test_texts_hold_one_puzzle_each():
    kind, tokens_NS = read_each([FOUR, FOUR])
    assert kind == Sudoku(4) and tokens_NS.shape == (2, 16)
    for texts, words in (
        ([FOUR, f"{FOUR}\n{FOUR}"], "puzzle 2 is 2 puzzles"),
        ([FOUR, NINE], "puzzle 2 is a 9x9 Sudoku"),
        ([FOUR, "1"], "puzzle 2: there is no puzzle"),
        ([], "no puzzles"),
    ):
        with pytest.raises(ValueError, match=words):
            read_each(texts)


def test_the_number_of_solutions():
    sudoku = Sudoku(4)
    for text, count in ((FOUR, 1), (FOUR[:-2] + "24", 0), ("." * 16, 2)):
        assert sudoku.solutions(read(text)[0].tokens_S) == count
    for text, count in (
        (MAZE, 2),
        (MAZE.replace("#  G", "## G"), 1),
        (MAZE.replace("  G", "##G").replace("# # #", "# ###"), 0),
    ):
        assert Maze(5).solutions(read(text)[0].tokens_S) == count, text


def test_what_the_rules_hold_against_a_sudoku():
    puzzle_S, solution_S = random_puzzle(np.random.default_rng(1), 4)
    kind, puzzle_S, solution_S = Sudoku(4), puzzle_S + 1, solution_S + 1
    clue, blank = np.flatnonzero(puzzle_S > 1)[0], np.flatnonzero(puzzle_S == 1)[0]
    assert kind.fault(puzzle_S, solution_S) is None
    for place, token, words in ((clue, 6, "no digit"), (blank, 1, "no digit"), (blank, 0, "no digit")):
        wrong_S = solution_S.copy()
        wrong_S[place] = token
        assert words in kind.fault(puzzle_S, wrong_S)
    assert "changes clues" in kind.fault(puzzle_S, (solution_S - 1) % 4 + 2)  # a valid grid, of another puzzle
    wrong_S = solution_S.copy()
    wrong_S[blank] = next(token for token in range(2, 6) if token != solution_S[blank])
    assert "stand twice" in kind.fault(puzzle_S, wrong_S)


def test_what_the_rules_hold_against_a_maze():
    kind = Maze(5)
    [(_, question_S, _)] = read(MAZE)
    answers = {
        "#####\n#Soo#\n# #o#\n#  G#\n#####": None,
        "#####\n#S  #\n#o# #\n#ooG#\n#####": None,
        "#####\n#S  #\n#o# #\n#o G#\n#####": "do not lead",
        "#####\n#S  #\n# # #\n#  G#\n#####": "do not lead",
        "#####\n#Soo#\n#o#o#\n#ooG#\n#####": "6 cells are marked, but a shortest path from S to G has 3",
        "#####\n#So##\n# #o#\n#  G#\n#####": "changes the maze at row 2 column 4",
        "#####\n#Soo#\n# oo#\n#  G#\n#####": "changes the maze at row 3 column 3",
        "#####\n#Soo#\n# #o#\n#  o#\n#####": "changes the maze at row 4 column 4",
    }
    for text, fault in answers.items():
        answer_S = np.array(["?# SGo".index(character) for character in text.replace("\n", "")])
        found = kind.fault(question_S, answer_S)
        assert (found is None) == (fault is None) == is_valid_answer(question_S, answer_S), text
        assert fault is None or fault in found
    assert PATH == 5 and kind.text(answer_S) == text


def test_boards_are_drawn():
    assert Sudoku(6).drawn(np.full(36, 1)).split("\n")[:3] == [". . . | . . .", ". . . | . . .", "-" * 13]
    assert Sudoku(4).drawn(np.arange(16)).startswith("? . | 1 2\n3 4 | ? ?\n---------\n")
    assert Maze(2).drawn(np.array([1, 2, 3, 0]), lambda place, c: f"<{c}>" if place == 2 else c) == "# \n<S>?"


def test_a_data_set_tells_its_kind_of_boards():
    mazes = read_split(ROOT / "tests/golden/checkpoints/maze9", "test")
    assert kind_of(mazes.inputs, mazes.labels, mazes.metadata.vocab_size) == Maze(9)
    assert kind_of(mazes.inputs, mazes.inputs, mazes.metadata.vocab_size) == Maze(9), "9x9 Sudokus have more tokens"
    for boards_NS, vocab_size in ((np.ones((3, 16), int), 12), (np.ones((3, 8), int), 6), (np.ones((0, 81), int), 11)):
        assert kind_of(boards_NS, boards_NS, vocab_size) is None
    sudokus = [random_puzzle(np.random.default_rng(0), 9) for _ in range(2)]
    assert kind_of(*(np.stack(boards) + 1 for boards in zip(*sudokus, strict=True)), 11) == Sudoku(9)


def test_the_first_answer_tells_4x4_sudokus_and_mazes_apart():
    """Both have 6 tokens, and a Sudoku with one 2 and one 3 looks like a maze with its S and G."""
    sudoku_S, solution_S = Sudoku(4).tokens("21.....3........"), Sudoku(4).tokens("2143432112343412")
    assert kind_of(sudoku_S[None], solution_S[None], 6) == Sudoku(4)
    maze_S = Maze(4).tokens("S...###.###G####")
    path_S = np.where(maze_S == OPEN, PATH, maze_S)
    assert kind_of(maze_S[None], path_S[None], 6) == Maze(4)
