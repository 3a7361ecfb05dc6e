"""The plan of a whole run: memory of the host, disk, FLOPs and hours, and whether it fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig

from igpo_lightning.checks import validate
from igpo_lightning.config import CONF, to_settings
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import TrainerConfig
from igpo_lightning.stages import cost, plan, run
from igpo_lightning.stages.capacity import GIB, Capacity, capacity, misfits, size_text
from tests.composing import composed, raw

PUBLIC = sorted({file.stem for file in (CONF / "model").glob("*.yaml")} - {"hf", "tiny"})
PAPER = ("experiment=igpo_paper", "logger=[]", "dry_run=true")


def settings(*overrides: str) -> Any:
    config = composed(*overrides)
    validate(config)
    return config


@pytest.mark.parametrize(
    ("size", "text"),
    [(3 * GIB, "3.00 GiB"), (GIB // 100 + 1, "0.01 GiB"), (2**20, "1.00 MiB"), (700, "0.68 KiB")],
)
def test_small_sizes_are_not_shown_as_nothing(size: int, text: str) -> None:
    assert size_text(size) == text


def test_every_process_loads_the_whole_model_into_the_nodes_memory() -> None:
    """Eight processes; the largest tensor of LLaDA is its embedding, 126,464 * 4096 bfloat16."""
    _, made = plan.planned(settings(*PAPER))
    largest = 126_464 * 4096 * 2
    assert made.counts.largest_bytes == largest
    assert made.host["loading"] == 8 * (made.counts.weight_bytes + largest)
    assert made.memory["export"] == 2 * largest
    assert "loading" not in made.memory  # the GPU has no part in it


def test_offloaded_weights_are_the_hosts() -> None:
    full = ("model.lora.enabled=false", "model.dtype=float32", "trainer=fsdp")
    _, kept = plan.planned(settings(*PAPER, *full))
    _, offloaded = plan.planned(settings(*PAPER, *full, "trainer.cpu_offload=true"))
    standing = ("weights", "reference copy", "gradients", "AdamW states")
    assert offloaded.host["offloaded"] == 8 * sum(kept.memory[name] for name in standing)
    assert kept.total - offloaded.total == sum(kept.memory[name] for name in standing)


def test_the_disk_holds_the_last_the_best_and_the_one_being_written() -> None:
    """A checkpoint is 335,544,320 float32 numbers of adapters and AdamW's two of each."""
    size = 3 * 4 * 335_544_320
    _, made = plan.planned(settings(*PAPER, "trainer.keep_last=2", "stage.eval_every=10"))
    assert made.disk == {"checkpoints": 4 * size, "export": 2 * 8_015_581_184}
    _, without = plan.planned(settings(*PAPER, "trainer.keep_last=2", "stage.eval_every=0"))
    assert without.disk["checkpoints"] == 3 * size


def test_a_cache_and_guidance_take_memory() -> None:
    """Dual cache: 2 * 32 blocks * 4096 channels of 64 rows of 856 tokens, and a copy of them."""
    _, plain = plan.planned(settings(*PAPER))
    _, cached = plan.planned(settings(*PAPER, "sampler.cache=dual"))
    kept = 2 * 64 * 856 * 2 * 32 * 4096 * 2
    assert cached.memory["rollout"] - plain.memory["rollout"] == kept
    _, guided = plan.planned(settings(*PAPER, "sampler.cfg_scale=1"))
    assert guided.memory["rollout"] > 1.5 * plain.memory["rollout"]


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("preset", ["igpo_paper", pytest.param("tracerl", marks=pytest.mark.slow)])
def test_every_public_model_is_planned_with_the_papers_run(preset: str, name: str) -> None:
    """Its blocks fit the sampler as the files say, and no weights are needed."""
    config = settings(f"experiment={preset}", f"model={name}", "model.init=random", "dry_run=true")
    work, made = plan.planned(config)
    assert 4e9 < made.counts.parameters < 2e10
    block = work.block_size
    assert (block is None) == name.startswith(("llada_", "illada", "dream_7b"))
    assert block is None or block % config.sampler.block_length == 0


def test_a_block_causal_model_runs_a_block_a_step_and_trains_on_twice_the_tokens() -> None:
    """SDAR: the prompt once, 4 tokens in each of 128 steps, and all 256 once more in whole blocks;
    LLaDA runs 600 + 256 tokens in every step."""
    config = settings("experiment=igpo_paper", "model=sdar_8b", "dry_run=true")
    work, made = plan.planned(config)
    rollout = cost.rollout_flops(config, made, work)
    assert rollout == pytest.approx((600 + 128 * 4 + 256) * made.forward_flops)
    assert work.train_canvas == 2 * 856
    llada = settings("experiment=igpo_paper", "dry_run=true")
    other, made = plan.planned(llada)
    assert cost.rollout_flops(llada, made, other) == pytest.approx(128 * 856 * made.forward_flops)
    assert other.train_canvas == 856


@pytest.mark.parametrize(
    ("model", "sampler"),
    [("illada_8b", "illada"), ("sdar_8b", "sdar"), ("llada2_mini", "llada2_edit")],
)
def test_a_familys_own_sampler_fits_its_models(model: str, sampler: str) -> None:
    config = settings("stage=eval", "data=gsm8k", f"model={model}", f"sampler={sampler}")
    work, _ = plan.planned(config)
    assert work.completion_length == config.sampler.completion_length >= 2000


@pytest.mark.parametrize(("preset", "passes"), [("just_grpo", 4), ("tracerl", 1)])
def test_an_order_within_blocks_takes_no_more_passes_than_a_block_has_steps(
    preset: str, passes: int
) -> None:
    """SDAR's blocks of 4: left to right one pass for each place, and TraceRL merges 8 steps."""
    config = settings(f"experiment={preset}", "model=sdar_8b", "dry_run=true")
    assert cost.masked_inputs(config, 4) == passes
    assert cost.masked_inputs(config) in (256, 64)
    if preset == "just_grpo":
        assert config.sampler.block_length == 1  # the method's, not the model's


def test_blocks_that_do_not_fit_the_model_are_told_before_it_is_loaded() -> None:
    config = settings("experiment=igpo_paper", "model=sdar_8b", "sampler.block_length=32")
    with pytest.raises(ConfigError, match=r"sampler\.block_length=32: the model's blocks have 4"):
        plan.planned(config)


def test_what_does_not_fit_says_why_and_what_to_do() -> None:
    work, made = plan.planned(settings(*PAPER))
    plenty = Capacity(80 * GIB, 10**13, 10**13)
    assert misfits(made, work, plenty) == []
    (small,) = misfits(made, work, replace(plenty, device=30 * GIB))
    assert "35.56 GiB of 30.00 GiB" in small
    assert "model.lora.enabled=true" in small
    (host,) = misfits(made, work, replace(plenty, host=100 * GIB))
    assert "for loading" in host
    assert "trainer.devices" in host
    (disk,) = misfits(made, work, replace(plenty, disk=GIB))
    assert "trainer.keep_last" in disk
    assert misfits(made, work, Capacity(None, None, None)) == []


def test_the_named_memory_beats_the_machines(tmp_path: Path) -> None:
    named = capacity(TrainerConfig(memory_gb=3.5), tmp_path / "not" / "there")
    assert named.device == int(3.5 * GIB)
    assert named.disk is not None
    assert named.disk > 0
    found = capacity(TrainerConfig(), tmp_path)
    assert found.device == pytest.approx(found.host, rel=0.2)


def test_flops_of_a_run_by_hand() -> None:
    """2 steps, 8 processes with 8 groups of 8 rows, 128 passes, mu = 4, two policies scored."""
    config = settings(*PAPER, "stage.steps=2", "eval.limit=100", "objective.beta=0.01")
    work, made = plan.planned(config)
    flops = cost.run_flops(config, made, work, all_wrong=0.25)
    row = work.canvas * made.forward_flops
    assert flops.everywhere["sampling"] == 2 * 512 * 128 * row
    assert flops.everywhere["inpainting"] == pytest.approx(0.25 * flops.everywhere["sampling"])
    train = work.canvas * made.train_flops
    assert flops.everywhere["update"] == 2 * 512 * (2 * row + 4 * train)
    assert flops.everywhere["evaluation"] == 2 * 100 * 128 * row  # before and after
    assert flops.busiest["evaluation"] == 2 * 13 * 128 * row  # of 12.5
    # Extra rows are dealt out evenly: 8 for each all-wrong group, one for each GPU.
    assert flops.busiest["inpainting"] == pytest.approx(flops.everywhere["inpainting"] / 8)
    assert flops.hours(100)["sampling"] == pytest.approx(2 * 64 * 128 * row / 1e14 / 3600)


def test_extra_rows_of_the_busiest_rank_by_hand() -> None:
    """Two groups of 3, half of them all-wrong: 0, 3 or 6 rows with chances 1/4, 1/2 and 1/4."""
    assert cost.extra_rows(2, 3, ranks=1, share=0.5) == 3.0
    assert cost.extra_rows(2, 3, ranks=2, share=0.5) == 0.5 * 2 + 0.25 * 3
    assert cost.extra_rows(2, 3, ranks=4, share=0.5) == 0.5 * 1 + 0.25 * 2


def test_estimators_and_triggers_change_the_cost() -> None:
    def parts(*more: str) -> dict[str, float]:
        config = settings(*PAPER, *more)
        work, made = plan.planned(config)
        return cost.run_flops(config, made, work).everywhere

    plain = parts()
    assert parts("likelihood.kind=elbo", "likelihood.samples=4")["update"] == 4 * plain["update"]
    # One update of one policy: no pass but its own, of which there were 4 beside 2 of scoring.
    once = ("stage.inner_updates=1", "objective.beta=0", "model.lora.dropout=0")
    scored = parts(*once)["update"]
    assert parts(*once, "filter.kind=none")["update"] < 0.8 * scored < 0.8 * plain["update"] / 3
    assert parts("inpaint=none", "objective=grpo")["inpainting"] == 0
    assert parts("sampler.cfg_scale=1")["sampling"] == 2 * plain["sampling"]
    assert parts("sampler.cache=dual")["sampling"] < 0.2 * plain["sampling"]


@pytest.mark.parametrize("stage", ["rl", "sft", "eval", "generate"])
def test_each_stage_has_a_plan_with_a_verdict(stage: str, capsys: Any) -> None:
    more = ("stage.prompt=x",) if stage == "generate" else ()
    hours = ("trainer.tflops=0.05", "trainer.memory_gb=4", "logger=[]", "dry_run=true")
    result = run(settings(f"stage={stage}", *more, *hours))
    assert result is not None
    assert result["fits"] is True
    assert sum(result["hours"].values()) > 0
    printed = capsys.readouterr().out
    assert "fits: this machine has 4.00 GiB" in printed
    assert "time at 0.05 TFLOP/s" in printed
    assert "0.00" not in printed.replace(" 0.00 s", "")
    small = run(settings(f"stage={stage}", *more, "trainer.memory_gb=0.001", *hours[2:]))
    assert small is not None
    assert small["fits"] is False
    assert "does not fit, because" in capsys.readouterr().out


def test_a_sweep_prints_its_plan_once_and_a_line_for_each_further_run(
    tmp_path: Path, capsys: Any
) -> None:
    """A run that does not fit is told in full, whichever it is."""
    holder = HydraConfig.instance()
    before = holder.cfg
    sweep = f"hydra.sweep.dir={tmp_path}"
    lines = []
    try:
        for more in (["seed=0"], ["seed=1"], ["seed=2", "trainer.memory_gb=0.001"]):
            overrides = [sweep, "hydra.mode=MULTIRUN", "logger=[]", *more]
            config = raw(*overrides, "hydra.runtime.output_dir=.", hydra=True)
            holder.set_config(config)
            plan.announce(to_settings(config))
            lines.append(capsys.readouterr().out.splitlines())
    finally:
        holder.cfg = before
    whole, brief, unfit = lines
    assert len(whole) > 10
    assert len(brief) == 1
    assert brief[0].startswith("Plan as in the sweep's first run, with a peak of ")
    assert len(unfit) > 10
    assert any("does not fit, because" in line for line in unfit)


def test_a_suites_plan_is_the_sum_of_its_measurements(capsys: Any) -> None:
    suite = ("stage=eval_suite", "data.parts=[gsm8k,amc]", "eval.limit=10", "logger=[]")
    both = run(settings(*suite, "stage.lengths=[64,128]", "dry_run=true"))
    long = run(settings(*suite, "stage.lengths=[128]", "dry_run=true"))
    assert both is not None
    assert long is not None
    assert both["total"] == long["total"]  # the longest decides
    assert both["flops"]["evaluation"] > 1.2 * long["flops"]["evaluation"]
    assert "4 measurements" in capsys.readouterr().out


def test_a_rewrites_plan_counts_what_is_asked(capsys: Any) -> None:
    endpoint = ("rewriter=endpoint", "rewriter.model=m", "rewriter.attempts=2")
    asked = ("stage=rewrite", "data=metamathqa", *endpoint, "stage.limit=30", "logger=[]")
    result = run(settings(*asked, "rewriter.requests_per_minute=20", "dry_run=true"))
    assert result == {"rows": 30, "requests": 60, "tokens": 60 * 2048, "hours": 0.05}
    assert "at most 60 requests" in capsys.readouterr().out


def test_a_stage_without_a_plan_says_which_have_one() -> None:
    with pytest.raises(ConfigError, match=r"plan one of rl, sft, eval, eval_suite, generate"):
        settings("stage=inspect", "dry_run=true")
