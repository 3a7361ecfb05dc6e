"""Mixtures of experts in place of a block's MLP: a router sends each token to a few of many.

Two routers, both in float32: Qwen3-MoE's softmax (SDAR-30B-A3B), and LLaDA 2's sigmoid with groups
of experts, a bias for choosing alone, a scale, and a shared expert that sees every token.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ExpertsConfig:
    """A mixture of experts.

    Attributes:
        count: E, experts.
        chosen: Experts that a token goes to.
        width: Inner channels of an expert.
        sigmoid: Scores are sigmoids of the router's logits; else their softmax.
        normalized: The weights of a token's experts sum to 1, before `scale`.
        shared_width: Inner channels of the expert that sees every token; 0 for none.
        groups: Experts are chosen from the best groups alone.
        chosen_groups: How many groups.
        scale: Factor on the weights.
        dense_blocks: Blocks that keep a plain MLP.
    """

    count: int
    chosen: int
    width: int
    sigmoid: bool = False
    normalized: bool = True
    shared_width: int = 0
    groups: int = 1
    chosen_groups: int = 1
    scale: float = 1.0
    dense_blocks: frozenset[int] = frozenset()


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020)."""

    def __init__(self, width: int, inner: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised hidden states [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Router(nn.Module):
    """Chooses each token's experts, and what each contributes."""

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.count, width))
        if config.sigmoid:
            # Moved by load balancing in pre-training, never by a gradient.
            self.expert_bias = nn.Parameter(torch.zeros(config.count), requires_grad=False)

    def logits(self, tokens: Tensor) -> Tensor:
        """Scores before the sigmoid or softmax, [T, E] float32, of tokens [T, D]."""
        with torch.autocast(tokens.device.type, enabled=False):
            return F.linear(tokens.float(), self.weight.float())

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Chosen experts and their weights, both [T, chosen], of tokens [T, D]."""
        config, logits = self.config, self.logits(tokens)
        if config.sigmoid:
            scores = logits.sigmoid()
            chosen = self._best(scores + self.expert_bias.float())
        else:
            scores = logits.softmax(dim=-1)
            chosen = self._best(scores)
        weights = scores.gather(1, chosen)
        if config.normalized and config.chosen > 1:
            weights = weights / (
                weights.sum(dim=1, keepdim=True) + (1e-20 if config.sigmoid else 0)
            )
        return chosen, weights * config.scale

    def _best(self, scores: Tensor) -> Tensor:
        """The best experts [T, chosen] of the best groups; a group counts by its two best."""
        config = self.config
        if config.groups > 1:
            members = config.count // config.groups
            grouped = scores.view(-1, config.groups, members)
            worth = grouped.topk(2, dim=2).values.sum(dim=2)
            kept = worth.topk(config.chosen_groups, dim=1, sorted=False).indices
            hidden = torch.ones_like(worth, dtype=torch.bool).scatter(1, kept, False)
            scores = grouped.masked_fill(hidden[..., None], -torch.inf).flatten(1)
        return scores.topk(config.chosen, dim=1).indices


class Experts(nn.Module):
    """A mixture of experts.

    Every expert runs in every pass, on no tokens if need be: all parameters then have a gradient on
    every rank.
    """

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = Router(width, config)
        self.experts = nn.ModuleList(MLP(width, config.width) for _ in range(config.count))
        self.shared_experts = MLP(width, config.shared_width) if config.shared_width else None

    @property
    def active_share(self) -> float:
        """Share of the experts' parameters that a token meets."""
        return self.config.chosen / self.config.count

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised hidden states [..., D]."""
        tokens = x.flatten(0, -2)  # [T, D]
        chosen, weights = self.gate(tokens)
        by_expert = chosen.flatten().argsort(stable=True)  # [T * chosen]
        sources = by_expert // self.config.chosen
        sizes = chosen.flatten().bincount(minlength=self.config.count).tolist()
        parts = torch.split(tokens[sources], sizes)
        done = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        done = done * weights.flatten()[by_expert, None].to(done.dtype)
        mixed = torch.zeros_like(tokens, dtype=done.dtype).index_add(0, sources, done)
        if self.shared_experts is not None:
            mixed = mixed + self.shared_experts(tokens)
        return mixed.view(*x.shape[:-1], -1)
