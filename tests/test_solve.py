"""solve.py on the command line: every exit code, every kind of input, JSON, frames and GIFs."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from conftest import ROOT, command, exit_code, only_run, start
from PIL import Image

import evaluate
import solve
from dataset import maze as maze_rules
from dataset.boards import Kind, Maze, Sudoku
from dataset.layout import puzzle_split, write_dataset
from dataset.sudoku import random_puzzle
from solving import Solver, shipped
from solving.answers import Answer, Trace
from solving.reading import Puzzle, read_from
from solving.verdict import EXIT_CODES, Verdict, verdicts
from solving.watch import frames, play

MAZE9 = ROOT / "tests" / "golden" / "checkpoints" / "eqr_maze9.pth"
NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"

FOUR_BY_FOUR = Sudoku(4)


@pytest.fixture(scope="module")
def puzzles() -> list[tuple[str, str]]:
    """4x4 Sudokus and their solutions, as text."""
    rng = np.random.default_rng(0)
    return [tuple(Sudoku(4).text(grid + 1) for grid in random_puzzle(rng, 4)) for _ in range(6)]


@pytest.fixture(scope="module")
def run(puzzles, tmp_path_factory) -> str:
    """A model trained for a few seconds on just those puzzles."""
    folder = tmp_path_factory.mktemp("learned")
    inputs, labels = (
        np.stack([Sudoku(4).tokens(text) for text in texts]).astype(np.uint8) for texts in zip(*puzzles, strict=True)
    )
    split = puzzle_split(inputs, labels, 6)
    write_dataset(folder / "data", {"train": split, "test": split}, ["<blank>"])
    words = ["train=quickstart", f"dataset.data_path={folder / 'data'}", f"checkpoint_path={folder / 'runs'}"]
    words += ["max_steps=300", "lr=1e-2", "lr_warmup_steps=20", "lr_min_ratio=0.05", "arch.halt_max_steps=16"]
    words += ["global_batch_size=16", "epochs=100000"]
    done = command("pretrain.py", *words, "eval_interval_steps=null", "checkpoint_interval_steps=null")
    assert done.returncode == 0, done.stderr
    return str(only_run(folder / "runs"))


@pytest.fixture
def maze() -> str:
    return Maze(9).text(np.load(MAZE9.parent / "maze9" / "test" / "all__inputs.npy")[0])


def told(capsys, *words: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)"""
    code = exit_code(solve.main, list(words))
    return code, *capsys.readouterr()


def test_a_puzzle_is_solved(run, puzzles, capsys):
    question, solution = puzzles[0]
    code, out, err = told(capsys, question, "--checkpoint", run)
    assert (code, err) == (0, "")
    *board, sentence = out.splitlines()
    assert "".join(board).replace(" ", "").replace("|", "").replace("-", "") == solution
    assert sentence.startswith("solved (checked by the rules); found in iteration ")
    code, out, err = told(capsys, question, "--checkpoint", run, "--all")
    assert (code, err, out.splitlines()[:-1]) == (0, "", board)
    for words in ("solved (checked by the rules); the answer ", " of 16, residual 0.", ", confidence "):
        assert words in out.splitlines()[-1]


def test_a_file_with_many(run, puzzles, tmp_path, capsys):
    file = tmp_path / "puzzles.txt"
    file.write_text("\n".join(question for question, _ in puzzles) + "\n")
    code, out, _ = told(capsys, str(file), "--checkpoint", run, "--breadth", "4", "--all")
    assert code == 0
    assert out.count("solved (checked by the rules)") == 6 and "4 of 4 starts converged" in out
    assert "puzzle 3 (line 3)\n" in out and out.endswith("6 puzzles: 6 solved\n")


def test_the_shipped_model_solves_what_is_hard_for_people(capsys):
    """Arto Inkala's puzzles of 2012 and 2010, and one with 17 clues: one start."""
    hard = ["8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..",
            "..53.....8......2..7..1.5..4....53...1..7...6..32...8..6.5....9..4....3......97..",
            "000000010400000000020000000000050407008000300001090000300400200050100000000806000"]  # fmt: skip
    for puzzle in hard:
        code, out, _ = told(capsys, puzzle, "--depth", "64")
        assert code == 0 and "solved (checked by the rules)" in out, out


def test_standard_input(run, puzzles):
    done = start("solve.py", "--checkpoint", run, "--json", given="\n".join(question for question, _ in puzzles)).end()
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == [answer for _, answer in puzzles]


class Lines:
    """Standard input that notes what has been printed by the time that each line is asked for."""

    def __init__(self, lines: list[str], printed: Callable[[], str]) -> None:
        self._lines, self._printed, self.asked = iter(lines), printed, list[str]()
        self.buffer = self

    def isatty(self) -> bool:
        return False

    def readline(self) -> bytes:
        self.asked.append(self._printed())
        return next(self._lines, "").encode()


def test_every_line_of_standard_input_is_answered_before_the_next_is_read(run, puzzles, capsys, monkeypatch):
    questions, answers = zip(*puzzles, strict=True)
    given = Lines([f"{question}\n" for question in questions[:3]] + ["2..q....."], lambda: capsys.readouterr().out)
    monkeypatch.setattr("sys.stdin", given)
    code, out, err = told(capsys, "--checkpoint", run, "--json")
    assert (code, out) == (1, "") and err.startswith("error: standard input: line 4 is ")
    before, *printed, after = given.asked
    assert before == after == "" and [json.loads(text)["answer"] for text in printed] == list(answers[:3])


def test_standard_input_gets_the_answers_that_its_puzzles_get_alone(run, puzzles, capsys, monkeypatch):
    alone = [told(capsys, question, "--checkpoint", run, "--json")[1] for question, _ in puzzles[:2]]
    monkeypatch.setattr("sys.stdin", Lines([f"{question}\n" for question, _ in puzzles[:2]], str))
    assert told(capsys, "--checkpoint", run, "--json") == (0, "".join(alone), "")


MAZE4 = "S...\n###.\n###G\n####"


def test_a_model_of_4x4_sudokus_takes_no_4x4_mazes(run, puzzles, tmp_path, capsys):
    """Both have 16 cells and 6 tokens."""
    code, out, err = told(capsys, MAZE4, "--checkpoint", run)
    assert (code, out) == (1, "") and err.endswith("was trained on 4x4 Sudokus, so it cannot answer 4x4 mazes\n")
    with pytest.raises(ValueError, match="cannot answer 4x4 mazes"):
        Solver.load(run).solve([MAZE4])
    kind = Maze(4)
    question_S = kind.tokens(MAZE4.replace("\n", ""))
    answer_S = np.where(question_S == maze_rules.OPEN, maze_rules.PATH, question_S)
    split = puzzle_split(question_S[None].astype(np.uint8), answer_S[None].astype(np.uint8), 6)
    write_dataset(tmp_path / "mazes", {"test": split}, ["<blank>"])
    words = [f"checkpoint='{run}'", f"dataset_data_path={tmp_path / 'mazes'}", f"eval_dir={tmp_path / 'eval'}"]
    assert exit_code(evaluate.main, words) == 1
    assert capsys.readouterr().err.endswith("was trained on 4x4 Sudokus, but these are 4x4 mazes\n")


def test_results_are_written_before_they_are_printed(run, puzzles, tmp_path, monkeypatch):
    """So a reader that went away takes nothing with it."""

    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        solve.run(solve.parse([puzzles[0][0], "--checkpoint", run, "--gif", str(tmp_path / "a.gif")]))
    assert (tmp_path / "a.gif").is_file()


def test_json_says_all(run, puzzles, capsys):
    question, solution = puzzles[0]
    code, out, _ = told(capsys, question, "--checkpoint", run, "--json", "--all", "--depth", "8", "--breadth", "2")
    facts = json.loads(out)
    assert code == 0 and facts["residual"] > 0 and 0 < facts["confidence"] < 1 and 1 <= facts["iterations"] < 8
    told_exactly = {"kind": "4x4 Sudoku", "puzzle": question, "status": "solved", "solutions": 1, "answer": solution}
    told_exactly |= {"engine": "torch", "valid": True, "fault": None, "depth": 8, "breadth": 2, "settled_starts": 2}
    assert told_exactly.items() <= facts.items()
    code, out, _ = told(capsys, "12.....3...4....", "--json")
    unsolvable = json.loads(out)
    assert unsolvable.keys() == facts.keys() and (code, unsolvable["answer"]) == (4, None)
    code, out, _ = told(capsys, question, "--checkpoint", run, "--json", "--depth", "1")
    assert json.loads(out)["residual"] is None


def test_an_answer_that_is_no_solution(maze, tmp_path, capsys):
    """The small golden model settles on cells that are no path."""
    file = tmp_path / "maze.txt"
    file.write_text(maze)
    code, out, _ = told(capsys, str(file), "--checkpoint", str(MAZE9), "--depth", "32", "--breadth", "2")
    assert code == 2 and "NOT solved, " in out and "NOT solved and nothing converged" not in out
    assert told(capsys, maze, "--checkpoint", str(MAZE9), "--json", "--depth", "32", "--breadth", "2")[0] == 2


def test_nothing_converged(maze, capsys):
    code, out, _ = told(capsys, maze, "--checkpoint", str(MAZE9), "--depth", "2", "--breadth", "2")
    assert code == 3 and "NOT solved and nothing converged, " in out and "0 of 2 starts converged" in out


def test_no_solution_and_several(run, puzzles, capsys):
    """Puzzles without a solution need no checkpoint."""
    code, out, _ = told(capsys, "12.....3...4....")
    assert code == 4 and out.startswith("1 2 | . .\n") and "no solution: no filling" in out
    code, out, _ = told(capsys, "#####\n#S# #\n#####\n#  G#\n#####")
    assert code == 4 and "no solution: no open way leads from S to G" in out
    code, out, _ = told(capsys, "1" + "." * 15, "--checkpoint", run)
    assert code == 4 and "several solutions" in out
    code, out, _ = told(capsys, f"{puzzles[0][0]}\n12.....3...4....", "--checkpoint", run)
    assert code == 4 and out.endswith("2 puzzles: 1 solved, 1 no solution\n")
    code, out, _ = told(capsys, f"12.....3...4....\n{puzzles[0][0]}\n{puzzles[1][0]}", "--checkpoint", run)
    assert code == 4 and out.endswith("3 puzzles: 1 no solution, 2 solved\n"), "answers go to their own puzzles"


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ["1...1..........."],
            "error: the clues clash: digits stand twice in a row, column or box at row 1 column 1, ",
        ),
        (["..x............."], "error: row 1 column 3 is 'x', but should be one of 1234, or . for a blank"),
        (["no/file.txt"], "error: there is no file no/file.txt"),
        (["puzzles/foo1"], "error: there is no file puzzles/foo1"),
        (["puzzles.txt"], "error: there is no file puzzles.txt"),
        (["hello"], "error: 'hello' is neither a file nor a puzzle: "),
        (["\udcff..............."], "error: row 1 column 1 is '\ufffd', but should be one of 1234"),
        (["." * 16, "--depth", "0"], "error: --depth and --breadth should be at least 1, not 0 and 1"),
        (["." * 16, "--json", "--watch"], "error: --json prints nothing but JSON"),
        (["." * 16, "--gif", "no/folder/a.gif"], "error: --gif no/folder/a.gif should be a file to write"),
        (["." * 16, "--gif", str(ROOT)], f"error: --gif {ROOT} should be a file to write, its"),
        (
            ["." * 16, "--gif", "board.png"],
            "error: --gif board.png should be a file to write, its name ending in .gif",
        ),
        (["/dev/null"], "error: /dev/null: there is no puzzle in it"),
        ([str(ROOT)], f"error: {ROOT} is a folder"),
        (["." * 16 + "\n" + "." * 16, "--gif", "a.gif"], "error: --gif shows one puzzle, but there are 2"),
        (["." * 16, "--checkpoint", "no/run"], "error: there is no checkpoint no/run"),
        (["." * 81, "--checkpoint", str(MAZE9)], f"error: {MAZE9} does not fit the model"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, capsys):
    code, out, err = told(capsys, *words)
    assert (code, out, err.count("\n")) == (1, "", 1) and err.startswith(sentence), err


def test_mistakes_in_options_do_not_look_like_wrong_answers(capsys):
    assert told(capsys, "--depht", "3")[0] == 1 and told(capsys, "." * 16, "--depth", "many")[0] == 1
    code, out, _ = told(capsys, "--help")
    assert code == 0 and "exit codes" in out


def test_a_file_is_named_where_it_is_wrong(tmp_path, capsys, monkeypatch):
    file = tmp_path / "puzzles.txt"
    file.write_bytes(b"2....4.3.......4\n\xff...............\n")
    code, _, err = told(capsys, str(file))
    assert code == 1 and f"error: {file}: the puzzle in line 2: row 1 column 1 is '\ufffd'" in err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "error: standard input: there is no puzzle" in told(capsys)[2]


@pytest.mark.parametrize("begin, end", [("", "\r\n"), ("\ufeff", "\n"), ("\ufeff", "\r\n\r\n")])
def test_files_of_other_systems(begin, end, tmp_path):
    file = tmp_path / "puzzles.txt"
    file.write_bytes(f"{begin}2....4.3.......4{end}{'.' * 16}{end}".encode())
    assert [puzzle.tokens_S[0] for puzzle in read_from(str(file))] == [3, 1]


def test_a_pipe_is_read_as_a_file():
    """As in the shell's <(...)."""
    reader, writer = os.pipe()
    with open(reader), open(writer, "w") as pipe:
        pipe.write(NINE)
        pipe.close()
        assert read_from(f"/dev/fd/{reader}")[0].kind == Sudoku(9)


def test_more_starts_than_memory_holds(run, puzzles, capsys):
    code, _, err = told(capsys, puzzles[0][0], "--checkpoint", run, "--breadth", str(10**15))
    assert (code, err) == (1, "error: there is not enough memory; give a smaller --breadth\n")


def test_a_terminal_without_input_asks_for_a_puzzle(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    code, _, err = told(capsys)
    assert code == 1 and "give a puzzle" in err
    monkeypatch.setattr("sys.stdin", None)  # as in the shell's <&-
    assert "give a puzzle" in told(capsys)[2]


@pytest.mark.parametrize("size, words", [(4, "quickstart.sh"), (6, "docs/solve.md"), (9, "sudoku/last.safetensors")])
def test_a_checkpoint_that_is_not_there(size, words, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match=f"{words}.*--checkpoint"):
        shipped.checkpoint_for(Sudoku(size))
    with pytest.raises(ValueError, match="maze_unique/last.safetensors.*eqr_maze_unique"):
        shipped.checkpoint_for(Maze(30))
    for size in (4, 9, 20):
        with pytest.raises(ValueError, match="no checkpoint for .*docs/solve.md"):
            shipped.checkpoint_for(Maze(size))
    file = tmp_path / "checkpoints" / "sudoku" / "last.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert shipped.checkpoint_for(Sudoku(9)) == file


def test_the_gif_has_a_picture_an_iteration(run, puzzles, maze, tmp_path, capsys):
    for words, seconds in (([puzzles[0][0], "--checkpoint", run], 6), ([maze, "--checkpoint", str(MAZE9)], 9)):
        file = tmp_path / "out.gif"
        told(capsys, *words, "--depth", str(seconds), "--all", "--gif", str(file))
        with Image.open(file) as image:
            assert image.n_frames == seconds + 1 and image.info["loop"] == 0


@pytest.mark.parametrize("error, code", [(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 130)])
def test_a_gif_that_is_cut_off_changes_nothing(error, code, run, puzzles, tmp_path, capsys, monkeypatch):
    def cut_off(self, file, *_, **__):
        file.write_bytes(b"GIF")
        raise error

    monkeypatch.setattr(Image.Image, "save", cut_off)
    (tmp_path / "old.gif").write_text("old")
    for name in ("old.gif", "new.gif"):
        assert told(capsys, puzzles[0][0], "--checkpoint", run, "--gif", str(tmp_path / name))[0] == code
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_gif_without_an_answer_is_not_written(run, tmp_path, capsys):
    code, _, err = told(capsys, "1234..1.4..2....", "--checkpoint", run, "--gif", str(tmp_path / "a.gif"))
    assert (code, err) == (4, f"no answer, so not written: {tmp_path / 'a.gif'}\n") and not list(tmp_path.iterdir())


def test_watching_without_a_terminal_prints_every_frame(run, puzzles, capsys):
    code, out, _ = told(capsys, puzzles[0][0], "--checkpoint", run, "--watch", "--depth", "5", "--all")
    assert code == 0 and "\x1b" not in out
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("iteration")] == [
        f"iteration {i} of 5" for i in range(6)
    ]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("rows, in_place", [(24, True), (4, False)])
def test_a_terminal_is_drawn_over_and_changes_are_highlighted(rows, in_place, monkeypatch):
    monkeypatch.setattr("solving.watch._SECONDS", 0)
    monkeypatch.setenv("LINES", str(rows))
    monkeypatch.setenv("COLUMNS", "40")
    puzzle_S = np.array([3] + [1] * 15)
    answers_TS = np.array([[3] + [2] * 15, [3] + [2] * 14 + [4]])
    out = Terminal()
    play(Sudoku(4), puzzle_S, Trace(answers_TS, np.array([np.nan, 0.5])), out)
    assert out.getvalue().count("\x1b[6A") == (2 if in_place else 0), "five lines of board and the caption"
    assert out.getvalue().count("\x1b[7m1\x1b[0m") == 15 and out.getvalue().count("\x1b[7m3\x1b[0m") == 1
    assert max(map(len, out.getvalue().split("\n")[5::6])) == len("iteration 2 of 2: 1 cell changed, residu") + len(
        "\x1b[K"
    )
    captions = [frame.caption for frame in frames(puzzle_S, Trace(answers_TS, np.array([np.nan, 0.5])))]
    assert captions[1:] == ["iteration 1 of 2: 15 cells changed", "iteration 2 of 2: 1 cell changed, residual 0.5000"]


def test_every_status_has_its_exit_code():
    puzzle_S = np.ones(16, int)
    answer = Answer(puzzle_S, 0.5, 0.9, start=0, iterations=3, settled_starts=1)

    def status(solutions: int, given: Answer | None, fault: str | None, kind: Kind = FOUR_BY_FOUR) -> str:
        return Verdict(kind, puzzle_S, solutions, given, fault, 16, 1).status

    assert status(1, answer, None) == "solved" and status(1, answer, "no") == "wrong"
    assert status(1, answer._replace(settled_starts=0), None) == "solved", "what keeps the rules is right"
    assert status(1, answer._replace(settled_starts=0), "no") == "not converged"
    assert status(2, answer, None) == "several solutions" and status(0, None, None) == "no solution"
    assert status(2, answer, None, Maze(4)) == "solved", "of several shortest paths any will do"
    assert list(EXIT_CODES.values()) == [0, 2, 3, 4, 4]


def test_no_model_is_loaded_for_what_has_no_solution():
    tokens_S = Sudoku(4).tokens("12.....3...4....")
    judged = list(verdicts([Puzzle(Sudoku(4), tokens_S, 1)] * 300, "no/such/checkpoint", 16, 1, False))
    assert len(judged) == 300 and {verdict.status for verdict in judged} == {"no solution"}


def test_help_and_mistakes_wait_for_no_heavy_import():
    check = (
        "import sys, solve; assert not {'torch', 'hydra', 'matplotlib', 'PIL', 'huggingface_hub'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
    heavy = "{'wandb', 'matplotlib', 'huggingface_hub'}"
    check = f"import sys, solving.solver; assert not {heavy} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


def test_a_reader_that_stops_reading_is_no_error(run, puzzles):
    words = f"{sys.executable} solve.py --checkpoint {run} --json | head -n 1"
    given = "\n".join(question for question, _ in puzzles * 20).encode()
    done = subprocess.run(["bash", "-c", words], input=given, capture_output=True, cwd=ROOT, timeout=120)
    assert done.stderr == b"" and json.loads(done.stdout)["status"] == "solved"


def test_nine_by_nine_is_told_apart():
    assert read_from(NINE)[0].kind == Sudoku(9)
