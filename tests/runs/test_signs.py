"""Signs of life: what the parts of a step tell, and where it is shown."""

import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
from torch.utils.data import DataLoader

from igpo_lightning.runs.progress import StepBar
from igpo_lightning.runs.signs import Signs

sys.path.append(str(Path(__file__).resolve().parents[1] / "rl"))


def signs(times: list[float]) -> tuple[Signs, list[str]]:
    """Signs whose clock shows these times in turn, and what they showed."""
    left, shown = iter(times), []
    made = Signs(clock=lambda: next(left))
    made.listener = shown.append
    return made, shown


def test_a_part_is_shown_when_it_begins() -> None:
    made, shown = signs([0.0] * 9)
    made.begin("update 2 of 4", expected=3, unit="micro-batches")
    made.begin("grading")
    assert shown == ["update 2 of 4: 0 of 3 micro-batches", "grading"]


def test_passes_are_shown_twice_a_second_with_their_speed() -> None:
    """Began at 0; passes at 0.2 and at 0.6, of 30 tokens each: 60 tokens in 0.6 s."""
    #          made, begin: began, shown, spent; pass; pass, shown, spent
    made, shown = signs([0.0, 0.0, 0.0, 0.0, 0.2, 0.6, 0.6, 0.6])
    made.begin("sampling", expected=1)
    made.expect(7)
    made.advance(30)
    made.advance(30)
    assert shown == ["sampling: 0 of 1 passes", "sampling: 2 of 8 passes, 100 tokens/s"]


def test_a_token_in_seconds_is_not_shown_as_none() -> None:
    """Two tokens in five seconds."""
    #          made, begin: began, shown, spent; pass, shown, spent
    made, shown = signs([0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0])
    made.begin("evaluation")
    made.advance(2)
    assert shown == ["evaluation", "evaluation: 0.4 tokens/s"]


def trained(bar: StepBar, steps: int = 1) -> Any:
    """A short training of a small random model, with a bar; returns its module."""
    import tiny_training as tiny

    run = tiny.train(lambda *_: False)  # for its settings alone: no bar
    module = run.module
    module.signs = signs_of(module)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps * module.stage.inner_updates,
        logger=False,
        callbacks=[bar],
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    problems = [tiny.problem("a"), tiny.problem("b")]
    trainer.fit(module, DataLoader(tiny.Steps(problems, steps), batch_size=None))
    return module


def signs_of(module: Any) -> Signs:
    """The module's own, which all its parts tell."""
    own: Signs = module.signs
    assert module.sampler.answerer.signs is own
    assert module.evaluation.answerer.signs is own
    return own


class Noted(StepBar):
    """Notes what it shows, and what stands beside the bar."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.beside: list[str] = []

    def show(self, text: str) -> None:
        super().show(text)
        self.texts.append(text)
        if self.progress is not None:
            self.beside += [task.description for task in self.progress.tasks]


def test_the_bar_follows_the_parts_of_a_step() -> None:
    bar = Noted()
    module = trained(bar)
    parts = [text.split(":")[0] for text in bar.texts]
    order = ["sampling", "grading", "inpainting", "grading", "scoring"]
    assert parts[:5] == order
    mu = module.stage.inner_updates
    assert parts[5:] == [f"update {k + 1} of {mu}" for k in range(mu)]
    assert any(text.startswith("Training, update 1 of") for text in bar.beside)
    assert module.signs.listener is None  # the run is over


def test_passes_are_counted_on_the_way() -> None:
    import tiny_training as tiny

    from igpo_lightning.evaluation.answer import Answerer

    made = Signs()
    answerer = Answerer(tiny.backbone(), tiny.TOKENIZER, tiny.SAMPLER, 2, made)
    made.begin("sampling")
    output = answerer.answer(
        [tiny.problem(name) for name in "abcd"], [1, 2, 3, 4], tiny.backbone().head.weight.device
    )
    assert made.done == made.expected == output.forward_passes == 8
    assert made.tokens == 4 * tiny.SAMPLER.completion_length


def test_a_disabled_bar_listens_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Lightning disables the bars of all ranks but the first."""
    bar = Noted()
    bar.disable()
    trained(bar)
    assert bar.texts == []
