"""How full a rollout's passes are: full slots against static batches, counted in passes.

`python benchmarks/slots.py FILE.jsonl` runs the sampler's own loop on a stand-in for a model, which
writes EOS where the trace of a problem ends: lengths are those of real traces, counted in words,
numbers and signs. No weights, no time: only which rows a pass takes. Prints a table in Markdown.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from igpo_lightning.diffusion.sampler import DenoiseOutput, SamplerConfig, Slots, denoise
from igpo_lightning.models.backbone import KeyValueCache, Layout

EOS, TOKEN = 1, 2
NUMBERED = 1000  # a prompt's tokens are its row's number times this, and the completion's length
PAPER = SamplerConfig(256, 32, 128, stop_after_eos=True)


class Scripted:
    """Writes so many tokens, then EOS: every token of a row's prompt says how many.

    The state of a position is 1 where EOS is due there. A block-causal model sees the prompt in
    what the cache keeps.
    """

    mask_token_id, eos_token_id, pad_token_id, vocab_size = 0, EOS, 3, 4
    shifted = finishes_passes = False
    supports_cache = supports_packing = supports_positions = True

    def __init__(self, prompt: int, block_size: int | None = None) -> None:
        self.prompt, self.block_size = prompt, block_size

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        window: tuple[int, int],
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        layout: Layout | None = None,
    ) -> Tensor:
        """[B, m, 1], at the wanted positions."""
        if cache is not None and not cache.layers:
            kept = input_ids[:, None, :, None].float()
            cache.layers = [(kept, kept.clone())]
        seen = input_ids
        if cache is not None and self.block_size is not None:
            seen = cache.layers[0][0][:, 0, :, 0]
        at = torch.arange(*window)[None] if positions is None else positions
        if layout is not None:
            at = layout.positions.take_along_dim(at, dim=1)
        length = seen.amax(dim=1, keepdim=True) % NUMBERED
        return (at - self.prompt >= length).float()[..., None]

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [m, V]."""
        logits = torch.full((len(hidden), self.vocab_size), -20.0)
        logits[torch.arange(len(hidden)), torch.where(hidden[:, 0] > 0, EOS, TOKEN)] = 0.0
        return logits


@dataclass(frozen=True)
class Use:
    """Passes of a job, their tokens, and the share of the slots that were taken in them."""

    passes: int
    tokens: int
    share: float


def lengths_of(file: Path) -> list[int]:
    """Words, numbers and signs of each trace."""
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).decode().split("\n")
    traces = [json.loads(line)["solution"] for line in lines if line]
    return [len(re.findall(r"[A-Za-z]+|\d|[^\w\s]", trace)) for trace in traces if trace]


def run(lengths: Sequence[int], sampler: "Sampler", prompt: int, rows: int, static: bool) -> Use:
    """Complete rows of these lengths behind prompts of so many tokens, `rows` at a time."""
    model: Any = Scripted(prompt, sampler.block_size)
    numbers = torch.arange(len(lengths)) + 1  # no two rows are equal
    prompts = (torch.tensor(lengths).clamp(max=NUMBERED - 1) + numbers * NUMBERED)[:, None].expand(
        -1, prompt
    )
    parts = prompts.split(rows) if static else [prompts]
    made: list[DenoiseOutput] = [
        denoise(model, p, sampler.config, slots=Slots(rows)) for p in parts
    ]
    passes = sum(output.forward_passes for output in made)
    tokens = sum(output.body_tokens for output in made)
    return Use(passes, tokens, sum(output.row_passes for output in made) / (passes * rows))


@dataclass(frozen=True)
class Sampler:
    """What is compared: settings, and the blocks of a block-causal model."""

    config: SamplerConfig
    block_size: int | None = None


SAMPLERS = {
    "exact": Sampler(PAPER),
    "dual cache": Sampler(replace(PAPER, cache="dual")),
    "prefix cache": Sampler(replace(PAPER, cache="prefix")),
    "growing canvas": Sampler(replace(PAPER, canvas="growing")),
    "block-causal": Sampler(PAPER, 32),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="problems with solutions, in JSON lines")
    parser.add_argument("--rows", type=int, default=512, help="rows of a step on this rank")
    parser.add_argument("--prompt", type=int, default=96, help="tokens of each prompt")
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 32, 64])
    arguments = parser.parse_args()
    lengths = random.Random(0).choices(lengths_of(arguments.file), k=arguments.rows)
    print(f"{arguments.rows} rows, {sum(lengths) / len(lengths):.0f} tokens on average")
    print("| sampler | slots | static: passes | in use | full slots: passes | in use | tokens |")
    print("|---|---|---|---|---|---|---|")
    for name, sampler in SAMPLERS.items():
        for slots in arguments.slots:
            static, full = (
                run(lengths, sampler, arguments.prompt, slots, kind) for kind in (True, False)
            )
            cells = [f"{use.passes} | {use.share:.1%}" for use in (static, full)]
            print(f"| {name} | {slots} | {' | '.join(cells)} | {full.tokens / static.tokens:.3f} |")


if __name__ == "__main__":
    main()
