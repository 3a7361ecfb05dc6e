"""The model's body through torch.compile, by choice of the sampler's configuration."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from igpo_lightning.models.backbone import Backbone

# The inductor's mode for each choice; "reduce-overhead" replays a pass as one CUDA graph.
_MODES = {"default": None, "cuda_graphs": "reduce-overhead"}
_compiled: WeakKeyDictionary[Backbone, dict[str, Callable[..., Tensor]]] = WeakKeyDictionary()


def compiled_encode(model: Backbone, choice: str, device: torch.device) -> Callable[..., Tensor]:
    """`model.encode`, compiled on its first call with each kind of shape.

    The compiled body is kept as long as the model lives. `choice` is "none", "default" or
    "cuda_graphs".

    Raises:
        ValueError: CUDA graphs are asked for on another device.
    """
    if choice == "none":
        return model.encode
    if choice == "cuda_graphs" and device.type != "cuda":
        raise ValueError(f"compile='cuda_graphs' needs a GPU, the model is on {device.type!r}")
    bodies = _compiled.setdefault(model, {})
    if choice not in bodies:
        bodies[choice] = torch.compile(model.encode, mode=_MODES[choice])
    return bodies[choice]
