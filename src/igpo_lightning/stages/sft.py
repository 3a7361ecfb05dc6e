"""stage=sft: train on traces with the diffusion loss, then measure accuracy."""

import functools
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import TraceLayout
from igpo_lightning.data.datamodules import TraceData
from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.data.synthetic import arithmetic_sft_example
from igpo_lightning.errors import ConfigError
from igpo_lightning.models import BackboneModule
from igpo_lightning.reporting.plots import CURVES_FILE, plot_sft_curves
from igpo_lightning.reporting.run_files import SampleFile, write_summary
from igpo_lightning.reporting.tables import print_sft_table
from igpo_lightning.runs import resuming
from igpo_lightning.runs.checkpoints import Pace
from igpo_lightning.runs.tensorboard import log_results
from igpo_lightning.settings import Settings, SFTStage
from igpo_lightning.sft.module import SFTModule
from igpo_lightning.stages import build
from igpo_lightning.stages.eval import evaluate
from igpo_lightning.stages.export import export_model
from igpo_lightning.stages.problems import (
    encode,
    example_stream,
    name_evaluated,
    read_problems,
    with_traces,
)


def sft_stage(config: Settings) -> SFTStage:
    """The stage's own options."""
    assert isinstance(config.stage, SFTStage)
    return config.stage


def completion_length(config: Settings) -> int:
    """Tokens of a training completion."""
    length = sft_stage(config).max_length
    return config.sampler.completion_length if length is None else length


def trace_layout(config: Settings, backbone: BackboneModule) -> TraceLayout:
    """How rows of different length become batches."""
    stage = sft_stage(config)
    length = completion_length(config)
    return TraceLayout(
        completion_length=length,
        pad_id=backbone.pad_token_id,
        eos_id=backbone.eos_token_id,
        padding=stage.padding,
        eos_tail=stage.eos_tail,
        canvas_length=config.prompt.max_length + length,  # the longest that a sequence may be
        # A generated stream grows harder on the way: its order says something. Packing saves what
        # buckets would.
        bucket_steps=1 if config.data.is_generated or stage.padding == "packed" else 16,
        seed=config.seed,
    )


def training_stream(
    config: Settings, problems: list[Problem], tokenizer: PreTrainedTokenizerFast
) -> Callable[[int], EncodedProblem]:
    """The endless stream of training examples: generated, or reshuffled epochs of a data set."""
    if config.data.is_generated:
        total = sft_stage(config).steps * sft_stage(config).batch_size
        make = functools.partial(
            arithmetic_sft_example,
            seed=config.seed,
            levels=config.data.levels,
            terse_share=config.data.terse_share,
            wording=config.data.wording,
        )
        return lambda i: encode_problem(make(i, progress=i / total), tokenizer, config.prompt)
    length = completion_length(config)
    examples = encode(config, problems, tokenizer, max_trace=length)
    return example_stream(config, with_traces(examples, config.data.name))


def run(config: Settings) -> dict[str, Any]:
    """Fine-tune a backbone; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder, stage = build.run_folder(), sft_stage(config)
    resume = resuming.find(config, folder)
    done = resuming.finished(config, folder, resume, stage.steps)
    if done is not None:
        return done
    tokenizer = build.build_tokenizer(config)
    train = [] if config.data.is_generated else read_problems(config, "train")
    stream = training_stream(config, train, tokenizer)
    validation = with_traces(
        encode(
            config,
            read_problems(config, "validation", stage.val_limit),
            tokenizer,
            max_trace=completion_length(config),
        ),
        config.data.name,
    )
    # Read before hours are spent: the split may be nowhere to be found.
    problems = read_problems(config, config.eval.split) if stage.eval_after else []
    evaluated_on = name_evaluated(config, train, problems) if problems else None
    asked = encode(config, problems[: config.eval.limit], tokenizer) if problems else []
    build.save_resolved(config, folder)

    backbone = build.build_backbone(config)
    if stage.padding == "packed" and not backbone.supports_packing:
        raise ConfigError(
            f"stage.padding=packed: {config.model.path} is a {type(backbone).__name__}, whose "
            "sequences would see each other in one row; use stage.padding=longest, or a model of "
            "this project's own (docs/models.md)"
        )
    module = SFTModule(backbone, tokenizer, config)
    pace = Pace(
        max_steps=stage.steps,
        updates=1,
        checkpoint_every=stage.checkpoint_every,
        evaluate_every=stage.val_every,
        monitor="sft/val_loss",
        mode="min",
        log_every=10,
    )
    trainer = build.build_trainer(config, pace, resume)
    traces = TraceData(
        stream,
        validation,
        stage.steps,
        stage.batch_size,
        stage.train_batch_size,
        trace_layout(config, backbone),
    )
    trainer.fit(module, datamodule=traces, ckpt_path=resume.checkpoint, weights_only=True)
    build.finish_evaluation(trainer, module, traces)
    after, steps = None, trainer.global_step  # which the module of the evaluation does not count
    if stage.eval_after:
        evaluation = evaluate(config, asked, backbone, tokenizer, trainer)
        SampleFile(folder / "eval_after.jsonl").write(evaluation.samples)
        for logger in trainer.loggers:
            logger.log_metrics(evaluation.values(), step=steps)
        after = evaluation.accuracy
    export_model(module, folder / resuming.EXPORT_FOLDER)
    if not trainer.is_global_zero:
        return {}
    plot_sft_curves(folder)
    summary = write_summary(folder, None, after, evaluated_on)
    log_results(trainer.loggers, config, summary, folder / CURVES_FILE)
    print_sft_table(folder, summary)
    return summary
