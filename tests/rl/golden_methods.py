"""Reference values of public code in ../shared/golden/methods, by method and case."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from igpo_lightning.diffusion.likelihood import combine_scores
from igpo_lightning.diffusion.masked_inputs import MaskedInputs

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden" / "methods"
MASK_ID, EOS_ID = 12, 1  # of every folder, as its README says


@dataclass(frozen=True)
class Case:
    """Inputs and outputs under one prefix; `case["name"]` is an output, else an input."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    prefix: str

    def __getitem__(self, name: str) -> Tensor:
        return self.find(name, self.outputs) if self.has(name, self.outputs) else self.given(name)

    def has(self, name: str, values: dict[str, Tensor]) -> bool:
        return any(key in values for key in self.keys(name))

    def keys(self, name: str) -> list[str]:
        """The name under the prefix, then under each shorter one: `a.b.x`, `a.x`, `x`."""
        parts = self.prefix.split(".")[:-1]
        return [".".join([*parts[:n], name]) for n in range(len(parts), -1, -1)]

    def find(self, name: str, values: dict[str, Tensor]) -> Tensor:
        key = next(key for key in self.keys(name) if key in values)
        value = values[key]
        return value.long() if value.dtype in (torch.int16, torch.int32) else value

    def given(self, name: str) -> Tensor:
        """An input."""
        return self.find(name, self.inputs)

    @property
    def rewards(self) -> Tensor:
        """[Q, G]."""
        return self.given("rewards").view(-1, int(self["num_generations"]))

    @property
    def masked(self) -> Tensor:
        """Which completion tokens a canvas [..., P + C] shows as masked."""
        length = self["completion_ids"].shape[-1]
        return self["canvas"][..., -length:] == MASK_ID


def cases(method: str, marker: str) -> list[str]:
    """Prefixes under which an output called `marker` is recorded; none without the folder."""
    file = FOLDER / method / "outputs.safetensors"
    if not file.exists():
        return []
    names = load_file(file)
    return sorted(key[: -len(marker)] for key in names if key.split(".")[-1] == marker)


def load(method: str, prefix: str = "") -> Case:
    """One case."""
    inputs, outputs = (
        load_file(FOLDER / method / f"{n}.safetensors") for n in ("inputs", "outputs")
    )
    return Case(inputs, outputs, prefix)


def token_logps(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token, shape of `tokens`, from logits [..., V]."""
    tokens = tokens.expand(logits.shape[:-1])
    return logits.log_softmax(dim=-1).gather(-1, tokens[..., None]).squeeze(-1)


def estimated(logp: Tensor, weights: Tensor, **bound: object) -> Tensor:
    """Token estimates [B, C] from log-probabilities and weights [B, N, C], as training combines."""
    inputs = MaskedInputs(
        masks=weights > 0,
        weights=weights,
        scored=torch.ones(weights.shape[::2], dtype=torch.bool),
        **bound,
    )
    return combine_scores(logp, weights > 0, inputs)


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal to the tolerance that the folder's README states."""
    torch.testing.assert_close(actual.float(), expected.float(), rtol=1e-4, atol=2e-6)
