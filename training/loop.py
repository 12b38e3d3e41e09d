"""The training loop. One step is one outer iteration of every slot ("segment-wise online training")."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from config.system import ENDING, SIGALRM, signals
from models.losses import Metrics
from runtime import joining
from runtime.run_log import read_metrics
from training.log import MetricsLog
from training.trainer import Trainer

LOSSES = ("lm_loss", "q_halt_loss", "q_continue_loss", "total_loss")

ASKING_SECONDS = 5.0
"""Seconds after which several processes ask each other whether one of them should stop, at most once a step."""

ONE_REQUEST = 3.0
"""Seconds within which signals of one kind are one request: whoever sends them may do so in two ways."""

Evaluate = Callable[[int | None, Callable[[], None]], dict[str, float]]
"""Evaluates the model on so many puzzles (None: all). Calls the function now and then; the function may raise."""


class Stopped(SystemExit):
    """A signal came, or max_seconds passed (SIGALRM). The run was saved and can go on.

    The exit code is 128 + the signal's number, or 0 after max_seconds.
    """

    def __init__(self, number: int) -> None:
        super().__init__(0 if number == SIGALRM else 128 + number)


@contextmanager
def _noting_signals(seconds: float | None) -> Iterator[list[int]]:
    """Within this block a list notes SIGINT, SIGTERM and SIGHUP, and after so many seconds SIGALRM, as if it came.

    A signal that comes again after ONE_REQUEST acts as it did before, but not under torchrun, whose agent passes on
    what it gets itself. If the program ignores SIGHUP (nohup), it still does.
    """
    noted: list[int] = []
    first: dict[int, float] = {}
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (*ENDING, *signals("SIGALRM"))}
    for ignored in [number for number in signals("SIGHUP") if before[number] is signal.SIG_IGN]:
        del before[ignored]

    def note(number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if now - first.setdefault(number, now) <= ONE_REQUEST or joining.watched():
            noted.append(number)
        else:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    alarm = threading.Timer(min(seconds or 0, threading.TIMEOUT_MAX), noted.append, [SIGALRM])
    alarm.daemon = True
    if seconds:
        alarm.start()
    try:
        yield noted
    finally:
        alarm.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def train(trainer: Trainer, directory: Path, evaluate: Evaluate, test_puzzles: int) -> dict[str, float]:
    """Trains to the end, and writes metrics and checkpoints into `directory`. Returns the last evaluation.

    Args:
        trainer: the model in training.
        directory: the run's folder.
        evaluate: evaluates the model.
        test_puzzles: how many there are in all. Evaluations on the way take at most `eval_puzzles` of them.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came, or max_seconds passed. The run was saved.
        ValueError: a loss or weight is not finite.
    """
    with _noting_signals(trainer.config.max_seconds) as noted:
        return _Run(trainer, directory, evaluate, test_puzzles, noted).run()


class _Run:
    """What `train` keeps between steps: sums since the last look (the window), the bar, the best accuracy so far."""

    def __init__(
        self, trainer: Trainer, directory: Path, evaluate: Evaluate, test_puzzles: int, noted: list[int]
    ) -> None:
        self.trainer, self.directory, self.evaluate, self.noted = trainer, directory, evaluate, noted
        self.config, self.world = trainer.config, trainer.world
        self.puzzles = min(self.config.eval_puzzles, test_puzzles)
        self.subset = None if self.puzzles == test_puzzles else self.puzzles
        main = self.world.is_main
        self.log = MetricsLog(directory, self.config, trainer.step) if main else None
        self.bar = tqdm(
            total=trainer.total_steps, initial=trainer.step, disable=not main, unit="step", dynamic_ncols=True
        )
        self.best, self.evaluated = self._so_far()
        self.asked, self.asked_time, self.patience = trainer.step, time.perf_counter(), 1
        self._open_window()

    def run(self) -> dict[str, float]:
        trainer, config = self.trainer, self.config
        values: dict[str, float] = {}
        try:
            while True:
                if self._evaluation_due() and trainer.step > self.evaluated:  # also if a stop cut one off
                    whole = self.subset is None and trainer.step >= trainer.total_steps
                    values = self._evaluate(self.subset, "eval", *["final"] * whole)
                if trainer.step >= trainer.total_steps:
                    break
                self._add(trainer.train_step())
                saving = self._due(config.checkpoint_interval_steps) or self._evaluation_due()
                if self._due(config.log_interval_steps) or saving or self._stopped():
                    self._look()
                if saving:
                    self._save("last")
            return values if values and self.subset is None else self._evaluate(None, "final")
        finally:
            self.bar.close()
            if self.log is not None:
                self.log.close()

    def _due(self, interval: int | None) -> bool:
        return interval is not None and self.trainer.step % interval == 0

    def _evaluation_due(self) -> bool:
        return self._due(self.config.eval_interval_steps) or self.trainer.step >= self.trainer.total_steps

    def _stopped(self) -> bool:
        """Whether to look now because a signal came. Several processes ask each other every ASKING_SECONDS."""
        if self.world.size == 1:
            return bool(self.noted)
        steps = self.trainer.step - self.asked
        if steps < self.patience:
            return False
        seconds = time.perf_counter() - self.asked_time
        answers = self.world.gather_objects((seconds / steps, bool(self.noted)))
        self.patience = max(1, int(ASKING_SECONDS / max(seconds for seconds, _ in answers)))
        self.asked, self.asked_time = self.trainer.step, time.perf_counter()
        return any(noted for _, noted in answers)

    def _stop_if_noted(self) -> None:
        """Ends an evaluation if a signal came; the run was saved before it. Several processes finish theirs instead."""
        if self.world.size == 1 and self.noted:
            raise Stopped(self.noted[0])

    def _open_window(self) -> None:
        self.sums: Metrics = {}
        self.bad_step = torch.tensor(-1, device=self.world.device)
        self.window_start, self.window_time = self.trainer.step, time.perf_counter()

    def _add(self, metrics: Metrics) -> None:
        self.sums = {name: self.sums.get(name, 0) + value for name, value in metrics.items()}
        fine = torch.isfinite(metrics["total_loss"]) | (self.bad_step >= 0)
        self.bad_step = torch.where(fine, self.bad_step, self.trainer.step)

    def _look(self) -> None:
        """Reads the window's sums off the device. Nothing else in the loop waits for the device."""
        names = sorted(self.sums)
        stop = torch.tensor(float(self.noted[0] if self.noted else 0), device=self.world.device)
        values = torch.stack([*(self.sums[name].float() for name in names), self.bad_step.float() + 1.0, stop])
        table = [t.tolist() for t in self.world.gather_rows(values[None])]
        total: dict[str, float] = {
            name: sum(column) for name, column in zip(names, zip(*table, strict=True), strict=False)
        }
        bad_steps = [int(row[-2]) - 1 for row in table if row[-2] > 0]
        signals = [int(row[-1]) for row in table if row[-1] > 0]
        if bad_steps:
            raise ValueError(f"the loss of step {min(bad_steps)} is not finite")
        self._report(total)
        if signals:
            self._save("last")
            raise Stopped(signals[0])
        self._open_window()

    def _report(self, total: dict[str, float]) -> None:
        steps = self.trainer.step - self.window_start
        if self.log is None or not steps:
            return
        rows = steps * self.config.global_batch_size
        seconds = time.perf_counter() - self.window_time
        count = total["count"]
        values = {f"train/{name}": total[name] / rows for name in LOSSES if name in total}
        values["train/halted"] = count / rows
        if count:
            means = ("accuracy", "exact_accuracy", "q_halt_accuracy", "steps")
            values |= {f"train/{name}": total[name] / count for name in means}
        values |= {"train/lr": self.trainer.rate(self.config.lr), "train/samples_per_second": rows / seconds}
        values["train/process_seconds"] = seconds * self.world.size
        self.log.write(self.trainer.step, values)
        shown = {"loss": f"{values['train/lm_loss']:.3f}", "samples/s": f"{rows / seconds:.0f}"}
        if count:
            shown["exact"] = f"{values['train/exact_accuracy']:.1%}"
            shown["mean steps"] = f"{values['train/steps']:.1f}"
        self.bar.set_postfix(shown)
        self.bar.update(self.trainer.step - self.bar.n)

    def _save(self, name: str) -> None:
        keep_slots = name == "last" and self.config.checkpoint_latents
        self.trainer.save(self.directory / f"{name}.safetensors", keep_slots)

    def _evaluate(self, puzzles: int | None, *groups: str) -> dict[str, float]:
        """Evaluates the averaged weights on a fixed subset, or on all puzzles (None). Keeps the best checkpoint.

        `groups` are the metrics' groups in the log, "eval" and "final".
        """
        started = time.perf_counter()
        with self.trainer.ema.applied() if self.trainer.ema else nullcontext():
            values = self.evaluate(puzzles, self._stop_if_noted)
        exact, size = values["all/exact_accuracy"], int(values["puzzles"])
        if "eval" in groups and exact >= self.best:
            self.best = exact
            self._save("best")
        if self.log is not None:
            logged = {f"{group}/{name}": value for group in groups for name, value in values.items()}
            self.log.write(self.trainer.step, logged | {"eval/best": self.best if self.best >= 0 else math.nan})
            which = "all" if puzzles is None else "a fixed subset of"
            message = f"step {self.trainer.step}: exact accuracy {exact:.2%} on {which} {size} test puzzles"
            if math.isnan(exact):
                message = f"step {self.trainer.step}: no answer to {which} {size} test puzzles is known"
            tqdm.write(f"{message} ({time.perf_counter() - started:.1f} s)", file=sys.stderr)
        self._open_window()
        return values

    def _so_far(self) -> tuple[float, int]:
        """The best accuracy of a run that goes on, on as many puzzles, and its last evaluated step, from its log."""
        best, step = -1.0, 0
        if self.log is not None:
            for values in read_metrics(self.log.file):
                if "eval/best" in values:
                    step = values["step"]
                for group in ("eval", "final"):
                    exact = values.get(f"{group}/all/exact_accuracy")
                    if values.get(f"{group}/puzzles") == self.puzzles and exact is not None:
                        best = max(best, exact)
        so_far: tuple[float, int] = self.world.from_main((best, step))
        return so_far
