"""Fetches published data sets and checkpoints from the Hugging Face hub.

You may interrupt it at any time. A file appears in its folder when it is complete, and the next run fetches the
missing ones. The library honours HF_TOKEN (private repositories) and HF_ENDPOINT (a mirror).
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from config.command import command

ROOT = Path(__file__).resolve().parents[1]
CKPT_REPO = "locuslab/EqR-model"  # the authors' checkpoints; there is no such default for data


@contextmanager
def one_sentence(repo: str) -> Iterator[None]:
    """Turns errors of the hub and of the network into one sentence.

    Raises:
        ValueError: names the repository and the fault.
    """
    try:
        yield
    except RepositoryNotFoundError as error:
        status = error.response.status_code
        fault = "does not exist on the hub, or is private or gated and needs HF_TOKEN to be a token with access"
        raise ValueError(f"{repo}: {fault} (HTTP {status})") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{repo}: the hub answered with HTTP {error.response.status_code}") from error
    except (HTTPError, EntryNotFoundError, ConnectionError, TimeoutError) as error:
        fault = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{repo}: cannot be read from the hub ({fault})") from error


def fetch_file(repo: str, name: str) -> Path:
    """The path of one file of a data set repository. It comes from the local cache if that is up to date.

    Raises:
        ValueError: the file cannot be fetched.
    """
    with one_sentence(repo):
        return Path(hf_hub_download(repo, name, repo_type="dataset"))


def fetch_all(repo: str, repo_type: str, folder: Path, patterns: Sequence[str] = ()) -> list[str]:
    """Fetches the files of a repository that match any of the patterns, by default all, and returns their names.

    Args:
        repo: as in "owner/name".
        repo_type: "dataset" or "model".
        folder: where to put them.
        patterns: such as "maze*/*".

    Raises:
        ValueError: no file matches, or a file is missing or not complete.
    """
    with one_sentence(repo):
        # Ask the hub first: if it does not answer, snapshot_download accepts whatever is already there.
        describe = HfApi().dataset_info if repo_type == "dataset" else HfApi().model_info
        info = describe(repo, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or []}
        names = list(filter_repo_objects(sizes, allow_patterns=list(patterns) or None))
        if not names:
            missing = f"matches {' or '.join(patterns)}" if patterns else "is there"
            raise ValueError(f"{repo}: no file {missing}")
        snapshot_download(
            repo,
            repo_type=repo_type,
            revision=info.sha,
            local_dir=folder,
            allow_patterns=list(patterns) or None,
        )
    for name in names:
        file = folder / name
        if not file.is_file() or file.stat().st_size != sizes[name]:
            raise ValueError(f"{file}: is missing or not complete; run the same command again")
    return names


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line. The environment may set other defaults."""
    parser = argparse.ArgumentParser(
        prog="download_artifacts.sh",
        description="Download built data sets, and checkpoints if asked, from the Hugging Face hub.",
        epilog="Environment: HF_TOKEN (a token for private or gated repositories), HF_ENDPOINT (a mirror), "
        "EQR_DATA_REPO, EQR_CKPT_REPO, EQR_DATA_DIR, EQR_CKPT_DIR (defaults of the options of these names). "
        "Data sets can also be built here: see `python -m dataset.build_sudoku_dataset --help` and "
        "`python -m dataset.build_maze_unique_dataset --help`.",
    )
    add, env = parser.add_argument, os.environ
    add("--with-ckpts", action="store_true", help="download the checkpoints too")
    add("--ckpts-only", action="store_true", help="download only the checkpoints")
    add("--skip-data", action="store_true", help="do not download data (with --with-ckpts: as --ckpts-only)")
    data_repo, ckpt_repo = env.get("EQR_DATA_REPO", ""), env.get("EQR_CKPT_REPO", CKPT_REPO)
    add("--data-repo", default=data_repo, metavar="ID", help=f"data set repository ({data_repo or 'no default'})")
    add("--ckpt-repo", default=ckpt_repo, metavar="ID", help="model repository (%(default)s)")
    for kind in ("data", "ckpt"):
        meaning = "only files that match, such as 'maze*/*'; may be repeated (default: all)"
        add(f"--{kind}-pattern", action="append", default=[], metavar="P", help=meaning)
    data_dir, ckpt_dir = env.get("EQR_DATA_DIR", ROOT / "data"), env.get("EQR_CKPT_DIR", ROOT / "checkpoints")
    add("--data-dir", type=Path, default=data_dir, metavar="D", help="folder for the data (%(default)s)")
    add("--ckpt-dir", type=Path, default=ckpt_dir, metavar="D", help="folder for checkpoints (%(default)s)")
    return parser.parse_args(arguments)


def download(options: argparse.Namespace) -> None:
    """Downloads the files that the options name.

    Raises:
        ValueError: the options name nothing, or the files cannot be fetched.
    """
    wants_ckpts = options.with_ckpts or options.ckpts_only
    wants_data = not (options.skip_data or options.ckpts_only)
    if not (wants_data or wants_ckpts):
        raise ValueError("--skip-data without --with-ckpts leaves nothing to download")
    if wants_data and not options.data_repo:
        raise ValueError(
            "no data repository is known: name one with --data-repo or EQR_DATA_REPO, or build the data with "
            "`python -m dataset.build_sudoku_dataset` and `python -m dataset.build_maze_unique_dataset`"
        )
    if wants_data:
        names = fetch_all(options.data_repo, "dataset", options.data_dir, options.data_pattern)
        print(f"{options.data_dir}: {len(names)} files of {options.data_repo}")
    if wants_ckpts:
        names = fetch_all(options.ckpt_repo, "model", options.ckpt_dir, options.ckpt_pattern)
        print(f"{options.ckpt_dir}: {len(names)} files of {options.ckpt_repo}")


@command(mistake=2)
def main(words: Sequence[str]) -> None:
    """The command line."""
    download(parse(words))


if __name__ == "__main__":
    main(sys.argv[1:])
