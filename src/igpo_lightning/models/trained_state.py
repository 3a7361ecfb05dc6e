"""Checkpoints for resuming hold what is trained; all else is rebuilt from `model.path`.

With adapters that is a fraction of the model, and the frozen reference policy is never written.
Done by hooks of torch, so that it holds for whole and sharded checkpoints alike.
"""

from typing import Any

from torch import nn


def _trained(module: nn.Module) -> set[str]:
    """Names of the parameters that get a gradient; a tied one has several."""
    named = module.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if parameter.requires_grad}


def _leave_out_frozen(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    kept = {prefix + name for name in _trained(module)}
    for name in [name for name in state if name.startswith(prefix) and name not in kept]:
        del state[name]


def _miss_no_frozen(module: nn.Module, incompatible: Any) -> None:
    kept = _trained(module)
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if name in kept]


def save_trained_only(module: nn.Module) -> None:
    """Let the state dict of a module hold its trained parameters alone.

    Loading leaves the others as they are, and stays strict about the trained ones. A state dict
    that holds frozen parameters too is loaded with them. The module has to be the outermost one:
    the names that loading misses are taken as its own.
    """
    module.register_state_dict_post_hook(_leave_out_frozen)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_post_hook(_miss_no_frozen)  # type: ignore[no-untyped-call]
