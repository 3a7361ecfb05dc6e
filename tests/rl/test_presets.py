"""The presets of conf/experiment and every file of the groups that they choose from."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from tiny_training import TOKENIZER, PlannedPool

from igpo_lightning.checks import validate
from igpo_lightning.config import CONF, plain, to_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.plugins import known_names
from igpo_lightning.rl.objectives import OBJECTIVES
from igpo_lightning.settings import Settings
from igpo_lightning.stages import sft_then_rl
from igpo_lightning.stages.sft_then_rl import part_overrides
from tests.composing import composed, hydra_ready, raw
from tests.small_backbones import tiny_config

ON_CPU = ["model=tiny", "data=arithmetic", "trainer=cpu"]
PRESETS = METHODS = sorted(
    file.stem
    for file in (CONF / "experiment").glob("*.yaml")
    if {"base", "base_d1", "base_dare", "igpo_paper", "just_grpo"}
    & set(map(str, yaml.safe_load(file.read_text())["defaults"]))
    and not file.stem.startswith(("base_", "hard_"))  # what others inherit; our experiments
)
LEFT_TO_RIGHT = ("just_grpo", "igpo_just_grpo")
ONE_LONG_UPDATE = {"inner_updates", "lr", "warmup_steps"}  # igpo_fast's own, in conf/sizes/fast


# ---- composition ------------------------------------------------------------------------------


SIZES = {
    "stage": ("steps", "prompts_per_step", "group_size", "inner_updates", "train_batch_size"),
    "optimizer": ("lr", "betas", "weight_decay", "grad_norm", "warmup_steps", "decay_share"),
    "sampler": ("completion_length", "block_length", "steps", "temperature"),
}


@cache
def without_a_method(data: str) -> Settings:
    return composed(f"data={data}")


# Methods with sizes or prompts of their own, to be composed with every kind of data.
OWN_SIZES = ("igpo_paper", "igpo_fast", "igpo_released", *LEFT_TO_RIGHT)


@pytest.mark.parametrize(
    ("preset", "data"),
    [
        pytest.param(
            *(preset, data),
            # A step of each preset runs on arithmetic, below.
            marks=() if data == "countdown" or preset in OWN_SIZES else pytest.mark.slow,
        )
        for preset in METHODS
        for data in ("arithmetic", "metamathqa", "countdown")
    ],
)
def test_a_method_on_the_tiny_model_has_the_tiny_models_sizes(preset: str, data: str) -> None:
    """Whatever sizes its source has: they come before those of the model."""
    config = composed(f"experiment={preset}", "model=tiny", f"data={data}")
    validate(config)
    plain = without_a_method(data)
    for group, keys in SIZES.items():
        own, plain_group = getattr(config, group), getattr(plain, group)
        if preset in LEFT_TO_RIGHT:  # one token a step and one update are the method's own
            keys = tuple(k for k in keys if k not in ("block_length", "inner_updates"))
            keys = tuple(k for k in keys if (group, k) != ("sampler", "steps"))
        if preset == "igpo_fast":
            keys = tuple(k for k in keys if k not in ONE_LONG_UPDATE)
        assert {k: getattr(own, k) for k in keys} == {k: getattr(plain_group, k) for k in keys}
    assert config.trainer.accelerator == "cpu"
    if data == "countdown":  # its traces do not end with the answer
        assert r"\boxed{answer}" in config.prompt.completion.replace("{{", "{").replace("}}", "}")


@pytest.mark.parametrize("data", ["arithmetic", "metamathqa", "countdown"])
def test_the_one_update_of_igpo_fast_is_as_long_as_all_of_igpo_paper(data: str) -> None:
    """On the tiny model as on LLaDA: mu updates become one, of mu times the learning rate."""
    for model in ([], ["model=tiny", f"data={data}"]):
        fast, paper = (composed(f"experiment=igpo_{name}", *model) for name in ("fast", "paper"))
        mu = paper.stage.inner_updates
        assert (mu > 1, fast.stage.inner_updates) == (True, 1)
        assert fast.optimizer.lr == pytest.approx(mu * paper.optimizer.lr)
        assert fast.optimizer.warmup_steps == max(1, paper.optimizer.warmup_steps // mu)


@pytest.mark.parametrize("preset", METHODS)
def test_a_method_is_for_llada_on_eight_gpus(preset: str) -> None:
    config = composed(f"experiment={preset}")
    validate(config)
    assert config.model.path == "GSAI-ML/LLaDA-8B-Instruct"
    assert (config.trainer.devices, config.data.name) == (8, "metamathqa")


@pytest.mark.parametrize("data", sorted(file.stem for file in (CONF / "data").glob("*.yaml")))
def test_any_data_gets_small_sizes_on_the_tiny_model(data: str) -> None:
    """No data set trains for the 1,000 steps that are meant for an 8B model."""
    config = composed(f"data={data}")
    lengths = {"arithmetic": 48, "countdown": 32, "sudoku": 64}  # with traces made for it
    assert config.stage.steps == (20 if data in lengths else 4)
    assert config.sampler.completion_length == lengths.get(data, 128)


def test_sft_and_evaluation_of_the_tiny_model_are_small_on_real_data() -> None:
    assert composed("stage=sft", "data=math").stage.steps == 20
    assert composed("stage=eval", "data=math").eval.limit == 64


def test_an_experiment_of_the_tiny_model_wins_over_its_sizes() -> None:
    hard = composed("experiment=hard_exploration")
    assert (hard.stage.steps, list(hard.data.levels), hard.optimizer.lr) == (20, [3, 4], 1e-4)
    start = composed("experiment=bare_answers")
    assert (start.stage.name, start.stage.steps, start.optimizer.lr) == ("sft", 600, 1e-3)


@pytest.mark.parametrize("stage", ["rl", "sft", "eval"])
def test_debug_fast_is_one_small_step(stage: str) -> None:
    config = composed(f"stage={stage}", "debug=fast", "trainer=ddp", "trainer.accelerator=cpu")
    validate(config)
    assert (config.trainer.devices, config.eval.limit) == (1, 2)
    assert getattr(config.stage, "steps", 1) == 1
    assert list(config.logger) == ["csv"]


@pytest.mark.parametrize("stage", ["rl", "sft"])
def test_debug_limit_and_overfit_take_few_problems(stage: str) -> None:
    limited = composed(f"stage={stage}", "debug=limit")
    assert (limited.stage.steps, limited.data.limit, limited.data.train_size) == (3, 64, 64)
    overfit = composed(f"stage={stage}", "debug=overfit")
    assert (overfit.data.train_size, overfit.eval.split, overfit.eval.limit) == (8, "train", 8)
    for config in (limited, overfit):
        validate(config)


def test_igpo_paper_has_the_papers_hyper_parameters():
    config = composed("experiment=igpo_paper")
    stage, sampler = config.stage, config.sampler
    assert (stage.group_size, stage.inner_updates, stage.prompts_per_step) == (8, 4, 64)
    assert (sampler.completion_length, sampler.block_length, sampler.steps) == (256, 32, 128)
    assert sampler.temperature == 1.2
    inpaint = config.inpaint
    assert (inpaint.chunk_min, inpaint.chunk_max) == (5, 10)
    assert (inpaint.ratio, inpaint.ratio_low, inpaint.ratio_high) == (None, 0.2, 0.6)
    assert (inpaint.replace_fraction, config.filter.keep_fraction) == (0.5, 0.2)
    objective = config.objective
    assert (objective.clip_low, objective.clip_high, objective.beta) == (0.2, 0.2, 0.01)
    assert (objective.advantage, objective.ratio) == ("mean", "sequence")
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.betas) == (5e-7, (0.9, 0.99))
    assert (optimizer.weight_decay, optimizer.grad_norm, optimizer.warmup_steps) == (0.1, 0.2, 50)
    assert (config.prompt.max_length, config.likelihood.prompt_mask_rate) == (600, 0.0)
    lora = config.model.lora
    assert (lora.rank, lora.alpha, lora.dropout) == (128, 64, 0.05)


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Leaves of a nested mapping by their dotted keys."""
    if not isinstance(node, dict):
        return {path: node}
    found = [flat(value, f"{path}.{key}".lstrip(".")) for key, value in node.items()]
    return {key: value for part in found for key, value in part.items()}


def changed_by(preset: str) -> set[str]:
    """Keys whose values differ from those of igpo_paper."""
    one, other = (flat(plain(composed(f"experiment={name}"))) for name in ("igpo_paper", preset))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_the_baselines_differ_from_the_paper_in_inpainting_alone():
    assert changed_by("grpo") == {"inpaint.trigger"}
    assert changed_by("grpo_resample") == {"inpaint.extra_samples"}


def test_igpo_released_has_every_departure_and_nothing_else():
    assert changed_by("igpo_released") == {
        "inpaint.placement",
        "inpaint.exclude_answer",
        "inpaint.drop_short_chunk",
        "inpaint.round_up",
        "inpaint.always_last",
        "filter.round_down",
        "objective.ratio_length",
        "objective.ratio_tokens",
        "objective.normalization",
        "objective.count_after_eos",
        "sampler.stop_after_eos",
        "prompt.completion",
        "optimizer.schedule",
        "model.lora.targets",
        "reward.weights.correctness",
        "reward.weights.format_tags",
        "reward.extraction",
        "reward.grading",
    }


def test_the_schema_knows_every_objective_without_importing_it():
    assert known_names(composed(), "objective") == tuple(OBJECTIVES)


# ---- the embedded run with each preset -----------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """An untrained model of a few thousand parameters, in the layout of any checkpoint."""
    folder = tmp_path_factory.mktemp("model")
    tiny_config(len(TOKENIZER)).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_of_each_preset_runs(preset, model_folder, tmp_path, monkeypatch):
    """From the command line's values to the files of a run, with verdicts by a plan: all wrong."""
    from igpo_lightning import stages

    monkeypatch.setattr(
        "igpo_lightning.stages.build.GradingPool",
        lambda *args, **kwargs: PlannedPool(lambda row, text: False),
    )
    # A third of such a run; test_rl_leaves_all_that_it_names looks for the picture.
    monkeypatch.setattr("igpo_lightning.stages.rl.plot_rl_curves", lambda folder: None)

    config = raw(
        f"experiment={preset}",
        *ON_CPU,
        f"model.path={model_folder}",
        "model.init=random",
        "data.levels=[1]",
        "data.train_size=8",
        "data.eval_size=4",
        "sampler.completion_length=16",
        *([] if preset in LEFT_TO_RIGHT else ["sampler.block_length=8", "sampler.steps=4"]),
        "stage.steps=1",
        "stage.prompts_per_step=2",
        "stage.group_size=2",
        "stage.log_samples_every=1",
        "stage.eval_before=false",
        "stage.eval_after=false",
        "inpaint.chunk_min=2",
        "inpaint.chunk_max=3",
        "inpaint.tail=2",
        "logger=csv",
        f"hydra.runtime.output_dir={tmp_path}",
        "+hydra.job.num=0",
        hydra=True,
    )
    HydraConfig.instance().set_config(config)
    settings = to_settings(config)
    validate(settings)
    threads = torch.get_num_threads()
    try:
        stages.run(settings)
    finally:
        torch.set_num_threads(threads)
    (header, line) = (tmp_path / "metrics.csv").read_text().splitlines()
    values = dict(zip(header.split(","), line.split(","), strict=True))
    extra = preset.startswith("igpo") or preset == "grpo_resample"
    assert float(values["group/all_wrong_before"]) == 1.0
    assert ("hint/correct_share" in values) == extra
    samples = [json.loads(row) for row in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4
    assert (tmp_path / "export" / "model.safetensors").exists()


# ---- SFT, then RL -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [[], ON_CPU])
def test_both_halves_of_the_recipe_compose(where):
    chain = composed("experiment=sft_then_igpo", *where)
    validate(chain)
    for name, data in (("sft", "openr1_math"), ("rl", "metamathqa")):
        part = composed(*part_overrides(where, list(getattr(chain.stage, name)), []))
        validate(part)
        assert part.stage.name == name
        assert part.data.name == ("arithmetic" if where else data)


def test_a_part_gets_what_is_shared_and_what_is_its_own():
    """The stage, the experiment and what to resume are each part's business; own values win."""
    shared = ["experiment=sft_then_igpo", "model=tiny", "+stage.rl=[a]", "resume=x", "seed=1"]
    assert part_overrides(shared, ["experiment=grpo", "seed=2"], ["model.path=y"]) == [
        "model=tiny",
        "seed=1",
        "experiment=grpo",
        "seed=2",
        "model.path=y",
    ]


def test_a_part_of_another_stage_is_refused_before_anything_runs(tmp_path, monkeypatch):
    started: list[str] = []
    monkeypatch.setattr(sft_then_rl, "run_part", lambda name, *rest: started.append(name))
    with hydra_ready():
        config = compose(
            "config",
            [
                "experiment=sft_then_igpo",
                *ON_CPU,
                "stage.rl=['stage=eval']",
                f"hydra.runtime.output_dir={tmp_path}",
            ],
            return_hydra_config=True,
        )
        HydraConfig.instance().set_config(config)
        with pytest.raises(ConfigError, match=r"stage.rl=.*selects stage=eval; it has to be a run"):
            sft_then_rl.run(to_settings(config))
    assert started == []
