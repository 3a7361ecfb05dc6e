"""dry_run=true for the 8B model on every trainer, without weights, network or GPU."""

from typing import Any

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.stages import plan, run
from tests.composing import composed


def planned(*overrides: str) -> Any:
    config = composed(*overrides, "logger=[]", "dry_run=true")
    validate(config)
    return config


@pytest.mark.parametrize(
    ("trainer", "rows", "weights_gib"),
    [
        # 8,015,581,184 bfloat16 weights and 335,544,320 float32 ones of the adapters: 16.18 GiB.
        ("cpu", 64, 16.18),
        ("gpu", 64, 16.18),
        ("ddp", 8, 16.18),
        ("fsdp", 8, 16.18 / 8),
    ],
)
def test_the_plan_of_llada_8b(trainer: str, rows: int, weights_gib: float, capsys) -> None:
    result = run(planned("model=llada_8b", "data=gsm8k", f"trainer={trainer}"))
    assert result is not None
    assert result["counts"]["parameters"] == 8_015_581_184 + 335_544_320
    assert result["memory"]["weights"] / 2**30 == pytest.approx(weights_gib, abs=0.005)
    assert result["memory"]["reference copy"] == 0  # adapters: the reference is the same weights
    printed = capsys.readouterr().out
    assert "8,351,125,504, of which trained 335,544,320" in printed
    assert f"update ({rows} rows)" in printed
    assert "estimated peak" in printed


def test_all_weights_need_a_reference_and_optimizer_states() -> None:
    full = ("model.lora.enabled=false", "model.dtype=float32", "trainer=fsdp")
    result = plan.announce(planned("model=llada_8b", "data=gsm8k", *full))
    share = 8_015_581_184 * 4 // 8
    assert result["memory"]["reference copy"] == share
    assert result["memory"]["AdamW states"] == 2 * share
    # Two nodes of 8 with a copy each hold as much a GPU as one node.
    nodes = (*full, "trainer.num_nodes=2", "stage.prompts_per_step=16")
    two = plan.announce(planned("model=llada_8b", "data=gsm8k", *nodes, "trainer.replicas=2"))
    assert two["memory"]["AdamW states"] == 2 * share
    penalty_free = planned("model=llada_8b", "data=gsm8k", *full, "objective.beta=0")
    assert plan.announce(penalty_free)["memory"]["reference copy"] == 0


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("model=hf",), "model.path"),
        (("model.quantization=2bit",), "model.quantization"),
        (("model.quantization=4bit",), "model.quantization"),
        (("model.lora.rank=0",), "model.lora.rank"),
        (("model.lora.dropout=1",), "model.lora.dropout"),
        (("model.mask_token_id=-1",), "model.mask_token_id"),
        (("model.lora.enabled=true", "trainer.precision=bf16-true"), "trainer.precision"),
        (("stage=export", "dry_run=false"), "checkpoint"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        validate(composed(*overrides))
