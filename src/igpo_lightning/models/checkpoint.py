"""Safetensors in and out, one tensor at a time, and never a silent gap.

Files are read, not mapped: a mapped file's pages count towards the process's memory until the file
is closed, and would double the peak of loading.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from igpo_lightning import distributed
from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.configuration import find_file, read_object
from igpo_lightning.models.cpu_memory import available_bytes
from igpo_lightning.models.lazy_tensor import LazyTensor
from igpo_lightning.models.quantization import quantized_parameter
from igpo_lightning.models.safetensors_header import Entry, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
LARGEST_SHARD = 5 * 10**9  # bytes; what transformers writes
_NAMED_AT_MOST = 8


def weight_files(source: str) -> list[Path]:
    """The safetensors of a folder or hub repository, every shard of an index.

    Raises:
        ConfigError: There is none, or a shard is absent.
    """
    single = find_file(source, SINGLE_FILE)
    if single is not None:
        return [single]
    index = find_file(source, INDEX_FILE)
    if index is None:
        raise ConfigError(
            f"model.path={source} holds neither {SINGLE_FILE} nor {INDEX_FILE}; convert its "
            "weights to safetensors, or start from random ones with model.init=random"
        )
    table = read_object(source, index).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    outside = [name for name in names if Path(name).name != name]
    if not names or outside:
        raise ConfigError(
            f"model.path={source}: {INDEX_FILE} names {outside or 'no files'}; its weight_map "
            "gives each weight the name of a file beside it"
        )
    files = [(name, find_file(source, name)) for name in names]
    absent = [name for name, file in files if file is None]
    if absent:
        raise ConfigError(f"model.path={source}: {INDEX_FILE} names absent files {_listed(absent)}")
    return [file for _, file in files if file is not None]


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of every entry of a safetensors file, in the order of their bytes.

    One buffer serves all entries: a tensor is valid until the next one is asked for.

    Raises:
        ConfigError: The file ends before an entry does, or is no safetensors file.
    """
    entries = read_header(file)
    with file.open("rb") as stream:
        sizes = [entry.size for entry in entries.values()]
        buffer = torch.empty(max(sizes, default=0), dtype=torch.uint8)
        for name, entry in entries.items():
            part = buffer[: entry.size]
            stream.seek(entry.start)
            read = stream.readinto(memoryview(part.numpy())) if entry.size else 0  # type: ignore[arg-type]
            if read != entry.size:
                raise ConfigError(f"{file} is cut off within {name}; fetch it again")
            yield name, part.view(entry.dtype).view(entry.shape)


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _NAMED_AT_MOST
    return ", ".join(ordered[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def place(model: nn.Module, name: str, tensor: Tensor, device: str | torch.device) -> None:
    """Make a tensor the parameter of that name, where there is one on the meta device."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    parameter = quantized_parameter(module, tensor, device)
    if parameter is None:
        trained = getattr(module, leaf).requires_grad
        parameter = nn.Parameter(tensor.to(device), requires_grad=trained)
    setattr(module, leaf, parameter)


def load_weights(
    model: BackboneModule,
    source: str,
    dtype: torch.dtype,
    device: str | torch.device,
) -> None:
    """Fill a model on the meta device from a checkpoint in its own names.

    One tensor is in flight at a time: the peak is the weights and the largest tensor.

    Raises:
        ConfigError: Weights are missing, unexpected or of the wrong shape; it names them.
    """
    own_names = {model.checkpoint_name(name): name for name, _ in model.named_parameters()}
    expected: Mapping[str, Tensor] = model.checkpoint_names(dict(model.named_parameters()))
    copies, held = model.copies(), dict[str, Tensor]()
    files = weight_files(source)
    # All headers first: nothing is read, and no memory taken, for weights that do not fit.
    there: dict[str, Entry] = {}
    for file in files:
        there |= read_header(file)
    misshapen = [
        f"{name} {list(there[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in there and there[name].shape != tuple(tensor.shape)
    ]
    missing, unexpected = expected.keys() - there, there.keys() - expected - copies.keys()
    report_misfits(source, missing, unexpected, misshapen)
    for file in files:
        for name, tensor in read_tensors(file):
            if name in copies:
                held[name] = tensor.to(dtype, copy=True)
            else:
                place(model, own_names[name], tensor.to(dtype, copy=True), device)
    for name, copy in held.items():
        if not torch.equal(model.get_parameter(copies[name]).cpu(), copy):
            raise ConfigError(
                f"model.path={source}: config.json ties {name} to {copies[name]}, but they "
                "differ in the file; set tie_word_embeddings to false"
            )


def report_misfits(
    source: str, missing: Iterable[str], unexpected: Iterable[str], misshapen: Iterable[str]
) -> None:
    """Raise a ConfigError that names the weights that do not fit, if there are any."""
    groups = {"missing": missing, "unexpected": unexpected, "of the wrong shape": misshapen}
    problems = [f"{kind}: {_listed(names)}" for kind, names in groups.items() if list(names)]
    if problems:
        raise ConfigError(
            f"model.path={source}: the weights do not fit config.json; {'; '.join(problems)}"
        )


def shard_bytes() -> int:
    """The size of a shard: 5 GB, or a quarter of the memory of the rank that has least."""
    available = [a for a in distributed.gather_objects(available_bytes()) if a is not None]
    return min([LARGEST_SHARD, *(a // 4 for a in available)])


def save_weights(
    state: Mapping[str, LazyTensor], folder: Path, max_shard_size: int | None = None
) -> None:
    """Write safetensors, and an index where there is more than one file.

    One shard is held in memory at a time. Where ranks share the weights all must call, and the
    first one writes.

    Args:
        state: Name in the checkpoint and tensor.
        folder: Exists.
        max_shard_size: Bytes of a file; None for `shard_bytes`.

    Raises:
        OSError: The disk is full or cannot be written; on every rank.
    """
    sizes = {name: torch.empty(t.shape, dtype=t.dtype, device="meta") for name, t in state.items()}
    plan = split_torch_state_dict_into_shards(
        sizes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max(1, max_shard_size or shard_bytes()),
    )
    for filename, names in plan.filename_to_tensors.items():
        shard: dict[str, Tensor] = {}
        for name in names:
            tensor = state[name].make()
            if distributed.rank() == 0:
                shard[name] = tensor.cpu().contiguous()
            del tensor
        _write_on_first_rank(shard, folder / filename)
    if plan.is_sharded and distributed.rank() == 0:
        index: dict[str, Any] = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_on_first_rank(shard: dict[str, Tensor], file: Path) -> None:
    """Write one file; a failure ends all ranks, which would else wait for the first."""
    error: Exception | None = None
    if distributed.rank() == 0:
        try:
            save_file(shard, file, metadata={"format": "pt"})
            # safetensors keeps it from others; who may read the folder may read the weights.
            file.chmod(file.parent.stat().st_mode & 0o666)
        except (OSError, SafetensorError) as caught:
            error = caught
    if distributed.any_rank(error is not None):
        raise OSError(f"{file}: {error or 'the first rank could not write it'}") from error
