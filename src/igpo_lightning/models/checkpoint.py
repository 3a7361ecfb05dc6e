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
from igpo_lightning.models.configuration import find_file
from igpo_lightning.models.cpu_memory import available_bytes
from igpo_lightning.models.lazy_tensor import LazyTensor
from igpo_lightning.models.quantization import quantized_parameter

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Names of the safetensors format (github.com/huggingface/safetensors, "Format").
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
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
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    files = [(name, find_file(source, name)) for name in names]
    absent = [name for name, file in files if file is None]
    if absent:
        raise ConfigError(f"model.path={source}: {INDEX_FILE} names absent files {absent}")
    return [file for _, file in files if file is not None]


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of every entry of a safetensors file, in the order of their bytes.

    One buffer serves all entries: a tensor is valid until the next one is asked for.

    Raises:
        ConfigError: The file ends before an entry does, or is no safetensors file.
    """
    with file.open("rb") as stream:
        try:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            header.pop("__metadata__", None)
            base = stream.tell()
            entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        except (ValueError, AttributeError, KeyError, MemoryError, OverflowError) as error:
            raise ConfigError(f"{file} is no safetensors file: {error}") from error
        sizes = [e["data_offsets"][1] - e["data_offsets"][0] for _, e in entries]
        buffer = torch.empty(max(sizes, default=0), dtype=torch.uint8)
        for (name, entry), size in zip(entries, sizes, strict=True):
            part = buffer[:size]
            stream.seek(base + entry["data_offsets"][0])
            if size and stream.readinto(memoryview(part.numpy())) != size:  # type: ignore[arg-type]
                raise ConfigError(f"{file} is cut off within {name}; fetch it again")
            yield name, part.view(DTYPES[entry["dtype"]]).view(entry["shape"])


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
    seen: set[str] = set()
    unexpected: list[str] = []
    misshapen: list[str] = []
    for file in weight_files(source):
        for name, tensor in read_tensors(file):
            if name in copies:
                held[name] = tensor.to(dtype, copy=True)
            elif name not in expected:
                unexpected.append(name)
            elif tensor.shape != expected[name].shape:
                seen.add(name)
                misshapen.append(
                    f"{name} {list(tensor.shape)} instead of {list(expected[name].shape)}"
                )
            else:
                seen.add(name)
                place(model, own_names[name], tensor.to(dtype, copy=True), device)
    report_misfits(source, set(expected) - seen, unexpected, misshapen)
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
        except (OSError, SafetensorError) as caught:
            error = caught
    if distributed.any_rank(error is not None):
        raise OSError(f"{file}: {error or 'the first rank could not write it'}") from error
