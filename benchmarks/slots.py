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
PAPER = SamplerConfig(256, 32, 128, stop_after_eos=True)


class Scripted:
    """Writes so many tokens, then EOS: a row's prompt is the length of its completion.

    The state of a position is 1 where EOS is due there. With block-causal attention a prompt fills
    a block, and its length is read from what the cache keeps.
    """

    mask_token_id, eos_token_id, pad_token_id, vocab_size = 0, EOS, 3, 4
    shifted = supports_packing = finishes_passes = False
    supports_cache = supports_positions = True

    def __init__(self, block_size: int | None = None) -> None:
        self.block_size = block_size

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
        at = torch.arange(*window)[None] if positions is None else positions
        lengths, prompt = input_ids[:, :1], 1
        if layout is not None and self.block_size is not None:
            assert cache is not None
            lengths, prompt = cache.layers[0][0][:, 0, self.block_size], self.block_size
            at = layout.positions
        return (at - prompt >= lengths).float()[..., None]

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


def run(lengths: Sequence[int], sampler: "Sampler", rows: int, static: bool) -> Use:
    """Complete rows of these lengths, `rows` at a time."""
    model: Any = Scripted(sampler.block_size)
    prompts = torch.tensor(lengths)[:, None].expand(-1, sampler.block_size or 1)
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
    "growing canvas": Sampler(replace(PAPER, canvas="growing")),
    "block-causal": Sampler(PAPER, 32),
    "exact, without EOS": Sampler(replace(PAPER, stop_after_eos=False)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="problems with solutions, in JSON lines")
    parser.add_argument("--rows", type=int, default=512, help="rows of a step on this rank")
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 32, 64])
    arguments = parser.parse_args()
    lengths = random.Random(0).choices(lengths_of(arguments.file), k=arguments.rows)
    print(f"{arguments.rows} rows, {sum(lengths) / len(lengths):.0f} tokens on average")
    print("| sampler | slots | static: passes | in use | full slots: passes | in use | tokens |")
    print("|---|---|---|---|---|---|---|")
    for name, sampler in SAMPLERS.items():
        for slots in arguments.slots:
            static, full = (run(lengths, sampler, slots, kind) for kind in (True, False))
            cells = [f"{use.passes} | {use.share:.1%}" for use in (static, full)]
            print(f"| {name} | {slots} | {' | '.join(cells)} | {full.tokens / static.tokens:.3f} |")


if __name__ == "__main__":
    main()
