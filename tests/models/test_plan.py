"""The plan: exact counts, FLOPs by hand, and memory against what autograd really keeps."""

import pytest
import torch

from igpo_lightning.models import load_backbone
from igpo_lightning.models.lora import add_lora
from igpo_lightning.models.memory import Workload, make_plan
from igpo_lightning.models.plan import count, forward_flops, kept_channels, train_flops
from igpo_lightning.settings import LoraConfig


def meta(architecture: str, dtype: torch.dtype = torch.float32):
    return load_backbone(
        "none", dtype=dtype, device="meta", random_init=True, architecture=architecture
    )


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        # 32 blocks of 4 * 4096^2 + 3 * 4096 * 12288 + 2 * 4096, embedding and head of
        # 126,464 * 4096 each, one norm: the 8.02 B of the public model card.
        ("llada_8b", 32 * (4 * 4096**2 + 3 * 4096 * 12288 + 8192) + 2 * 126464 * 4096 + 4096),
        # Qwen2.5-7B's own figure; Dream is that architecture.
        ("dream_7b", 7_615_616_512),
        ("fast_dllm_v2_7b", 7_615_616_512),
        # The 7.62 B and 8.19 B of the public model cards.
        ("illada_8b", 7_615_025_152),
        ("sdar_8b", 8_190_735_360),
    ],
)
def test_real_sizes_are_counted_without_memory(architecture: str, parameters: int) -> None:
    counts = count(meta(architecture))
    assert counts.parameters == counts.trainable == parameters
    assert counts.weight_bytes == 4 * parameters


def test_the_papers_adapters_are_a_twenty_fourth_of_llada() -> None:
    """r = 128 on all seven layers of 32 blocks: 128 * (4 * 8192 + 3 * 16384) * 32."""
    model = meta("llada_8b", torch.bfloat16)
    add_lora(model, LoraConfig(rank=128, alpha=64.0), seed=0)
    counts = count(model)
    assert counts.trainable == 128 * (4 * 8192 + 3 * 16384) * 32 == 335_544_320
    assert counts.trainable_bytes == 4 * counts.trainable  # float32 beside bfloat16


@pytest.mark.parametrize(("kind", "bits"), [("8bit", 8), ("4bit", 4)])
def test_quantized_blocks_are_counted_as_they_are_kept(kind: str, bits: int) -> None:
    """LLaDA's blocks have 4 * 4096^2 + 3 * 4096 * 12288 weights in 4 * 4096 + 2 * 12288 + 4096
    rows; embedding, head, norms and adapters keep their types."""
    model = meta("llada_8b", torch.bfloat16)
    add_lora(model, LoraConfig(rank=128, alpha=64.0), seed=0)
    whole, counts = count(model), count(model, kind)
    matrices, rows = 4 * 4096**2 + 3 * 4096 * 12288, 5 * 4096 + 2 * 12288
    scales = 4 * rows if kind == "8bit" else matrices // 64 + 4 * matrices // (64 * 256)
    block = matrices * bits // 8 + scales
    assert whole.weight_bytes - counts.weight_bytes == 32 * (2 * matrices - block)
    assert whole.block_bytes - counts.block_bytes == 2 * matrices - block
    assert counts.trainable_bytes == whole.trainable_bytes


def test_flops_of_a_token_by_hand(native) -> None:
    """tiny: D = 16, I = 24, V = 40, two blocks, canvas 10. A block has 3 * 256 + 256 + 2 * 384 +
    384 = 2,176 weights in matrices and two norms of 16; the tied head reads 640 weights.
    Forward: 2 * (2 * 2,208 + 640) + 4 * 2 * 10 * 16 = 10,112 + 1,280."""
    counts = count(native("tiny"))
    assert forward_flops(counts, canvas=10) == 10_112 + 1_280
    # All weights trained: three forward passes' worth; four with recomputation.
    assert train_flops(counts, 10, recompute=False) == 3 * 11_392
    assert train_flops(counts, 10, recompute=True) == 4 * 11_392


@pytest.mark.parametrize("name", ["dream", "llada", "tiny"])
def test_kept_channels_are_what_autograd_keeps(native, name: str) -> None:
    """Bytes that the backward pass of a block holds, each storage once, weights left out."""
    sizes = {
        "dream": {"hidden_size": 64, "intermediate_size": 176},
        "llada": {"d_model": 64, "mlp_hidden_size": 176},
        "tiny": {"hidden_size": 64, "intermediate_size": 176},
    }[name]
    model, rows, canvas = native(name, **sizes), 2, 128
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point():
            held[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.encode(torch.zeros(rows, canvas, dtype=torch.long))
    layers = len(list(model.blocks))
    expected = layers * rows * canvas * 4 * kept_channels(model)
    assert sum(held.values()) == pytest.approx(expected, rel=0.15)


def work(**changes) -> Workload:
    plain = {
        "prompt_length": 6,
        "completion_length": 4,
        "rollout_rows": 3,
        "train_rows": 2,
        "devices": 4,
        "sharded": False,
        "compute_bytes": 4,
        "reference_copy": True,
    }
    return Workload(**plain | changes)


def test_memory_by_hand(native) -> None:
    """tiny in float32: 2 * 2,208 + 640 + 16 = 5,072 weights of 4 bytes = 20,288 bytes."""
    model = native("tiny")
    memory = make_plan(model, work()).memory
    assert memory["weights"] == memory["reference copy"] == memory["gradients"] == 20_288
    assert memory["AdamW states"] == 2 * 20_288
    # A block keeps 3 D + D + 2 I + D out, 6 D and 2 I more: 11 * 16 + 4 * 24 = 272 channels.
    assert memory["update"] == 2 * (2 * 10) * 272 * 4  # two blocks, 2 rows of 10 tokens
    assert memory["rollout"] == 3 * 10 * 272 * 4  # one block at a time, 3 rows
    total = make_plan(model, work()).total
    assert total == 5 * 20_288 + max(memory["update"], memory["rollout"])


def test_sharding_divides_what_stands_and_gathers_blocks(native) -> None:
    memory = make_plan(native("tiny"), work(sharded=True)).memory
    assert memory["weights"] == memory["gradients"] == 20_288 // 4
    assert memory["AdamW states"] == 2 * 20_288 // 4
    assert memory["gathered blocks"] == 2 * 2_208 * 4


def test_recomputation_trades_activations(native) -> None:
    model = native("tiny")
    model.checkpoint_blocks()
    # The inputs of two blocks (16 channels each) and one block in full, 2 rows of 10 tokens.
    assert make_plan(model, work()).memory["update"] == 20 * 4 * (2 * 16 + 272)


def test_evaluation_holds_weights_and_one_pass(native) -> None:
    plan = make_plan(native("tiny"), work(train_rows=0, reference_copy=False))
    held = {name for name, size in plan.memory.items() if size}
    assert held == {"weights", "rollout", "loading"}
    assert plan.train_flops == 0


def test_a_token_meets_some_experts_alone(native) -> None:
    """Eight experts of 3 * 16 * 12 weights in one block, of which a token goes to two."""
    counts = count(native("llada2"))
    assert counts.parameters - counts.active == 6 * 3 * 16 * 12
    head = 40 * 16
    attention = 4 * 2 * 10 * (4 * 8)  # two blocks, canvas 10, four heads of 8 channels
    assert forward_flops(counts, 10) == 2 * (counts.active_blocks + head) + attention
