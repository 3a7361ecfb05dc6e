"""From configuration to objects. The rooms below take plain values and never see a config."""

import datetime
import functools
import logging
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.profilers import PyTorchProfiler
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from igpo_lightning.config import plain
from igpo_lightning.errors import ConfigError
from igpo_lightning.models import (
    BackboneModule,
    check_vocabulary,
    load_backbone,
    load_tokenizer,
)
from igpo_lightning.models.cpu_memory import keep_freed_memory
from igpo_lightning.models.lora import add_lora
from igpo_lightning.reporting import timeline
from igpo_lightning.reporting.run_data import write_overrides
from igpo_lightning.reporting.visible import visible
from igpo_lightning.rewards import GradingPool
from igpo_lightning.runs import checkpoints, durable, resuming, tensorboard
from igpo_lightning.runs.checkpoints import Pace
from igpo_lightning.runs.progress import StepBar
from igpo_lightning.runs.provenance import save_provenance
from igpo_lightning.runs.sharded_strategy import ShardedStrategy
from igpo_lightning.runs.signals import SaveOnSignal
from igpo_lightning.runs.survival import (
    NameLostRanks,
    SeedSteps,
    StopOnNonFinite,
    name_killed_children,
)
from igpo_lightning.runs.trackio import TrackioLogger
from igpo_lightning.settings import Settings
from igpo_lightning.stages.problems import grader

log = logging.getLogger(__name__)


def run_folder() -> Path:
    """The folder that Hydra made for this run."""
    return Path(HydraConfig.get().runtime.output_dir)


@rank_zero_only
def save_resolved(config: Settings, folder: Path) -> None:
    """Write config.yaml, from which `read_settings` makes the same settings, and its origin."""
    text = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    durable.write_text(folder / "config.yaml", text)
    if HydraConfig.initialized():  # else settings were composed in Python
        write_overrides(folder, HydraConfig.get().overrides.task)
    save_provenance(folder)


def quiet_libraries() -> None:
    """Silence notices that a user can do nothing about."""
    name_killed_children()
    # Lengths are ours to watch (prompt.max_length), and texts are decoded as they are.
    for name in ("base", "tokenizers"):
        logging.getLogger(f"transformers.tokenization_utils_{name}").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request to the hub
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*is supposed to be called every.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*GPU available but not used.*",
        ".*Total length of .DataLoader. across ranks is zero.*",
        ".*in eval mode at the start of training.*",
        ".*Using ModelCheckpoint with manual optimization.*",
        # Nothing changes what `encode` and `head_weight` return in place.
        ".*FSDP2-wrapped module .* returned a view tensor.*",
    ):
        warnings.filterwarnings("ignore", pattern)


def build_tokenizer(config: Settings) -> PreTrainedTokenizerFast:
    """The tokenizer that travels with the model."""
    tokenizer = load_tokenizer(config.model.path, config.model.mask_token)
    if config.prompt.chat is None and not tokenizer.chat_template:
        log.info(
            "model.path=%s: its tokenizer has no chat template, so prompts are the bare text of "
            "prompt.user",
            visible(config.model.path),
        )
    return tokenizer


def build_backbone(config: Settings, device: str = "cpu") -> BackboneModule:
    """The model, on the CPU (Lightning moves it) or on "meta", where it is only counted."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    if config.trainer.accelerator == "cpu":
        keep_freed_memory()
    settings = config.model
    model = load_backbone(
        settings.path,
        dtype=getattr(torch, settings.dtype),
        device=device,
        random_init=settings.init == "random" or device == "meta",
        seed=config.seed,
        architecture=settings.architecture,
        token_overrides=settings.token_overrides,
        mask_token=settings.mask_token,
        shifted=settings.shifted,
        trust_remote_code=settings.trust_remote_code,
        quantization="none" if device == "meta" else settings.quantization,
    )
    if settings.architecture is None:
        check_vocabulary(model)
    training = config.stage.name in ("rl", "sft")
    if settings.lora.enabled and training:
        add_lora(model, settings.lora, config.seed)
    if settings.gradient_checkpointing:
        model.checkpoint_blocks()
    if settings.compile:
        model.compile_blocks()
    return model.train(training)


def build_pool(config: Settings) -> GradingPool:
    """The grader processes, which start when first needed; close it (it is a context manager)."""
    reward = config.reward
    return GradingPool(reward.workers, reward.timeout, grader(config), reward.extraction)


@rank_zero_only
def _continue_file(logger: CSVLogger, lines: list[dict[str, float]]) -> None:
    logger.experiment.metrics.extend(lines)
    logger.save()


def build_loggers(config: Settings, resume: resuming.Resume, step: int) -> list[Any]:
    """The configured loggers; those of a resumed run keep what came before its checkpoint.

    Args:
        step: The first that it logs.
    """
    loggers = []
    for node in config.logger.values():
        logger = hydra.utils.instantiate(node)
        if isinstance(logger, TensorBoardLogger) and resume.checkpoint is not None:
            # Events of a run that was killed after its last checkpoint are hidden.
            logger = hydra.utils.instantiate(node, purge_step=step)
            tensorboard.log_again(logger, resume.lines, step)
        if isinstance(logger, TrackioLogger) and resume.checkpoint is not None:
            logger = hydra.utils.instantiate(node, resume="allow")
        if not isinstance(logger, TensorBoardLogger | CSVLogger):  # they get them at the end
            logger.log_hyperparams(tensorboard.settings(config))
        if isinstance(logger, CSVLogger) and resume.lines:
            _continue_file(logger, resume.lines)
        loggers.append(logger)
    return loggers


def _strategy(config: Settings) -> str | Strategy:
    trainer = config.trainer
    timeout = datetime.timedelta(seconds=trainer.timeout)
    if trainer.strategy == "fsdp":
        offloads = trainer.cpu_offload and trainer.accelerator == "gpu"
        return ShardedStrategy(
            replicas=trainer.replicas,
            shards=trainer.world_size // trainer.replicas,
            timeout=timeout,
            compute_dtype=torch.bfloat16 if trainer.precision == "bf16-mixed" else None,
            cpu_offload=trainer.cpu_offload,
            gather_rollouts=trainer.gather_rollouts,
            # Gradients that live on the CPU are reduced and clipped there.
            process_group_backend="cpu:gloo,cuda:nccl" if offloads else None,
        )
    if trainer.strategy == "ddp":
        return DDPStrategy(timeout=timeout)
    return trainer.strategy


def _plugins(config: Settings) -> list[Any]:
    """Durable checkpoints, and SLURM without its handler, which would save within a step."""
    plugins: list[Any] = []
    if config.trainer.strategy != "fsdp":  # whose strategy writes by itself
        plugins.append(checkpoints.DurableCheckpointIO())
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _training_callbacks(config: Settings, pace: Pace) -> list[Callback]:
    folder = run_folder()
    notes = functools.partial(resuming.notes, config, folder)
    kept = checkpoints.RunCheckpoints(
        folder / checkpoints.FOLDER, pace, config.trainer.keep_last, notes
    )
    return [
        SeedSteps(config.seed),
        StopOnNonFinite(config.trainer.max_skipped, folder),
        kept,
        SaveOnSignal(kept),
    ]


def build_trainer(
    config: Settings, pace: Pace | None = None, resume: resuming.Resume | None = None
) -> lightning.Trainer:
    """Lightning's Trainer; one that trains (has a pace) survives what `survival` is about."""
    callbacks: list[Callback] = [StepBar(leave=False), NameLostRanks()]
    if pace is not None:
        callbacks += _training_callbacks(config, pace)
    resume = resume or resuming.Resume()
    try:
        return _trainer(config, pace, resume, callbacks)
    except MisconfigurationException as error:
        reason = " ".join(str(error).split())
        given = f"trainer.accelerator={config.trainer.accelerator}"
        raise ConfigError(f"{given}, trainer.devices={config.trainer.devices}: {reason}") from error


def _trainer(
    config: Settings, pace: Pace | None, resume: resuming.Resume, callbacks: list[Callback]
) -> lightning.Trainer:
    """What `build_trainer` builds.

    Raises:
        MisconfigurationException: Lightning finds no such devices.
    """
    evaluate_every = pace.evaluate_every or None if pace else None
    return lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(config),
        precision=config.trainer.precision,  # type: ignore[arg-type]
        plugins=_plugins(config),
        logger=build_loggers(config, resume, resume.global_step // (pace.updates if pace else 1))
        or False,
        callbacks=callbacks,
        enable_checkpointing=pace is not None,
        max_steps=pace.max_steps * pace.updates if pace else -1,
        val_check_interval=evaluate_every,
        check_val_every_n_epoch=None if evaluate_every else 1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        log_every_n_steps=pace.log_every if pace else 1,
        profiler=build_profiler() if config.trainer.profile and pace else None,
    )


def build_profiler() -> PyTorchProfiler:
    """torch.profiler over the second step: the first one starts graders and allocators."""
    return PyTorchProfiler(
        dirpath=run_folder() / timeline.FOLDER,
        filename="operators",
        schedule=torch.profiler.schedule(wait=1, warmup=0, active=1, repeat=1),
        row_limit=30,
    )


def finish_evaluation(trainer: lightning.Trainer, module: Any, data: Any) -> bool:
    """Make the evaluation on the last step that a signal cut off, and that no step follows.

    Returns:
        Whether there was one.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    pending = any(isinstance(c, checkpoints.RunCheckpoints) and c.pending for c in callbacks)
    if pending:
        trainer.validate(module, datamodule=data, verbose=False)
    return pending
