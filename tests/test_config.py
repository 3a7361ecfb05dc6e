"""Every config file composes, and a mistake is told in one line before anything heavy is loaded."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.cli import explain
from igpo_lightning.config import CONF
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import STAGES, Settings
from tests.composing import composed, raw

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())
# Groups whose files stand alone; recipes and experiments are composed by name below.
CHOICES = [
    f"{group}={file.stem}"
    for group in GROUPS
    if group not in ("recipe", "experiment", "sweep", "hydra", "stage")
    for file in sorted((CONF / group).glob("*.yaml"))
]
NEEDED = {
    "generate": ["stage.prompt=x"],
    "tokenizer": ["stage.output=x"],
    "model=hf": ["model.path=tiny"],
    "data=mixture": ["data.parts=[gsm8k,math]"],
}


def checked(*overrides: str) -> Settings:
    config = composed(*overrides)
    validate(config)
    return config


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_every_group_composes(choice: str) -> None:
    # Eight processes of a cluster divide its defaults; a single one divides anything.
    overrides = [choice, *NEEDED.get(choice, [])]
    if choice.startswith("trainer="):
        overrides.append("stage.prompts_per_step=8")
    config = checked(*overrides)
    assert getattr(config, choice.split("=")[0]) is not None


@pytest.mark.parametrize("file", sorted((CONF / "stage").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_stage_composes(file: Path) -> None:
    assert file.stem in STAGES
    if file.stem in ("export", "rewrite", "inspect", "report"):
        pytest.skip("tested with its stage: it needs a file")
    assert checked(f"stage={file.stem}", *NEEDED.get(file.stem, [])).stage.name == file.stem


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_file_says_first_when_to_choose_it(file: Path) -> None:
    lines = file.read_text().splitlines()
    told = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert told.startswith("# ")
    assert len(told) > 20


def test_the_defaults_are_the_papers() -> None:
    """PAPER.md's hyper-parameters, without the recipe that fits them to the embedded model."""
    config = checked("~recipe", "sampler=paper", "data=metamathqa", "prompt=reasoning")
    assert (config.stage.group_size, config.stage.inner_updates) == (8, 4)
    sampler = config.sampler
    assert (sampler.completion_length, sampler.block_length, sampler.steps) == (256, 32, 128)
    assert sampler.temperature == 1.2
    inpaint = config.inpaint
    assert (inpaint.chunk_min, inpaint.chunk_max, inpaint.replace_fraction) == (5, 10, 0.5)
    assert (inpaint.ratio, inpaint.ratio_low, inpaint.ratio_high) == (None, 0.2, 0.6)
    assert (config.filter.kind, config.filter.keep_fraction) == ("entropy", 0.2)
    objective = config.objective
    assert (objective.advantage, objective.ratio) == ("mean", "sequence")
    assert (objective.clip_low, objective.clip_high, objective.beta) == (0.2, 0.2, 0.01)
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.grad_norm) == (5e-7, 0.1, 0.2)
    assert (list(optimizer.betas), optimizer.warmup_steps) == ([0.9, 0.99], 50)
    assert config.prompt.max_length == 600


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        # Values that do not fit together: the key, the value, what would be right.
        (["sampler.steps=33"], ["sampler.steps=33", "multiple of the 6 blocks", "36"]),
        (["sampler.block_length=7"], ["sampler.block_length=7", "completion_length=48"]),
        (["sampler.steps=60"], ["sampler.steps=60", "at most", "completion_length=48"]),
        (["inpaint.ratio_low=0.9"], ["inpaint.ratio_low=0.9", "inpaint.ratio_high=0.6"]),
        (["inpaint.ratio=1.5"], ["inpaint.ratio=1.5", "from 0 to 1"]),
        (["inpaint.replace_fraction=1.5"], ["inpaint.replace_fraction=1.5", "from 0 to 1"]),
        (["inpaint.replace_fraction=-0.1"], ["inpaint.replace_fraction=-0.1", "from 0 to 1"]),
        (["inpaint.chunk_min=9"], ["inpaint.chunk_min=9", "inpaint.chunk_max=6"]),
        (["inpaint.chunk_max=99"], ["inpaint.chunk_max=99", "sampler.completion_length=48"]),
        (["stage.group_size=1"], ["stage.group_size=1", "at least 2"]),
        (["stage.inner_updates=0"], ["stage.inner_updates=0", "at least 1"]),
        (["filter.keep_fraction=0"], ["filter.keep_fraction=0", "filter=none"]),
        (["objective.ratio=both"], ["objective.ratio=both", "sequence", "token"]),
        (["objective.clip_low=2"], ["objective.clip_low=2", "from 0 to 1"]),
        (["optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "two numbers"]),
        (["trainer.devices=2"], ["trainer.devices=2", "trainer.strategy=ddp or fsdp"]),
        (
            ["trainer=ddp", "stage.prompts_per_step=9"],
            ["stage.prompts_per_step=9", "multiple of the 8 processes"],
        ),
        (["reward.weights={}"], ["reward.weights", "at least one"]),
    ],
)
def test_values_that_do_not_fit_together(overrides: list[str], says: list[str]) -> None:
    if "reward.weights={}" in overrides:
        overrides = ["~reward.weights.correctness"]
    with pytest.raises(ConfigError) as error:
        checked(*overrides)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stage.group_siz=4", ["stage.group_siz=4", "did you mean stage.group_size?"]),
        ("sampler.stps=4", ["sampler.stps=4", "did you mean sampler.steps?"]),
        ("nonsense=4", ["nonsense=4", "no key nonsense"]),
        ("stage.steps=abc", ["stage.steps=abc", "Integer"]),
        ("objective.beta=much", ["objective.beta=much", "Float"]),
        ("data=nope", ["data/nope", "arithmetic"]),
    ],
)
def test_unknown_keys_and_wrong_types(
    override: str, says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["igpo-lightning", override])
    with pytest.raises(Exception) as error:  # noqa: PT011 - Hydra's own classes
        raw(override)
    for part in says:
        assert part in explain(error.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("inpaint.ratio_low=0.9", "error: inpaint.ratio_low=0.9: is above inpaint.ratio_high=0.6"),
        ("stage.group_siz=4", "error: stage.group_siz=4: there is no key"),
        ("objective=nonsense", "error: In 'config': Could not find 'objective/nonsense'"),
    ],
)
def test_a_mistake_is_told_before_anything_heavy_is_loaded(override: str, says: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "igpo_lightning", *override.split()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "transformers"}
    # Seconds of processor time: the wall clock would measure what else the machine does.
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 2
