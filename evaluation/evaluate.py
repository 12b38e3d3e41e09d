"""Evaluate a model in depth and breadth: all depths are read off the same trajectories.

The work is cut into units of whole puzzles whose trajectories run together. A unit's random draws are a
function of (seed, unit), and sums are added in the order of units, so that any number of processes
reports the same numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from dataset.puzzles import Batch, Puzzles, evenly_spread
from evaluation import metrics
from evaluation.metrics import Sums
from evaluation.trajectory import Residuals, trajectory
from models.act import answers
from models.losses import TOKEN_LOSSES
from models.reasoner import Readout, Reasoner, State
from training.distributed import World


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Args:
        depths: outer iterations to report at.
        breadth: trajectories a puzzle.
        top_k: how many of the best converged trajectories are kept (None: that selection is not reported).
        window: changes of the logits that the convergence score averages over.
        rows: trajectories that a device works on at a time.
        seed: of all random draws.
        perturb_std: scale of the noise added to the latents once an outer iteration.
        loss_type: the token loss that is reported (config.schema.Loss).
    """

    depths: list[int]
    breadth: int = 1
    top_k: int | None = None
    window: int = 3
    rows: int = 768
    seed: int = 0
    perturb_std: float = 0.0
    loss_type: str = "stablemax_cross_entropy"


@dataclass(frozen=True)
class Seen:
    """R trajectories at one depth: per-row values by name, answers, halting logits and convergence scores."""

    values: dict[str, np.ndarray]  # each [R] float64
    predictions_RS: np.ndarray
    q_halt_R: np.ndarray
    scores_R: np.ndarray  # NaN where there is none


Observe = Callable[[int, np.ndarray, Seen], None]
"""Is shown, for every depth, the trajectories of whole puzzles: (depth, the example of each [R], what was seen)."""


def _latent_statistics(state: State) -> dict[str, Tensor]:
    """How the two latents lie and how they relate: statistics over D of every position, averaged, each [R].

    Nothing for models that do not carry two latents of one shape.
    """
    if len(state.latents) != 2:
        return {}
    z_H, z_L = (z.float() for z in state.latents)

    def centred(z: Tensor) -> Tensor:
        return z - z.mean(-1, keepdim=True)

    by_position = {
        "zH_mean": z_H.mean(-1),
        "zH_std": z_H.std(-1),
        "zL_mean": z_L.mean(-1),
        "zL_std": z_L.std(-1),
        "zH_zL_cos_sim": F.cosine_similarity(z_H, z_L, dim=-1),
        "zH_zL_pearson": F.cosine_similarity(centred(z_H), centred(z_L), dim=-1),
    }
    return {name: value.mean(1) for name, value in by_position.items()}


def _look(state: State, readout: Readout, residuals: Residuals, loss_type: str, real: int) -> Seen:
    """Everything that is measured of the first `real` rows."""
    labels = state.labels
    accuracy, right = answers(readout, labels)
    lm_loss = TOKEN_LOSSES[loss_type](readout.logits, labels).sum(-1) / (labels >= 0).sum(-1).clamp(min=1)
    q_halt_loss = F.binary_cross_entropy_with_logits(readout.q_halt, right.float(), reduction="none")
    values = {
        "accuracy": accuracy,
        "exact_accuracy": right,
        "q_halt_accuracy": (readout.q_halt >= 0) == right,
        "steps": state.steps,
        "lm_loss": lm_loss,
        "q_halt_loss": q_halt_loss,
        "total_loss": lm_loss + 0.5 * q_halt_loss,
        **_latent_statistics(state),
    }
    last, score = residuals.last(), residuals.score()
    if last is not None:
        values["residual"] = last
    rows = len(accuracy)
    return Seen(
        {name: value[:real].double().cpu().numpy() for name, value in values.items()},
        readout.logits[:real].argmax(-1).short().cpu().numpy(),
        readout.q_halt[:real].double().cpu().numpy(),
        np.full(rows, np.nan)[:real] if score is None else score[:real].double().cpu().numpy(),
    )


def _run_rows(model: Reasoner, batch: Batch, settings: Settings, real: int) -> dict[int, Seen]:
    """One set of trajectories to the largest depth, looked at at every wanted depth."""
    residuals = Residuals(settings.window)
    seen: dict[int, Seen] = {}
    steps = trajectory(model, batch, max(settings.depths), settings.perturb_std)
    for depth, (state, readout) in enumerate(steps, start=1):
        residuals.add(readout.logits)
        if depth in settings.depths:
            seen[depth] = _look(state, readout, residuals, settings.loss_type, real)
    return seen


def _sums(seen: Seen, labels_NS: np.ndarray, settings: Settings) -> Sums:
    """The metrics of N whole puzzles, B trajectories each."""
    N, B = len(labels_NS), settings.breadth
    sums: Sums = {f"all/{name}": (float(value.sum()), N * B) for name, value in seen.values.items()}
    if B > 1:
        predictions_NBS = seen.predictions_RS.reshape(N, B, -1)
        sums |= metrics.breadth(predictions_NBS, labels_NS)
        if settings.top_k is not None:
            scores_NB = seen.scores_R.reshape(N, B)
            sums |= metrics.convergence_top_k(predictions_NBS, labels_NS, scores_NB, settings.top_k)
    return sums


def _chunks(total: int, rows: int) -> Iterator[slice]:
    for begin in range(0, total, rows):
        yield slice(begin, min(begin + rows, total))


def _unit(
    model: Reasoner,
    puzzles: Puzzles,
    examples: np.ndarray,
    settings: Settings,
    rows: int,
    observe: Observe | None,
) -> dict[int, Sums]:
    """All trajectories of a few whole puzzles, `rows` at a time."""
    trajectories = np.repeat(examples, settings.breadth)
    parts: list[dict[int, Seen]] = []
    for chunk in _chunks(len(trajectories), rows):
        mine = trajectories[chunk]
        filled = np.concatenate([mine, np.repeat(mine[:1], rows - len(mine))])  # the same shape every time
        parts.append(_run_rows(model, puzzles.rows(filled), settings, len(mine)))
    labels_NS = puzzles.rows(examples).labels.cpu().numpy()
    sums: dict[int, Sums] = {}
    for depth in settings.depths:
        at_depth = [part[depth] for part in parts]
        whole = Seen(
            {name: np.concatenate([s.values[name] for s in at_depth]) for name in at_depth[0].values},
            np.concatenate([s.predictions_RS for s in at_depth]),
            np.concatenate([s.q_halt_R for s in at_depth]),
            np.concatenate([s.scores_R for s in at_depth]),
        )
        if observe is not None:
            observe(depth, trajectories, whole)
        sums[depth] = _sums(whole, labels_NS, settings)
    return sums


def evaluate(
    model: Reasoner,
    data: Puzzles,
    settings: Settings,
    world: World,
    puzzles: int | None = None,
    progress: bool = False,
    observe: Observe | None = None,
    between: Callable[[], None] | None = None,
) -> dict[int, dict[str, float]]:
    """Metrics by depth. `puzzles` limits the evaluation to so many, evenly spread over the data.

    `observe` is shown every trajectory that this process runs; `between` is called between batches, and may
    raise to end the evaluation.

    Returns for each depth the released programs' names (`all/...`, and for breadth > 1 `different_init/...`,
    `majority_vote/...`, `convergence_top_k/...`), `all/residual`, and `puzzles`, the number evaluated.
    """
    model.eval()
    examples = evenly_spread(len(data), puzzles)
    rows = min(settings.rows, len(examples) * settings.breadth)
    per_unit = max(1, rows // settings.breadth)
    units = list(enumerate(_chunks(len(examples), per_unit)))
    done: list[tuple[int, dict[int, Sums]]] = []
    for unit, chunk in tqdm(units[world.rank :: world.size], disable=not (progress and world.is_main), unit="batch"):
        if between is not None:
            between()
        stream = np.random.SeedSequence([2, settings.seed, unit]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(stream >> 1))
        done.append((unit, _unit(model, data, examples[chunk], settings, rows, observe)))
    model.train()
    everyone = [part for parts in world.gather_objects(done) for part in parts]
    everyone.sort(key=lambda part: part[0])
    return {
        depth: _finished(metrics.merge([sums[depth] for _, sums in everyone]), len(examples), settings)
        for depth in settings.depths
    }


def _finished(sums: Sums, puzzles: int, settings: Settings) -> dict[str, float]:
    found = metrics.means(sums)
    found["puzzles"] = puzzles
    if settings.breadth > 1:
        found |= {"different_init/n": settings.breadth, "different_init/total_samples": puzzles}
        found["majority_vote/num_samples"] = puzzles
        if settings.top_k is not None:
            found |= {"convergence_top_k/k": settings.top_k, "convergence_top_k/total_samples": puzzles}
    return found
