"""Fetches published data sets and checkpoints from the Hugging Face hub.

You may interrupt it at any time. A file appears in its folder when it is complete, and the next run fetches the
missing ones. The library honours HF_TOKEN (private repositories) and HF_ENDPOINT (a mirror).
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import DatasetInfo, HfApi, ModelInfo, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import filter_repo_objects

from config.command import command

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 10.0  # seconds that the hub may be silent; HF_HUB_ETAG_TIMEOUT and HF_HUB_DOWNLOAD_TIMEOUT for files


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


def _is_commit(name: object) -> bool:
    """Whether this is a commit's name. The library makes a file's name of it."""
    return re.fullmatch("[0-9a-f]{40}", str(name)) is not None


def _leads_out(name: str) -> bool:
    """Whether this is no name of a file inside of a folder."""
    return not {"", ".", ".."}.isdisjoint(name.split("/"))


def _described(repo: str, repo_type: str, revision: str | None = None) -> DatasetInfo | ModelInfo:
    """What the hub says about a repository. It asks once: a hub that is silent here would be silent for minutes.

    Raises:
        ValueError: the answer describes no repository.
    """
    print(f"asking {HfApi().endpoint} for {repo}", file=sys.stderr, flush=True)
    describe = HfApi().dataset_info if repo_type == "dataset" else HfApi().model_info
    try:
        info = describe(repo, revision=revision, files_metadata=True, timeout=PATIENCE)
        names = [file.rfilename for file in info.siblings or []]
        wrong = not _is_commit(info.sha) or any(_leads_out(name) for name in names)
    except HFValidationError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        wrong = True
    if wrong:
        raise ValueError(f"{repo}: {HfApi().endpoint} does not answer as a hub does")
    return info


def fetch_file(repo: str, name: str) -> Path:
    """The path of one file of a data set repository. It comes from the local cache if that is up to date.

    Raises:
        ValueError: the file cannot be fetched, nor is it in the cache.
    """
    return fetch_some(repo, "dataset", None, lambda _: [name]) / name


def fetch_some(
    repo: str, repo_type: str, revision: str | None, wanted: Callable[[Collection[str]], Collection[str]]
) -> Path:
    """The folder of the library's cache that holds some files of a repository. It fetches those that are not there.

    If the hub does not answer, or HF_HUB_OFFLINE is set, the cache alone is asked.

    Args:
        repo: as in "owner/name".
        repo_type: "dataset" or "model".
        revision: a branch, a tag or a commit; None: the main branch.
        wanted: the names of the wanted files, given those that are there. It may raise ValueError.

    Raises:
        ValueError: a file cannot be fetched, nor is it in the cache.
    """
    with one_sentence(repo):
        try:
            info = _described(repo, repo_type, revision)
        except (HfHubHTTPError, HTTPError, ConnectionError, TimeoutError):
            with suppress(LocalEntryNotFoundError):
                cached = snapshot_download(repo, repo_type=repo_type, revision=revision, local_files_only=True)
                if _is_commit(Path(cached).name) and _all_in(Path(cached), wanted):
                    return Path(cached)
            raise
        sizes = {file.rfilename: file.size for file in info.siblings or []}
        for name in wanted(sizes):
            file = Path(hf_hub_download(repo, name, repo_type=repo_type, revision=revision))
            folder = file.parents[name.count("/")]
            if folder.name != info.sha or sizes.get(name) not in (None, file.stat().st_size):
                raise ValueError(f"{repo}: {name} is not complete, or has changed meanwhile: try again")
    return folder


def _all_in(folder: Path, wanted: Callable[[Collection[str]], Collection[str]]) -> bool:
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    return names >= {*wanted(names)}


def fetch_all(
    repo: str, repo_type: str, folder: Path, patterns: Sequence[str] = (), cache: Path | None = None
) -> list[str]:
    """Fetches the files of a repository that match any of the patterns, by default all, and returns their names.

    Args:
        repo: as in "owner/name".
        repo_type: "dataset" or "model".
        folder: where to put them.
        patterns: such as "maze*/*".
        cache: the library's own folder; None: its default.

    Raises:
        ValueError: no file matches, or a file is missing or not complete.
    """
    with one_sentence(repo):
        # Ask the hub first: if it does not answer, snapshot_download accepts whatever is already there.
        info = _described(repo, repo_type)
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
            cache_dir=cache,
            allow_patterns=list(patterns) or None,
        )
    for name in names:
        file = folder / name
        if not file.is_file() or file.stat().st_size != sizes[name]:
            raise ValueError(f"{file}: is missing or not complete; run the same command again")
    return names


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line, which are those of EqR's own script. The environment may set other defaults."""
    parser = argparse.ArgumentParser(
        prog="download_artifacts.sh",
        description="Download the authors' data sets, and checkpoints if asked, from the Hugging Face hub.",
        epilog="Environment: HF_TOKEN (a token for private or gated repositories), HF_ENDPOINT (a mirror), "
        "DATA_REPO, CKPT_REPO, DATA_DIR, CKPT_DIR, or with EQR_ before them (defaults of the options of these names). "
        "Data sets can also be built here: see `python -m dataset.build_sudoku_dataset --help` and "
        "`python -m dataset.build_maze_unique_dataset --help`.",
    )

    def usual(name: str, default: str | Path) -> str:
        return os.environ.get(f"EQR_{name}") or os.environ.get(name) or str(default)

    add = parser.add_argument
    add("--with-ckpts", action="store_true", help="download the checkpoints too")
    add("--ckpts-only", action="store_true", help="download only the checkpoints")
    add("--skip-data", action="store_true", help="do not download data (with --with-ckpts: as --ckpts-only)")
    for kind, repo, folder, what in [
        ("data", "locuslab/EqR-data", "data", "data"),
        ("ckpt", "locuslab/EqR-model", "downloaded_checkpoints", "checkpoints"),
    ]:
        name = kind.upper()
        repo, directory = usual(f"{name}_REPO", repo), Path(usual(f"{name}_DIR", ROOT / folder))
        add(f"--{kind}-repo", default=repo, metavar="ID", help=f"repository of the {what} (%(default)s)")
        add(f"--{kind}-dir", type=Path, default=directory, metavar="D", help=f"folder for the {what} (%(default)s)")
        meaning = "only files that match, such as 'maze*/*'; may be repeated (default: all)"
        add(f"--{kind}-pattern", action="append", default=[], metavar="P", help=meaning)
    add("--cache-dir", type=Path, metavar="D", help="the hub library's own folder (default: HF_HOME's)")
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
    for wanted, repo, repo_type, folder, patterns in [
        (wants_data, options.data_repo, "dataset", options.data_dir, options.data_pattern),
        (wants_ckpts, options.ckpt_repo, "model", options.ckpt_dir, options.ckpt_pattern),
    ]:
        if wanted:
            names = fetch_all(repo, repo_type, folder, patterns, options.cache_dir)
            print(f"{folder}: {len(names)} files of {repo}")


@command(mistake=2)
def main(words: Sequence[str]) -> None:
    """The command line."""
    download(parse(words))


if __name__ == "__main__":
    main(sys.argv[1:])
