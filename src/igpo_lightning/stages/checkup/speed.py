"""Memory against the plan, and tokens per second, at a size between toy and real."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from igpo_lightning.diffusion.head_scores import CHUNK_ELEMENTS
from igpo_lightning.diffusion.likelihood import token_scores
from igpo_lightning.diffusion.masked_inputs import draw_masked_inputs
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models.memory import activation_bytes
from igpo_lightning.models.plan import count, forward_flops, train_flops
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.settings import LikelihoodConfig, SamplerConfig
from igpo_lightning.stages.capacity import size_text
from igpo_lightning.stages.checkup.finding import OK, SKIPPED, WARNING, Finding, Site

_ALLOWED = (0.5, 1.3)  # measured over planned: less is safe, more is not


@dataclass(frozen=True)
class Size:
    """Of the model and its batch."""

    layers: int
    width: int
    vocab: int
    rows: int
    prompt: int
    completion: int

    @property
    def canvas(self) -> int:
        """L."""
        return self.prompt + self.completion


CPU_SIZE = Size(layers=4, width=256, vocab=8192, rows=8, prompt=64, completion=128)
GPU_SIZE = Size(layers=12, width=1024, vocab=32768, rows=32, prompt=256, completion=256)


def size_of(site: Site) -> Size:
    """What the device can do in some seconds."""
    return GPU_SIZE if site.on_gpu else CPU_SIZE


def middle_model(size: Size, device: torch.device) -> TinyBackbone:
    """Random weights; bfloat16 on a GPU, as published runs compute."""
    config = TinyConfig(
        vocab_size=size.vocab,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // 64,
        intermediate_size=3 * size.width,
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = TinyBackbone(config)
    torch.nn.Module.to(model, device, dtype)  # see numerics.py
    return model


def _update(model: TinyBackbone, size: Size) -> None:
    """Scores of a batch and their gradient, as an update makes them."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, size.vocab, (size.rows, size.canvas), generator=generator).to(device)
    completion = ids[:, size.prompt :]
    everywhere = torch.ones_like(completion, dtype=torch.bool)
    inputs = draw_masked_inputs(
        LikelihoodConfig(),
        completion,
        keys=row_keys([0] * size.rows, device),
        live_mask=everywhere,
    )
    model.zero_grad()
    loss: Tensor = token_scores(model, ids[:, : size.prompt], completion, inputs).logp.mean()
    torch.autograd.backward(loss)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_bytes(call: Callable[[], None], device: torch.device) -> int | None:
    """Memory that a call takes above what is held before; None where the system does not say."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    process = Path("/proc/self")
    try:
        (process / "clear_refs").write_text("5")  # the peak begins anew
        before = _resident(process, "VmRSS")
        call()
        return max(0, _resident(process, "VmHWM") - before)
    except OSError:
        return None


def _resident(process: Path, name: str) -> int:
    lines = (process / "status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def memory(site: Site) -> Finding:
    """Activations, gradients and logits of an update, measured and planned."""
    size = size_of(site)
    model = middle_model(size, site.device).train()
    counts = count(model)
    element = next(model.parameters()).element_size()
    planned = activation_bytes(counts, size.rows, size.canvas, element, recompute=False)
    planned += counts.trainable_bytes + 2 * CHUNK_ELEMENTS * torch.float32.itemsize
    _update(model, replace(size, rows=1))  # what libraries take once is no update's
    model.zero_grad()
    measured = peak_bytes(lambda: _update(model, size), site.device)
    if measured is None:
        return Finding(SKIPPED, "the system does not say how much memory a process has used")
    share = measured / planned
    said = f"an update took {size_text(measured)}, planned {size_text(planned)} ({share:.2f})"
    numbers = {"measured": float(measured), "planned": float(planned)}
    if share > _ALLOWED[1]:
        fix = "leave so much more room than dry_run=true says; report it with doctor.json"
        return Finding(WARNING, said, fix, numbers)
    return Finding(OK, said, numbers=numbers)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Of the second call: the first one warms up."""
    call()
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def peak_flops(device: torch.device) -> float:
    """FLOP/s of one large matrix product, which nothing beats."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)  # a GPU multiplies ones faster
    best = min(seconds_of(lambda: a @ a, device) for _ in range(3))
    return 2 * side**3 / best


def speed(site: Site) -> Finding:
    """Tokens a second of sampler and update, and their share of what a matrix product reaches."""
    size, device = size_of(site), site.device
    model, peak = middle_model(size, device), peak_flops(device)
    counts = count(model)
    config = SamplerConfig(size.completion, 32, size.completion // 8)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, size.vocab, (size.rows, size.prompt), generator=generator)
    prompts = prompts.to(device)

    def sample() -> Tensor:
        return denoise(model.train(False), prompts, config).completion_ids

    sampling = seconds_of(sample, device)
    updating = seconds_of(lambda: _update(model.train(), size), device)
    tokens = size.rows * size.canvas
    reached = {
        "sampler": config.steps * tokens * forward_flops(counts, size.canvas) / sampling,
        "update": tokens * train_flops(counts, size.canvas, recompute=False) / updating,
    }
    per_second = {
        "sampler": size.rows * size.completion / sampling,
        "update": tokens / updating,
    }
    said = ", ".join(
        f"{name} {per_second[name]:,.0f} tokens/s, {flops / peak:.0%} of peak"
        for name, flops in reached.items()
    )
    tflops = min(reached.values()) / 1e12
    said += f" ({peak / 1e12:.3g} TFLOP/s); the plan's hours: trainer.tflops={tflops:.2g}"
    numbers = {f"{name}_flops": flops for name, flops in reached.items()} | {"peak_flops": peak}
    return Finding(OK, said, numbers=numbers | {"cores": float(os.cpu_count() or 1)})
