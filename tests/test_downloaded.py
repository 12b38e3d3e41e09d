"""What a user of the authors' repository does first: evaluate the published checkpoints with their recipe.

The files here have the published shapes and random weights.
"""

import numpy as np
import pytest
from conftest import results_of

import evaluate
from config.load import load_pretrain
from dataset.layout import puzzle_split, write_dataset
from dataset.puzzles import PuzzleShape
from models.build import build
from runtime import checkpoint
from runtime.checkpoint import Checkpoint
from runtime.released import export

FILES = {
    "sudoku-extreme/eqr.pth": ("eqr_sudoku_published", PuzzleShape(81, 11, 1), 5_028_866),
    "maze-unique/eqr.pth": ("eqr_maze_unique_published", PuzzleShape(900, 6, 1), 263_938),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_checkpoint_is_evaluated_by_the_authors_recipe(name, tmp_path, capsys):
    experiment, shape, parameters = FILES[name]
    config = load_pretrain([f"train={experiment}"])
    model = build(config.arch, shape)
    counts = [p.numel() for key, p in model.named_parameters() if key != "puzzle_emb.weights"]
    assert sum(counts) == parameters
    saved = Checkpoint(135_000, config, shape, model.state_dict(), None, {}, None, {})
    checkpoint.save(tmp_path / "last.safetensors", saved)
    file = tmp_path / "downloaded_checkpoints" / name
    file.parent.mkdir(parents=True)
    export(tmp_path / "last.safetensors", file)
    tokens_2ES = np.random.default_rng(0).integers(1, shape.vocab_size, (2, 3, shape.seq_len)).astype(np.uint8)
    split = puzzle_split(*tokens_2ES, shape.vocab_size)
    write_dataset(tmp_path / "data", {"train": split, "test": split}, ["<blank>"])

    words = [f"checkpoint={file}", "eval=sudoku_lite_noise05", f"dataset_data_path={tmp_path / 'data'}"]
    few = ["halt_max_steps=2", "different_init=4", "max_puzzles=1", f"eval_dir={tmp_path / 'evaluation'}", "device=cpu"]
    evaluate.main([*words, *few])
    printed = capsys.readouterr().out
    assert printed.startswith(
        "1 puzzles, breadth 4, recipe sudoku_lite_noise05, but halt_max_steps=[2], different_init=4, max_puzzles=1\n"
    )
    assert "the authors' checkpoint, the first 2048 test puzzles, 5 seeds: best converged 99.19%" in printed
    results = results_of(tmp_path / "evaluation")
    assert results["step"] == 135_000 and results["settings"]["noise_scale"] == 0.5
    assert results["metrics"]["2"]["convergence_top_k/k"] == 4
