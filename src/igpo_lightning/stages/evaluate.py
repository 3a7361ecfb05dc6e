"""stage=eval: accuracy or avg@k with its interval, and every sample in a file."""

from typing import Any

from omegaconf import DictConfig

from igpo_lightning.data.datamodules import EvaluationData
from igpo_lightning.evaluation.module import EvaluationModule
from igpo_lightning.reporting.run_files import SampleFile, write_summary
from igpo_lightning.reporting.tables import print_eval_table
from igpo_lightning.reporting.tensorboard import log_results
from igpo_lightning.stages import build
from igpo_lightning.stages.problems import encode, read_problems


def run(config: DictConfig) -> dict[str, Any]:
    """Evaluate a model; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder = build.run_folder()
    tokenizer = build.build_tokenizer(config)
    problems = read_problems(config, config.eval.split)
    held_out = encode(config, problems[: config.eval.limit], tokenizer)
    build.save_resolved(config, folder)
    settings = build.evaluation_settings(config)
    module = EvaluationModule(build.build_backbone(config), tokenizer, settings)
    trainer = build.build_trainer(config)
    data = EvaluationData(held_out, config.eval.samples, config.eval.batch_size)
    try:
        trainer.validate(module, datamodule=data, verbose=False)
    finally:
        module.close()
    if not trainer.is_global_zero:
        return {}
    SampleFile(folder / "samples.jsonl").write(module.samples)
    summary = write_summary(folder, before=None, after=module.accuracy)
    log_results(trainer.loggers, config, summary, folder)
    print_eval_table(folder, config.data.name, summary, module.samples, total=len(problems))
    return summary
