"""Kills trainings and evaluations at random moments, and compares what they end with. Damages files at random.

    python -m tests.campaign --kills 100 --signals 50 --restarts 20 --mutations 3000 [--seed 1]

Every job is started as a user starts it, with scripts/train.sh or scripts/eval.sh: in one process, in two, or on two
"hosts" of one process each, which are two launchers on this machine. Afterwards the same command goes on. What holds,
or the campaign ends with an AssertionError:

- whatever was killed, every process of the job has ended within a minute;
- a launcher that lives on says why in a line of its own, and its exit code is not 0;
- after a SIGTERM or SIGINT there is a checkpoint of that moment;
- the run or evaluation that goes on ends with the bits of one that was never killed, each step once in its log.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fuzz  # noqa: E402
import torch  # noqa: E402
from conftest import ENVIRONMENT, TINY, tiny_split  # noqa: E402
from forked import free_port  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from dataset.layout import write_dataset  # noqa: E402
from runtime import checkpoint  # noqa: E402
from runtime.run_log import read_metrics  # noqa: E402

MINUTE = 60.0
PATIENCE = 300.0
"""Seconds for what may take long on a busy machine: to start, and to end by itself."""
SETUPS = {"1 process": (1, 1), "2 processes": (1, 2), "2 hosts": (2, 1)}  # (hosts, processes on each)


class Job:
    """A script at work, on one host or several, with all the processes that it starts."""

    def __init__(self, *words: str, hosts: int = 1, processes: int = 1, **more: str) -> None:
        self.mark, self.folder = f"CAMPAIGN={uuid.uuid4().hex}", tempfile.TemporaryDirectory()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "OMPI_"))}
        environment |= ENVIRONMENT | dict([self.mark.split("=")]) | {"NPROC_PER_NODE": str(processes)} | more
        environment["VIRTUAL_ENV"] = sys.prefix
        if hosts > 1:
            environment |= {"NNODES": str(hosts), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        self.errors = [Path(self.folder.name, str(host)) for host in range(hosts)]
        self.hosts = []
        for host, errors in enumerate(self.errors):
            mine = environment | ({"NODE_RANK": str(host)} if hosts > 1 else {})
            with open(errors, "w") as file:
                command = ["bash", str(ROOT / "scripts" / words[0]), *words[1:]]
                self.hosts.append(
                    subprocess.Popen(
                        command, stdout=subprocess.DEVNULL, stderr=file, env=mine, cwd=ROOT, start_new_session=True
                    )
                )

    def processes(self) -> list[int]:
        """All processes that this job has started and that still run, orphans too."""
        return [pid for pid, environment in _environments() if self.mark in environment]

    def workers(self) -> list[int]:
        """Those that torchrun has started."""
        return workers(self.mark)

    def family(self, host: int) -> list[int]:
        """The processes of one host."""
        number = f"NODE_RANK={host}\0"
        return [pid for pid, words in _environments() if self.mark in words and f"\0{number}" in f"\0{words}"]

    def runs(self) -> bool:
        """Whether a process of this job still runs."""
        return any(host.poll() is None for host in self.hosts) or bool(self.processes())

    def end(self, seconds: float = PATIENCE) -> list[int]:
        """Waits for the end of all processes, and returns the exit codes of the launchers."""
        until(lambda: not self.runs(), seconds, f"a process goes on after {seconds} s")
        return [host.wait() for host in self.hosts]

    def said(self, host: int = 0) -> str:
        """What the launcher and the processes of a host wrote to stderr."""
        return self.errors[host].read_text()

    def clear(self) -> None:
        """Kills what is left."""
        send(signal.SIGKILL, self.processes())
        for host in self.hosts:
            host.wait()


def _environments() -> Iterator[tuple[int, str]]:
    """(process, its environment) of every process here that has not ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes():  # not a zombie
                yield int(folder.name), (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:
            pass  # ended meanwhile, or somebody else's


def workers(mark: str) -> list[int]:
    """The processes that torchrun has started with this mark, "NAME=VALUE", in their environment."""
    return sorted(pid for pid, words in _environments() if mark in words and "TORCHELASTIC_RUN_ID=" in words)


def send(number: int, processes: list[int]) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def until(holds: Callable[[], Any], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)


def step_of(run: Path) -> int:
    """The last step in a run's log."""
    file = run / "metrics.jsonl"
    lines = read_metrics(file) if file.is_file() else []
    return int(lines[-1]["step"]) if lines else 0


def wait_for_step(job: Job, run: Path, step: int) -> None:
    """Returns when a run has come to a step, or has ended."""
    until(lambda: step_of(run) >= step or not job.runs(), PATIENCE, f"{run} does not come to step {step}")


def same_tensors(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same tensors, to the bit."""
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[key].nan_to_num(7), b[key].nan_to_num(7)) for key in a)


def same_run(one: Path, other: Path) -> bool:
    """Whether two complete runs have the same checkpoints, evaluations and steps in their logs."""
    finals = [json.loads((run / "final.json").read_text()) for run in (one, other)]
    steps = [[line["step"] for line in read_metrics(run / "metrics.jsonl")] for run in (one, other)]
    tensors = all(same_tensors(one / f"{name}.safetensors", other / f"{name}.safetensors") for name in ("last", "best"))
    return tensors and finals[0] == finals[1] and steps[0] == steps[1]


class Place:
    """A folder with data, in which runs of a tiny model are made; each setup's run without kills is made once."""

    def __init__(self, folder: Path, steps: int = 120) -> None:
        self.folder, self.steps = folder, steps
        splits = {"train": tiny_split(40, 0, identifiers=3), "test": tiny_split(11, 1, identifiers=3)}
        write_dataset(folder / "tiny", splits, ["<blank>", "a", "b"])

    def train(self, run: Path, setup: tuple[int, int], **more: str) -> Job:
        """Starts, or goes on with, a training in the folder `run`."""
        words = [*TINY[1:], f"dataset.data_path={self.folder / 'tiny'}", f"run_dir={run}", f"max_steps={self.steps}"]
        words += ["epochs=100000", "checkpoint_interval_steps=5", "eval_interval_steps=40"]
        return Job("train.sh", "quickstart", *words, hosts=setup[0], processes=setup[1], **more)

    def whole(self, setup: tuple[int, int]) -> Path:
        """A run without kills. Two hosts of one process must end like one host of two."""
        run = self.folder / f"whole_{setup[0] * setup[1]}"
        if not run.is_dir():
            job = self.train(run, (1, setup[0] * setup[1]))
            assert job.end() == [0], job.said()
        return run


def note(done: Counter[str], what: str) -> None:
    """Counts something that was done, and says so."""
    done[what] += 1
    print(f"{done.total():5} {what}", file=sys.stderr, flush=True)


# -- what is killed -----------------------------------------------------------------------------------------------


def _all(number: int) -> Callable[[Job], None]:
    return lambda job: send(number, job.processes())


def _worker(job: Job) -> None:
    workers = job.workers()
    send(signal.SIGKILL, [random.choice(workers)] if workers else job.processes())


def _launcher(number: int) -> Callable[[Job], None]:
    return lambda job: send(number, [random.choice(job.hosts).pid])


def _host(job: Job) -> None:
    send(signal.SIGKILL, job.family(random.randrange(len(job.hosts))) if len(job.hosts) > 1 else job.processes())


KILLS: dict[str, Callable[[Job], None]] = {
    "SIGKILL to all processes": _all(signal.SIGKILL),
    "SIGTERM to all processes": _all(signal.SIGTERM),
    "SIGINT to all processes": _all(signal.SIGINT),
    "SIGTERM to a launcher": _launcher(signal.SIGTERM),
    "SIGINT to a launcher": _launcher(signal.SIGINT),
    "SIGKILL to a launcher": _launcher(signal.SIGKILL),
    "SIGKILL to a worker": _worker,
    "SIGKILL to a host": _host,
}


def kill(job: Job, run: Path, how: str) -> None:
    """Kills a training and checks what must hold afterwards."""
    before = step_of(run)
    KILLS[how](job)
    codes = job.end(MINUTE)
    said = [job.said(host) for host in range(len(job.hosts))]
    for code, text in zip(codes, said, strict=True):
        if code != -signal.SIGKILL and not (run / "final.json").is_file():
            lines = [line for line in text.splitlines() if line.startswith(("error: ", "stopped at step"))]
            assert code != 0 and lines and "Traceback" not in text, (how, code, text)
    if not how.startswith("SIGKILL") and before:
        saved = checkpoint.load(run, weights_only=True).step
        assert saved >= before, f"{how} at step {before} left a checkpoint of step {saved}: {said}"


def chain(place: Place, name: str, count: int, kills: list[str], done: Counter[str]) -> None:
    """Kills one training up to `count` times at random moments, and compares its end. Adds to `done` what it did."""
    setup, run = SETUPS[name], place.folder / uuid.uuid4().hex
    for _ in range(count):
        job, how = place.train(run, setup), random.choice(kills)
        try:
            if random.random() < 0.2 and how.startswith("SIGKILL"):
                time.sleep(random.uniform(0, 10))  # while it starts
            else:
                wait_for_step(job, run, step_of(run) + random.randint(1, 20))
                time.sleep(random.uniform(0, 0.3))
            kill(job, run, how)
        finally:
            job.clear()
        note(done, f"training, {name}: {how}")
        if (run / "final.json").is_file():
            break
    job = place.train(run, setup)
    assert job.end() == [0] * setup[0], job.said()
    assert same_run(run, place.whole(setup)), f"{run} differs from {place.whole(setup)}"
    shutil.rmtree(run)


def restarts(place: Place, name: str, count: int, done: Counter[str]) -> None:
    """Kills workers of one training. torchrun starts them again by itself, and has just one restart for each kill."""
    setup, run, begun = SETUPS[name], place.folder / uuid.uuid4().hex, 0.0
    job = place.train(run, setup, MAX_RESTARTS=str(count))
    try:
        for _ in range(count):
            until(lambda: _begun(run) > begun or not job.runs(), PATIENCE, "no restart")  # noqa: B023
            begun = _begun(run)
            wait_for_step(job, run, checkpoint.load(run, weights_only=True).step + 1 if _has_checkpoint(run) else 1)
            time.sleep(random.uniform(0, 0.1))
            assert job.workers(), f"the run ended after {step_of(run)} steps: {job.said()}"
            KILLS["SIGKILL to a worker"](job)
            note(done, f"training, {name}: SIGKILL to a worker, which starts again")
        assert job.end() == [0] * setup[0], [job.said(host) for host in range(setup[0])]
    finally:
        job.clear()
    assert same_run(run, place.whole(setup)), f"{run} differs from {place.whole(setup)}"
    shutil.rmtree(run)


def _begun(run: Path) -> float:
    """When the processes of now have begun to write into a run's folder; 0 before."""
    return (run / "config.yaml").stat().st_mtime if (run / "config.yaml").is_file() else 0.0


def _has_checkpoint(run: Path) -> bool:
    return (run / "last.safetensors").is_file()


def evaluations(place: Place, name: str, count: int, done: Counter[str]) -> None:
    """Kills one evaluation up to `count` times, and compares what the last one writes."""
    setup, results = SETUPS[name], []
    for kills in (0, count):
        folder = place.folder / uuid.uuid4().hex
        words = ["halt_max_steps=[4,64]", "different_init=64", "global_batch_size=64", f"eval_dir={folder}"]
        for number in range(kills + 1):
            job = Job("eval.sh", str(place.whole((1, 1))), *words, hosts=setup[0], processes=setup[1])
            try:
                if number < kills:
                    until(lambda: _units(folder) > number or not job.runs(), PATIENCE, "no unit")  # noqa: B023
                    time.sleep(random.uniform(0, 0.2))
                    KILLS[how := random.choice([how for how in KILLS if "SIGKILL" in how])](job)
                    job.end(MINUTE)
                    note(done, f"evaluation, {name}: {how}")
                else:
                    assert job.end() == [0] * setup[0], job.said()
            finally:
                job.clear()
            if (folder / "results.json").is_file():
                break
        results.append(json.loads((folder / "results.json").read_text())["metrics"])
        shutil.rmtree(folder)
    assert results[0] == results[1]


def _units(folder: Path) -> int:
    return sum(len(file.read_text().split()) for file in folder.glob("partial/units*.jsonl"))


# -- campaigns ----------------------------------------------------------------------------------------------------


def all_kinds(place: Place, count: int, done: Counter[str]) -> None:
    """Kills trainings and evaluations of every setup in every way, `count` times."""
    while (left := count - done.total()) > 0:
        name = random.choice(list(SETUPS))
        if random.random() < 0.25:
            evaluations(place, name, min(3, left), done)
        else:
            chain(place, name, min(4, left), list(KILLS), done)


def signals(place: Place, count: int, done: Counter[str]) -> None:
    """Stops trainings of two processes by signals to all processes together."""
    while (left := count - done.total()) > 0:
        chain(place, "2 processes", min(5, left), [how for how in KILLS if "to all" in how and "KILL" not in how], done)


def starting_again(place: Place, count: int, done: Counter[str]) -> None:
    """Kills workers of one training of two processes."""
    restarts(Place(place.folder / "longer", steps=10 * count + 40), "2 processes", count, done)


def mutations(place: Place, count: int, done: Counter[str]) -> None:
    """Damages files at random, and reads them (tests/fuzz.py)."""
    fuzz.campaign(place.folder / "damaged", count, done, random.getrandbits(32))


CAMPAIGNS = {"kills": all_kinds, "signals": signals, "restarts": starting_again, "mutations": mutations}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Kills trainings and evaluations, and compares what they end with.")
    for name, campaign in CAMPAIGNS.items():
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N", help=campaign.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would ours
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for name, campaign in CAMPAIGNS.items():
            done: Counter[str] = Counter()
            try:
                if count := getattr(arguments, name):
                    campaign(place, count, done)
            finally:
                for what, times in sorted(done.items()):
                    print(f"{times:4} {what}", flush=True)


if __name__ == "__main__":
    main()
