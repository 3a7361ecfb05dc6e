"""The released code's hints: chunks, which are given, and where they stand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from igpo_lightning.inpainting.hints import (
    FREE,
    choose_hints,
    chunks_of,
    given_chunks,
    long_enough,
    place_chunks,
)
from igpo_lightning.settings import InpaintConfig

pytestmark = pytest.mark.shared

TAIL, SMALLEST = 30, 5
FREE_THERE, OUTSIDE = -7, -1  # how the recorded areas say "free" and "beyond the completion"
RELEASED = InpaintConfig(
    placement="stretched",
    exclude_answer=False,
    drop_short_chunk=True,
    round_up=True,
    always_last=True,
)


def test_hints_of_the_released_code(shared_golden: Path) -> None:
    folder = shared_golden / "methods" / "igpo"
    inputs, outputs = (load_file(folder / f"{n}.safetensors") for n in ("inputs", "outputs"))
    recorded = zip(
        *(inputs[f"hints.{n}"] for n in ("trace_length", "gen_length", "ratio", "drawn_sizes")),
        inputs["hints.hidden_chunks"],
        outputs["hints.chunks"].long(),
        outputs["hints.area_trace_index"].long(),
        strict=True,
    )
    for trace_length, length, ratio, sizes, hidden, expected, area in recorded:
        length, drawn = int(length), [int(size) for size in sizes if size > 0]
        trace = torch.arange(int(trace_length))
        cut = chunks_of(iter(drawn), min(len(trace), length - TAIL))
        chunks = [chunk for chunk in cut if long_enough(*chunk, SMALLEST, RELEASED)]
        known = [tuple(chunk) for chunk in expected.tolist() if chunk[0] >= 0]
        assert chunks == known or not known  # of a single chunk the code records no list
        order = sorted(range(len(chunks)), key=lambda index: bool(hidden[index]))
        given = given_chunks(order, float(ratio), RELEASED)
        assert set(given) == {
            *(i for i in range(len(chunks)) if not hidden[i]),
            len(chunks) - 1,
        }
        hints = place_chunks([chunks[i] for i in sorted(given)], trace, length, RELEASED)
        wanted = torch.where(area[:length] == FREE_THERE, FREE, area[:length])
        assert torch.equal(hints, wanted)
        assert bool((area[length:] == OUTSIDE).all())


def test_drawn_hints_take_the_same_road(shared_golden: Path) -> None:
    """`choose_hints` itself, for every recorded trace: the last chunk given, the tail free."""
    inputs = load_file(shared_golden / "methods" / "igpo" / "inputs.safetensors")
    for trace_length, length in zip(
        inputs["hints.trace_length"].tolist(), inputs["hints.gen_length"].tolist(), strict=True
    ):
        generator = torch.Generator().manual_seed(trace_length)
        hints = choose_hints(
            range(trace_length), length, 0.2, SMALLEST, 10, generator, options=RELEASED
        )
        assert bool((hints[length - TAIL :] == FREE).all())
        kept = min(trace_length, length - TAIL)
        # What is dropped of a last short chunk, or cut where stretched gaps reach the tail.
        assert int(hints.max()) >= kept - SMALLEST or bool(hints[length - TAIL - 1] != FREE)
