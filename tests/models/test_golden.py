"""Our logits against those of the public modelling code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.models import load_backbone

pytestmark = pytest.mark.shared
TOLERANCE = 1e-4  # the reference values' own


@pytest.mark.parametrize("name", ["llada_mha", "llada_gqa", "llada_tied"])
def test_llada_equals_the_public_code(shared_golden: Path, name: str) -> None:
    model = load_backbone(str(shared_golden / name))
    expected = load_file(shared_golden / name / "forward.safetensors")
    with torch.no_grad():
        plain = model(expected["input_ids"])
        padded = model(expected["input_ids"], expected["attention_mask"])
    torch.testing.assert_close(plain, expected["logits"], atol=TOLERANCE, rtol=0)
    real = expected["attention_mask"].bool()
    assert not real.all()
    torch.testing.assert_close(
        padded[real], expected["logits_padded"][real], atol=TOLERANCE, rtol=0
    )
    assert (model.mask_token_id, model.eos_token_id, model.pad_token_id) == (128, 1, 1)


def test_dream_equals_the_public_code_with_its_shift_hidden(shared_golden: Path) -> None:
    model = load_backbone(str(shared_golden / "dream"))
    expected = load_file(shared_golden / "dream" / "forward.safetensors")
    with torch.no_grad():
        logits = model(expected["input_ids"])
    # Position 0 has no logits of its own in the reference.
    torch.testing.assert_close(
        logits[:, 1:], expected["logits_aligned"][:, 1:], atol=TOLERANCE, rtol=0
    )
    torch.testing.assert_close(
        logits[:, 1:], expected["logits_unshifted"][:, :-1], atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("name", ["llada_mha", "llada_gqa", "llada_tied", "dream"])
def test_bfloat16_logits_stay_near_float32(shared_golden: Path, name: str) -> None:
    """bfloat16 keeps 8 bits: 2^-8 = 0.4 % a rounding; through two blocks and the head the largest
    error stays under 5 % of the largest logit."""
    ids = load_file(shared_golden / name / "forward.safetensors")["input_ids"]
    with torch.no_grad():
        exact = load_backbone(str(shared_golden / name))(ids)
        rounded = load_backbone(str(shared_golden / name), dtype=torch.bfloat16)(ids)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()
