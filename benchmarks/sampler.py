"""The denoising sampler against the published algorithm, in one process: speed and memory.

`python benchmarks/sampler.py` runs on a CPU with a 4-layer, 256-wide model, `--device cuda` on a
GPU with LLaDA-8B's sizes, both at random weights. Prints a table and writes JSON and a plot.

Both sides fill the last block of a canvas whose other blocks are given as hints. Every block costs
the same for both, and a step of the published algorithm costs the same whatever is masked, so that
it is timed over few steps. A ratio is that of medians over rounds in which the two take turns.
"""

import argparse
import ctypes
import gc
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, denoise
from igpo_lightning.memory import keep_freed_memory
from igpo_lightning.models.llada import LladaBackbone, LladaConfig
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig

try:
    from benchmarks.plain_sampler import plain_denoise
except ModuleNotFoundError:  # run as a file
    from plain_sampler import plain_denoise

PROMPT, BLOCK = 64, 32


@dataclass(frozen=True)
class Case:
    """One size; `steps` are over the whole completion."""

    vocab: int
    batch: int
    completion: int
    steps: int
    temperature: float = 0.0

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.completion // BLOCK

    @property
    def plain_bytes(self) -> int:
        """What the published algorithm needs at least: logits in float32, two float64 copies."""
        return self.batch * (PROMPT + self.completion) * self.vocab * (4 + 8 + 8)

    @property
    def config(self) -> SamplerConfig:
        """The sampler's settings."""
        return SamplerConfig(self.completion, BLOCK, self.steps, self.temperature)


@dataclass(frozen=True)
class Result:
    """Numbers of one case; memory in MiB above what stood before the call, None if not measured."""

    case: Case
    tokens_per_second: float
    plain_tokens_per_second: float | None
    ratio: float | None
    model_share: float
    peak_mib: float
    plain_peak_mib: float | None


class Clock:
    """A model whose body and head are timed; everything else is handed through."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self.model, self.device, self.seconds = model, device, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def __call__(self, *args: object, **kwargs: object) -> Tensor:
        """All logits."""
        return self._timed(self.model, *args, **kwargs)

    def encode(self, *args: object, **kwargs: object) -> Tensor:
        """The body."""
        return self._timed(self.model.encode, *args, **kwargs)

    def project(self, *args: object, **kwargs: object) -> Tensor:
        """The head."""
        return self._timed(self.model.project, *args, **kwargs)

    def _timed(self, call: Callable[..., Tensor], *args: object, **kwargs: object) -> Tensor:
        start = now(self.device)
        result = call(*args, **kwargs)
        self.seconds += now(self.device) - start
        return result


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given.

    One thread is timed by the processor time it used: other programs on the machine do not show.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def peak_mib(call: Callable[[], object], device: torch.device) -> float:
    """Peak memory of a call in MiB above what is held before it: the device's, or resident."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps would hide the next peak
    page, done, peak = 4096, threading.Event(), [0]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(0, peak[0] - before) / 2**20


def inputs(case: Case, masked: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts, hints that leave the last `masked` tokens free, and row keys."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, case.vocab, (case.batch, PROMPT), generator=generator)
    hints = torch.randint(3, case.vocab, (case.batch, case.completion), generator=generator)
    hints[:, case.completion - masked :] = -1
    return prompts.to(device), hints.to(device), row_keys(list(range(case.batch)), device)


def run_ours(model: object, case: Case, masked: int, device: torch.device) -> DenoiseOutput:
    """Fill what is masked with the sampler of this project."""
    prompts, hints, keys = inputs(case, masked, device)
    return denoise(model, prompts, case.config, hint_ids=hints, keys=keys)


def run_plain(model: object, case: Case, masked: int, device: torch.device) -> tuple[Tensor, int]:
    """Fill what is masked with the published algorithm."""
    prompts, hints, _ = inputs(case, masked, device)
    return plain_denoise(model, prompts, case.config, hint_ids=hints)


def measure(
    model: torch.nn.Module, case: Case, rounds: int, memory: float, device: torch.device
) -> Result:
    """Time both sides in turns, then their memory.

    The published algorithm is left out where it needs more than `memory` bytes.
    """
    clock, plain = Clock(model, device), case.plain_bytes <= memory
    per_step = case.steps // case.blocks
    plain_masked = max(1, BLOCK // per_step)  # one step of the published algorithm
    run_ours(model, case, BLOCK, device)
    ours, theirs, shares = [], [], []
    for _ in range(rounds):
        clock.seconds, start = 0.0, now(device)
        run_ours(clock, case, BLOCK, device)
        elapsed = now(device) - start
        ours.append(elapsed / per_step)
        shares.append(clock.seconds / elapsed)
        if plain:
            start = now(device)
            _, passes = run_plain(model, case, plain_masked, device)
            theirs.append((now(device) - start) / passes)
    tokens_per_step = case.batch * case.completion / case.steps
    speed = tokens_per_step / statistics.median(ours)
    result = Result(
        case=case,
        tokens_per_second=speed,
        plain_tokens_per_second=None,
        ratio=None,
        model_share=statistics.median(shares),
        peak_mib=peak_mib(lambda: run_ours(model, case, BLOCK, device), device),
        plain_peak_mib=None,
    )
    if not plain:
        return result
    plain_speed = tokens_per_step / statistics.median(theirs)
    return replace(
        result,
        plain_tokens_per_second=plain_speed,
        ratio=speed / plain_speed,
        plain_peak_mib=peak_mib(lambda: run_plain(model, case, plain_masked, device), device),
    )


def small_model(vocab: int) -> torch.nn.Module:
    """The model of the CPU tables: 4 layers, 256 wide, random weights."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 768}
    return TinyBackbone(TinyConfig(vocab_size=vocab, **sizes)).eval()


def llada_8b(vocab: int, device: torch.device) -> torch.nn.Module:
    """LLaDA-8B's sizes with random bfloat16 weights, the vocabulary apart."""
    config = LladaConfig(
        d_model=4096,
        n_heads=32,
        n_kv_heads=32,
        n_layers=32,
        mlp_hidden_size=12288,
        vocab_size=vocab,
        embedding_size=vocab,
        rope_theta=500_000.0,
        rms_norm_eps=1e-5,
        weight_tying=False,
        init_std=0.02,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return LladaBackbone(config, TokenIds(mask=0, eos=1, pad=1), {}).eval()
    finally:
        torch.set_default_dtype(before)


def cases(quick: bool) -> list[Case]:
    """The two headline sizes, two tokens a step; then every size, eight tokens a step."""
    headline = [
        Case(512, 8, 128, 64),
        Case(126_464, 8, 128, 64),
        Case(126_464, 8, 128, 64, temperature=1.2),
    ]
    if quick:
        return headline[:2]
    return headline + [
        Case(vocab, batch, completion, completion // 8)
        for vocab in (512, 32_000, 126_464)
        for batch in (1, 8, 32)
        for completion in (128, 256)
    ]


COLUMNS = "vocab  batch  length  steps  temp   tokens/s   plain  ratio  model   MiB  plain MiB"


def row(result: Result) -> str:
    """One line of the table; a dash where the published algorithm does not fit into memory."""
    case = result.case

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        f"{case.vocab:>6} {case.batch:>5} {case.completion:>7} {case.steps:>6} "
        f"{case.temperature:>5.1f} {result.tokens_per_second:>10.1f} "
        f"{shown(result.plain_tokens_per_second, '.1f'):>7} {shown(result.ratio, '.2f'):>6} "
        f"{result.model_share:>5.0%} {result.peak_mib:>6.0f} "
        f"{shown(result.plain_peak_mib, '.0f'):>10}"
    )


def plot(results: list[Result], file: Path) -> None:
    """Ratios by vocabulary, a line for each batch and completion length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    sizes = sorted({(r.case.batch, r.case.completion) for r in results})
    for batch, completion in sizes:
        line = [
            (r.case.vocab, r.ratio)
            for r in results
            if (r.case.batch, r.case.completion) == (batch, completion)
            and r.ratio is not None
            and r.case.temperature == 0
        ]
        axes.plot(*zip(*line, strict=True), "o-", label=f"batch {batch}, {completion} tokens")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="vocabulary", ylabel="tokens/s over published")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Measure every case and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the two headline sizes alone")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="1: processor time, not wall time")
    parser.add_argument("--rounds", type=int, default=3, help="of the headline sizes; others 1")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB for the published algorithm")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/sampler"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()  # as every CPU run does
    device, results = torch.device(options.device), []
    options.output.mkdir(parents=True, exist_ok=True)
    vocab, model = 0, None
    print(COLUMNS, flush=True)
    for case in cases(options.quick):
        if case.vocab != vocab:
            model = None  # before the next one is made
            vocab = case.vocab
            model = small_model(vocab) if device.type == "cpu" else llada_8b(vocab, device)
        rounds = options.rounds if case.steps * 2 == case.completion else 1
        results.append(measure(model, case, rounds, options.memory * 2**30, device))
        print(row(results[-1]), flush=True)
    report = {
        "device": options.device,
        "threads": options.threads,
        "torch": torch.__version__,
        "results": [asdict(result) for result in results],
    }
    (options.output / "sampler.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(results, options.output / "sampler.png")


if __name__ == "__main__":
    main()
