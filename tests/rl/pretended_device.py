"""A device that is not there: tensors with values that say they are elsewhere.

A `Remote` holds a CPU tensor and calls itself a tensor of the device "meta", the one device that
every build of torch knows beside the CPU. `Elsewhere` runs each operation on the values, and is as
strict as CUDA: an operation on tensors of both devices is refused, except copies and numbers
without a dimension. Every read of a value by the host, for which a GPU would have to be waited for,
is noted with the place in this package that asked.
"""

import traceback
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

import igpo_lightning

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
PACKAGE = Path(igpo_lightning.__file__).parent
# Between devices; torch copies an index by itself, which costs a transfer and no error.
_COPIES = ("_to_copy", "copy_")
_INDEXED = ("index", "index_put_", "index_put", "_index_put_impl_")
# Operations whose result has a size that only the values know: the host waits for it.
_SIZED = ("nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount")


class Remote(torch.Tensor):
    """A tensor that says that it is on `DEVICE`."""

    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> "Remote":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=DEVICE,
        )
        made.value = value
        return made

    def __repr__(self) -> str:
        return f"Remote({self.value})"

    def tolist(self) -> Any:
        """Torch has none for subclasses: a copy to the CPU, which is noted."""
        return self.to(CPU).tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called outside of Elsewhere")


class _Lists(TorchFunctionMode):
    """Numbers of Python, which torch itself would not write to the device "meta"."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        to = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor) and to is not None:
            return func(*args, **kwargs | {"device": CPU}).to(to)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            whole, key, *value = args
            if isinstance(whole, Remote):
                keys = key if isinstance(key, tuple) else (key,)
                there = [torch.tensor(k).to(DEVICE) if isinstance(k, list) else k for k in keys]
                args = (whole, tuple(there), *value)
        return func(*args, **kwargs)


class Elsewhere(TorchDispatchMode):
    """Runs operations on the values, and notes what the host reads.

    Attributes:
        reads: "file:function" of this package, one for each read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.lists = _Lists()

    def __enter__(self) -> "Elsewhere":
        self.lists.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.lists.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        remote = [t for t in tensors if isinstance(t, Remote)]
        local = [t for t in tensors if not isinstance(t, Remote) and t.dim() > 0]
        if remote and local and name not in (*_COPIES, *_INDEXED):
            shapes = [tuple(t.shape) for t in local]
            raise RuntimeError(f"{func}: tensors {shapes} of the CPU among those of the device")
        to = kwargs.get("device")
        if to is not None and torch.device(to).type == DEVICE.type:
            kwargs["device"] = CPU
        stays = bool(remote) if to is None else torch.device(to).type == DEVICE.type
        if name == "copy_":
            stays = isinstance(args[0], Remote)
        if remote and self._reads(func, name, args, stays):
            self.reads.append(_place())
        args, kwargs = tree_map_only(Remote, lambda t: t.value, (args, kwargs))
        result = func(*args, **kwargs)
        if not stays:
            return result
        given = {id(t.value): t for t in remote}
        # In place: the tensor that was given comes back.
        return tree_map_only(
            torch.Tensor, lambda t: given[id(t)] if id(t) in given else Remote(t), result
        )

    @staticmethod
    def _reads(func: Any, name: str, args: Any, stays: bool) -> bool:
        if name in ("_local_scalar_dense", "equal", "is_nonzero") or name in _SIZED:
            return True
        if name in _INDEXED:
            at = [t for t in args[1] if t is not None]
            return any(t.dtype == torch.bool and isinstance(t, Remote) for t in at)
        if name == "repeat_interleave":
            return func._overloadname.startswith("Tensor")
        return name in _COPIES and not stays


def _place() -> str:
    """The innermost function of this package that is running."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(PACKAGE):
            return f"{file.relative_to(PACKAGE)}:{frame.name}"
    return "elsewhere"


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and buffers on the device."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            own = torch.nn.Parameter(Remote(parameter.data), parameter.requires_grad)
            module._parameters[name] = own
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = Remote(buffer)
    return model
