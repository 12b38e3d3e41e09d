"""One step of training, and what lasts from step to step: weights, optimizer, average, slots."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from config.schema import PretrainConfig
from dataset.puzzles import Batch, TrainingBatches
from models.halting import continue_target, halt
from models.kernels.graph import Graphed
from models.losses import Metrics, step_loss
from models.reasoner import Reasoner, State
from runtime import checkpoint
from runtime.checkpoint import Checkpoint
from runtime.distributed import World
from runtime.fit import require_finite, require_slots
from runtime.versions import versions
from training.ema import EMA
from training.optim import OPTIMIZERS, SignSGD, kept_of_a_parameter, learning_rate


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seeds every device, so that the random draws of a step depend on (seed, step, rank) alone."""
    torch.manual_seed(int(np.random.SeedSequence([1, seed, step, rank]).generate_state(1, np.uint64)[0] >> 1))


class Trainer:
    """A model in training: its optimizers, average, slots and step.

    `states` holds this process's rows of the global batch, as one State for each gradient accumulation step. With
    `graphs`, one CUDA graph runs the forward and backward pass of such a piece.
    """

    def __init__(
        self, config: PretrainConfig, model: Reasoner, batches: TrainingBatches, world: World, graphs: bool = False
    ) -> None:
        self.config, self.model, self.batches, self.world = config, model, batches, world
        self.total_steps = batches.steps(config.epochs)
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        named: dict[str, nn.Parameter] = dict(model.named_parameters())
        puzzle_table = named.pop("puzzle_emb.weights", None)
        self.names: dict[Tensor, str] = {p: name for name, p in named.items()}
        self.optimizer = OPTIMIZERS[config.optimizer](named.values(), config)
        decay = config.puzzle_emb_weight_decay
        self.puzzle_optimizer = None if puzzle_table is None else SignSGD(puzzle_table, decay, world)
        self.ema = EMA(named, config.ema_rate) if config.ema else None
        self.step = 0
        self.states: list[State] = []
        self.backward: Callable[[State, Batch], tuple[State, Metrics]] = self._backward
        if graphs:
            self.backward = Graphed(self._backward, model)

    def summary(self) -> str:
        """The run in one line. Its number of parameters leaves out the table of puzzle embeddings."""
        config = self.config
        parameters, rows = sum(p.numel() for p in self.names), config.rows_per_rank(self.world.size)
        return (
            f"{config.run_name}: {parameters:,} parameters, {self.total_steps} steps of "
            f"{config.global_batch_size} rows ({rows} a process) on {self.world.device}, from step {self.step}"
        )

    # -- one step ----------------------------------------------------------------------------------

    def train_step(self) -> Metrics:
        """Runs one outer iteration of every slot, then one update. Returns this process's sums of metrics."""
        config, world = self.config, self.world
        seed_step(config.seed, self.step, world.rank)
        pieces = self._pieces(self.batches.batch(self.step))
        if not self.states:
            self.states = [self.model.start(piece) for piece in pieces]
        sums: Metrics = {}
        for i, (state, piece) in enumerate(zip(self.states, pieces, strict=True)):
            self.states[i], metrics = self.backward(state, piece)
            sums = {name: sums.get(name, 0) + value for name, value in metrics.items()}
        self.step += 1
        self._update()
        return sums

    def _pieces(self, batch: Batch) -> list[Batch]:
        n = self.config.gradient_accumulation_steps
        return [Batch(*fields) for fields in zip(*(t.chunk(n) for t in batch), strict=True)]

    def _backward(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        arch = self.config.arch
        state, readout = self.model.step(state, batch)
        target = continue_target(self.model, state, arch) if arch.q_continue and arch.learned_halting else None
        state = halt(state, readout, arch)
        loss, metrics = step_loss(readout, state, arch, target)
        (loss / self.config.global_batch_size).backward()  # type: ignore[no-untyped-call]
        return state, metrics

    def _update(self) -> None:
        config = self.config
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.world.sum_(p.grad for p in parameters if p.grad is not None)
        if config.grad_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip_norm)
        self.optimizer.param_groups[0]["lr"] = self.rate(config.lr)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)  # a graph adds to what is there
        if self.puzzle_optimizer is not None:
            puzzle_ids = torch.cat([state.puzzle_ids for state in self.states])
            self.puzzle_optimizer.step(puzzle_ids, self.rate(config.puzzle_emb_lr))
        if self.ema is not None:
            self.ema.update()

    def rate(self, base: float) -> float:
        """The learning rate of the current step."""
        config = self.config
        shape = (config.lr_warmup_steps, config.lr_min_ratio, config.lr_decay_steps)
        return learning_rate(self.step, self.total_steps, base, *shape)

    # -- checkpoints -------------------------------------------------------------------------------

    def save(self, path: Path, slots: bool) -> None:
        """Writes a checkpoint. All processes call this, and the main one writes.

        Raises:
            ValueError: a weight is not finite. The last good checkpoint stays.
        """
        gathered = self._gathered_slots() if slots else None
        if not self.world.is_main:
            return
        content = Checkpoint(
            step=self.step,
            config=self.config,
            puzzle_shape=self.batches.puzzles.shape,
            model=self.model.state_dict(),
            ema=self.ema.shadow if self.ema else None,
            optimizer=checkpoint.optimizer_moments(self.optimizer, self.names),
            slots=gathered,
            versions=versions(),
        )
        checkpoint.save(path, content)

    def _gathered_slots(self) -> State | None:
        if not self.states:
            return None
        latents = tuple(
            self.world.gather_rows(torch.cat(parts))
            for parts in zip(*(state.latents for state in self.states), strict=True)
        )
        fields = zip(*(state[1:] for state in self.states), strict=True)
        return State(latents, *(self.world.gather_rows(torch.cat(parts)) for parts in fields))

    def restore(self, saved: Checkpoint, origin: str) -> bool:
        """Goes on from a checkpoint. Returns False if it holds no slots, so that every row starts anew.

        Raises:
            ValueError: the checkpoint does not fit, or was trained on puzzles of another shape.
        """
        learned, given = saved.puzzle_shape, self.batches.puzzles.shape
        if learned != given:
            raise ValueError(
                f"{origin} was trained on puzzles of {learned.seq_len} tokens out of {learned.vocab_size} with "
                f"{learned.num_puzzle_identifiers} identifiers, but these have {given.seq_len} out of "
                f"{given.vocab_size} with {given.num_puzzle_identifiers}: start from its weights (load_checkpoint), "
                "or give its data"
            )
        checkpoint.put(self.model, saved.model, origin)
        kept = kept_of_a_parameter(self.config, self.world.device)
        without = () if self.config.arch.learned_halting else ("q_head.weight", "q_head.bias")
        checkpoint.put_optimizer_moments(self.optimizer, self.names, saved.optimizer, kept, without, origin)
        if self.ema is not None:
            if saved.ema is None:
                raise ValueError(f"{origin} holds no average of the weights, which ema=true needs")
            require_finite({f"ema/{name}": t for name, t in saved.ema.items()}, origin)
            for name, shadow in self.ema.shadow.items():
                shadow.copy_(saved.ema[name])
        self.step = saved.step
        if saved.slots is None:
            return False
        fresh = self.model.start(self.batches.puzzles.rows(np.zeros(1, np.int64)))
        require_slots(saved.slots, fresh, self.config.global_batch_size, given, self.config.arch.halt_max_steps, origin)
        rows = self.config.rows_per_rank(self.world.size)
        mine = slice(self.world.rank * rows, (self.world.rank + 1) * rows)
        n, device = self.config.gradient_accumulation_steps, self.world.device

        def parts(t: Tensor) -> tuple[Tensor, ...]:
            return t[mine].to(device).chunk(n)

        latents = list(zip(*(parts(z) for z in saved.slots.latents), strict=True))
        fields = list(zip(*(parts(t) for t in saved.slots[1:]), strict=True))
        self.states = [State(z, *f) for z, f in zip(latents, fields, strict=True)]
        return True
