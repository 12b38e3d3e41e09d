"""The words for scripts/train.sh and scripts/eval.sh that repeat a recorded run and its evaluations."""

import json
from collections.abc import Sequence
from typing import Any

from config.load import load_pretrain
from config.schema import EvalConfig
from reproduction.records import Evaluation, Record, from_weights, portable


def word(name: str, value: object) -> str:
    """`name=value` for the command line, whatever characters are in it."""
    return f"{name}={json.dumps(value, separators=(',', ':'), ensure_ascii=False)}"


def _differences(values: dict[str, Any], base: dict[str, Any], prefix: str = "") -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            words += _differences(value, base[name], f"{prefix}{name}.")
        elif value != base.get(name):
            words.append(word(prefix + name, value))
    return words


def training_words(record: Record, earlier: Sequence[Record] = (), directory: str = "RUN_DIR") -> list[str]:
    """The words for `scripts/train.sh` that train a run again, up to the step at which it ended.

    If the learning rate falls, a run that stopped before its end is another run than these words train.

    Args:
        record: the run.
        earlier: the rest of its `chain`. The run went on as the first of these, or from its weights.
        directory: the folder of that first one.
    """
    config = record.config.model_dump(mode="json") | {"max_steps": record.steps}
    if earlier and not from_weights(record, earlier[0]):
        before = earlier[0].config.model_dump(mode="json") | {"max_steps": earlier[0].steps}
        return [f"resume={directory}", *_differences(config, before)]
    if earlier:
        config |= {"load_checkpoint": directory}
    recipe = portable(load_pretrain([f"train={record.recipe}"])).model_dump(mode="json")
    return [record.recipe, *_differences(config, recipe)]


def evaluation_words(record: Record, evaluation: Evaluation, **changes: object) -> list[str]:
    """The words for `scripts/eval.sh`, after the checkpoint, that evaluate as recorded but for `changes`."""
    settings = evaluation.settings.model_dump(mode="json") | changes
    default = EvalConfig(checkpoint=evaluation.settings.checkpoint).model_dump(mode="json") | record.own_settings
    data = f"data/{evaluation.dataset}"
    other = [] if data == record.config.dataset.data_path else [f"dataset_data_path={data}"]
    return _differences(settings, default) + other
