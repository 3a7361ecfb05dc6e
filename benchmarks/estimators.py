"""Bias and variance of every likelihood estimator on a model small enough to enumerate.

A completion of 3 tokens over 4 words has 64 values and 6 orders in which its tokens can be
unmasked. The model is a table of random logits, one row for every masked pattern and position, so
its conditionals fit no joint distribution: like a real masked diffusion model, it gives every order
its own likelihood. `python benchmarks/estimators.py` prints the table of docs/likelihood.md.
"""

import argparse
import itertools
import json
import math
from pathlib import Path

import torch
from torch import Tensor

from igpo_lightning.diffusion import LikelihoodSettings, draw_masked_inputs, token_scores
from igpo_lightning.diffusion.noise import row_keys

WORDS, LENGTH = 4, 3
MASK = WORDS  # token ids 0 to 3 are words


class TableModel:
    """A backbone of the `Backbone` protocol whose hidden states are rows of a table of logits."""

    mask_token_id = MASK
    eos_token_id = -1
    pad_token_id = -1
    vocab_size = WORDS + 1
    supports_cache = False

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
    "mean_field": LikelihoodSettings("mean_field"),
    "elbo, n = 2": LikelihoodSettings("elbo", samples=2),
    "elbo, n = 2, shared": LikelihoodSettings("elbo", samples=2, coupling="shared"),
    "elbo, n = 2, antithetic": LikelihoodSettings("elbo", samples=2, coupling="antithetic"),
    "elbo, n = 8": LikelihoodSettings("elbo", samples=8),
    "quadrature, 1 node": LikelihoodSettings("quadrature", nodes=1, samples=1),
    "quadrature, 2 nodes": LikelihoodSettings("quadrature", nodes=2, samples=1),
    "quadrature, 2 nodes, shared": LikelihoodSettings(
        "quadrature", nodes=2, samples=1, coupling="shared"
    ),
    "quadrature, 2 nodes, antithetic": LikelihoodSettings(
        "quadrature", nodes=2, samples=1, coupling="antithetic"
    ),
    "strata, k = 2": LikelihoodSettings("strata", strata=2),
    "strata, k = 2, full pass": LikelihoodSettings("strata", strata=2, full_pass=True),
    "strata, k = 3": LikelihoodSettings("strata", strata=3),
    "sandwich, upper bound, n = 2": LikelihoodSettings("sandwich", samples=2, upper_share=1.0),
    "sandwich, mixed, n = 2": LikelihoodSettings("sandwich", samples=2, upper_share=0.5),
    "sandwich, upper bound, n = 64": LikelihoodSettings("sandwich", samples=64, upper_share=1.0),
    "trajectory, k = 2": LikelihoodSettings("trajectory", slices=2),
    "trajectory, k = 3": LikelihoodSettings("trajectory", slices=3),
}


def moments(
    model: TableModel, settings: LikelihoodSettings, words: tuple[int, ...], draws: int, seed: int
) -> tuple[float, float]:
    """Mean and variance of a completion's estimate, over `draws` keys (and sampling orders)."""
    completion_ids = torch.tensor(words).expand(draws, LENGTH)
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(draws, LENGTH, generator=generator).argsort(dim=1)
    inputs = draw_masked_inputs(
        settings,
        completion_ids,
        keys=row_keys([seed * draws + i for i in range(draws)]),
        hint_mask=torch.zeros(draws, LENGTH, dtype=torch.bool),
        live_mask=torch.ones(draws, LENGTH, dtype=torch.bool),
        unmask_step=steps,
        advantages=torch.full((draws,), -1.0),
    )
    prompt_ids = torch.zeros(draws, 1, dtype=torch.int64)
    estimates = token_scores(model, prompt_ids, completion_ids, inputs).logp.double().sum(dim=1)
    return float(estimates.mean()), float(estimates.var())


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


def draw_count(settings: LikelihoodSettings) -> int:
    """Forward passes of one estimate."""
    ids = torch.zeros(1, LENGTH, dtype=torch.int64)
    no, yes = torch.zeros_like(ids, dtype=torch.bool), torch.ones_like(ids, dtype=torch.bool)
    inputs = draw_masked_inputs(
        settings,
        ids,
        keys=row_keys([0]),
        hint_mask=no,
        live_mask=yes,
        unmask_step=ids,
        advantages=torch.ones(1),
    )
    return inputs.masks.shape[1]


def main() -> None:
    """Print the table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20_000, help="keys for each completion")
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
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
