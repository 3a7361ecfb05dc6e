"""LLaDA-8B's sampler at random weights: the published loop, ours, and each way to be faster.

`python benchmarks/llada_8b.py` needs a GPU of 24 GB or more and takes some minutes; it makes a row
of 256 tokens, one a step, in blocks of 32 (`--rows 16 --steps 64` shows a batch). To try it with a
narrow model: `--device cpu --small`.
The RL step by phases, with memory against the plan: `python benchmarks/real_size.py --device cuda`.

Random weights are confident nowhere, so that `threshold` commits one token a pass: what it costs,
not what it saves. The row with a quarter of the steps shows what four tokens a pass save. Peak is
what one large matrix product reaches. Prints a table and writes JSON.
"""

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sampler import EveryPosition, llada_8b

from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.diffusion.plain import keyed_draws, plain_denoise
from igpo_lightning.diffusion.sampler import denoise
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.plan import count, forward_flops
from igpo_lightning.settings import SamplerConfig
from igpo_lightning.stages.checkup.speed import (
    CPU_SIZE,
    middle_model,
    peak_bytes,
    peak_flops,
    seconds_of,
)

VOCABULARY = 126_464
OUTPUT = Path("runs/benchmarks/llada_8b.json")


@dataclass(frozen=True)
class Row:
    """Numbers of one way to sample.

    Attributes:
        name: Of the way.
        tokens_per_second: Of all rows together.
        passes: Of the model for a completion.
        share: FLOPs of the positions that ran, over the peak.
        bytes: Above the weights, at the most; None where the system does not say.
    """

    name: str
    tokens_per_second: float
    passes: int
    share: float
    bytes: int | None


def ways(completion: int, steps: int, graphs: bool) -> dict[str, SamplerConfig]:
    """Settings by name, each one's speed-up named after what it adds to the exact sampler."""
    exact = SamplerConfig(completion_length=completion, block_length=32, steps=steps)
    dual = replace(exact, cache="dual")
    found = {
        "ours, exact": exact,
        "prefix": replace(exact, cache="prefix"),
        "dual": dual,
        "dual, threshold 0.9": replace(dual, confidence_threshold=0.9),
        "dual, a quarter of the steps": replace(dual, steps=steps // 4),
        "exact, compiled": replace(exact, compile="default"),
        "dual, compiled": replace(dual, compile="default"),
    }
    if graphs:
        found["exact, graphs"] = replace(exact, compile="cuda_graphs")
    return found


def measured(
    name: str,
    call: Callable[[], tuple[int, int]],
    tokens: int,
    peak: float,
    flops: float,
    device: torch.device,
) -> Row:
    """Time a way of sampling that returns its passes and the positions that the body ran."""
    taken: list[tuple[int, int]] = []
    seconds = seconds_of(lambda: taken.append(call()), device)
    held = peak_bytes(lambda: taken.append(call()), device)
    passes, positions = taken[0]
    return Row(name, tokens / seconds, passes, positions * flops / seconds / peak, held)


def measure(
    model: BackboneModule,
    rows: int,
    prompt: int,
    completion: int,
    steps: int,
    device: torch.device,
    only: Sequence[str],
) -> list[Row]:
    """The published loop first, then ours; `only` names ways to measure, none: all."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, model.vocab_size, (rows, prompt), generator=generator).to(device)
    keys, canvas = row_keys(list(range(rows)), device), prompt + completion
    flops, peak = forward_flops(count(model), canvas), peak_flops(device)
    tokens = rows * completion

    def plain() -> tuple[int, int]:
        _, passes = plain_denoise(
            EveryPosition(model),
            prompts,
            completion_length=completion,
            block_length=32,
            steps=steps,
            draws=keyed_draws(keys, completion),
            temperature=0.0,
        )
        return passes, passes * rows * canvas

    def ours(config: SamplerConfig) -> tuple[int, int]:
        output = denoise(model, prompts, config, keys=keys)
        return output.forward_passes, output.body_tokens

    calls: dict[str, Callable[[], tuple[int, int]]] = {"published loop": plain}
    for name, config in ways(completion, steps, device.type == "cuda").items():
        calls[name] = functools.partial(ours, config)
    found = []
    for name, call in calls.items():
        if not only or name in only:
            found.append(measured(name, call, tokens, peak, flops, device))
            print(shown(found[-1]), flush=True)
    return found


def shown(row: Row) -> str:
    """A line of the table."""
    held = "-" if row.bytes is None else f"{row.bytes / 2**30:.2f}"
    return f"| {row.name} | {row.tokens_per_second:.1f} | {row.passes} | {row.share:.0%} | {held} |"


def main() -> None:
    """Print one table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="a narrow model, to try the command")
    parser.add_argument("--rows", type=int, default=1, help="completions at the same time")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--completion", type=int, default=256, help="tokens of a completion")
    parser.add_argument("--steps", type=int, help="denoising steps; one a token if left out")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the table's rows")
    parser.add_argument("--json", type=Path, default=OUTPUT, help="file to write")
    options = parser.parse_args()
    device = torch.device(options.device)
    narrow = replace(CPU_SIZE, layers=2, vocab=512)
    model: Any = middle_model(narrow, device) if options.small else llada_8b(VOCABULARY, device)
    model.eval()
    print("| sampler | tokens/s | passes | share of peak | GiB |")
    print("|---|---|---|---|---|")
    with torch.no_grad():
        rows = measure(
            model,
            options.rows,
            options.prompt,
            options.completion,
            options.steps or options.completion,
            device,
            options.only,
        )
    options.json.parent.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report = {"device": name, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
