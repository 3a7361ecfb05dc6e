"""stage=eval: accuracy or avg@k with its interval, and every sample in a file."""

from pathlib import Path
from typing import Any

import lightning
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.datamodules import EvaluationData
from igpo_lightning.data.prompts import EncodedProblem
from igpo_lightning.evaluation.d1 import cell_accuracy
from igpo_lightning.evaluation.evaluation import Evaluation
from igpo_lightning.evaluation.harness import harness_summary
from igpo_lightning.evaluation.module import EvaluationModule
from igpo_lightning.models import BackboneModule
from igpo_lightning.reporting.plots import CURVES_FILE
from igpo_lightning.reporting.run_files import SampleFile, write_summary
from igpo_lightning.reporting.tables import print_eval_table
from igpo_lightning.runs.tensorboard import log_results
from igpo_lightning.settings import Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.problems import encode, name_asked, read_problems

_HARNESS_TASK = "gsm8k"  # the benchmark that lm-evaluation-harness is compared on


def run(config: Settings) -> dict[str, Any]:
    """Evaluate a model; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder = build.run_folder()
    tokenizer = build.build_tokenizer(config)
    problems = read_problems(config, config.eval.split)
    asked = encode(config, problems[: config.eval.limit], tokenizer)
    build.save_resolved(config, folder)
    backbone, trainer = build.build_backbone(config), build.build_trainer(config)
    evaluation = evaluate(config, asked, backbone, tokenizer, trainer)
    if not trainer.is_global_zero:
        return {}
    summary = keep(config, folder, evaluation)
    log_results(trainer.loggers, config, summary, folder / CURVES_FILE)
    print_eval_table(folder, config.data.name, summary, evaluation.samples, total=len(problems))
    return summary


def evaluate(
    config: Settings,
    problems: list[EncodedProblem],
    backbone: BackboneModule,
    tokenizer: PreTrainedTokenizerFast,
    trainer: lightning.Trainer,
) -> Evaluation:
    """Let the model answer; the result holds the samples and the accuracy."""
    data = EvaluationData(problems, config.eval.samples, config.eval.batch_size)
    with build.build_pool(config) as pool:
        module = EvaluationModule(Evaluation(backbone, tokenizer, pool, config))
        trainer.validate(module, datamodule=data, verbose=False)
    return module.evaluation


def keep(config: Settings, folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    """Write the samples and then, as what says that all is there, summary.json; returns it."""
    SampleFile(folder / "samples.jsonl").write(evaluation.samples)
    scores: dict[str, float] = {}
    if config.data.name == _HARNESS_TASK and evaluation.samples:
        found = harness_summary(evaluation.samples)
        scores = {f"harness/{name}": value for name, value in found.items()}
    if config.data.kind == "sudoku" and evaluation.samples:
        scores = {"d1/cell_accuracy": cell_accuracy(evaluation.samples)}
    return write_summary(folder, None, evaluation.accuracy, name_asked(config), scores)
