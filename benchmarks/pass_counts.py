"""Forward passes, and tokens through the body, that a completion takes: by family and sampler.

`python benchmarks/pass_counts.py` prints the table of docs/models.md in a few seconds. Counts
depend neither on weights nor on machines, only on how many tokens a step commits: random one-layer
models make them. A dynamic threshold commits as many as the model is sure of, between one and all
of a block: its row gives both ends.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from igpo_lightning.diffusion.sampler import DenoiseOutput, denoise
from igpo_lightning.models.attention import Heads
from igpo_lightning.models.decoder import DecoderBackbone, DecoderConfig
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.settings import SamplerConfig

PROMPT, COMPLETION = 128, 256
FULL = SamplerConfig(COMPLETION, 32, 128, eos="never")  # the paper's: two tokens per step
SDAR = replace(FULL, block_length=4)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: Family and sampler.
        samplers: One sampler, or the two ends of a range.
        block_size: Tokens of a block of block-causal attention; None for full attention.
        shifted: As the family's logits are.
    """

    name: str
    samplers: tuple[SamplerConfig, ...]
    block_size: int | None = None
    shifted: bool = False


ROWS = (
    Row("LLaDA, exact", (FULL,)),
    Row("LLaDA, `cache=prefix`", (replace(FULL, cache="prefix"),)),
    Row("LLaDA, `cache=dual`", (replace(FULL, cache="dual"),)),
    Row("iLLaDA, `canvas=growing`", (replace(FULL, canvas="growing"),)),
    Row("SDAR, static", (SDAR,), 4),
    Row(
        "SDAR, dynamic threshold: all of a block at once ... one token per step",
        (
            replace(SDAR, steps=COMPLETION, confidence_threshold=0.0),
            replace(SDAR, steps=COMPLETION, confidence_threshold=1.0),
        ),
        4,
    ),
    Row("LLaDA 2, static", (FULL,), 32),
    Row("Fast-dLLM v2, sub-blocks of 8", (replace(FULL, block_length=8),), 32, True),
    Row(
        "Fast-dLLM v2, sub-blocks of 8, `cache=dual`",
        (replace(FULL, block_length=8, cache="dual"),),
        32,
        True,
    ),
)


def model_of(row: Row) -> DecoderBackbone:
    """A random model of one layer with the row's attention."""
    config = DecoderConfig(
        width=16,
        inner=16,
        depth=1,
        heads=Heads(2, 2, 8),
        vocab_size=64,
        norm_eps=1e-6,
        rope_theta=10_000.0,
        tied=True,
        block_size=row.block_size,
        shifted=row.shifted,
    )
    model = DecoderBackbone(config, TokenIds(mask=0, eos=1, pad=2), {})
    model.initialize(torch.Generator().manual_seed(0))
    return model.eval()


def counted(row: Row) -> list[DenoiseOutput]:
    """A completion by each of the row's samplers."""
    prompt = torch.randint(3, 64, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    return [denoise(model_of(row), prompt, config) for config in row.samplers]


def table() -> str:
    """The table, in Markdown."""
    made = [(row.name, counted(row)) for row in ROWS]
    whole = made[0][1][0].body_tokens

    def ends(values: list[Any]) -> str:
        return " ... ".join(f"{value:,}" for value in values)

    lines = [
        "| family and sampler | forward passes | tokens through the body | of LLaDA's |",
        "|---|---|---|---|",
    ]
    for name, outputs in made:
        shares = " ... ".join(f"{100 * out.body_tokens / whole:.1f} %" for out in outputs)
        passes = ends([out.forward_passes for out in outputs])
        lines.append(
            f"| {name} | {passes} | {ends([out.body_tokens for out in outputs])} | {shares} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
