"""Publishes a checkpoint on the Hugging Face hub: python -m reproduction.publish CHECKPOINT --repo OWNER/NAME

It uploads the weights (averaged ones, if there are), the configuration and a model card, and an ONNX file if the
checkpoint has one beside it. The card's numbers come from the record of the run in results/runs/, which
`reproduction.record` writes.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from huggingface_hub import HfApi, get_token

from config.command import command
from dataset.download import one_sentence
from reproduction.commands import training_words
from reproduction.paper import read_paper
from reproduction.records import Record, chain, portable, read_records
from reproduction.ship import ship
from reproduction.table_text import evaluated, gpu_hours, steps
from runtime import checkpoint
from runtime.hub import require_repo

FILE = "last.safetensors"
_LICENSE = "apache-2.0"


def record_of(saved: checkpoint.Checkpoint, records: Sequence[Record]) -> Record | None:
    """The record of the run that ended with a checkpoint, or None."""
    config = portable(saved.config)
    return next((record for record in records if (record.config, record.steps) == (config, saved.step)), None)


def card(saved: checkpoint.Checkpoint, repo: str, records: Sequence[Record]) -> str:
    """The model card, in Markdown: use, data, recipe, numbers with standard errors, license."""
    arch, shape, record = saved.config.arch, saved.puzzle_shape, record_of(saved, records)
    parameters = sum(t.numel() for t in (saved.model | (saved.ema or {})).values())
    recipe = [
        f"- Configuration: `{saved.config.run_name}`, seed {saved.config.seed}, and all of it in `config.yaml`.",
        f"- Data: `{portable(saved.config).dataset.data_path}`, puzzles of {shape.seq_len} tokens out of "
        f"{shape.vocab_size}.",
    ]
    if record is None:
        recipe += [f"- Steps: {saved.step:,}."]
        numbers = "No evaluation of this checkpoint is recorded.\n"
    else:
        words = training_words(record, chain(record, records)[1:], f"RUN_DIR_OF_{record.after}")
        recipe += [
            f"- Steps: {steps(record, records)}, in {gpu_hours(record, records):.2f} GPU hours on {record.hardware}.",
            f"- Command, at commit `{record.commit}`: `bash scripts/train.sh {shlex.join(words)}`",
            *[f"- {record.note}"] * bool(record.note),
        ]
        numbers = evaluated(read_paper(), [record])
    return "\n".join(
        [
            f"---\nlicense: {_LICENSE}\nlibrary_name: equilibrium-reasoners",
            f"tags: [{arch.name}, reasoning, puzzles]\n---",
            f"\n# {repo.split('/')[1]}\n",
            f"A model of the kind {arch.name} with {parameters:,} parameters, by Equilibrium Reasoners in PyTorch.",
            "\n## Use\n",
            "```bash",
            f"python solve.py PUZZLE --checkpoint hf://{repo}",
            f"bash scripts/eval.sh hf://{repo}",
            "```\n",
            "```python",
            "from solving import Solver\n",
            f'solver = Solver.from_pretrained("{repo}")',
            "```",
            "\n## Data and recipe\n",
            *recipe,
            "\n## Numbers\n",
            numbers,
            "## License\n",
            f"{_LICENSE}\n",
        ]
    )


def write(source: Path, folder: Path, repo: str) -> None:
    """Writes what is published into a folder: weights, configuration and card, and an ONNX file if `source` has one.

    Raises:
        ValueError: `source` is no checkpoint of ours, or what exports it is not installed.
    """
    saved = checkpoint.load(source, weights_only=True)
    text = card(saved, repo, read_records())
    ship(source, folder / FILE)
    values = portable(saved.config).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    (folder / "README.md").write_text(text)
    if checkpoint.resolve(source).with_suffix(".onnx").is_file():
        _write_graph(folder / FILE)


def _write_graph(file: Path) -> None:
    """Writes the ONNX file of a checkpoint beside it. It has the place of each weight, so a copy would not do."""
    try:
        from solving.export import graph_only, iteration
    except ModuleNotFoundError as error:
        raise ValueError(f"to export the ONNX file anew takes {error.name}: pip install -e '.[export]'") from None
    file.with_suffix(".onnx").write_bytes(graph_only(iteration(str(file)), file).SerializeToString())


def publish(source: Path, repo: str) -> str:
    """Uploads a checkpoint, and returns the address of the new version. It makes the repository if there is none.

    Raises:
        ValueError: there is no token, `source` is no checkpoint of ours, or the hub refuses.
    """
    if not get_token():
        raise ValueError("publishing needs a token of the hub with write access: set HF_TOKEN, or run `hf auth login`")
    with TemporaryDirectory() as folder, one_sentence(repo):
        write(source, Path(folder), repo)
        HfApi().create_repo(repo, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=repo, folder_path=folder, commit_message="Publish a checkpoint"))


@command()
def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction.publish", description="Publish a checkpoint on the Hugging Face hub."
    )
    parser.add_argument("source", type=Path, metavar="CHECKPOINT", help="a run's folder (its last one), or a file")
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="the repository; made if there is none")
    parser.add_argument("--dry-run", type=Path, metavar="FOLDER", help="only write the files, into this new folder")
    given = parser.parse_args(words)
    require_repo(given.repo)
    if given.dry_run is None:
        print(publish(given.source, given.repo))
        return
    if given.dry_run.exists():
        raise ValueError(f"--dry-run {given.dry_run} is there already: name a new folder")
    given.dry_run.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=given.dry_run.parent) as place:
        folder = Path(place, "whole")
        folder.mkdir()
        write(given.source, folder, given.repo)
        folder.rename(given.dry_run)
    print(f"{given.dry_run}: {', '.join(sorted(file.name for file in given.dry_run.iterdir()))}")


if __name__ == "__main__":
    main(sys.argv[1:])
