"""Micro-batches: nothing about them may show in a row's completion."""

from typing import Any

import pytest
import torch

from igpo_lightning import distributed
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.diffusion.sampler import DenoiseOutput, denoise
from igpo_lightning.distributed.lockstep import Lockstep
from igpo_lightning.evaluation import answer
from igpo_lightning.evaluation.answer import Answerer
from igpo_lightning.models.tiny import TinyBackbone
from igpo_lightning.settings import SamplerConfig
from tests.diffusion.sampler_cases import tiny

CPU = torch.device("cpu")
LENGTHS = [3, 9, 3, 5, 12, 5, 3, 7]


@pytest.fixture(scope="module")
def model() -> TinyBackbone:
    return tiny()


def problems() -> list[EncodedProblem]:
    rows = []
    for number, length in enumerate(LENGTHS):
        prompt = (torch.arange(length) * (number + 3) % 50 + 5).tolist()
        problem = Problem(id=str(number), question="", solution=None, answer="")
        rows.append(EncodedProblem(problem, prompt, None, None))
    return rows


def answerer(model: TinyBackbone, config: SamplerConfig, rows: int) -> Answerer:
    tokenizer: Any = None  # no text is needed
    return Answerer(model, tokenizer, config, rows)


def run(model: TinyBackbone, batch_size: int, order: list[int], **options: object) -> DenoiseOutput:
    rows, hints = problems(), torch.full((len(LENGTHS), 16), -1)
    hints[2, 4:9] = 7
    hints[5, :8] = 11  # a block that hints fill
    config = SamplerConfig(16, 8, 8, temperature=1.0, **options)  # type: ignore[arg-type]
    return answerer(model, config, batch_size).answer(
        [rows[i] for i in order], [100 + i for i in order], CPU, hint_ids=hints[order]
    )


@pytest.mark.parametrize("options", [{}, {"stop_after_eos": True}, {"confidence_threshold": 0.2}])
def test_a_row_is_the_same_in_any_micro_batch_and_order(
    model: TinyBackbone, options: dict[str, object]
) -> None:
    inorder = list(range(len(LENGTHS)))
    alone = run(model, 1, inorder, **options)
    for batch_size, order, budget in (
        (3, inorder, None),
        (8, inorder[::-1], None),
        (1, [3, 1, 4, 0, 5, 2, 7, 6], 70),
    ):
        output = run(model, batch_size, order, token_budget=budget, **options)
        assert torch.equal(output.completion_ids, alone.completion_ids[order])
        assert torch.equal(output.hint_mask, alone.hint_mask[order])
        assert torch.equal(output.unmask_step, alone.unmask_step[order])


def test_a_rank_that_is_done_keeps_the_others_company(
    model: TinyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This rank has 8 passes of its own; the others need 11: three empty passes are made."""
    asked: list[bool] = []

    def anyone(works: bool) -> bool:
        asked.append(works)
        return works or len(asked) <= 11

    calls: list[int] = []
    encode = model.encode

    def counted(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(len(input_ids))
        return encode(input_ids, *args, **kwargs)

    monkeypatch.setattr(model, "encode", counted)
    monkeypatch.setattr(distributed, "lockstep_of", lambda _: Lockstep(anyone))
    asking = answerer(model, SamplerConfig(16, 8, 4), 1)
    assert asking.answer(problems()[:2], [0, 1], CPU, together=True).forward_passes == 8
    assert len(calls) == 11
    assert asked == [True] * 8 + [False] * 4


def test_ranks_that_answer_together_make_the_same_number_of_passes(
    model: TinyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows are two micro-batches of 4 steps; another rank makes 11 passes."""
    asking = answerer(model, SamplerConfig(16, 8, 4), 1)
    own = asking.answer(problems()[:2], [0, 1], CPU)
    monkeypatch.setattr(distributed, "max_over_ranks", lambda own: max(own, 11))
    more = asking.answer(problems()[:2], [0, 1], CPU, together=True)
    assert (own.forward_passes, more.forward_passes) == (8, 11)
    assert torch.equal(more.completion_ids, own.completion_ids)
    assert asking.answer([], [], CPU, together=True).forward_passes == 11


def test_answers_come_without_dropout_and_leave_the_model_as_it_was(
    model: TinyBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []

    def watched(model: TinyBackbone, *args: Any, **named: Any) -> Any:
        modes.append(model.training)
        return denoise(model, *args, **named)

    monkeypatch.setattr(answer, "denoise", watched)
    model.train()
    answerer(model, SamplerConfig(16, 8, 4), 8).answer(problems(), list(range(8)), CPU)
    assert modes == [False]
    assert model.training
    model.eval()
