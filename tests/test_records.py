"""reproduction/record.py, records.py and commands.py: recording a run, and the words that repeat it."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import exit_code, parsed, results_of

from config.load import load_eval, load_pretrain
from reproduction import accuracy, commands, programs, record, records, reproduce, table_text
from reproduction.paper import read_paper
from reproduction.records import Record

PAPER = read_paper()


def test_a_record_holds_what_repeats_the_run(tiny_record, tiny_run):
    assert tiny_record.steps == 40 and tiny_record.seed == 0 and tiny_record.hardware == "2 CPU cores"
    assert tiny_record.commit == json.loads((tiny_run / "versions.json").read_text())["commit"]
    assert tiny_record.config.dataset.data_path == "data/tiny"
    assert '"/' not in records.to_text(tiny_record), "a path of this machine"
    assert tiny_record.training.rows[-1][0] == 40 and len(tiny_record.training.rows) == 40
    on_the_way = [row[:2] for row in tiny_record.evaluations_on_the_way.rows]
    assert on_the_way == [[10, 5], [20, 5], [20, 11], [30, 5], [40, 5], [40, 11]]

    recipe, *words = commands.training_words(tiny_record)
    assert records.portable(load_pretrain([f"train={recipe}", *words])) == tiny_record.config
    for evaluation in tiny_record.evaluations:
        words = commands.evaluation_words(tiny_record, evaluation)
        again = load_eval(["checkpoint=x", *words]).model_dump()
        recorded = evaluation.settings.model_dump(exclude={"checkpoint"}, exclude_unset=True)
        assert {name: again[name] or recorded[name] for name in recorded} == recorded
    assert commands.evaluation_words(tiny_record, tiny_record.evaluations[0]) == ["halt_max_steps=[1,4]"]


def test_every_record_is_read_and_written_as_it_is():
    for file in records.RUNS.glob("*.json"):
        text = file.read_text()
        written = json.loads(records.to_text(records.read_record(file)))
        assert written == json.loads(text) and written["name"] == file.stem
        assert '"/' not in text, f"{file.name} holds a path of a machine"
        assert written["commit"] != "unknown" and written["hardware"] != "not recorded"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is not JSON"), ("{}", "name is missing"), ('{"colour": 1}', "unknown key colour")],
)
def test_a_damaged_record_is_one_sentence(text, sentence, tiny_values, tmp_path):
    whole = tiny_values if "colour" in text else {}
    (tmp_path / "a.json").write_text(text if text == "{" else json.dumps(whole | json.loads(text)))
    with pytest.raises(ValueError, match=rf"a\.json.*{sentence}"):
        records.read_records(tmp_path)


def test_a_run_that_went_on_from_another_names_it(tiny_record, tiny_values, monkeypatch, tmp_path):
    def later(name: str, after: str, steps: int = 40, **changes: object) -> Record:
        return parsed(
            tiny_values | {"name": name, "after": after, "steps": steps, "config": tiny_values["config"] | changes}
        )

    first = parsed(tiny_values | {"name": "first", "steps": 30})
    resumed = later("resumed", "first", lr=1e-3, max_steps=40)
    loaded = later("loaded", "first", lr=1e-3, max_steps=40, load_checkpoint="first")
    runs = [first, resumed, loaded]
    assert records.chain(resumed, runs) == [resumed, first] and records.chain(first, runs) == [first]
    with pytest.raises(ValueError, match="resumed went on from first, which is not recorded"):
        records.chain(resumed, runs[1:])
    with pytest.raises(ValueError, match="first went on from resumed, which went on from it"):
        records.chain(resumed, [first.model_copy(update={"after": "resumed"}), resumed])

    words = commands.training_words(resumed, [first], "DIR")
    assert words == ["resume=DIR", "max_steps=40", "lr=0.001"]
    recipe, *words = commands.training_words(loaded, [first], "DIR")
    assert recipe == "quickstart" and {'load_checkpoint="DIR"', "lr=0.001", "max_steps=40"} <= set(words)
    assert table_text.steps(resumed, runs) == "40" and table_text.steps(loaded, runs) == "30 + 40"
    again = later("again", "loaded", 60, lr=1e-3, max_steps=40, load_checkpoint="first")
    assert table_text.steps(again, [*runs, again]) == "30 + 60", "it went on as the run that began from weights"
    assert commands.training_words(again, [loaded, first], "DIR") == ["resume=DIR", "max_steps=60"]
    anew = later("anew", "loaded", 60, lr=1e-3, max_steps=40, load_checkpoint="first", seed=7)
    assert table_text.steps(anew, [*runs, anew]) == "70 + 60", "a run that goes on keeps its seed"
    assert {'load_checkpoint="DIR"', "seed=7"} <= set(commands.training_words(anew, [loaded, first], "DIR"))
    lines = table_text.commands([resumed, first]).splitlines()
    assert lines[1] == "# first" and "bash scripts/train.sh resume=RUN_DIR_OF_first max_steps=40 lr=0.001" in lines

    for link in runs:
        (tmp_path / f"{link.name}.json").write_text(records.to_text(link))
    trained = []
    monkeypatch.setattr(reproduce, "RUNS", tmp_path)
    monkeypatch.setattr(programs, "script", lambda *words: trained.append(words) or f"done: run{len(trained)}\n")
    assert reproduce.train(resumed) == Path("run2")
    assert trained[1][:3] == ("train.sh", "resume=run1", "max_steps=40")
    assert trained[0][:2] == ("train.sh", "quickstart") and "lr=0.01" in trained[0]


def test_evaluations_are_added_or_replaced(tiny_record, tiny_run, tiny_work):
    first = record.record("tiny", tiny_run, [tiny_work / "one"], hardware="a", note="b")
    both = record.record("tiny", tiny_run, [tiny_work / "four"], first, note="c")
    assert both.evaluations == tiny_record.evaluations and (both.hardware, both.note) == ("a", "c")
    assert record.record("tiny", tiny_run, [tiny_work / "one"], both).evaluations == tiny_record.evaluations
    one, four = tiny_record.evaluations
    assert one.settings.noise_scale == 0.01 and four.settings.noise_scale == 0.5
    assert accuracy.exact(one, 4) == one.metrics[4]["all/exact_accuracy"]
    assert accuracy.exact(four, 4) == four.metrics[4]["convergence_top_k/cumulative_exact_acc_top1"]


def test_evaluations_are_added_without_the_run(tiny_record, tiny_run, tiny_work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path)
    assert exit_code(record.main, ["tiny", str(tiny_run), str(tiny_work / "one"), "--hardware", "2 CPU cores"]) == 0
    assert exit_code(record.main, ["tiny", str(tiny_work / "four"), "--note", "later"]) == 0
    both = records.read_record(tmp_path / "tiny.json")
    assert both.evaluations == tiny_record.evaluations and both.training == tiny_record.training
    assert (both.hardware, both.note) == ("2 CPU cores", "later")
    assert (
        exit_code(record.main, ["other", str(tiny_work / "four")]) == 1 and "metrics.jsonl" in capsys.readouterr().err
    )


def test_a_run_that_was_stopped_is_trained_as_far_again(tiny_values):
    tiny_values["config"] |= {"epochs": 50, "max_steps": None}
    assert "max_steps=40" in commands.training_words(parsed(tiny_values))


def test_eight_bits_are_another_evaluation(tiny_record, tiny_run, tiny_work, tmp_path):
    shutil.copytree(tiny_work / "one", tmp_path / "one")
    file = tmp_path / "one" / "results.json"
    file.write_text(file.read_text().replace('"kernels": "auto"', '"kernels": "float8"'))
    both = record.record("tiny", tiny_run, [tmp_path / "one"], tiny_record)
    assert both.evaluations[:2] == tiny_record.evaluations and len(both.evaluations) == 3
    assert both.evaluations[2].float8 and 'kernels="float8"' in commands.evaluation_words(both, both.evaluations[2])
    assert ", float8 |" in table_text.evaluated(PAPER, [both])


def test_an_older_evaluation_does_not_know_the_newest_keys_of_a_model(tiny_record, tiny_run, tiny_work, tmp_path):
    shutil.copytree(tiny_work / "one", tmp_path / "one")
    results = results_of(tmp_path / "one")
    del results["arch"]["puzzle_emb_len"]
    (tmp_path / "one" / "results.json").write_text(json.dumps(results))
    assert record.record("tiny", tiny_run, [tmp_path / "one"], tiny_record) == tiny_record


def test_slices_of_training_add_up():
    rates = ((10, 40.0, 4.0), (20, 80.0, 4.0))  # two processes, then four
    names = ("step", "train/samples_per_second", "train/process_seconds")
    log = [dict(zip(names, line, strict=True)) for line in rates]
    assert record.training_time([*log, {"step": 20, "eval/puzzles": 5}], 8) == (3.0, 8.0)


def test_curves_are_thinned():
    log = [{"step": step, "train/lm_loss": float(step)} for step in range(1, 1001)]
    rows = record.training_curve(log).rows
    assert len(rows) <= record.POINTS and rows[0] == [4, 2.5, None, None] and rows[-1][0] == 1000


def test_mistakes_in_recording_are_one_sentence(tiny_run, tiny_work, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs")
    assert exit_code(record.main, ["tiny", str(tiny_run), str(tiny_work / "one"), "--hardware", "2 cores"]) == 0
    before = (tmp_path / "runs" / "tiny.json").read_text()

    def changed(folder: Path, name: str, change) -> Path:
        """A copy of a folder with another text in one file."""
        copy = tmp_path / f"copy {len(list(tmp_path.iterdir()))}"
        shutil.copytree(folder, copy)
        (copy / name).write_text(change((folder / name).read_text()))
        return copy

    def replaced(folder: Path, name: str, old: str, new: str) -> Path:
        return changed(folder, name, lambda text: re.sub(old, new, text))

    other = replaced(tiny_run, "config.yaml", "seed: 0", "seed: 1")
    wrong = replaced(tiny_work / "one", "results.json", '"H_cycles": 1', '"H_cycles": 2')
    early = replaced(tiny_work / "one", "results.json", '"step": 40', '"step": 20')
    named = replaced(tiny_run, "config.yaml", "run_name: quickstart", "run_name: mine")
    resumed = replaced(tiny_run, "config.yaml", "resume: .*", "resume: null")
    begun = replaced(resumed, "config.yaml", "load_checkpoint: null", "load_checkpoint: a/b")
    damaged = []
    for name, text in [
        ("config.yaml", ""),
        ("config.yaml", "a: ["),
        ("config.yaml", "colour: red"),
        ("versions.json", "{}"),
        ("metrics.jsonl", '{"step" 1}\n'),
        ("metrics.jsonl", '{"loss": 1}\n'),
    ]:
        folder = changed(tiny_run, name, lambda _, text=text: text)
        damaged.append(([str(folder)], str(folder / name)))
    for text in ("{}", '{"metrics": {"1": {"puzzles": 2}}}', '{"metrics"'):
        folder = changed(tiny_work / "one", "results.json", lambda _, text=text: text)
        damaged.append(([str(tiny_run), str(folder)], str(folder / "results.json")))
    capsys.readouterr()
    for words, sentence in [
        (["tiny", str(tmp_path)], "metrics.jsonl"),
        (["tiny", str(tiny_work / "one"), "--commit", "abc"], "are of the run: give RUN_DIR too"),
        (["tiny", str(other)], "another run"),
        (["tiny", str(tiny_run), str(wrong)], "another model"),
        (["tiny", str(tiny_run), str(early)], "evaluates step 20, but the run is at step 40"),
        (["new", str(named)], "has run_name=mine, but a record is of a recipe in config/train"),
        (["new", str(begun)], "began from weights: say with --after"),
        (["new", str(begun), "--after", "other"], "new went on from other, which is not recorded"),
        (["tiny", str(tiny_run), str(tmp_path)], "does not exist"),
        *((["tiny", *words], sentence) for words, sentence in damaged),
        (["../tiny", str(tiny_run)], "NAME"),
    ]:
        assert exit_code(record.main, words) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and sentence in line
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["tiny.json"]
    assert (tmp_path / "runs" / "tiny.json").read_text() == before
