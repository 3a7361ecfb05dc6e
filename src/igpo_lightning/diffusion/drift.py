"""How far an approximate sampler is from the policy, at the tokens that it commits.

A cache leaves stale keys and values behind, and a step that commits several tokens draws each
without seeing the others. Of a few rows and steps, chosen by the row's key, one exact pass on the
same canvas gives the policy's own distribution, and a second row of that pass holds the step's
tokens but the one that the sampler was least sure of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from igpo_lightning.diffusion.noise import fold, uniform
from igpo_lightning.diffusion.token_choice import TokenRules, choose_tokens
from igpo_lightning.diffusion.work import Work, computed_share
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.models.backbone import Backbone

_STREAM = 0x6472696674  # the stream of row keys that chooses what is measured
_PASSES = 2  # exact rows for each row that is measured


@dataclass(frozen=True)
class Committed:
    """What a step did in A rows of m candidate positions.

    Attributes:
        before: [A, L], the canvas that the sampler saw.
        after: [A, L], what the step made of it.
        mask: [A, L] attention mask, or None.
        places: [A, m], the candidates within the canvas.
        chosen: [A, m], True where the step committed the token.
        tokens: [A, m].
        scores: [A, m], how sure the sampler was.
        hidden: [A, m, D], the sampler's states.
        keys: [A, m] int64, or None where nothing is random.
    """

    before: Tensor
    after: Tensor
    mask: Tensor | None
    places: Tensor
    chosen: Tensor
    tokens: Tensor
    scores: Tensor
    hidden: Tensor
    keys: Tensor | None


@dataclass
class DriftMeter:
    """Measures a share of a call's steps; changes nothing that the call makes.

    Attributes:
        model: The backbone.
        rules: How tokens are drawn.
        share: Of a row's steps that are measured, each by chance.
        keys: [B] int64, on the host.
        ranks: See `sampler.denoise`.
        sums: [6] float64, on the device: what `Drift` has of them, in its order.
        largest: Difference of log-probabilities.
        work: Of the call, in which measuring counts.
    """

    model: Backbone
    rules: TokenRules
    share: float
    keys: Tensor
    ranks: Lockstep
    sums: Tensor
    largest: Tensor
    work: Work

    def chosen(
        self, rows: Sequence[int], row_steps: Sequence[int], masked: Sequence[int]
    ) -> list[int]:
        """Which of A rows with masked positions are measured in this step; decided on the host."""
        drawn = uniform(fold(fold(self.keys[list(rows)], _STREAM), torch.tensor(row_steps)))
        return ((drawn < self.share) & (torch.tensor(masked) > 0)).nonzero().flatten().tolist()

    def measure(self, step: Committed) -> None:
        """Compare the step's tokens with the exact policy's."""
        # The least sure of the step's tokens, masked again among all others.
        least = step.scores.masked_fill(~step.chosen, torch.inf).argmin(dim=1, keepdim=True)
        last = step.places.gather(1, least)
        joint = step.after.scatter(1, last, self.model.mask_token_id)
        canvas = torch.cat((step.before, joint))
        mask = None if step.mask is None else torch.cat((step.mask, step.mask))
        self.ranks.before_pass()
        self.work.forward_passes += 1
        self.work.body_tokens += canvas.numel()
        states = self.model.encode(canvas, mask)
        hidden, alone = states.chunk(2)
        hidden = hidden.take_along_dim(step.places[..., None], dim=1)  # [A, m, D]
        alone = alone.take_along_dim(last[..., None], dim=1)  # [A, 1, D]
        # In one call of the head: ranks that share weights make as many in every pass.
        parts = (step.hidden, hidden, alone)
        flat = self.model.project(torch.cat([part.flatten(0, 1) for part in parts]))
        sizes = [part.shape[0] * part.shape[1] for part in parts]
        logits = torch.split(flat, sizes)  # type: ignore[no-untyped-call]
        drawn, _ = choose_tokens(
            lambda _: logits[1].clone(),
            hidden.flatten(0, 1),
            self.rules,
            None if step.keys is None else step.keys.flatten(),
        )
        sampler, exact, joint_logp = (
            self._logp(of).view(*part.shape[:2], -1) for of, part in zip(logits, parts, strict=True)
        )  # [A, m, V], [A, m, V], [A, 1, V]
        token = step.tokens[..., None]
        own = sampler.gather(-1, token).squeeze(-1)
        difference = (own - exact.gather(-1, token).squeeze(-1)).abs()
        divergence = torch.where(sampler > -torch.inf, sampler.exp() * (sampler - exact), 0.0)
        several = step.chosen.sum(dim=1) > 1  # [A]
        token_alone = token.gather(1, least[..., None])
        gap = (own.gather(1, least) - joint_logp.gather(-1, token_alone).squeeze(-1)).abs()
        other = drawn.view_as(step.tokens) != step.tokens

        def total(values: Tensor, where: Tensor) -> Tensor:
            # No product: elsewhere log-probabilities may be infinite.
            return torch.where(where, values.double(), 0.0).sum()

        self.sums += torch.stack(
            (
                step.chosen.double().sum(),
                total(difference, step.chosen),
                total(divergence.sum(dim=-1), step.chosen),
                total(other, step.chosen),
                several.double().sum(),
                total(gap.squeeze(1), several),
            )
        )
        largest = torch.where(step.chosen, difference, 0.0).amax()
        self.largest = torch.maximum(self.largest, largest)

    def _logp(self, logits: Tensor) -> Tensor:
        """Log-probabilities [M, V] of logits, at temperature 1."""
        logits = logits.double()
        logits[:, list(self.rules.forbidden)] = -torch.inf
        return logits.log_softmax(dim=-1)


def drift_meter(
    model: Backbone,
    rules: TokenRules,
    keys: Tensor | None,
    length: int,
    ranks: Lockstep,
    work: Work,
) -> DriftMeter | None:
    """What measures a call on canvases of a length; None where the settings ask for nothing.

    `sampler.drift_share` is a share of the computation: with a cache a step costs a row less than
    the whole canvas that measuring takes, so that fewer steps are measured.
    """
    config = rules.config
    if config.drift_share == 0 or keys is None:
        return None
    share = config.drift_share * computed_share(config, length) / _PASSES
    zero = torch.zeros((), dtype=torch.float64, device=keys.device)
    return DriftMeter(model, rules, share, keys.cpu(), ranks, zero.repeat(6), zero, work)


@dataclass(frozen=True)
class Drift:
    """What was measured, as numbers.

    Attributes:
        tokens: Committed tokens that were compared.
        difference: Sum of |log q - log p|: the sampler's q when it committed the token, the exact
            policy's p on the same canvas.
        largest: The largest of these.
        divergence: Sum of KL(q || p) in nats.
        other: Tokens that the exact policy would not have drawn with the same random numbers.
        steps: Measured steps that committed several tokens.
        joint: Sum over these of |log q - log p| at the least sure token, with p given the others.
    """

    tokens: float = 0.0
    difference: float = 0.0
    divergence: float = 0.0
    other: float = 0.0
    steps: float = 0.0
    joint: float = 0.0
    largest: float = field(default=0.0, kw_only=True)

    @classmethod
    def read(cls, meter: DriftMeter | None) -> "Drift":
        """The sums of a meter, read from its device."""
        if meter is None:
            return cls()
        return cls(*meter.sums.tolist(), largest=float(meter.largest))
