"""FSDP2 for Lightning: how parameters are shared by ranks, and checkpoints that are folders."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from igpo_lightning import distributed
from igpo_lightning.models import BackboneModule
from igpo_lightning.runs import durable


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 whose checkpoint folders appear when all ranks have written their shards."""

    def __init__(
        self,
        *,
        replicas: int,
        shards: int,
        timeout: timedelta,
        compute_dtype: torch.dtype | None = None,
        cpu_offload: bool = False,
        gather_rollouts: bool = False,
        process_group_backend: str | None = None,
    ) -> None:
        """The mesh, and how `shard_models` shares parameters over it.

        Args:
            replicas: Whole copies of the model over all processes.
            shards: Processes that share one.
            compute_dtype: See `distributed.shard`.
            cpu_offload: See `distributed.shard`.
            gather_rollouts: Keep parameters gathered while completions are sampled.
            process_group_backend: None for the device's own.
        """
        hybrid = replicas > 1
        super().__init__(
            data_parallel_size=replicas if hybrid else shards,
            tensor_parallel_size=shards if hybrid else 1,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        self.compute_dtype, self.cpu_offload = compute_dtype, cpu_offload
        self.gather_rollouts = gather_rollouts

    def model_to_device(self) -> None:
        """Move the model, or only its buffers where the parameters stay on the CPU."""
        if not self.cpu_offload:
            super().model_to_device()
            return
        assert self.model is not None
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(self.root_device)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None
    ) -> None:
        """Write under another name, wait for all ranks, add checksums, rename.

        Raises:
            RunError: The disk is full or cannot be written.
        """
        path = Path(self.broadcast(filepath))
        error: Exception | None = None
        try:
            if self.is_global_zero:
                durable.remove(durable.partial_name(path))
            self.barrier()
            super().save_checkpoint(checkpoint, durable.partial_name(path), storage_options)
            self.barrier()
            if self.is_global_zero:
                durable.publish_folder(path)
        except (OSError, RuntimeError) as caught:
            error = caught
        if distributed.any_rank(error is not None):
            raise durable.write_refused(path, error or OSError("another rank failed")) from error


def shard_models(module: lightning.LightningModule, *models: BackboneModule | None) -> None:
    """Share models' parameters as the trainer's strategy says; for `configure_model`.

    Without effect under strategies that share none.
    """
    strategy, mesh = module.trainer.strategy, module.device_mesh
    if mesh is None or not isinstance(strategy, ShardedStrategy):
        return
    for model in models:
        if model is not None:
            distributed.shard(
                model,
                distributed.sharding_mesh(mesh),
                compute_dtype=strategy.compute_dtype,
                cpu_offload=strategy.cpu_offload,
                gather_rollouts=strategy.gather_rollouts,
            )
