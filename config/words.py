"""Reads the words of a command line: as they are written here, and as the released programs take them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

CONFIG_DIR = Path(__file__).resolve().parent
GROUPS = ("arch", "dataset", "train", "eval")

_USAGE = {
    "cfg_pretrain": """Train a reasoner.

  python pretrain.py train=NAME [key=value ...]    (bash scripts/train.sh NAME [key=value ...])
  python pretrain.py resume=RUN [key=value ...]    go on with a run, from its folder

NAME, an experiment of config/train/:

{train}

The settings of the model, arch.key=value, stand in config/arch/. All other keys, with their defaults:

""",
    "cfg_eval": """Evaluate a checkpoint: one of ours (a run's folder or a file), or a released one.

  python evaluate.py checkpoint=FILE [eval=NAME] [key=value ...]    (bash scripts/eval.sh FILE [key=value ...])

NAME, a recipe of config/eval/:

{eval}

All keys, with their defaults:

""",
}


def choices(group: str) -> list[str]:
    """The names of the configurations in a group."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def usage(root: str) -> str:
    """What a program takes, by its root configuration: cfg_pretrain or cfg_eval. Its YAML file explains each key."""
    yaml = (CONFIG_DIR / f"{root}.yaml").read_text(encoding="utf-8")
    keys = yaml[yaml.index("\n\n") + 2 :]  # without the list of defaults
    names = {group: textwrap.indent(textwrap.fill(" ".join(choices(group)), 100), "  ") for group in GROUPS}
    return _USAGE[root].format(**names) + keys


def settings(words: Sequence[str], root: str) -> list[str]:
    """The `key=value` words among `words`. Other forms mean the same:

    - `+key=value` and `++key=value`, which Hydra wants for a key that is new to it
    - `--config-name=train/eqr_sudoku`, with which EqR's commands name an experiment

    Raises:
        SystemExit: `--help` is among the words. It has been printed.
        ValueError: a word is something else.
    """
    if {"--help", "-h"} & set(words):
        print(usage(root), end="")
        raise SystemExit(0)
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("--config-name", "-cn") and rest:
            word = f"--config-name={rest.pop(0)}"
        if word.startswith(("--config-name=", "-cn=")):
            group, _, name = word.split("=", 1)[1].removesuffix(".yaml").rpartition("/")
            if group in GROUPS:
                plain.append(f"{group}={name}")
            elif name != root:
                raise ValueError(f"{word}: name an experiment as train=NAME, a recipe of an evaluation as eval=NAME")
        elif word.startswith("-"):
            raise ValueError(f"{word} is no option: settings are key=value words, and --help lists them")
        else:
            plain.append(word.lstrip("+"))
    return plain
