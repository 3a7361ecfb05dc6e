"""Bias and variance of every likelihood estimator on a model small enough to enumerate.

A completion of 3 tokens over 4 words has 64 values and 6 orders in which its tokens can be
unmasked. The model is a table of random logits, one row for every masked pattern and position, so
its conditionals fit no joint distribution: like a real masked diffusion model, it gives every order
its own likelihood. A second table has the spread of each estimate for a completion of 64 tokens
under a small random transformer, where nothing can be enumerated.
`python benchmarks/estimators.py` prints the tables of docs/likelihood.md.
"""

import argparse
import itertools
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from igpo_lightning.diffusion import (
    MaskedInputs,
    SamplerConfig,
    denoise,
    draw_masked_inputs,
    token_scores,
)
from igpo_lightning.diffusion.noise import row_keys
from igpo_lightning.models.backbone import Backbone
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig
from igpo_lightning.settings import LikelihoodConfig

WORDS, LENGTH = 4, 3
MASK = WORDS  # token ids 0 to 3 are words


class TableModel:
    """A backbone of the `Backbone` protocol whose hidden states are rows of a table of logits."""

    mask_token_id = MASK
    eos_token_id = -1
    pad_token_id = -1
    vocab_size = WORDS + 1
    supports_cache = supports_positions = False

    def __init__(self, seed: int = 0, scale: float = 1.5) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = ((WORDS + 1) ** LENGTH, LENGTH, WORDS + 1)
        table = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        table[..., MASK] = -torch.inf
        self.table = table.log_softmax(dim=-1)

    def __call__(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits [B, 1 + 3, 5] of one prompt token and the completion."""
        places = (WORDS + 1) ** torch.arange(LENGTH)
        rows = self.table[(input_ids[:, -LENGTH:] * places).sum(dim=1)]
        return torch.cat((torch.zeros_like(rows[:, :1]), rows), dim=1)

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        window: tuple[int, int] | None = None,
        cache: object = None,
    ) -> Tensor:
        """The logits themselves."""
        logits = self(input_ids)
        return logits if window is None else logits[:, slice(*window)]

    def project(self, hidden: Tensor) -> Tensor:
        """Hidden states are logits already."""
        return hidden

    def head_weight(self) -> None:
        """The head is no matrix."""

    def logp(self, words: tuple[int, ...], visible: set[int], position: int) -> float:
        """log p(word at position | the visible words)."""
        shown = [words[i] if i in visible else MASK for i in range(LENGTH)]
        row = sum(word * (WORDS + 1) ** i for i, word in enumerate(shown))
        return float(self.table[row, position, words[position]])


def exact_log_likelihoods(model: TableModel, words: tuple[int, ...]) -> tuple[float, float]:
    """Log-likelihood and lower bound of a completion, by enumeration of its 6 orders.

    The reverse process unmasks one token at a time in uniformly random order: its likelihood is
    the mean over orders of the product of conditionals, its bound the mean of their log.
    """
    logs = []
    for order in itertools.permutations(range(LENGTH)):
        logs.append(sum(model.logp(words, set(order[:i]), k) for i, k in enumerate(order)))
    return math.log(sum(math.exp(log) for log in logs) / len(logs)), sum(logs) / len(logs)


ESTIMATORS = {
    "mean_field": LikelihoodConfig("mean_field"),
    "elbo, n = 2": LikelihoodConfig("elbo", samples=2),
    "elbo, n = 2, shared": LikelihoodConfig("elbo", samples=2, coupling="shared"),
    "elbo, n = 2, antithetic": LikelihoodConfig("elbo", samples=2, coupling="antithetic"),
    "elbo, n = 8": LikelihoodConfig("elbo", samples=8),
    "quadrature, 1 node": LikelihoodConfig("quadrature", nodes=1, samples=1),
    "quadrature, 2 nodes": LikelihoodConfig("quadrature", nodes=2, samples=1),
    "quadrature, 2 nodes, shared": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, coupling="shared"
    ),
    "quadrature, 2 nodes, antithetic": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, coupling="antithetic"
    ),
    "quadrature, 2 nodes, fixed counts": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, fixed_counts=True
    ),
    "strata, k = 2": LikelihoodConfig("strata", strata=2),
    "strata, k = 3": LikelihoodConfig("strata", strata=3),
    "sandwich, upper bound, n = 2": LikelihoodConfig("sandwich", samples=2, upper_share=1.0),
    "sandwich, mixed, n = 2": LikelihoodConfig("sandwich", samples=2, upper_share=0.5),
    "sandwich, upper bound, n = 64": LikelihoodConfig("sandwich", samples=64, upper_share=1.0),
    "trajectory, k = 2": LikelihoodConfig("trajectory", slices=2),
    "trajectory, k = 3": LikelihoodConfig("trajectory", slices=3),
}


def moments(
    model: Backbone, settings: LikelihoodConfig, words: tuple[int, ...], draws: int, seed: int
) -> tuple[float, float]:
    """Mean and variance of a completion's estimate, over `draws` keys (and sampling orders)."""
    completion_ids = torch.tensor(words).expand(draws, len(words))
    inputs = draw(settings, completion_ids, seed)
    prompt_ids = torch.zeros(draws, 1, dtype=torch.int64)
    with torch.no_grad():
        scores = token_scores(model, prompt_ids, completion_ids, inputs)
    estimates = scores.logp.double().sum(dim=1)
    return float(estimates.mean()), float(estimates.var())


def draw(settings: LikelihoodConfig, completion_ids: Tensor, seed: int) -> MaskedInputs:
    """Masked inputs with a key and a random sampling order for each row, advantages negative."""
    draws, length = completion_ids.shape
    generator = torch.Generator().manual_seed(seed)
    everywhere = torch.ones_like(completion_ids, dtype=torch.bool)
    return draw_masked_inputs(
        settings,
        completion_ids,
        keys=row_keys([seed * draws + i for i in range(draws)]),
        live_mask=everywhere,
        unmask_step=torch.rand(draws, length, generator=generator).argsort(dim=1),
        advantages=torch.full((draws,), -1.0),
    )


def table(draws: int, model_seed: int) -> list[dict[str, float | str]]:
    """One row for each estimator: moments averaged over completions, weighted by likelihood."""
    model = TableModel(model_seed)
    completions = list(itertools.product(range(WORDS), repeat=LENGTH))
    exact = [exact_log_likelihoods(model, words) for words in completions]
    weights = [math.exp(log) for log, _ in exact]  # they sum to 1
    rows: list[dict[str, float | str]] = []
    for name, settings in ESTIMATORS.items():
        bias = gap = variance = 0.0
        for seed, (words, (log, bound), weight) in enumerate(
            zip(completions, exact, weights, strict=True)
        ):
            mean, spread = moments(model, settings, words, draws, seed)
            bias += weight * (mean - log)
            gap += weight * (mean - bound)
            variance += weight * spread
        inputs = draw_count(settings)
        rows.append(
            {
                "estimator": name,
                "passes": inputs,
                "bias": bias,
                "bias_to_bound": gap,
                "deviation": math.sqrt(variance),
                "standard_error": math.sqrt(variance / draws / len(completions)),
            }
        )
    return rows


def draw_count(settings: LikelihoodConfig) -> int:
    """Forward passes of one estimate."""
    return draw(settings, torch.zeros(1, LENGTH, dtype=torch.int64), 0).masks.shape[1]


LONG = {
    "mean_field": LikelihoodConfig("mean_field"),
    "elbo, n = 2": LikelihoodConfig("elbo", samples=2),
    "elbo, n = 2, shared": LikelihoodConfig("elbo", samples=2, coupling="shared"),
    "elbo, n = 2, antithetic": LikelihoodConfig("elbo", samples=2, coupling="antithetic"),
    "quadrature, 2 nodes": LikelihoodConfig("quadrature", nodes=2, samples=1),
    "quadrature, 2 nodes, antithetic": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, coupling="antithetic"
    ),
    "quadrature, 2 nodes, fixed counts": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, fixed_counts=True
    ),
    "quadrature, 2 nodes, antithetic, fixed counts": LikelihoodConfig(
        "quadrature", nodes=2, samples=1, coupling="antithetic", fixed_counts=True
    ),
    "strata, k = 2": LikelihoodConfig("strata", strata=2),
    "trajectory, k = 2": LikelihoodConfig("trajectory", slices=2),
    "sandwich, mixed, n = 2": LikelihoodConfig("sandwich", samples=2),
    "elbo, n = 4": LikelihoodConfig("elbo", samples=4),
    "elbo, n = 4, antithetic": LikelihoodConfig("elbo", samples=4, coupling="antithetic"),
    "quadrature, 4 nodes, antithetic": LikelihoodConfig(
        "quadrature", nodes=4, samples=1, coupling="antithetic"
    ),
    "quadrature, 4 nodes, antithetic, fixed counts": LikelihoodConfig(
        "quadrature", nodes=4, samples=1, coupling="antithetic", fixed_counts=True
    ),
    "strata, k = 4": LikelihoodConfig("strata", strata=4),
    "trajectory, k = 4": LikelihoodConfig("trajectory", slices=4),
}


def long_table(draws: int, seed: int) -> list[dict[str, float | str]]:
    """Mean and spread of each estimate of one completion of 64 tokens, in nats per token."""
    torch.manual_seed(seed)
    config = TinyConfig(
        vocab_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.2,
    )
    model = TinyBackbone(config)
    sampler = SamplerConfig(completion_length=64, block_length=64, steps=64, temperature=1.0)
    prompt_ids = torch.zeros(1, 1, dtype=torch.int64)
    sampled = denoise(model, prompt_ids, sampler, keys=row_keys([seed])).completion_ids[0]
    words = tuple(sampled.tolist())
    rows: list[dict[str, float | str]] = []
    for name, settings in LONG.items():
        mean, variance = moments(model, settings, words, draws, seed)
        rows.append(
            {
                "estimator": name,
                "passes": draw_count(settings),
                "mean": mean / len(words),
                "deviation": math.sqrt(variance) / len(words),
            }
        )
    return rows


def main() -> None:
    """Print both tables, and write them as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20_000, help="keys for each completion")
    parser.add_argument("--long-draws", type=int, default=1_000, help="keys for the long one")
    parser.add_argument("--seed", type=int, default=0, help="of the model's table")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    rows = table(arguments.draws, arguments.seed)
    print("| estimator | passes | bias to log-likelihood | bias to the bound | deviation |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['estimator']} | {row['passes']} | {row['bias']:+.3f} | "
            f"{row['bias_to_bound']:+.3f} | {row['deviation']:.3f} |"
        )
    long_rows = long_table(arguments.long_draws, arguments.seed)
    print("\n| estimator | passes | mean, nats per token | deviation, nats a token |")
    print("|---|---|---|---|")
    for row in long_rows:
        print(
            f"| {row['estimator']} | {row['passes']} | {row['mean']:.3f} | {row['deviation']:.3f} |"
        )
    if arguments.json is not None:
        content = {"enumerated": rows, "long": long_rows}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
