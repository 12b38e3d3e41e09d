"""Damages files at random, and reads them as the programs do: python -m tests.fuzz --mutations 3000 [--seed 1]

What holds, or the campaign names the mutation:

- a damaged file is one sentence, or it is read: no traceback, and nothing that a terminal obeys;
- where there is a checksum, what is read is what was written;
- it takes at most SECONDS of a core, and MEMORY.

A mutation is a function of (seed, number): `python -m tests.fuzz --seed 1 --only 77` makes one again.
"""

import argparse
import contextlib
import gc
import hashlib
import io
import json
import math
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from conftest import ALONE, CPU, TINY, exit_code, header_and_tensors, metrics_of, only_run, results_of, tiny_split  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import evaluate  # noqa: E402
import pretrain  # noqa: E402
from config.command import command, printable  # noqa: E402
from config.load import load_eval  # noqa: E402
from dataset.arc import IDENTITY, Example, Task, task_fields  # noqa: E402
from dataset.layout import write_dataset  # noqa: E402
from dataset.puzzles import Puzzles, TrainingBatches  # noqa: E402
from evaluation import by_group, merge  # noqa: E402
from evaluation.drawing import curves, page, pictures  # noqa: E402
from evaluation.drawing.sample import config_of  # noqa: E402
from evaluation.observers.arc import Votes  # noqa: E402
from evaluation.settings import Settings  # noqa: E402
from evaluation.units import evaluate as evaluated  # noqa: E402
from reproduction.record import record  # noqa: E402
from runtime import released  # noqa: E402
from runtime.load import build_for_evaluation, load_model  # noqa: E402
from runtime.run_log import read_metrics  # noqa: E402
from solving.reading import read_from  # noqa: E402

SECONDS, MEMORY = 20.0, 2**30
DEEP = "[" * 100_000
PUZZLES = "\n".join(["53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"] * 2) + "\n"


# -- how files are damaged ------------------------------------------------------------------------------------


def in_bytes(rng: random.Random, content: bytes) -> bytes:
    """Some bytes changed, removed, doubled or added."""
    if not content:
        return rng.randbytes(9)
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    near = min(len(content), a + 1 + rng.randrange(16))
    place = rng.randrange(len(content))
    return rng.choice(
        [
            lambda: content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :],
            lambda: content[:place] + rng.randbytes(1) + content[place + 1 :],
            lambda: content[:a] + rng.randbytes(near - a) + content[near:],
            lambda: content[:a] + content[near:],
            lambda: content[:a] + content[b:],
            lambda: content[:a],
            lambda: content[:a] + bytes(near - a) + content[near:],
            lambda: content[:near] + content[a:],
            lambda: content[:a] + rng.choice([b"\0", b"\xff\xfe", b"\n", "\u2028".encode(), b"9" * 400]) + content[a:],
        ]
    )()


STRANGE: list[Any] = [
    *(None, True, -1, 0, 1, 7, 2**31, 10**6, 10**9, 10**40, 10**400, 0.5, 1e300, math.nan, math.inf),
    *(
        "",
        "x",
        "-1",
        "\x1b[2J\x07",
        "${oc.env:HOME}",
        "../../x",
        "@DEEP@",
        [],
        {},
        [[]],
        [1, "x"],
        {"x": 1},
        ["@DEEP@"],
    ),
]
"""Values that are seldom right."""


def in_value(rng: random.Random, value: Any) -> Any:
    """One value in nested objects and lists changed, removed, doubled or renamed."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice(STRANGE)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(keys)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    how = rng.random()
    if how < 0.15:
        del changed[key]
    elif how < 0.2 and isinstance(changed, dict):
        changed[str(rng.choice(STRANGE))] = changed.pop(key)
    elif how < 0.2:
        changed.append(changed[key])
    else:
        changed[key] = in_value(rng, changed[key])
    return changed


def in_json(rng: random.Random, content: bytes) -> bytes:
    """A value changed in JSON, or bytes."""
    if rng.random() < 0.3:
        return in_bytes(rng, content)
    return json.dumps(in_value(rng, json.loads(content))).replace('"@DEEP@"', DEEP).encode()


def in_lines(rng: random.Random, content: bytes) -> bytes:
    """A line of JSON changed, lines removed, doubled or exchanged, or bytes."""
    lines = content.split(b"\n")
    full = [number for number, line in enumerate(lines) if line]
    a, b = rng.choice(full), rng.choice(full)
    how = rng.random()
    if how < 0.2:
        return in_bytes(rng, content)
    if how < 0.3:
        lines[a], lines[b] = lines[b], lines[a]
    elif how < 0.35:
        del lines[a]
    elif how < 0.4:
        lines.insert(b, lines[a])
    else:
        lines[a] = in_json(rng, lines[a])
    return b"\n".join(lines)


def in_text(rng: random.Random, content: bytes) -> bytes:
    """A number or word replaced, or bytes."""
    words = list(re.finditer(rb"[\w.]+", content))
    if not words or rng.random() < 0.4:
        return in_bytes(rng, content)
    word = rng.choice(words)
    strange = str(rng.choice(STRANGE)).replace("@DEEP@", DEEP).encode()
    return content[: word.start()] + strange + content[word.end() :]


def in_tensor(rng: random.Random, t: torch.Tensor) -> torch.Tensor:
    """Another dtype, shape or numbers."""
    dtypes = [torch.float8_e4m3fn, torch.int64, torch.int8, torch.bool, torch.complex64, torch.bfloat16, torch.float64]
    numbers = [0, -7, 1, 10**6, 1e30] + [math.nan, math.inf] * t.is_floating_point()
    return rng.choice(
        [
            lambda: t.to(rng.choice(dtypes)),
            lambda: t[:0] if t.ndim else t[None],
            lambda: t[: len(t) // 2] if t.ndim else t.expand(3),
            lambda: t.flatten()[0] if t.numel() else t,
            lambda: t.transpose(0, -1) if t.ndim else t,
            lambda: t[None],
            lambda: torch.full_like(t, rng.choice(numbers)),
            lambda: t.clone().reshape(-1).index_fill_(0, torch.tensor([0]), rng.choice(numbers)).view(t.shape),
        ]
    )()


def in_tensors(rng: random.Random, tensors: dict[str, torch.Tensor]) -> None:
    """A tensor changed, removed, renamed or doubled."""
    name = rng.choice(sorted(tensors))
    how = rng.random()
    if how < 0.1:
        del tensors[name]
    elif how < 0.2:
        tensors[rng.choice([name + "x", "x", "x/" + name, "slots/x", "ema/" + name, "a/b/c"])] = tensors.pop(name)
    else:
        with contextlib.suppress(RuntimeError, IndexError, TypeError, OverflowError):
            tensors[name] = in_tensor(rng, tensors[name])


def in_checkpoint(rng: random.Random, content: bytes) -> bytes:
    """A tensor or a field of the header changed, or bytes, mostly of the header."""
    how = rng.random()
    if how < 0.25:
        size = 8 + int.from_bytes(content[:8], "little")
        return in_bytes(rng, content[:size]) + content[size:] if how < 0.15 else in_bytes(rng, content)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x.safetensors")
        file.write_bytes(content)
        header, tensors = header_and_tensors(file)
        header.pop("crc32")  # which would tell first
        if how < 0.6:
            field = rng.choice(sorted(header.keys() - {"format"}))
            header[field] = in_json(rng, header[field].encode()).decode("utf-8", "replace")
        else:
            in_tensors(rng, tensors)
        save_file({name: t.contiguous() for name, t in tensors.items()}, file, header)
        return file.read_bytes()


def in_pickled(rng: random.Random, content: bytes) -> bytes:
    """What is in a .pth changed, and its checksums with it."""
    if rng.random() < 0.5:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(out, "w") as after:
            chosen = rng.choice([name for name in before.namelist() if name.endswith("data.pkl")] + before.namelist())
            for name in before.namelist():
                entry = before.read(name)
                after.writestr(name, in_bytes(rng, entry) if name == chosen else entry)
        return out.getvalue()
    with torch.serialization.safe_globals(released._HARMLESS):
        value = torch.load(io.BytesIO(content), weights_only=True)
    if rng.random() < 0.5:
        in_tensors(rng, value["model"] if rng.random() < 0.5 else value["ema"]["shadow"])
    else:
        value = in_value(rng, value | {"config": value["config"]})
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def in_array(rng: random.Random, content: bytes) -> bytes:
    """The header of a .npy changed, or its numbers, or bytes."""
    how = rng.random()
    if how < 0.3:
        return in_bytes(rng, content)
    if how < 0.6:
        size = 10 + int.from_bytes(content[8:10], "little")
        text = in_text(rng, content[10:size])[: 2**16 - 1]
        return content[:8] + len(text).to_bytes(2, "little") + text + content[size:]
    array = np.load(io.BytesIO(content))
    kinds = [np.int8, np.uint64, np.int64, np.float32, np.bool_, np.complex64, "S3", ">i4"]
    with np.errstate(all="ignore"):
        changed = rng.choice(
            [
                lambda: array.astype(rng.choice(kinds)),
                lambda: array[::-1],
                lambda: array[: len(array) // 2],
                lambda: array[:0],
                lambda: array[None],
                lambda: array.reshape(-1)[0],
                lambda: np.full_like(array, rng.choice([0, 1, 5, 100])),
                lambda: array.astype(np.int64) + rng.choice([1, -1, 10**6, -(10**12)]),
            ]
        )()
    out = io.BytesIO()
    np.save(out, changed)
    return out.getvalue()


# -- what is read ---------------------------------------------------------------------------------------------


PARTS = ["halt_max_steps=[1,2]", "global_batch_size=3"]
"""An evaluation of four units."""


class Subject(NamedTuple):
    """A kind of file: how it is damaged, and what a program makes of it."""

    file: str  # a pattern below the folder
    damage: Callable[[random.Random, bytes], bytes]
    read: Callable[[Path], Any]  # of the folder
    summed: bool = False  # whether a checksum protects it


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """A hash of names and numbers."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].contiguous()
        total.update(f"{name} {t.dtype} {tuple(t.shape)}".encode() + t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def run(main: Callable[[list[str]], int | None], *words: str) -> None:
    """A command line; its mistake is raised."""
    if code := exit_code(main, list(words)):
        raise SystemExit(code)


def one_evaluation(folder: Path) -> str:
    """Loads a checkpoint, and evaluates two puzzles."""
    [file] = [file for file in (folder / "checkpoint").iterdir() if file.suffix in (".safetensors", ".pth")]
    loaded = load_model(str(file))
    puzzles = Puzzles(folder / "data", "test", CPU)
    model = build_for_evaluation(loaded, load_eval([f"checkpoint='{file}'"]), puzzles.shape, CPU).model
    return repr((digest(loaded.weights), evaluated(model, puzzles, Settings(depths=[1], rows=2), ALONE, puzzles=2)))


def go_on(folder: Path) -> str:
    """Goes on with a run for two steps."""
    run(pretrain.main, f"resume={folder / 'run'}", "max_steps=6", f"dataset.data_path={folder / 'data'}")
    tensors = digest(header_and_tensors(folder / "run" / "last.safetensors")[1])
    lines = [
        {k: v for k, v in line.items() if "second" not in k} for line in read_metrics(folder / "run/metrics.jsonl")
    ]
    return tensors + repr(lines)


def merged(folder: Path) -> Any:
    """Merges an evaluation."""
    run(merge.main, str(folder / "parts"), "--output", str(folder / "merged"))
    return {key: value for key, value in results_of(folder / "merged").items() if key != "work"}


def finished(folder: Path) -> Any:
    """Goes on with an evaluation, of which all units are done unless they are damaged."""
    words = [f"checkpoint='{folder / 'run'}'", f"dataset_data_path={folder / 'data'}", *PARTS]
    run(evaluate.main, *words, f"eval_dir={folder / 'parts'}")
    return metrics_of(folder / "parts")


def drawn(folder: Path) -> Any:
    """What the page of a run and of an evaluation shows, but for the picture itself."""
    subject = page.find(folder / "evaluation")
    pictures.evaluations(subject.evaluations)
    config = config_of(subject.checkpoint, subject.results)
    series = curves.training(folder / "run" / "metrics.jsonl")
    return repr(
        (config, subject, {name: (steps.tolist(), values.tolist()) for name, (steps, values) in series.items()})
    )


def tabulated(folder: Path) -> Any:
    """Tables by group."""
    run(by_group.main, str(folder / "evaluation"), str(folder / "puzzles.csv"), "--column", "rating")
    return (folder / "evaluation" / "by_rating.json").read_text()


def batches(folder: Path) -> Any:
    """Some batches of training and test puzzles."""
    parts = []
    for split in ("train", "test"):
        puzzles = Puzzles(folder / "data", split, CPU)
        drawn = TrainingBatches(puzzles, 4, 0)
        parts += [t.tolist() for step in range(3) for t in drawn.batch(step)] + [drawn.steps(3)]
        parts.append(puzzles.notes(np.arange(len(puzzles))))
    return parts


def recorded(folder: Path) -> str:
    """The record of a run."""
    return record("x", folder / "run", [folder / "evaluation"], hardware="x").model_dump_json()


def asked(folder: Path) -> Any:
    """The names of ARC's puzzles, and its test tasks."""
    votes = Votes.read(folder / "arc")
    return votes._names, repr(votes._tasks)


def to_solve(folder: Path) -> Any:
    """Puzzles for solve.py."""
    return repr(read_from(str(folder / "puzzles.txt")))


SUBJECTS: dict[str, Subject] = {
    "checkpoint, evaluated": Subject("checkpoint/last.safetensors", in_checkpoint, one_evaluation),
    "checkpoint, resumed": Subject("run/last.safetensors", in_checkpoint, go_on),
    ".pth, damaged": Subject("checkpoint/eqr.pth", in_bytes, one_evaluation, summed=True),
    ".pth, written so": Subject("checkpoint/eqr.pth", in_pickled, one_evaluation),
    "all_config.yaml": Subject("checkpoint/all_config.yaml", in_text, one_evaluation),
    "metrics.jsonl, resumed": Subject("run/metrics.jsonl", in_lines, go_on),
    "metrics.jsonl, drawn": Subject("run/metrics.jsonl", in_lines, drawn),
    "metrics.jsonl, recorded": Subject("run/metrics.jsonl", in_lines, recorded),
    "results.json, recorded": Subject("evaluation/results.json", in_json, recorded),
    "final.json": Subject("run/final.json", in_json, go_on),
    "results.json, drawn": Subject("evaluation/results.json", in_json, drawn),
    "results.json, by group": Subject("evaluation/results.json", in_json, tabulated),
    "per_puzzle.csv": Subject("evaluation/per_puzzle.csv", in_text, tabulated),
    "a CSV of puzzles": Subject("puzzles.csv", in_text, tabulated),
    "config.yaml": Subject("run/config.yaml", in_text, recorded),
    "versions.json": Subject("run/versions.json", in_json, recorded),
    "about.json, merged": Subject("parts/partial/about.json", in_json, merged),
    "about.json, gone on": Subject("parts/partial/about.json", in_json, finished),
    "units, merged": Subject("parts/partial/units*.jsonl", in_lines, merged, summed=True),
    "units, gone on": Subject("parts/partial/units*.jsonl", in_lines, finished, summed=True),
    "arrays": Subject("data/*/all__*.npy", in_array, batches),
    "dataset.json": Subject("data/*/dataset.json", in_json, batches),
    "arrays with checksums": Subject("data/*/all__*.npy", in_array, batches, summed=True),
    "dataset.json with checksums": Subject("data/*/dataset.json", in_json, batches, summed=True),
    "SHA256SUMS": Subject("data/SHA256SUMS", in_text, batches, summed=True),
    "ARC's files": Subject("arc/*.json", in_json, asked),
    "puzzles to solve": Subject("puzzles.txt", in_text, to_solve),
}
WITH_SUMS = ("arrays with checksums", "dataset.json with checksums", "SHA256SUMS")


# -- the campaign ---------------------------------------------------------------------------------------------


def templates(place: Path) -> dict[str, Path]:
    """Folders with whole files, for each subject. They are as the programs write them."""
    work = place / "work"
    splits = {"train": tiny_split(40, 0, identifiers=3), "test": tiny_split(11, 1, identifiers=3)}
    write_dataset(work / "data", splits, ["<blank>", "a", "b"])
    words = [*TINY, f"dataset.data_path={work / 'data'}", f"checkpoint_path={place / 'outputs'}", "wandb_mode=disabled"]
    run(pretrain.main, *words, "max_steps=4", "eval_interval_steps=2")
    shutil.copytree(only_run(place / "outputs"), work / "run")
    run(
        evaluate.main,
        f"checkpoint='{work / 'run'}'",
        "halt_max_steps=[1,2]",
        "per_puzzle=true",
        f"eval_dir={work / 'evaluation'}",
    )
    for i in (1, 2):
        run(evaluate.main, f"checkpoint='{work / 'run'}'", *PARTS, f"shard={i}/2", f"eval_dir={work / 'parts'}")
    (work / "puzzles.csv").write_text("source,rating\n" + "".join(f"x,{i}\n" for i in range(11)))
    (work / "puzzles.txt").write_text(PUZZLES)
    grid = np.array([[1, 2, 0]], np.uint8)
    (work / "arc").mkdir()
    tasks = {"a": task_fields(Task("a", [Example(grid, grid)], [Example(grid, grid)]))}
    (work / "arc/test_puzzles.json").write_text(json.dumps(tasks))
    (work / "arc/identifiers.json").write_text(json.dumps(["<blank>", IDENTITY.name("a")]))
    made: dict[str, Path] = {}
    for number, name in enumerate(SUBJECTS):
        made[name] = shutil.copytree(work, place / f"template{number}")
        if name not in WITH_SUMS:
            (made[name] / "data/SHA256SUMS").unlink()
        (made[name] / "checkpoint").mkdir()
        if name == "all_config.yaml":
            content = _exported(work / "run", made[name] / "x.pth")
            torch.save(content["model"], made[name] / "checkpoint/step_4.pth")
            (made[name] / "checkpoint/all_config.yaml").write_text(json.dumps(content["config"]))
        elif ".pth" in name:
            _exported(work / "run", made[name] / "checkpoint/eqr.pth")
        else:
            shutil.copy(work / "run/last.safetensors", made[name] / "checkpoint")
    return made


def _exported(checkpoint: Path, file: Path) -> dict[str, Any]:
    released.export(checkpoint, file)
    content: dict[str, Any] = torch.load(file, weights_only=True)
    return content


class TooLong(BaseException):
    """A mutation took more than SECONDS."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raises TooLong after SECONDS, and AssertionError if memory grew by more than MEMORY."""

    def end(*_: object) -> None:
        raise TooLong

    handler = signal.signal(signal.SIGPROF, end)  # counts a core's seconds; a training has SIGALRM
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
    grown = _memory("VmHWM") - before
    assert grown < MEMORY, f"memory grew by {grown / 2**20:.0f} MiB"


def _memory(name: str) -> int:
    [kilobytes] = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def outcome(read: Callable[[Path], Any], folder: Path) -> tuple[str | None, Any]:
    """(sentence, None) or (None, what was read). Raises whatever would be a traceback."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), command():
            return None, read(folder)
    except SystemExit as end:
        said = err.getvalue() + out.getvalue()
        sentences = re.findall(r"^error: (.*)$", err.getvalue(), re.MULTILINE)
        assert end.code in (1, 2) and len(sentences) == 1, f"ended with {end.code}: {said}"
        assert printable(sentences[0]) == sentences[0], "a terminal would obey what is printed"
        return sentences[0], None


def mutate(folder: Path, subject: Subject, rng: random.Random) -> bool:
    """Damages a file of the subject. False if nothing changed."""
    file = rng.choice(sorted(folder.glob(subject.file)))
    before = file.read_bytes()
    after = subject.damage(rng, before)
    file.unlink()
    file.write_bytes(after)
    return before != after


class Campaign:
    """Mutations of all kinds of files, in turn."""

    def __init__(self, place: Path, seed: int = 0) -> None:
        self.place, self.seed, self.templates = place, seed, templates(place)
        self.whole: dict[str, Any] = {}

    def one(self, number: int) -> str:
        """Makes a mutation. Returns what came of it: "kind of file: refused", "as before" or "another".

        Raises:
            AssertionError: what should hold does not.
        """
        name = list(SUBJECTS)[number % len(SUBJECTS)]
        subject, copy = SUBJECTS[name], self.place / "copy"
        if name not in self.whole:
            shutil.copytree(self.templates[name], copy)
            sentence, self.whole[name] = outcome(subject.read, copy)
            shutil.rmtree(copy)
            assert sentence is None, sentence
        shutil.copytree(self.templates[name], copy)
        try:
            changed = mutate(copy, subject, random.Random(f"{self.seed} {number}"))
            with limited():
                sentence, value = outcome(subject.read, copy)
            result = "refused" if sentence else "as before" if value == self.whole[name] else "another"
            assert result != "another" or (changed and not subject.summed), "another result, in silence"
            return f"{name}: {result}"
        except (Exception, TooLong) as error:
            raise AssertionError(
                f"mutation {number} of seed {self.seed}, {name}: {type(error).__name__} {error}"
            ) from error
        finally:
            shutil.rmtree(copy)


def campaign(place: Path, count: int, done: Counter[str], seed: int = 0) -> None:
    """Damages `count` files at random, and reads them."""
    mutations = Campaign(place, seed)
    for number in range(count):
        done[mutations.one(number)] += 1
        if number % 100 == 0:
            gc.collect()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Damages files at random, and reads them as the programs do.")
    parser.add_argument("--mutations", type=int, default=100, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (%(default)s)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="make this one again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done: Counter[str] = Counter()
    began = time.time()
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        mutations = Campaign(Path(folder), arguments.seed)
        limit = _memory("VmSize") + 4 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(arguments.mutations) if arguments.only is None else [arguments.only]:
            try:
                done[mutations.one(number)] += 1
            except AssertionError as error:
                done["FAILED"] += 1
                print(error, flush=True)
    for what, times in sorted(done.items()):
        print(f"{times:5} {what}")
    print(f"{done.total()} mutations in {time.time() - began:.0f} s, at most {_memory('VmHWM') / 2**20:.0f} MiB")
    sys.exit(1 if done["FAILED"] else 0)


if __name__ == "__main__":
    main()
