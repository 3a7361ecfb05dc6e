"""stage=sft: train on traces with the diffusion loss, then measure accuracy."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.collate import stream_index
from igpo_lightning.data.datamodules import EvaluationData, TraceData
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.data.synthetic import arithmetic_sft_example
from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.plots import plot_sft_curves
from igpo_lightning.reporting.run_files import SampleFile, write_summary
from igpo_lightning.reporting.tables import print_sft_table
from igpo_lightning.sft.module import SFTModule, SFTSettings
from igpo_lightning.stages import build
from igpo_lightning.stages.reinforce import export_model

log = logging.getLogger(__name__)


def training_stream(
    config: DictConfig, tokenizer: PreTrainedTokenizerFast
) -> Callable[[int], EncodedProblem]:
    """The endless stream of training examples: generated, or reshuffled epochs of a data set."""
    if config.data.name == "arithmetic" and config.data.path is None:
        total = config.stage.steps * config.stage.batch_size
        make = functools.partial(
            arithmetic_sft_example,
            seed=config.seed,
            levels=list(config.data.levels),
            terse_share=list(config.data.terse_share),
        )
        user, completion = config.prompt.user, config.prompt.completion
        return lambda i: encode_problem(make(i, progress=i / total), tokenizer, user, completion)
    examples = with_traces(
        build.encode(config, build.read_problems(config, "train"), tokenizer), config.data.name
    )
    return lambda i: examples[stream_index(i, len(examples), config.seed)]


def with_traces(problems: list[EncodedProblem], name: str) -> list[EncodedProblem]:
    """The problems that have a trace; says how many have none.

    Raises:
        ConfigError: None has one.
    """
    usable = [p for p in problems if p.trace_ids is not None]
    if len(usable) < len(problems):
        log.info(
            "%s: %d of %d problems have no trace", name, len(problems) - len(usable), len(problems)
        )
    if not usable:
        raise ConfigError(f"data={name}: no problem has a trace (solution), which stage=sft needs")
    return usable


def run(config: DictConfig) -> dict[str, Any]:
    """Fine-tune a backbone; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder, stage = build.run_folder(), config.stage
    checkpoint = build.resume_checkpoint(config)
    tokenizer = build.build_tokenizer(config)
    stream = training_stream(config, tokenizer)
    validation = build.encode(
        config, build.read_problems(config, "validation", stage.val_limit), tokenizer
    )
    validation = with_traces(validation, config.data.name)
    build.save_resolved(config, folder)

    module = SFTModule(
        build.build_backbone(config),
        tokenizer,
        build.evaluation_settings(config),
        SFTSettings(stage.steps, stage.train_batch_size, config.seed),
        build.optimizer_settings(config),
    )
    trainer = build.build_trainer(
        config,
        max_steps=stage.steps,
        checkpoint_every=stage.checkpoint_every,
        validate_every=stage.val_every,
        resume_step=build.checkpoint_step(checkpoint),
        log_every=10,
    )
    traces = TraceData(
        stream,
        validation,
        stage.steps,
        stage.batch_size,
        stage.train_batch_size,
        config.sampler.completion_length,
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
    )
    try:
        trainer.fit(module, datamodule=traces, ckpt_path=checkpoint, weights_only=True)
        after = None
        if stage.eval_after:
            problems = build.read_problems(config, config.eval.split, config.eval.limit)
            held_out = build.encode(config, problems, tokenizer)
            data = EvaluationData(held_out, config.eval.samples, config.eval.batch_size)
            trainer.validate(module, datamodule=data, verbose=False)
            SampleFile(folder / "eval_after.jsonl").write(module.samples)
            after = module.accuracy
    finally:
        module.close()
    export_model(trainer, module, folder / "export")
    if not trainer.is_global_zero:
        return {}
    plot_sft_curves(folder)
    summary = write_summary(folder, before=None, after=after)
    print_sft_table(folder, summary)
    return summary
