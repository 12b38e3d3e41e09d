"""Makes a validated configuration from the words of a command line."""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from config.fields import Role, keys
from config.schema import EvalConfig, PretrainConfig
from config.synonyms import SYNONYMS
from config.words import CONFIG_DIR, GROUPS, choices, settings

T = TypeVar("T", bound=BaseModel)


def _nearest(word: str, words: list[str]) -> str:
    last = word.split(".")[-1]
    meant = [w for w in words if w.split(".")[-1] in SYNONYMS.get(last, ())] or [
        w for w in words if w.split(".")[-1] == last
    ]
    if not meant and last not in SYNONYMS:
        meant = difflib.get_close_matches(word, words, n=1, cutoff=0.75)
    return f"; did you mean {meant[0]}?" if meant else ""


def _keys(model: type[BaseModel], arch: str | None, prefix: str = "") -> list[str]:
    """All dotted keys of a model, for suggestions. A union gives the keys of its variant `arch`."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for part in get_args(field.annotation) or (field.annotation,):
            if isinstance(part, type) and issubclass(part, BaseModel):
                tag = part.model_fields.get("name")
                if arch is None or tag is None or arch in get_args(tag.annotation) or not get_args(tag.annotation):
                    keys += _keys(part, arch, f"{prefix}{name}.")
    return keys


# keys for which pydantic's own words do not help
_SHOULD_BE = {
    "device": "auto, cpu, cuda, cuda:N, mps (a Mac) or xpu",
    "compile": "auto, true or false",
    "halt_max_steps": "a whole number from 1 on, or a list of them",
    "run_name": "letters, digits and any of . + - _, not dots alone (and a number in quotes: run_name=\"'2024'\")",
}


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    """One sentence from pydantic's first complaint."""
    first = error.errors()[0]
    # A discriminated union puts the name of its variant into the location, after its key.
    location = [str(part) for part in first["loc"]]
    arch = location.pop(1) if len(location) > 1 and location[0] == "arch" else None
    if location[:1] in (["compile"], ["halt_max_steps"]):
        del location[1:]  # the refused member of a union or list
    key = ".".join(location)
    if first["type"] == "extra_forbidden" and key in _keys(model, None):
        return f"unknown key {key}: arch.name={arch} has none; if train=NAME sets it, start from a recipe of {arch}"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}{_nearest(key, _keys(model, arch))}"
    if first["type"] == "union_tag_invalid":
        return f"{key}.name should be {first['ctx']['expected_tags']}, but it is {first['ctx']['tag']!r}"
    if first["type"] == "missing":
        return f"{key} is missing" + (f", which arch.name={arch} needs" if arch else "")
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    inner = [name for name in _keys(model, arch) if name.startswith(f"{key}.")]
    if first["type"] == "model_type" and inner:
        return f"{key} should be a group of keys ({', '.join(inner)}), but it is {first['input']!r}"
    if key in _SHOULD_BE:
        return f"{key} should be {_SHOULD_BE[key]}, but it is {first['input']!r}"
    message = re.sub(r"^\w+ should", "should", first["msg"])
    return f"{key} {message}, but it is {first['input']!r}"


def validate(model: type[T], values: dict[str, Any], file: Path | None = None) -> T:
    """`values`, perhaps of a file, as a `model`.

    Raises:
        ValueError: a key is unknown (the sentence names the nearest valid one), a value is wrong, or keys do not go
            together. The sentence begins with the file's name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError((f"{file}: " if file else "") + _sentence(model, error)) from None


def _override(word: str) -> str:
    """A `key=value` word for Hydra, which takes any key, so that validation can name an unknown one."""
    if "=" not in word:
        raise ValueError(f"expected key=value, got {word!r}")
    key, value = word.split("=", 1)
    if key.split(".")[0].lstrip("~") == "hydra":
        raise ValueError(f"unknown key {key}: Hydra's own settings have no effect here")
    if key in GROUPS:
        if value not in choices(key):
            raise ValueError(
                f"there is no config {key}={value}{_nearest(value, choices(key))} (one of: {', '.join(choices(key))})"
            )
        file, head = CONFIG_DIR / key / f"{value}.yaml", "# @package _global_"
        if key in ("train", "eval") and not file.read_bytes().startswith(head.encode()):
            raise ValueError(f"the first bytes of {file} should be `{head}`: its keys count for the whole")
        return word
    return word if key.startswith("~") else f"++{word}"


def _parsed(words: list[str]) -> list[Override]:
    parser, overrides = OverridesParser.create(), []
    for word in words:
        try:
            overrides.append(parser.parse_override(_override(word)))
        except (HydraException, OmegaConfBaseException) as error:
            key = word.split("=")[0]
            raise ValueError(
                f"{word} cannot be read, or needs quotes, {key}=\"'...'\" ({_first_line(error)})"
            ) from None
    for override in overrides:
        if override.is_sweep_override():
            raise ValueError(
                f"{override.key_or_group} has several values: give one, or a list [a,b] if the key takes one"
            )
    return overrides


def _container(config: Any) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(_first_line(error)) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split())


def _compose(root: str, words: list[str]) -> dict[str, Any]:
    overrides = [str(override.input_line) for override in _parsed(words)]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            composed = compose(root, overrides)
    except yaml.YAMLError as error:
        raise ValueError(f"a configuration is not readable YAML: {' '.join(str(error).split())}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_first_line(error)) from None
    return _container(composed)


def load_pretrain(words: list[str]) -> PretrainConfig:
    """The training configuration of `train=NAME key=value ...`. Raises ValueError, in one sentence, for a mistake."""
    words = settings(words, "cfg_pretrain")
    if not any(word.startswith("train=") for word in words):
        raise ValueError(f"say what to train: train=NAME, one of {', '.join(choices('train'))}")
    return validate(PretrainConfig, _compose("cfg_pretrain", words))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with the changes, also within mappings."""
    within = {key for key, old in values.items() if isinstance(old, dict) and isinstance(changes.get(key), dict)}
    return values | changes | {key: _merged(values[key], changes[key]) for key in within}


def resume_config(base: PretrainConfig, words: list[str]) -> PretrainConfig:
    """The configuration of a run that goes on: its own (`base`), changed by `key=value` words.

    `train=NAME` may stand there again if the run is one of NAME. `resume=PATH` needs no quotes. `max_seconds` counts
    for one slice, so it is not taken over.

    Raises:
        ValueError: a word is wrong, or changes a key that the saved state depends on.
    """
    words = settings(words, "cfg_pretrain")
    resumed = [word.removeprefix("resume=") for word in words if word.startswith("resume=")]
    recipe = [word for word in words if word.startswith("train=")]
    names = [word for word in words if word.startswith("run_name=")]
    words = [word for word in words if not word.startswith(("train=", "resume="))]
    if recipe and (name := load_pretrain([*recipe, *names]).run_name) != base.run_name:
        raise ValueError(f"the run to go on with is one of {base.run_name}, not of {name}: leave {recipe[-1]} out")
    for word in words:
        if word.split("=")[0] in GROUPS:
            raise ValueError(f"{word} cannot change when a run goes on; leave it out, or start a new run")
    changes = OmegaConf.create()
    try:
        for override in _parsed(words):
            OmegaConf.update(changes, override.key_or_group, override.value(), force_add=True)
    except OmegaConfBaseException as error:
        raise ValueError(_first_line(error)) from None
    begun = base.model_dump() | {"max_seconds": None, "run_dir": None, "resume": resumed[-1] if resumed else None}
    # `changes` may ask for the environment (${oc.env:HOME}), but `begun` may not: it may be somebody else's
    return going_on(base, validate(PretrainConfig, _merged(begun, _container(changes))))


def going_on(base: PretrainConfig, changed: PretrainConfig) -> PretrainConfig:
    """The configuration `changed`, with which a run that began with `base` may go on.

    Raises:
        ValueError: it changes a key that the saved state depends on.
    """
    if changed.load_checkpoint not in (None, base.load_checkpoint):
        raise ValueError("give resume (go on with a run) or load_checkpoint (start from weights), not both")
    for key in keys(PretrainConfig, Role.FIXED):
        if changed.model_dump()[key] != base.model_dump()[key]:
            raise ValueError(f"{key} cannot change when a run goes on; the checkpoint's configuration has its own")
    before, now = base.dataset.data_path, changed.dataset.data_path
    if before != now and Path(before).resolve().name != Path(now).resolve().name:
        raise ValueError(
            f"a run goes on with the puzzles that it began with, {before} (a folder of the same name elsewhere will "
            f"do), not with {now}: start from its weights with load_checkpoint"
        )
    return changed


def load_eval(words: list[str]) -> EvalConfig:
    """The evaluation configuration of `checkpoint=FILE [eval=NAME] key=value ...`.

    Raises:
        ValueError: one sentence for a mistake.
    """
    words = settings(words, "cfg_eval")
    for word in words:
        if word.split("=")[0] in GROUPS and not word.startswith("eval="):
            raise ValueError(
                f"{word} belongs to a training: an evaluation takes its model from the checkpoint, and its puzzles "
                "from there or from dataset_data_path=FOLDER"
            )
    if not any(word.startswith("checkpoint=") for word in words):
        raise ValueError("say what to evaluate: bash scripts/eval.sh CHECKPOINT, a run's folder or a file")
    config = validate(EvalConfig, _compose("cfg_eval", words))
    names = [word.removeprefix("eval=") for word in words if word.startswith("eval=")]
    return config.model_copy(update={"recipe": _recipe(names[-1], config)}) if names else config


def _recipe(name: str, config: EvalConfig) -> str:
    """The name of a recipe in config/eval/, and which of its settings `config` changes."""
    unchanged = validate(EvalConfig, _compose("cfg_eval", ["checkpoint=none", f"eval={name}"])).model_dump()
    apart = keys(EvalConfig, Role.LOCAL, Role.COMPUTE)
    changes = [
        f"{key}={value}" for key, value in config.model_dump().items() if key not in apart and value != unchanged[key]
    ]
    return f"{name}, but {', '.join(changes)}" if changes else name


def to_yaml(config: BaseModel) -> str:
    """The resolved configuration as YAML."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
