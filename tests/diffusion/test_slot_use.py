"""How full the passes of a rollout are where rows end at different blocks."""

import random
from types import ModuleType

import pytest

# 64 completions of 20 to 249 tokens, in blocks of 32.
LENGTHS = random.Random(0).choices(range(20, 250), k=64)
PROMPT, SLOTS, STEPS = 96, 8, 16


@pytest.mark.parametrize("name", ["exact", "dual cache", "growing canvas"])
def test_slots_stay_full_wherever_rows_end(slot_benchmark: ModuleType, name: str) -> None:
    """Rows at any blocks share a pass: only the last passes can have empty slots."""
    sampler = slot_benchmark.SAMPLERS[name]
    full = slot_benchmark.run(LENGTHS, sampler, PROMPT, SLOTS, static=False)
    blocks = sum(length // 32 + 1 for length in LENGTHS)  # EOS stands behind the last token
    assert full.share == pytest.approx(blocks * STEPS / (full.passes * SLOTS))
    assert full.share >= 0.95


def test_static_batches_wait_for_their_longest_row(slot_benchmark: ModuleType) -> None:
    sampler = slot_benchmark.SAMPLERS["exact"]
    static = slot_benchmark.run(LENGTHS, sampler, PROMPT, SLOTS, static=True)
    batches = [LENGTHS[at : at + SLOTS] for at in range(0, len(LENGTHS), SLOTS)]
    assert static.passes == STEPS * sum(max(batch) // 32 + 1 for batch in batches)
