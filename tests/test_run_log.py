"""What a run's folder says about its progress, JSON files, and files that are written whole."""

import errno
import json

import pytest

from config.json_file import read_json
from runtime.files import whole, write_whole
from runtime.hub import newest_run, resolve
from runtime.run_log import drop_after, final_step, read_metrics, to_line, write_final


@pytest.fixture
def log(tmp_path):
    """Lines of steps 1 to 4. A kill cut the last one short."""
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(to_line(step, {"loss": 1 / step, "rate": float("nan")}) for step in range(1, 5))[:-9])
    return file


def test_a_log_is_read_but_for_a_line_that_was_cut_short(log):
    assert [line["step"] for line in read_metrics(log)] == [1, 2, 3]
    assert read_metrics(log)[1] == {"step": 2, "loss": 0.5, "rate": None}


def test_later_lines_are_dropped(log):
    whole = read_metrics(log)
    drop_after(log, 3)
    assert read_metrics(log) == whole and log.read_text().endswith("}\n")
    drop_after(log, 1)
    assert read_metrics(log) == whole[:1]
    drop_after(log, 0)
    assert log.read_bytes() == b""


@pytest.mark.parametrize(
    "line, fault",
    [
        ('{"step" 1}', "line 4: is not JSON"),
        ('{"loss": 1}', "line 4: step is missing"),
        ('{"step": null}', "line 4: step should be"),
        ('{"step": 1, "loss": [1]}', "line 4: loss should be"),
        ('{"step": 1, "loss": ' + "[" * 10_000 + "}", "line 4: is not JSON"),
        ('{"step": ' + "9" * 4000 + "}", "line 4: step"),
    ],
)
def test_a_damaged_log_names_the_line(log, line, fault):
    drop_after(log, 3)
    with open(log, "a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"^[^\n]*metrics.jsonl[^\n]*{fault}[^\n]*$"):
        read_metrics(log)


def test_a_run_that_has_ended_says_so(tmp_path):
    assert final_step(tmp_path) is None
    write_final(tmp_path, 7, {"exact": float("inf")})
    assert final_step(tmp_path) == 7
    assert json.loads((tmp_path / "final.json").read_text()) == {"step": 7, "exact": None}


@pytest.mark.parametrize(
    "text, kind, fault",
    [(None, dict, "no such file"), ("{", dict, "is not JSON"), ("[]", dict, "no object"), ("{}", list, "no list")],
)
def test_a_wrong_json_file_is_one_sentence(text, kind, fault, tmp_path):
    file = tmp_path / "a.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"^{file}: [^\n]*{fault}[^\n]*$"):
        read_json(file, kind)


def test_a_name_stands_for_its_newest_run_with_a_checkpoint(tmp_path):
    begun = ("20251231-235959", "20260102-000000", "20260102-000000-2", "20260102-000000-10")
    runs = [tmp_path / name for name in (*begun, "20260104-000000-copy", "a_copy")]
    for run in [*runs, tmp_path / "20260103-000000"]:  # this last one has not saved yet
        run.mkdir()
    for run in runs:
        (run / "last.safetensors").touch()
    for stray in (".hidden", "notes.txt"):
        (tmp_path / stray).touch()
    assert newest_run(tmp_path) == runs[3] and newest_run(runs[0]) == runs[0]
    assert resolve(tmp_path) == runs[3] / "last.safetensors"
    assert newest_run(tmp_path / "missing") == tmp_path / "missing"
    (tmp_path / "best.safetensors").touch()  # a folder with a checkpoint stands for itself
    assert newest_run(tmp_path) == tmp_path and resolve(tmp_path) == tmp_path / "best.safetensors"


def test_two_programs_may_write_one_file(tmp_path):
    """Each writes it whole, and the last one stays."""
    file = tmp_path / "results.json"
    with whole(file) as slow:
        slow.write_text("slow, half")
        write_whole(file, "fast")
        assert file.read_text() == "fast"
        slow.write_text("slow")
    assert file.read_text() == "slow" and list(tmp_path.iterdir()) == [file]


def test_an_error_names_the_file_and_not_what_is_written_first(tmp_path):
    with pytest.raises(OSError, match=f"No such file or directory: '{tmp_path}/missing/results.json'$"):
        write_whole(tmp_path / "missing" / "results.json", "text")
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path, "text")
    assert str(caught.value).count(f"'{tmp_path}'") == 1


def test_a_full_disk_names_the_file_and_leaves_the_earlier_one(tmp_path):
    file = tmp_path / "results.json"
    write_whole(file, "earlier")
    with pytest.raises(OSError, match=f"No space left on device: '{file}'$"), whole(file):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert file.read_text() == "earlier" and list(tmp_path.iterdir()) == [file]
