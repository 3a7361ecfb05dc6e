"""stage=eval_suite: benchmarks at several lengths, in one table with the paper's numbers."""

import json
import logging
from pathlib import Path
from typing import Any

import lightning
import yaml
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.measurements import Measurement, measurements
from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.models import BackboneModule
from igpo_lightning.reporting.paper_table import print_suite, suite_numbers, write_suite
from igpo_lightning.reporting.plots import CURVES_FILE
from igpo_lightning.runs import durable
from igpo_lightning.runs.metrics_file import MEASURED_FILE, SUMMARY_FILE, read_summary
from igpo_lightning.runs.tensorboard import log_results
from igpo_lightning.settings import Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.eval import evaluate, keep
from igpo_lightning.stages.problems import encode, read_problems

log = logging.getLogger(__name__)


def recorded(folder: Path, part: Measurement) -> dict[str, Any] | None:
    """The result of a measurement that an earlier start of this run made; None where there is none.

    Raises:
        ConfigError: It was made under other settings.
    """
    if not (folder / SUMMARY_FILE).exists():
        return None
    before = yaml.safe_load((folder / MEASURED_FILE).read_text(encoding="utf-8"))
    for key, value in part.decisive().items():
        if before.get(key) != value:
            raise ConfigError(
                f"{key}={value}: {folder} was measured with {key}={before.get(key)}; choose "
                "another hydra.run.dir, or measure all of it again with resume=null"
            )
    summary: dict[str, Any] = read_summary(folder / SUMMARY_FILE)
    return summary


def run(config: Settings) -> dict[str, Any]:
    """Measure what is missing; returns the headline numbers, which summary.json holds too."""
    build.quiet_libraries()
    folder, parts = build.run_folder(), measurements(config)
    # Read before the first hours are spent: a benchmark may be nowhere to be found.
    problems = read_benchmarks(parts)
    found = {part.name: recorded(folder / part.name, part) for part in parts if config.resume}
    results = {name: summary for name, summary in found.items() if summary is not None}
    build.save_resolved(config, folder)
    trainer = build.build_trainer(config)
    model = None
    if len(results) < len(parts):  # loaded once for all measurements
        first = parts[0].config
        model = build.build_backbone(first), build.build_tokenizer(first)
    for part in parts:
        if model is not None and part.name not in results:
            asked = problems[part.benchmark][: config.eval.limit]
            results[part.name] = measure(part, folder / part.name, asked, *model, trainer)
        if trainer.is_global_zero:
            log.info("%s: %s", part.name, Accuracy(**results[part.name]["after"]))
    if not trainer.is_global_zero:
        return {}
    total = {name: len(rows) for name, rows in problems.items()}
    entries = [_entry(part, results[part.name], total[part.benchmark]) for part in parts]
    numbers = suite_numbers(entries)
    summary = {"before": None, "after": None, **numbers, "benchmarks": entries}
    write_suite(folder, config.model.path, entries)
    durable.write_text(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    log_results(trainer.loggers, config, summary, folder / CURVES_FILE)
    print_suite(folder, config.model.path, entries)
    return summary


def read_benchmarks(parts: list[Measurement]) -> dict[str, list[Problem]]:
    """The problems of every benchmark."""
    configs = {part.benchmark: part.config for part in parts}
    return {name: read_problems(config, config.eval.split) for name, config in configs.items()}


def measure(
    part: Measurement,
    folder: Path,
    problems: list[Problem],
    backbone: BackboneModule,
    tokenizer: PreTrainedTokenizerFast,
    trainer: lightning.Trainer,
) -> dict[str, Any]:
    """Measure one benchmark at one length, and keep the result at once; returns its summary."""
    encoded = encode(part.config, problems, tokenizer)
    evaluation = evaluate(part.config, encoded, backbone, tokenizer, trainer)
    if not trainer.is_global_zero:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY_FILE).unlink(missing_ok=True)  # of settings that no longer hold
    settings = yaml.safe_dump(part.decisive(), allow_unicode=True)
    durable.write_text(folder / MEASURED_FILE, settings)
    return keep(part.config, folder, evaluation)


def _entry(part: Measurement, summary: dict[str, Any], total: int) -> dict[str, Any]:
    """A line of the suite's results: what was measured, how, and what came out."""
    return {
        "name": part.name,
        "benchmark": part.benchmark,
        "length": part.length,
        "steps": part.config.sampler.steps,
        "temperature": part.config.eval.temperature,
        "available": total,
        "accuracy": summary["after"],
        **{key: value for key, value in summary.items() if key.startswith(("harness/", "d1/"))},
    }
