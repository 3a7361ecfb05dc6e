"""What an evaluation suite measures, and what is wrong with one, before anything is loaded."""

import pytest

from igpo_lightning import compose
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.measurements import measurements
from igpo_lightning.settings import Settings


def composed(*overrides: str) -> Settings:
    return compose(overrides)


def test_the_papers_protocol() -> None:
    """PAPER.md: pass@1 at temperature 0, AMC avg@16 at 0.1, 256 to 1024 tokens; 2 tokens a step."""
    config = composed("experiment=eval_paper", "model=llada_8b")
    parts = measurements(config)
    assert [(p.benchmark, p.length) for p in parts] == [
        (name, length)
        for length in (256, 512, 1024)
        for name in ("gsm8k", "math500", "amc", "minerva")
    ]
    for part in parts:
        evaluation, sampler = part.config.eval, part.config.sampler
        asked = (evaluation.temperature, evaluation.samples, evaluation.limit, evaluation.split)
        assert asked == ((0.1, 16) if part.benchmark == "amc" else (0.0, 1)) + (None, "test")
        assert (sampler.completion_length, sampler.block_length) == (part.length, 32)
        assert sampler.steps == part.length // 2
        assert (part.config.stage.name, part.config.data.name) == ("eval", part.benchmark)
        assert part.config.data.hub["test"].repository
    assert config.sampler.steps == 128  # the suite's own configuration stays as it was


def test_data_without_parts_is_a_suite_of_one() -> None:
    (part,) = measurements(composed("stage=eval_suite", "data=gsm8k", "eval.samples=4"))
    assert (part.name, part.config.eval.samples) == ("gsm8k_64", 4)


def test_a_limit_of_the_data_holds_for_every_part() -> None:
    parts = measurements(composed("experiment=eval_paper", "data.limit=5", "stage.lengths=[]"))
    assert [part.config.data.limit for part in parts] == [5, 5, 5, 5]
    assert {part.length for part in parts} == {64}  # of sizes/tiny_text/eval_suite


def test_a_result_follows_from_what_is_asked_and_not_from_where() -> None:
    def decisive(*overrides: str) -> dict[str, object]:
        return measurements(composed("experiment=eval_paper", *overrides))[0].decisive()

    asked = decisive()
    assert decisive("eval.batch_size=3", "reward.workers=1", "trainer.threads=1") == asked
    for change in ("seed=1", "model.path=elsewhere", "eval.limit=9", "prompt.max_length=100"):
        changed = {key for key, value in decisive(change).items() if asked[key] != value}
        assert changed == {change.split("=")[0]}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["stage.lengths=[256,256]"], ["stage.lengths=[256, 256]", "once"]),
        (["stage.lengths=[0]"], ["stage.lengths=[0]", "at least 1"]),
        (["stage.lengths=[100]"], ["stage.lengths=[100]", "sampler.block_length=32"]),
        (["stage.lengths=[250]", "sampler.steps=24"], ["250 tokens", "sampler.steps=24"]),
        (["data.parts=[gsm8k,nope]"], ["data.parts=nope", "gsm8k"]),
        (["+stage.samples.amcc=2"], ["stage.samples=amcc", "there is no data=amcc"]),
        (["stage.samples.amc=0"], ["stage.samples.amc=0", "at least 1"]),
        (["stage.temperatures.amc=-1"], ["stage.temperatures.amc=-1", "at least 0"]),
        (["resume=runs/other"], ["resume=runs/other", "hydra.run.dir"]),
    ],
)
def test_mistakes_name_key_value_and_fix(overrides: list[str], says: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        composed("experiment=eval_paper", *overrides)
    for part in says:
        assert part in str(error.value)
