"""Finds the weights in what another program has saved, whatever it wrapped them in.

| what wraps them | for example |
| --- | --- |
| a dict beside optimizers and steps | {"model": weights}, {"state_dict": weights} |
| torch.compile, DistributedDataParallel, FSDP | `_orig_mod.` and `module.` anywhere in a name |
| the loss head, or its absence | `model.inner.lm_head.weight`, `inner.lm_head.weight`, `lm_head.weight` |
"""

from typing import Any

from torch import Tensor

_DICTS = ("model", "state_dict", "model_state_dict", "model_state", "weights", "params", "module", "network", "net")
_MARKS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_PARTS = {
    *("embed_tokens", "embed_pos", "absolute_pos_embedding", "puzzle_emb"),
    *("L_level", "H_level", "L_init", "H_init", "lm_head", "q_head"),
}
"""The parts of a released model. All weights have the name of one, with the path to it before."""


def weights_in(content: dict[Any, Any]) -> dict[Any, Any]:
    """The state dict in a dict that was saved, or {}."""
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return content
    inner: dict[Any, Any] = next((content[name] for name in _DICTS if isinstance(content.get(name), dict)), {})
    wrapped = weights_in(inner) if any(isinstance(value, dict) for value in inner.values()) else {}
    return wrapped or inner


def released_names(weights: dict[str, Tensor], origin: object) -> dict[str, Tensor]:
    """The weights as EqR, HRM and TRM release them: `model.inner.PART...`. Other names lose their marks alone.

    Raises:
        ValueError: two weights would have one name.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        path = [step for step in key.split(".") if step not in _MARKS]
        start = next((i for i, step in enumerate(path) if step in _PARTS), None)
        name = ".".join(path if start is None else ["model", "inner", *path[start:]])
        if name in renamed:
            raise ValueError(f"{origin} holds {name} twice, once as {key}")
        renamed[name] = tensor
    return renamed
