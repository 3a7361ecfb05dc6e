"""What a run takes of a device, of its host and of the disk, before it starts.

Memory is an estimate of what dominates, without the allocator's slack and the library's own (about
1 GiB on a GPU).
"""

from dataclasses import dataclass

import torch

from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.plan import Counts, count, forward_flops, train_flops

ADAMW_STATES = 2  # running means of the gradient and of its square


@dataclass(frozen=True)
class Workload:
    """What the trainer does with the model.

    Attributes:
        prompt_length: P, the longest prompt in tokens.
        completion_length: C in tokens, of what is sampled.
        rollout_rows: Rows of a denoising pass on a device; 0 where nothing is sampled.
        train_rows: Rows of a forward and backward pass on a device; 0 where nothing is trained.
        devices: Processes in all.
        sharded: Weights, gradients and optimizer states are shared over the devices of a replica.
        compute_bytes: Of an activation: 4 for float32, 2 for bfloat16.
        reference_copy: A frozen copy of the weights is kept for the KL penalty.
        rollout_logits: Float32 numbers that the sampler holds around a call of the head.
        evaluation_logits: The same in an evaluation.
        train_logits: Float32 numbers that the loss holds around a call of the head.
        gather_rollouts: Sharded weights are held in whole while sampling.
        replicas: Whole copies of the model over all devices, where it is sharded.
        evaluation_rows: Rows of a denoising pass of an evaluation; 0 where there is none.
        train_length: Tokens of a training completion; None for C.
        copies: Rows that a sampled row takes in a pass: 2 with guidance.
        cached: Sampling keeps the keys and values of the whole canvas.
        offloaded: Weights, gradients and optimizer states stay in the host's memory.
        on_gpu: The device is a GPU, with a host beside it.
        local: Processes of a node.
        checkpoints: That lie on the disk at the same time.
        shard_bytes: Of the export's largest file; 0 where nothing is exported.
        block_size: Tokens of a block of block-causal attention; None for full attention.
    """

    prompt_length: int
    completion_length: int
    rollout_rows: int
    train_rows: int
    devices: int
    sharded: bool
    compute_bytes: int
    reference_copy: bool
    rollout_logits: int = 0
    evaluation_logits: int = 0
    train_logits: int = 0
    gather_rollouts: bool = False
    replicas: int = 1
    evaluation_rows: int = 0
    train_length: int | None = None
    copies: int = 1
    cached: bool = False
    offloaded: bool = False
    on_gpu: bool = False
    local: int = 1
    checkpoints: int = 0
    shard_bytes: int = 0
    block_size: int | None = None

    @property
    def canvas(self) -> int:
        """L = P + C, of a row that is sampled."""
        return self.prompt_length + self.completion_length

    @property
    def train_canvas(self) -> int:
        """L of a row that is trained on; noised and clean tokens if attention is block-causal."""
        length = self.completion_length if self.train_length is None else self.train_length
        return (self.prompt_length + length) * (1 if self.block_size is None else 2)


@dataclass(frozen=True)
class Plan:
    """The cost of a run; memory in bytes, 0 where a part does not exist.

    Attributes:
        counts: Of the backbone.
        forward_flops: Of a token of a canvas of full length, in a forward pass with the head.
        train_flops: Of a token in a forward and backward pass.
        memory: What holds how many bytes of a device (on CPUs: of a process).
        total: Peak of a device: what always stands and the greatest of the `PHASES`, or loading.
        host: What holds how many bytes of a node's own memory, beside its GPUs.
        host_total: Their peak: loading, or what is offloaded and the greater of the others.
        disk: What holds how many bytes of the run's folder.
        disk_total: Their sum.
    """

    counts: Counts
    forward_flops: float
    train_flops: float
    memory: dict[str, int]
    total: int
    host: dict[str, int]
    host_total: int
    disk: dict[str, int]
    disk_total: int


PHASES = ("rollout", "update", "evaluation", "checkpoint", "export")  # one after the other


def activation_bytes(counts: Counts, rows: int, canvas: int, size: int, recompute: bool) -> int:
    """What the backward pass needs of the blocks: recomputing, their inputs and one in full."""
    tokens = rows * canvas
    block = tokens * size * counts.kept_channels
    if not recompute:
        return counts.layers * block
    return counts.layers * tokens * size * counts.width + block


def make_plan(model: BackboneModule, work: Workload, quantization: str = "none") -> Plan:
    """The cost of a run with this backbone; `quantization` as in `count`."""
    counts = count(model, quantization)
    recompute = model.gradient_checkpointing
    training = work.train_rows > 0
    standing = _standing(counts, work)
    on_device = dict.fromkeys(standing, 0) if work.offloaded else standing
    memory = on_device | {
        # A sharded unit is gathered while it computes, the next one with it.
        "gathered blocks": 2 * counts.block_bytes if work.sharded else 0,
    }
    always = sum(memory.values())
    memory |= _phases(counts, work, recompute)
    loading = _loading(counts, work)
    if not work.on_gpu:
        memory["loading"] = loading
    total = always + max(memory[phase] for phase in PHASES)
    host = {} if not work.on_gpu else _host(counts, work, standing, loading)
    disk = {
        "checkpoints": work.checkpoints * checkpoint_bytes(counts) if training else 0,
        "export": counts.export_bytes if work.shard_bytes else 0,
    }
    return Plan(
        counts=counts,
        forward_flops=forward_flops(counts, work.canvas),
        train_flops=train_flops(counts, work.train_canvas, recompute) if training else 0.0,
        memory=memory,
        total=max(total, memory.get("loading", 0)),
        host=host,
        host_total=max(
            host.get("loading", 0),
            host.get("offloaded", 0) + max(host.get("checkpoint", 0), host.get("export", 0)),
        ),
        disk=disk,
        disk_total=sum(disk.values()),
    )


def _standing(counts: Counts, work: Workload) -> dict[str, int]:
    """What a process holds from the first step to the last."""
    shards = work.devices // work.replicas if work.sharded else 1
    trained = counts.trainable_bytes if work.train_rows else 0
    return {
        "weights": -(-counts.weight_bytes // shards),
        "reference copy": -(-counts.weight_bytes // shards) if work.reference_copy else 0,
        "gradients": -(-trained // shards),
        "AdamW states": -(-ADAMW_STATES * trained // shards),
    }


def _phases(counts: Counts, work: Workload, recompute: bool) -> dict[str, int]:
    """What each phase of a run takes of a device, beside what always stands."""
    update = work.train_logits * torch.float32.itemsize + activation_bytes(
        counts, work.train_rows, work.train_canvas, work.compute_bytes, recompute
    )
    # On CPUs a run that is resumed reads a file in whole, beside its copy and before gradients.
    read_back = 0
    if not (work.on_gpu or work.sharded):
        read_back = checkpoint_bytes(counts) - counts.trainable_bytes
    # A GPU holds one sum of weight and adapter; on CPUs the shard that is written is added.
    shard = min(work.shard_bytes, counts.export_bytes)
    export = 2 * counts.largest_bytes if work.on_gpu else shard
    training = work.train_rows > 0
    return {
        "rollout": sampling_bytes(counts, work, work.rollout_rows, work.rollout_logits),
        "update": update if training else 0,
        "evaluation": sampling_bytes(counts, work, work.evaluation_rows, work.evaluation_logits),
        "checkpoint": read_back if training else 0,
        "export": export if work.shard_bytes else 0,
    }


def sampling_bytes(counts: Counts, work: Workload, rows: int, logits: int) -> int:
    """What denoising so many rows takes: one block's activations, logits, kept keys and values."""
    if rows == 0:
        return 0
    tokens = rows * work.copies * work.canvas * work.compute_bytes
    needed = logits * torch.float32.itemsize + tokens * counts.kept_channels
    if work.cached:  # rows that go on after others are done are copied out
        needed += 2 * tokens * counts.cached_channels
    return needed + (gathered_bytes(counts, work) if work.gather_rollouts else 0)


def checkpoint_bytes(counts: Counts) -> int:
    """Of a file: what is trained and its optimizer states."""
    return (1 + ADAMW_STATES) * counts.trainable_bytes


def _loading(counts: Counts, work: Workload) -> int:
    """What a process holds of the host while it loads: all weights, and one tensor as it is read.

    Sharding and moving to the GPU come after, and so does freeing the copy on the host.
    """
    return counts.weight_bytes * (2 if work.reference_copy else 1) + counts.largest_bytes


def _host(counts: Counts, work: Workload, standing: dict[str, int], loading: int) -> dict[str, int]:
    """What the processes of a node hold of its memory beside their GPUs."""
    # Shards are read straight into place, and written tensor by tensor.
    checkpoint = counts.largest_bytes if work.sharded else checkpoint_bytes(counts)
    return {
        "loading": work.local * loading,
        "offloaded": work.local * sum(standing.values()) if work.offloaded else 0,
        "checkpoint": work.local * checkpoint if work.train_rows else 0,
        "export": min(work.shard_bytes, counts.export_bytes),
    }


def gathered_bytes(counts: Counts, work: Workload) -> int:
    """All weights as a rank holds them where they stay gathered while it samples."""
    return counts.parameters * work.compute_bytes


def bytes_of(precision: str) -> int:
    """Bytes of an activation under one of Lightning's precisions."""
    return torch.float32.itemsize if precision.startswith("32") else torch.bfloat16.itemsize
