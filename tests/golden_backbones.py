"""The checkpoints of the folder of reference values, ready to run."""

import json
from pathlib import Path

from safetensors.torch import load_file

from igpo_lightning.models import load_backbone
from igpo_lightning.models.decoder import DecoderBackbone
from igpo_lightning.models.families import family_of


def load_golden(
    root: Path, folder: str, block: str | int | None = "own", eos: int | None = None
) -> DecoderBackbone:
    """A checkpoint, with the special tokens that its config.json leaves out.

    Where a public id does not fit the small vocabulary, the mask is a token whose row of the head
    is zero, and the EOS is the padding or, without one, the mask.

    Args:
        root: Of all checkpoints.
        folder: Of this one.
        block: Tokens of a block; None for full attention, "own" for what its config.json says.
        eos: The EOS in its place.
    """
    raw = json.loads((root / folder / "config.json").read_text())
    family = family_of(raw)
    assert family is not None
    overrides: dict[str, int | None] = {}
    if "mask_token_id" not in raw and family.tokens["mask_token_id"] >= raw["vocab_size"]:
        head = load_file(root / folder / "model.safetensors")["lm_head.weight"]
        zero = head.abs().sum(dim=1).eq(0).nonzero().flatten().tolist()
        overrides["mask_token_id"] = next(i for i in zero[::-1] if i != raw.get("pad_token_id"))
    if eos is not None:
        overrides["eos_token_id"] = eos
    elif "eos_token_id" not in raw:
        mask = raw.get("mask_token_id", overrides.get("mask_token_id"))
        overrides["eos_token_id"] = raw.get("pad_token_id", mask)
    model = load_backbone(str(root / folder), token_overrides=overrides)
    assert isinstance(model, DecoderBackbone)
    if block != "own":
        assert block is None or isinstance(block, int)
        model.block_size = block
    return model
