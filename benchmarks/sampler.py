"""The denoising sampler against the published algorithm, in one process: speed and memory.

`python benchmarks/sampler.py` runs on a CPU with two models: 12 layers of 768 channels, whose body
and head cost alike, and 4 layers of 256, whose head is everything at a large vocabulary.
`--device cuda` runs LLaDA-8B's sizes on a GPU. Weights are random. Prints a table and writes JSON
and a plot.

Both sides fill the last block of a canvas whose other blocks are given as hints: every block costs
the same. A step of the published algorithm costs the same whatever is masked, and is timed alone; a
step of ours gets cheaper as the block fills, so that all of the block's are timed. Where the whole
batch does not fit into `--memory`, the published algorithm is timed on as many rows as do, and the
time scaled to the batch (`plain_rows` in the JSON, a star in the table). Ratios are of medians over
rounds in which the two take turns.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.plain import Draws, plain_denoise
from igpo_lightning.diffusion.sampler import DenoiseOutput, denoise
from igpo_lightning.models.attention import Heads
from igpo_lightning.models.cpu_memory import keep_freed_memory
from igpo_lightning.models.decoder import DecoderBackbone, DecoderConfig
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.settings import SamplerConfig
from igpo_lightning.stages.checkup.speed import CPU_SIZE, middle_model

PROMPT, BLOCK = 64, 32
MOST_ROUNDS = 7


@dataclass(frozen=True)
class Case:
    """One size; `steps` are over the whole completion, layers and width those of a CPU's model."""

    vocab: int
    batch: int
    completion: int
    steps: int
    temperature: float = 0.0
    layers: int = 4
    width: int = 256

    @property
    def model(self) -> tuple[int, int, int]:
        """What decides the weights: vocabulary, layers, width."""
        return self.vocab, self.layers, self.width

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.completion // BLOCK

    def plain_rows(self, memory: float) -> int:
        """Rows whose logits in float32 and two float64 copies fit into so many bytes; at least 1.

        That is what the published algorithm needs at least.
        """
        row = (PROMPT + self.completion) * self.vocab * (4 + 8 + 8)
        return max(1, min(self.batch, int(memory // row)))

    @property
    def config(self) -> SamplerConfig:
        """The sampler's settings."""
        return SamplerConfig(self.completion, BLOCK, self.steps, self.temperature)


@dataclass(frozen=True)
class Result:
    """Numbers of one case.

    Attributes:
        case: The size.
        rounds: Measurements of each side.
        tokens_per_second: Ours.
        plain_tokens_per_second: Of the published algorithm.
        plain_rows: Rows that it was timed on.
        ratio: Ours over the published algorithm's.
        model_share: Share of our time in the model's body and head.
        peak_mib: Memory of ours above what stood before the call.
        plain_peak_mib: That of the published algorithm; None where it was timed on fewer rows.
    """

    case: Case
    rounds: int
    tokens_per_second: float
    plain_tokens_per_second: float
    plain_rows: int
    ratio: float
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


class EveryPosition:
    """A model as published code runs it: every layer at every position.

    Without a gradient our embedded model runs the first layer once a distinct token
    (`models/cpu_first_layer.py`). Here one is allowed, but no weight asks for it: nothing is kept.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model.requires_grad_(False)

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def __call__(self, *args: object, **kwargs: object) -> Tensor:
        """All logits."""
        with torch.enable_grad():
            return self.model(*args, **kwargs)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given.

    One thread is timed by the processor time it used: other programs on the machine do not show.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def measured(
    call: Callable[[], object], device: torch.device, fresh: bool
) -> tuple[float, float, object]:
    """Seconds of a call, its peak memory in MiB above what is held before, and its result.

    Memory is the device's, or on CPUs what is resident, looked at every few milliseconds. There it
    is right only for a `fresh` call: what the allocator keeps goes back to the system first, and
    mapping it anew takes the call a little time.
    """
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        start = now(device)
        result = call()
        seconds = now(device) - start
        return seconds, (torch.cuda.max_memory_allocated() - before) / 2**20, result
    if fresh:
        ctypes.CDLL(None).malloc_trim(0)
    page, done, peak = os.sysconf("SC_PAGE_SIZE"), threading.Event(), [0]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident())

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = now(device)
    result = call()
    seconds = now(device) - start
    done.set()
    watcher.join()
    return seconds, max(0, peak[0] - before) / 2**20, result


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
    shape, generator = (case.batch, case.completion), torch.Generator(device).manual_seed(0)

    def uniform(*sizes: int) -> Tensor:
        return torch.rand(*sizes, generator=generator, dtype=torch.float64, device=device)

    draws = Draws(  # as published: from a stream, not from keys
        gumbel=lambda _, vocab: uniform(*shape, vocab).log_().neg_().log_().neg_(),
        uniform=lambda _: uniform(*shape),
    )
    return plain_denoise(
        EveryPosition(model),
        prompts,
        case.completion,
        BLOCK,
        case.steps,
        draws,
        case.temperature,
        hint_ids=hints,
    )


def measure(
    model: torch.nn.Module, case: Case, rounds: int, memory: float, device: torch.device
) -> Result:
    """Time both sides in turns: so many rounds, and short ones until they make a second."""
    clock, rows = Clock(model, device), case.plain_rows(memory)
    per_step = case.steps // case.blocks
    plain_masked = max(1, BLOCK // per_step)  # one step of the published algorithm
    few = replace(case, batch=rows)
    run_ours(model, case, 1, device)
    ours, theirs, shares, peaks, plain_peaks = [], [], [], [], []
    while len(ours) < rounds or (len(ours) < MOST_ROUNDS and sum(ours) * per_step < 1):
        clock.seconds, fresh = 0.0, not ours
        seconds, peak, _ = measured(lambda: run_ours(clock, case, BLOCK, device), device, fresh)
        ours.append(seconds / per_step)
        shares.append(clock.seconds / seconds)
        peaks.append(peak)
        seconds, peak, result = measured(
            lambda: run_plain(model, few, plain_masked, device), device, fresh
        )
        theirs.append(seconds / result[1] * case.batch / rows)
        plain_peaks.append(peak)
    tokens_per_step = case.batch * case.completion / case.steps
    speed = tokens_per_step / statistics.median(ours)
    plain_speed = tokens_per_step / statistics.median(theirs)
    return Result(
        case=case,
        rounds=len(ours),
        tokens_per_second=speed,
        plain_tokens_per_second=plain_speed,
        plain_rows=rows,
        ratio=speed / plain_speed,
        model_share=statistics.median(shares),
        peak_mib=peaks[0],
        plain_peak_mib=plain_peaks[0] if rows == case.batch else None,
    )


def small_model(case: Case) -> torch.nn.Module:
    """A model of the CPU tables, with random weights and 64 channels a head."""
    size = replace(CPU_SIZE, layers=case.layers, width=case.width, vocab=case.vocab)
    return middle_model(size, torch.device("cpu")).eval()


def llada_8b(vocab: int, device: torch.device) -> torch.nn.Module:
    """LLaDA-8B's sizes with random bfloat16 weights, the vocabulary apart."""
    config = DecoderConfig(
        width=4096,
        inner=12288,
        depth=32,
        heads=Heads(32, 32, 128),
        vocab_size=vocab,
        norm_eps=1e-5,
        rope_theta=500_000.0,
        tied=False,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return DecoderBackbone(config, TokenIds(mask=0, eos=1, pad=1), {}).eval()
    finally:
        torch.set_default_dtype(before)


# Body and head have 92 and 97 million weights: the shares of a real model, not those of a toy's.
WIDE = tuple(
    Case(126_464, 8, 128, 64, temperature, layers=12, width=768) for temperature in (0.0, 1.2)
)
# Two tokens a step. The table of sizes takes eight: its steps are fewer, and as long.
HEADLINE = (Case(512, 8, 128, 64), Case(126_464, 8, 128, 64))
HOT = Case(126_464, 8, 128, 64, temperature=1.2)
TABLE = tuple(
    Case(vocab, batch, completion, completion // 8)
    for vocab in (512, 32_000, 126_464)
    for batch in (1, 8, 32)
    for completion in (128, 256)
)


COLUMNS = (
    "layers   vocab batch length steps temp   tokens/s   plain   ratio model    MiB  plain MiB"
)


def row(result: Result) -> str:
    """One line of the table; a star where the published algorithm was timed on fewer rows."""
    case, peak = result.case, result.plain_peak_mib
    return (
        f"{f'{case.layers}x{case.width}':>6} {case.vocab:>7} {case.batch:>5} "
        f"{case.completion:>6} {case.steps:>5} "
        f"{case.temperature:>5.1f} {result.tokens_per_second:>10.1f} "
        f"{result.plain_tokens_per_second:>7.1f}{' ' if result.plain_rows == case.batch else '*'} "
        f"{result.ratio:>6.2f} {result.model_share:>5.0%} {result.peak_mib:>6.0f} "
        f"{'-' if peak is None else format(peak, '.0f'):>10}"
    )


def plot(results: list[Result], file: Path) -> None:
    """Ratios by vocabulary, a line for each batch and completion length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    table = [r for r in results if r.case.temperature == 0 and r.case not in WIDE]
    if len(table) > len(HEADLINE):  # beside the headline there is the table of sizes
        table = [r for r in table if r.case not in HEADLINE]
    sizes = sorted({(r.case.batch, r.case.completion) for r in table})
    for batch, completion in sizes:
        line = [
            (r.case.vocab, r.ratio)
            for r in table
            if (r.case.batch, r.case.completion) == (batch, completion)
        ]
        axes.plot(*zip(*line, strict=True), "o-", label=f"batch {batch}, {completion} tokens")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="vocabulary", ylabel="tokens/s over published")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def main() -> None:
    """Measure every case and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="without the table of sizes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="1: processor time, not wall time")
    parser.add_argument("--rounds", type=int, default=3, help="at least, of the headline sizes")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB for the published algorithm")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks/sampler"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()  # as every CPU run does
    device, results = torch.device(options.device), []
    options.output.mkdir(parents=True, exist_ok=True)
    built, model = None, None
    print(COLUMNS, flush=True)
    wide = WIDE if device.type == "cpu" else ()  # a GPU's model has its own layers and width
    for case in (*wide, *HEADLINE) if options.quick else (*wide, *HEADLINE, HOT, *TABLE):
        if case.model != built:
            model = None  # before the next one is made
            built = case.model
            on_gpu = device.type == "cuda"
            model = llada_8b(case.vocab, device) if on_gpu else small_model(case)
        rounds = options.rounds if case in (*WIDE[:1], *HEADLINE) else 1
        results.append(measure(model, case, rounds, options.memory * 2**30, device))
        print(row(results[-1]), flush=True)
        report = {
            "device": options.device,
            "threads": options.threads,
            "clock": "processor time" if options.threads == 1 else "wall time",
            "torch": torch.__version__,
            "results": [asdict(result) for result in results],
        }
        # After every row: a run that is stopped keeps what it has measured.
        (options.output / "sampler.json").write_text(json.dumps(report, indent=2) + "\n")
        if any(result.case not in WIDE for result in results):
            plot(results, options.output / "sampler.png")


if __name__ == "__main__":
    main()
