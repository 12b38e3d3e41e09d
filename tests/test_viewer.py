"""dataset/viewer.html in a headless Chromium: what it draws, paging, groups, faults; and that it needs no network.

Needs `pip install playwright` and a Chromium (`playwright install chromium`, or a system's own); skipped without.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from test_build_arc import arc_files

from dataset import build_arc_dataset, build_maze_unique_dataset, build_sudoku_dataset
from dataset.arc import SIDE
from dataset.layout import Split, read_split
from dataset.sudoku import BOXES

VIEWER = ROOT / "dataset/viewer.html"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARC_COLOURS = "#000000 #0074d9 #ff4136 #2ecc40 #ffdc00 #aaaaaa #f012be #ff851b #7fdbff #870c25".split()
READ_BOARDS = """() => [...document.querySelectorAll(".example svg")].map(svg =>
    [...svg.querySelectorAll("rect")].map(rect => ({
        row: Number(rect.getAttribute("y")), column: Number(rect.getAttribute("x")),
        look: rect.getAttribute("class"), fill: getComputedStyle(rect).fill,
        text: rect.nextSibling.tagName === "text" ? rect.nextSibling.textContent : "",
    })))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    reason = "needs playwright, a browser's remote control (pip install playwright)"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as control:
        found = [control.chromium.executable_path, *map(shutil.which, CHROMIUMS)]
        path = next((path for path in found if path and Path(path).exists()), None)
        if path is None:
            pytest.skip("needs a Chromium (playwright install chromium)")
        chromium = control.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """The page, opened from disk. The test fails if the console is not empty or anything else is loaded."""
    opened = browser.new_page()
    said: list[str] = []
    loaded: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: loaded.append(request.url))
    opened.set_default_timeout(10_000)
    opened.goto(VIEWER.as_uri())
    yield opened
    opened.close()
    assert said == []
    assert loaded == [VIEWER.as_uri()]


def pick(page: Any, folder: Path) -> None:
    page.set_input_files("#folder", folder)


def shows(page: Any, sentence: str) -> None:
    """Waits until the page shows this sentence."""
    too_late = pytest.importorskip("playwright.sync_api").TimeoutError
    script = "text => document.getElementById('where').textContent === text"
    try:
        page.wait_for_function(script, arg=sentence)
    except too_late as error:
        said = [page.text_content(f"#{part}") for part in ("where", "fault")]
        raise AssertionError(f"the page says {said} instead of {sentence!r}") from error


def fault(page: Any) -> str:
    return page.locator("#fault:visible").text_content()


def enter(page: Any, field: str, text: str) -> None:
    page.fill(field, text)
    page.press(field, "Enter")


def grids(page: Any, key: str) -> list[np.ndarray]:
    """The cells of each board of the page, [rows, columns]."""
    boards = []
    for cells in page.evaluate(READ_BOARDS):
        shape = [max(cell[axis] for cell in cells) + 1 for axis in ("row", "column")]
        board = np.full(shape, "missing", dtype=object)
        for cell in cells:
            assert board[cell["row"], cell["column"]] == "missing"
            board[cell["row"], cell["column"]] = cell[key]
        boards.append(board)
    return boards


def pairs(split: Split) -> list[np.ndarray]:
    """The boards of a split's examples, in the order of the page."""
    side = isqrt(split.metadata.seq_len)
    return list(np.stack([split.inputs, split.labels], axis=1).reshape(-1, side, side))


def every_page(page: Any, examples: int, key: str) -> list[np.ndarray]:
    """The boards of all pages, six examples each."""
    boards = []
    for first in range(0, examples, 6):
        shows(page, f"Examples {first} to {min(first + 6, examples) - 1} of 0 to {examples - 1}")
        boards += grids(page, key)
        page.keyboard.press("ArrowRight")
    return boards


def sudokus(folder: Path, size: int = 4, copies: int = 3) -> Path:
    words = f"--source generate --size {size} --train-samples 5 --test-samples 2 --num-aug {copies - 1}"
    options = build_sudoku_dataset.parse([*words.split(), "--output-dir", str(folder / "set")])
    build_sudoku_dataset.build(options)
    return folder / "set"


def test_needs_nothing_from_elsewhere() -> None:
    text = VIEWER.read_text(encoding="utf-8")
    outside = r"//\w[\w-]*\.\w|\b(?:src|href) *=|url\(|@import|import\s*[({*]|fetch\(|XMLHttp|WebSocket"
    assert not re.search(outside, text)
    assert "default-src 'none'" in text, "the browser itself must refuse to load anything"


@pytest.mark.parametrize("size", sorted(BOXES))
def test_sudoku(size: int, page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path, size)
    split = read_split(folder, "train")
    pick(page, folder)
    drawn = every_page(page, 15, "text")
    for board, digits in zip(drawn, pairs(split), strict=True):
        assert board.tolist() == [[str(digit - 1) if digit > 1 else "" for digit in row] for row in digits]
    counts = f"({size * size} cells, {size + 2} tokens): 15 examples of 15 puzzles in 5 groups"
    assert page.text_content("#task") == f"Sudoku {size}×{size} {counts}"
    page.keyboard.press("Home")
    looks = every_page(page, 15, "look")
    for question, answer, clues in zip(looks[::2], looks[1::2], pairs(split)[::2], strict=True):
        assert ((question == "clue") == (clues > 1)).all() and ((question == "blank") == (clues == 1)).all()
        assert ((answer == "clue") == (clues > 1)).all() and ((answer == "filled") == (clues == 1)).all()
    rows, columns = BOXES[size]
    thick = page.locator(".example path.thick").first.get_attribute("d")
    wanted = [f"M0 {n}L{size} {n}" for n in range(0, size + 1, rows)]
    wanted += [f"M{n} 0L{n} {size}" for n in range(0, size + 1, columns)]
    assert sorted(re.findall(r"M[^M]*", thick)) == sorted(wanted)


@pytest.mark.parametrize(("size", "mode"), [(7, "perfect"), (4, "random")])  # 4x4 mazes count like 4x4 Sudokus
def test_maze(size: int, mode: str, page: Any, tmp_path: Path) -> None:
    words = f"--grid-size {size} --maze-mode {mode} --train-samples 7 --test-samples 1 --min-path-length 2"
    build = build_maze_unique_dataset
    build.build(build.parse([*words.split(), "--output-dir", str(tmp_path / "set")]))
    split = read_split(tmp_path / "set", "train")
    pick(page, tmp_path / "set")
    looks = every_page(page, 7, "look")
    names = ["", "wall", "open", "start", "goal", "path"]
    for board, tokens in zip(looks, pairs(split), strict=True):
        assert board.tolist() == [[names[token] for token in row] for row in tokens]
    assert page.text_content("#task").startswith(f"Maze {size}×{size} ({size * size} cells, 6 tokens)")
    page.keyboard.press("Home")
    shows(page, "Examples 0 to 5 of 0 to 6")
    [question, answer] = page.locator("figcaption").all_text_contents()[:2]
    assert [question, answer] == ["Question", f"Answer: a path of {(split.labels[0] == 5).sum() + 1} steps"]


def test_arc(page: Any, tmp_path: Path) -> None:
    build_arc_dataset.build(build_arc_dataset.parse(arc_files(tmp_path)))
    split = read_split(tmp_path / "set", "train")
    names = json.loads((tmp_path / "set/identifiers.json").read_text())
    pick(page, tmp_path / "set")
    shows(page, "Examples 0 to 5 of 0 to 247")
    page.select_option("#size", "24")
    enter(page, "#group", "b")
    shows(page, "Examples 62 to 85 of 62 to 154 of group 1, which has 31 puzzles")

    fills = {f"rgb({', '.join(str(int(c[n : n + 2], 16)) for n in (1, 3, 5))})": i for i, c in enumerate(ARC_COLOURS)}
    wanted = []
    for tokens in pairs(split)[2 * 62 : 2 * 86]:
        rows, columns = np.nonzero(tokens > 1)
        wanted.append(tokens[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(int) - 2)
    for board, colours in zip(grids(page, "fill"), wanted, strict=True):
        assert [[fills[fill] for fill in row] for row in board] == colours.tolist()
    page.check("#numbers")
    page.wait_for_selector(".example text")
    assert [board.tolist() for board in grids(page, "text")] == [colours.astype(str).tolist() for colours in wanted]

    shown = page.locator(".puzzle code").all_text_contents()
    assert shown == names[32:40] and len(set(shown)) == 8, "three examples a puzzle"
    for line, name in zip(page.locator(".name").all_text_contents()[1:], shown[1:], strict=True):
        turned, colours = line.split(name)[1].strip().split("; colours ")
        assert turned and [f"{a}→{b}" for a, b in enumerate(name[-10:]) if a != int(b)] == colours.split()
    captions = page.locator("figcaption").all_text_contents()
    for example in range(24):
        row, column = np.argwhere(split.inputs[62 + example].reshape(SIDE, SIDE) > 1)[0]
        place = f" at row {row}, column {column}" if row or column else ""
        assert captions[2 * example] == f"Question: 1×2{place}" or "2×1" in captions[2 * example]
        assert captions[2 * example].endswith(place)

    page.select_option("#split", "set/test")
    shows(page, "Examples 0 to 23 of 0 to 61")
    enter(page, "#group", "a")
    assert fault(page) == "The puzzle a is not in this split."
    enter(page, "#group", names[70])
    shows(page, "Examples 14 to 37 of 0 to 61 of group 0, which has 31 puzzles")
    assert page.locator(".puzzle code").first.text_content() == names[70]


def test_pages_and_groups(page: Any, tmp_path: Path) -> None:
    pick(page, sudokus(tmp_path, copies=8))
    shows(page, "Examples 0 to 5 of 0 to 39")
    assert page.locator("#before").is_disabled() and page.locator("#after").is_enabled()
    page.click("#after")
    shows(page, "Examples 6 to 11 of 0 to 39")
    page.keyboard.press("ArrowLeft")
    shows(page, "Examples 0 to 5 of 0 to 39")
    page.keyboard.press("End")
    shows(page, "Examples 36 to 39 of 0 to 39")
    assert page.locator("#after").is_disabled()
    enter(page, "#group", "2")
    shows(page, "Examples 16 to 21 of 16 to 23 of group 2, which has 8 puzzles")
    headings = page.locator(".puzzle h2").all_text_contents()
    assert headings == [f"Puzzle {16 + n}, {n + 1} of 8 in group 2" for n in range(6)]
    page.press("#group", "ArrowRight")  # moves the cursor in the text, not the pages
    page.locator("#group").blur()
    page.keyboard.press("ArrowRight")
    shows(page, "Examples 22 to 23 of 16 to 23 of group 2, which has 8 puzzles")
    page.keyboard.press("Shift+ArrowRight")
    shows(page, "Examples 24 to 29 of 24 to 31 of group 3, which has 8 puzzles")
    page.click("#group-after")
    shows(page, "Examples 32 to 37 of 32 to 39 of group 4, which has 8 puzzles")
    assert page.locator("#group-after").is_disabled()
    page.keyboard.press("Shift+ArrowRight")
    page.click("#group-before")
    shows(page, "Examples 24 to 29 of 24 to 31 of group 3, which has 8 puzzles")
    page.click("#group-all")
    shows(page, "Examples 24 to 29 of 0 to 39")
    enter(page, "#example", "39")
    shows(page, "Examples 39 to 39 of 0 to 39")
    page.select_option("#size", "1")
    page.keyboard.press("Home")
    enter(page, "#example", "7")
    shows(page, "Examples 7 to 7 of 0 to 39")
    assert len(grids(page, "text")) == 2
    for field, text, sentence in [
        ("#group", "5", "There is no group and no puzzle called 5; groups are 0 to 4."),
        ("#example", "40", "There is no example 40; examples are 0 to 39."),
        ("#example", "x", "There is no example x; examples are 0 to 39."),
    ]:
        enter(page, field, text)
        assert fault(page) == sentence
    enter(page, "#group", "0")
    shows(page, "Examples 0 to 0 of 0 to 7 of group 0, which has 8 puzzles")
    assert page.locator("#fault").is_hidden()


def test_late_answers_to_earlier_questions_are_dropped(page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path, copies=8)
    pick(page, folder)
    shows(page, "Examples 0 to 5 of 0 to 39")
    page.evaluate("""() => {  // each read takes less time than the one before
        const read = Blob.prototype.arrayBuffer;
        let wait = 500;
        Blob.prototype.arrayBuffer = async function () {
            await new Promise(go => setTimeout(go, wait -= 50));
            return read.call(this);
        };
        for (const id of ["after", "after", "group-after", "after"]) document.getElementById(id).click();
    }""")
    sentence = "Examples 14 to 15 of 8 to 15 of group 1, which has 8 puzzles"
    shows(page, sentence)
    page.wait_for_timeout(600)
    shows(page, sentence)
    for board, digits in zip(grids(page, "text"), pairs(read_split(folder, "train"))[28:32], strict=True):
        assert board.tolist() == [[str(digit - 1) if digit > 1 else "" for digit in row] for row in digits]


def test_a_split_alone_has_no_names(page: Any, tmp_path: Path) -> None:
    pick(page, sudokus(tmp_path) / "test")
    shows(page, "Examples 0 to 1 of 0 to 1")
    assert "identifiers.json, which stands beside the splits, was not picked" in page.locator("#note").text_content()
    assert page.locator(".name").all_text_contents() == ["identifier 0 "] * 2


def test_a_task_of_ones_own(page: Any, tiny_data: Path) -> None:
    split = read_split(tiny_data, "train")
    pick(page, tiny_data)
    shows(page, "Examples 0 to 5 of 0 to 39")
    assert page.text_content("#task").startswith("No task that this page knows")
    drawn = [[text for text in board.reshape(-1) if text != "missing"] for board in grids(page, "text")]
    wanted = np.stack([split.inputs, split.labels], axis=1).reshape(-1, 8)[:12]
    assert drawn == wanted.astype(str).tolist()
    names = [["<blank>", "a", "b"][identifier] for identifier in split.puzzle_identifiers[:6]]
    assert page.locator(".puzzle code").all_text_contents() == names


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16])
def test_integers_of_other_widths(dtype: type, page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path)
    for file in folder.glob("train/*.npy"):
        np.save(file, np.load(file).astype(dtype))
    pick(page, folder)
    drawn = every_page(page, 15, "text")
    wanted = pairs(read_split(folder, "train"))
    assert [(board != "").tolist() for board in drawn] == [(digits > 1).tolist() for digits in wanted]


def test_a_folder_can_be_dropped(page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path)
    place = page.locator("#drop").bounding_box()
    control = page.context.new_cdp_session(page)
    for name in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        control.send("Input.dispatchDragEvent", {"type": name, "x": place["x"] + 5, "y": place["y"] + 5, "data": data})
    shows(page, "Examples 0 to 5 of 0 to 14")
    assert page.locator(".puzzle code").first.text_content() == "<blank>"


def test_gigabytes_open_at_once(page: Any, tmp_path: Path) -> None:
    """Nine sparse gigabytes. Only the last example is written."""
    puzzles, examples = 1000, 5_000_000
    folder = tmp_path / "big"
    folder.mkdir()
    for name in ("inputs", "labels"):
        with (folder / f"all__{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (examples, 900)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + examples * 900)
            file.seek(-900, 2)
            file.write(bytes([5, 1]))
    np.save(folder / "all__puzzle_identifiers.npy", np.zeros(puzzles, np.int32))
    np.save(folder / "all__puzzle_indices.npy", np.linspace(0, examples, puzzles + 1).astype(np.int32))
    np.save(folder / "all__group_indices.npy", np.arange(puzzles + 1, dtype=np.int32))
    numbers = dict.fromkeys(("pad_id", "ignore_label_id", "blank_identifier_id"), 0)
    numbers |= {"vocab_size": 12, "seq_len": 900, "num_puzzle_identifiers": 1, "total_groups": puzzles}
    (folder / "dataset.json").write_text(json.dumps(numbers | {"mean_puzzle_examples": 5000.0, "sets": ["all"]}))
    start = time.perf_counter()
    pick(page, folder)
    shows(page, "Examples 0 to 5 of 0 to 4999999")
    enter(page, "#example", "4999999")
    shows(page, "Examples 4999999 to 4999999 of 0 to 4999999")
    assert time.perf_counter() - start < 5
    assert [board.tolist() for board in grids(page, "look")] == [[["arc c3"]]] * 2


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def resaved(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda file: np.save(file, change(np.load(file)))


def rewritten(**fields: object) -> Callable[[Path], Any]:
    return lambda file: file.write_text(json.dumps(json.loads(file.read_text()) | fields))


NPY = "all__inputs.npy"
FAULTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("all__labels.npy", Path.unlink, "no such file; a data set is built by `python -m dataset.build_NAME_dataset`"),
    (NPY, cut_off, "has 361 bytes instead of 368; it may be cut off"),
    (NPY, lambda file: file.write_bytes(b"PK\3\4"), "is no .npy file"),
    (NPY, lambda file: file.write_bytes(b"\x93NUMPY\1\0\x80\0{'descr'"), "has no complete .npy header"),
    (NPY, resaved(lambda array: array.astype(np.float32)), "holds <f4 instead of integers"),
    (NPY, resaved(lambda array: array.astype(">i4")), "holds >i4 instead of integers"),
    (NPY, resaved(np.asfortranarray), "is stored in Fortran order instead of C order"),
    (NPY, resaved(lambda array: array[:-1]), "all__labels.npy: has shape [15,16] instead of [14,16]"),
    (NPY, resaved(lambda array: array + np.array(9, array.dtype)), f"set/train/{NPY}: example 0 has the token 1"),
    ("all__puzzle_identifiers.npy", resaved(lambda array: array + 3), "has the value 3, outside 0 to 0"),
    ("all__puzzle_indices.npy", resaved(lambda array: array[::-1].copy()), "starts at 15 instead of 0"),
    ("all__puzzle_indices.npy", resaved(lambda array: array % 15), "does not rise from entry to entry"),
    ("all__group_indices.npy", resaved(lambda array: array * 2), "ends at 30 instead of 15"),
    ("dataset.json", lambda file: file.write_text("{"), "is not JSON"),
    ("dataset.json", rewritten(seq_len=None), "seq_len is missing or not an integer"),
    ("dataset.json", rewritten(sets=["a", "b"]), 'sets is ["a","b"] instead of ["all"]'),
    ("../identifiers.json", lambda file: file.write_text("[]"), "is no list of the 1 names"),
]


@pytest.mark.parametrize(("name", "break_it", "sentence"), FAULTS, ids=[sentence for *_, sentence in FAULTS])
def test_faults_are_named(name: str, break_it: Callable[[Path], Any], sentence: str, page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path)
    for file in folder.glob("train/*puts.npy"):
        np.save(file, np.load(file).astype(np.uint8))  # 128 bytes of header, 15 x 16 of tokens
    break_it(folder / "train" / name)
    pick(page, folder)
    said = page.locator(".fault:visible").first.text_content()
    assert sentence in said and said.startswith("set/")
    page.select_option("#split", "set/test")
    if "identifiers.json" not in name:  # the other split is still fine
        shows(page, "Examples 0 to 1 of 0 to 1")
        assert page.locator(".fault:visible").count() == 0


def test_a_folder_that_is_no_data_set(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/notes.txt").write_text("no data")
    pick(page, tmp_path / "notes")
    assert fault(page).startswith("There is no dataset.json in what was picked; pick the folder of a data set")
    pick(page, sudokus(tmp_path))
    shows(page, "Examples 0 to 5 of 0 to 14")


def test_files_that_change_while_they_are_shown(page: Any, tmp_path: Path) -> None:
    folder = sudokus(tmp_path)
    pick(page, folder)
    shows(page, "Examples 0 to 5 of 0 to 14")
    shutil.rmtree(folder)
    page.click("#after")
    assert "could not be read; if it was built anew, pick the folder again" in fault(page)
