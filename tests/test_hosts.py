"""Several hosts, played by several launchers on this one: how their processes find each other, and what they say."""

import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch.distributed as dist
import yaml
from campaign import same_run, send, step_of, until, workers
from conftest import ROOT, command, start, torchrun
from forked import free_port

from config.load import load_pretrain
from runtime import checkpoint, joining
from scripts.launch import Heartbeats

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="finds processes in /proc")


@needs_proc
def test_two_hosts_of_which_a_process_and_then_a_launcher_is_killed(tiny, tmp_path):
    """The process starts again. Without a launcher its process is no orphan: all stop, and the run can go on."""
    run, mark, port = tmp_path / "run", f"OF={tmp_path}", free_port()
    words = [*tiny, "checkpoint_interval_steps=4"]
    meeting = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--max-restarts=1"]
    program = ["--nproc_per_node=1", str(ROOT / "pretrain.py"), *words, "epochs=100000", f"run_dir={run}"]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT), "OF": str(tmp_path)}
    hosts = [start("scripts/launch.py", *meeting, *program, NODE_RANK=rank, **address) for rank in ("0", "1")]
    until(lambda: (run / "last.safetensors").is_file(), 120, "no checkpoint")
    first = workers(mark)
    victim = random.choice(first)
    its_host = int("NODE_RANK=1" in Path(f"/proc/{victim}/environ").read_text())  # which has no restart left then
    send(signal.SIGKILL, [victim])
    until(lambda: len(workers(mark)) == 2 and not {*workers(mark)} & {*first}, 120, "no restart")
    until(lambda: f"resume: {run}" in (run / "config.yaml").read_text(), 120, "the run does not go on")
    before = checkpoint.load(run).step
    until(lambda: step_of(run) > before, 120, "no steps")
    send(signal.SIGKILL, [hosts[1 - its_host].processes[0].pid])
    ended = hosts[its_host].end()
    until(lambda: not workers(mark), 60, "an orphan goes on")
    assert ended.returncode and "stopped at step" in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    step = checkpoint.load(run).step
    assert step > before
    for folder in (run, tmp_path / "whole"):
        done = command("pretrain.py", *words, f"max_steps={step + 5}", f"run_dir={folder}", processes=2)
        assert done.returncode == 0, done.stderr
    assert same_run(run, tmp_path / "whole")


@needs_proc
@pytest.mark.parametrize("number, processes", [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_signal_to_launcher_and_processes_together_saves(tiny, tmp_path, number, processes):
    """As scancel, systemd and containers send it: then the launcher passes it on, and the processes get it twice."""
    run, mark = tmp_path / "run", f"OF={tmp_path}"
    words = [*tiny, "epochs=100000", f"run_dir={run}"]
    job = torchrun("pretrain.py", *words, processes=processes, OF=str(tmp_path))
    until(lambda: step_of(run) >= 3, 120, "no steps")
    before = step_of(run)
    send(number, [job.processes[0].pid, *workers(mark)])
    done = job.end()
    assert done.returncode == 128 + number and "stopped at step" in done.stderr, done.stderr
    assert checkpoint.load(run).step >= before


@pytest.mark.parametrize(
    "rank, part", [("0", "not all hosts came within 1 s"), ("1", "host 0 was not there within 1 s")]
)
def test_a_host_whose_peer_does_not_come_says_so(tmp_path, rank, part):
    hosts = {"NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "JOIN_SECONDS": "1"}
    meeting = [
        "--nnodes=2",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{hosts['MASTER_PORT']}",
        "--rdzv-id=eqr",
    ]
    run = start("scripts/launch.py", *meeting, "--nproc_per_node=1", str(tmp_path / "never.py"), **hosts).end()
    [line] = run.stderr.split("\n")[1:-1]
    assert run.returncode == 1 and line.startswith("error: ") and part in line


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_tasks_of_srun_or_mpirun_do_not_each_train_on_their_own(monkeypatch, variable):
    monkeypatch.setenv(variable, "4")
    with pytest.raises(ValueError, match=f"{variable}=4 tasks would each do the whole work"):
        joining.place()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert joining.place() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK, this process's number, is not"):
        joining.place()
    monkeypatch.setenv("RANK", "1")
    assert joining.place() == (1, 2)
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ValueError, match="RANK should be a whole number from 0 on, but it is 'one'"):
        joining.place()


def agree(store: dist.Store, places: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """What processes agree on that come at these places: (number of the host, rank)."""
    answers: dict[int, tuple[int, str]] = {}

    def one(place: tuple[int, int]) -> None:
        answers[place[1]] = joining._agree(store, place, len(places), 60.0)

    threads = [threading.Thread(target=one, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[rank] for rank in range(len(places))]


def test_processes_that_start_again_agree_anew_whatever_the_store_still_holds():
    store = dist.HashStore()
    first, second = agree(store, [(0, 0), (0, 1), (0, 2)]), agree(store, [(1, 1), (0, 2), (1, 0)])
    assert [number for number, _ in first] == [0, 1, 2]
    assert [number for number, _ in second] == [1, 2, 0], "those of host 0 come first"
    assert len({name for _, name in first}) == len({name for _, name in second}) == 1 and first[0][1] != second[0][1]


def test_a_process_that_does_not_come_is_named():
    store = dist.HashStore()
    with pytest.raises(ConnectionError, match="of 3 processes 1, 2 did not come within 0.1 s"):
        joining._agree(store, (0, 0), 3, 0.1)


def test_a_host_that_falls_silent_is_found():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    heartbeats = Heartbeats(store, 0, 3, interval=0.01)
    store.add("heartbeat/2", 1)  # host 1 has not come yet
    heartbeats.start()
    until(lambda: heartbeats.silent(0.2) == 2, 60, "not found")
    until(lambda: store.add("heartbeat/2", 1) and heartbeats.silent(0.5) is None, 60, "not heard of again")
    assert store.add("heartbeat/0", 0) > 1 and heartbeats.silent(60) is None


SLURM = {
    "SLURM_JOB_ID": "34",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_ARRAY_JOB_ID": "30",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_COUNT": "4",
}


def slurm(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What scripts/slurm.sh would run."""
    environment = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": sys.prefix, "DRY_RUN": "1", **SLURM, **more}
    script = ["bash", str(ROOT / "scripts" / "slurm.sh"), *words]
    return subprocess.run(script, capture_output=True, text=True, env=environment, timeout=60)


def launched(line: str) -> tuple[dict[str, str], list[str]]:
    """The variables and the words of the script that srun starts on every host."""
    words = shlex.split(line)
    assert words[:2] == ["srun", "--ntasks=2"] and "--ntasks-per-node=1" in words
    variables = dict(word.split("=", 1) for word in words[words.index("env") + 1 : words.index("bash")])
    assert words[words.index("bash") + 2] == 'NODE_RANK=$SLURM_NODEID exec bash "$@"'
    return variables, words[words.index("launcher") + 1 :]


def test_a_slurm_job_over_several_hosts():
    train, again = slurm("train", "eqr_sudoku", "lr=3e-4").stdout.splitlines()
    variables, words = launched(train)
    assert variables["NNODES"] == "2" and variables["NPROC_PER_NODE"] == "8" and variables["MASTER_ADDR"]
    assert words == ["scripts/train.sh", "eqr_sudoku", "lr=3e-4", "run_dir=outputs/slurm-34"]
    assert again.split() == ["scontrol", "requeue", "34"], "until the run is complete"
    hour = str(int(time.time()) + 3600)
    timed = slurm("train", "eqr_sudoku", SLURM_JOB_END_TIME=hour).stdout.splitlines()[0]
    assert 3200 < int(launched(timed)[1][-1].removeprefix("max_seconds=")) <= 3300


def test_a_slurm_array_of_shards_and_its_merging():
    words = ["evaluate", "CHECKPOINT", "eval_dir=full"]
    merge, first = slurm(*words, SLURM_ARRAY_TASK_ID="1").stdout.splitlines()
    assert merge.split() == ["sbatch", "--dependency=afterok:30", "scripts/slurm.sh", "merge", "full"]
    assert launched(first)[1] == ["scripts/eval.sh", "CHECKPOINT", "eval_dir=full", "shard=1/4"]
    [third] = slurm(*words, SLURM_ARRAY_TASK_ID="3").stdout.splitlines()
    assert launched(third)[1][-1] == "shard=3/4"
    assert slurm("merge", "full").stdout.split()[1:] == ["-m", "evaluation.merge", "full"]
    assert "eval_dir=FOLDER" in slurm(*words[:2], SLURM_ARRAY_TASK_ID="1").stderr


def test_a_slurm_array_over_a_sweep():
    for sweep in sorted((ROOT / "config" / "sweep").glob("*.yaml")):
        runs = yaml.safe_load(sweep.read_text())
        for number, run in enumerate(runs, start=1):
            line = slurm("sweep", str(sweep), "seed=1", SLURM_ARRAY_TASK_ID=str(number)).stdout.splitlines()[0]
            expected = ["scripts/train.sh", *run.split(), "seed=1", f"run_dir=outputs/slurm-30/{number}"]
            assert launched(line)[1] == expected
            name, *words = run.split()
            load_pretrain([f"train={name}", *words])
        none = slurm("sweep", str(sweep), SLURM_ARRAY_TASK_ID=str(len(runs) + 1))
        assert none.returncode == 1 and f"has {len(runs)} runs: submit with --array=1-{len(runs)}" in none.stderr
    line = slurm("sweep", "eqr_sudoku,trm_sudoku", SLURM_ARRAY_TASK_ID="2").stdout.splitlines()[0]
    assert launched(line)[1][1] == "trm_sudoku"
