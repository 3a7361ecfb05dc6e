"""stage=rl: evaluate, train with IGPO or GRPO, evaluate again, report."""

from typing import Any

from igpo_lightning.data.datamodules import EvaluationData, RolloutData
from igpo_lightning.evaluation.metrics import Accuracy, accuracy_of
from igpo_lightning.reporting.plots import CURVES_FILE, plot_rl_curves
from igpo_lightning.reporting.run_files import SampleFile, write_summary
from igpo_lightning.reporting.tables import print_rl_table
from igpo_lightning.reporting.timeline import FOLDER as TRACES
from igpo_lightning.reporting.timeline import draw_timeline
from igpo_lightning.rl.cost import SPANS
from igpo_lightning.rl.module import RLModule
from igpo_lightning.runs import resuming
from igpo_lightning.runs.checkpoints import Pace
from igpo_lightning.runs.tensorboard import log_results
from igpo_lightning.settings import RLStage, Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.export import export_model
from igpo_lightning.stages.problems import encode, example_stream, name_evaluated, read_problems


def run(config: Settings) -> dict[str, Any]:
    """Train a policy; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder, stage = build.run_folder(), config.stage
    assert isinstance(stage, RLStage)
    resume = resuming.find(config, folder)
    done = resuming.finished(config, folder, resume, stage.steps * stage.inner_updates)
    if done is not None:
        return done
    tokenizer = build.build_tokenizer(config)
    # Long traces stay whole: where hints stand may follow from the length of the trace.
    length = config.sampler.completion_length
    train_problems = read_problems(config, "train")
    train = encode(config, train_problems, tokenizer, length, keep_long=True)
    problems = read_problems(config, config.eval.split)
    evaluated_on = name_evaluated(config, train_problems, problems)
    asked = encode(config, problems[: config.eval.limit], tokenizer)
    build.save_resolved(config, folder)

    samples = SampleFile(folder / "samples.jsonl")
    pool = build.build_pool(config)
    rollouts = RolloutData(
        example_stream(config, train),
        asked if stage.eval_every else [],
        config.eval.samples,
        config.eval.batch_size,
        stage.steps,
        stage.prompts_per_step,
        stage.inner_updates,
        config.data.skip_accuracy,
    )
    backbone = build.build_backbone(config)
    module = RLModule(backbone, tokenizer, pool, config, samples.append, rollouts)
    pace = Pace(
        max_steps=stage.steps,
        updates=stage.inner_updates,
        checkpoint_every=stage.checkpoint_every,
        evaluate_every=stage.eval_every,
        monitor="eval/accuracy",
        mode="max",
    )
    trainer = build.build_trainer(config, pace, resume)
    if trainer.is_global_zero:
        resuming.forget_after(samples.path, resume.global_step // stage.inner_updates)
    evaluation = EvaluationData(asked, config.eval.samples, config.eval.batch_size)

    def evaluate(when: str) -> list[Accuracy | None]:
        """Accuracy as `eval` says, and as rollouts sample; None where it was not measured."""
        files = [SampleFile(folder / f"eval_{when}{suffix}.jsonl") for suffix in ("", "_sampled")]
        if when == "before" and resume.checkpoint is not None:
            recorded = [file.read() for file in files]  # the policy is no longer what it was
            return [accuracy_of(samples) if samples else None for samples in recorded]
        # An evaluation in training that fell on the last step has measured the same; its numbers
        # are logged, also where the run resumed after it.
        if module.evaluated_step != trainer.global_step // stage.inner_updates:
            trainer.validate(module, datamodule=evaluation, verbose=False)
            if when == "before" or not stage.eval_every or stage.steps % stage.eval_every:
                module.log_evaluation()
        for file, measured in zip(files, module.evaluations, strict=False):
            file.write(measured.samples)
        accuracies = [measured.accuracy for measured in module.evaluations]
        return accuracies if stage.eval_sampled else [*accuracies, None]

    with pool:
        # No first answer leaves the device idle; on CPUs a worker would take time from the model.
        if trainer.strategy.root_device.type != "cpu":
            pool.prepare()
        before = evaluate("before") if stage.eval_before else [None, None]
        trainer.fit(module, datamodule=rollouts, ckpt_path=resume.checkpoint, weights_only=True)
        if build.finish_evaluation(trainer, module, rollouts):
            module.log_evaluation()
        after = evaluate("after") if stage.eval_after else [None, None]
    export_model(module, folder / resuming.EXPORT_FOLDER)
    if not trainer.is_global_zero:
        return {}
    summary = write_summary(
        folder,
        before[0],
        after[0],
        evaluated_on,
        sampled=(before[1], after[1]) if stage.eval_sampled else None,
    )
    plot_rl_curves(folder)
    draw_timeline(folder / TRACES, SPANS)
    log_results(trainer.loggers, config, summary, folder / CURVES_FILE)
    temperatures = (config.eval.temperature, config.sampler.temperature)
    print_rl_table(folder, summary, len(problems), temperatures)
    return summary
