"""From configuration to objects. The rooms below take plain values and never see a config."""

import dataclasses
import logging
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerFast

from igpo_lightning.diffusion.masked_inputs import LikelihoodSettings
from igpo_lightning.diffusion.sampler import SamplerConfig
from igpo_lightning.errors import ConfigError
from igpo_lightning.evaluation.module import EvaluationSettings
from igpo_lightning.inpainting.hints import HintOptions
from igpo_lightning.inpainting.schedule import RatioSchedule
from igpo_lightning.models import BackboneModule, load_backbone, load_tokenizer
from igpo_lightning.models.lora import LoraSettings, add_lora
from igpo_lightning.optimization import OptimizerSettings
from igpo_lightning.reporting.metrics_file import METRICS_FILE, read_metrics
from igpo_lightning.rl.filters import FilterSettings
from igpo_lightning.rl.injection import InpaintSettings
from igpo_lightning.rl.objectives import ObjectiveSettings
from igpo_lightning.rl.settings import RLSettings
from igpo_lightning.stages.problems import grader

log = logging.getLogger(__name__)


def run_folder() -> Path:
    """The folder that Hydra made for this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def save_resolved(config: DictConfig, folder: Path) -> None:
    """Write config.yaml with every interpolation resolved."""
    OmegaConf.save(config, folder / "config.yaml", resolve=True)


def quiet_libraries() -> None:
    """Silence notices that a user can do nothing about."""
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
    ):
        warnings.filterwarnings("ignore", pattern)


def build_tokenizer(config: DictConfig) -> PreTrainedTokenizerFast:
    """The tokenizer that travels with the model."""
    return load_tokenizer(config.model.path, config.model.mask_token)


def build_backbone(config: DictConfig, device: str = "cpu") -> BackboneModule:
    """The model, on the CPU (Lightning moves it) or on "meta", where it is only counted."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    settings = config.model
    tokens = ("mask_token_id", "eos_token_id", "pad_token_id", "eot_token_id")
    model = load_backbone(
        settings.path,
        dtype=getattr(torch, settings.dtype),
        device=device,
        random_init=settings.init == "random" or device == "meta",
        seed=config.seed,
        architecture=settings.architecture,
        token_overrides={name: settings[name] for name in tokens},
        mask_token=settings.mask_token,
        shifted=settings.shifted,
        trust_remote_code=settings.trust_remote_code,
        quantization="none" if device == "meta" else settings.quantization,
    )
    training = config.stage.name in ("rl", "sft")
    if settings.lora.enabled and training:
        lora = settings.lora
        targets = tuple(lora.targets)
        add_lora(model, LoraSettings(lora.rank, lora.alpha, lora.dropout, targets), config.seed)
    if settings.gradient_checkpointing:
        model.checkpoint_blocks()
    if settings.compile:
        model.compile_blocks()
    return model.train(training)


def sampler_settings(config: DictConfig, temperature: float) -> SamplerConfig:
    """The sampler at a temperature."""
    sampler = config.sampler
    return SamplerConfig(
        completion_length=sampler.completion_length,
        block_length=sampler.block_length,
        steps=sampler.steps,
        temperature=temperature,
        remasking=sampler.remasking,
        cfg_scale=sampler.cfg_scale,
        cache=sampler.cache,
        confidence_threshold=sampler.confidence_threshold,
        schedule=sampler.schedule,
        factor=sampler.factor,
        remask=sampler.remask,
        top_k=sampler.top_k,
        top_p=sampler.top_p,
        cache_refresh=sampler.cache_refresh,
        cache_blocks=sampler.cache_blocks,
        forbidden_ids=tuple(sampler.forbidden_ids),
        eos=sampler.eos,
        stop_after_eos=sampler.stop_after_eos,
        compile=sampler.compile,
        autocast=sampler.autocast,
        token_budget=sampler.token_budget,
    )


def evaluation_settings(config: DictConfig) -> EvaluationSettings:
    """How held-out problems are answered."""
    return EvaluationSettings(
        sampler=sampler_settings(config, config.eval.temperature),
        batch_size=config.eval.batch_size,
        samples=config.eval.samples,
        seed=config.seed,
        workers=config.reward.workers,
        timeout=config.reward.timeout,
        grader=grader(config),
        extraction=tuple(config.reward.extraction),
    )


def likelihood_settings(config: DictConfig) -> LikelihoodSettings:
    """The likelihood estimator."""
    return LikelihoodSettings(**_values(config.likelihood, LikelihoodSettings))


def inpaint_settings(config: DictConfig) -> InpaintSettings:
    """Who gets extra samples, and how hints are made."""
    inpaint = config.inpaint
    fixed = inpaint.ratio is not None
    schedule = RatioSchedule(
        low=inpaint.ratio if fixed else inpaint.ratio_low,
        high=inpaint.ratio if fixed else inpaint.ratio_high,
        kind=inpaint.schedule,
        final_scale=inpaint.schedule_final,
        total_steps=config.stage.steps,
        round_growth=inpaint.round_growth,
    )
    return InpaintSettings(
        trigger=inpaint.trigger,
        threshold=inpaint.threshold,
        scope=inpaint.scope,
        extra_samples=inpaint.extra_samples,
        schedule=schedule,
        rounds=inpaint.rounds,
        chunk_min=inpaint.chunk_min,
        chunk_max=inpaint.chunk_max,
        options=HintOptions(**_values(inpaint, HintOptions)),
        replace_fraction=inpaint.replace_fraction,
    )


def objective_settings(config: DictConfig) -> ObjectiveSettings:
    """What is maximised."""
    values = _values(config.objective, ObjectiveSettings)
    values["normalization_length"] = (
        config.objective.normalization_length or config.sampler.completion_length
    )
    return ObjectiveSettings(**values)


def _values(group: DictConfig, settings: type) -> dict[str, Any]:
    """The values of a config group for the fields of a settings dataclass, which spell alike."""
    return {field.name: group[field.name] for field in dataclasses.fields(settings)}


def rl_settings(config: DictConfig) -> RLSettings:
    """Algorithm 1's inputs."""
    stage = config.stage
    return RLSettings(
        sampler=sampler_settings(config, config.sampler.temperature),
        group_size=stage.group_size,
        inner_updates=stage.inner_updates,
        steps=stage.steps,
        rollout_batch_size=stage.rollout_batch_size,
        train_batch_size=stage.train_batch_size,
        inpaint=inpaint_settings(config),
        filter=FilterSettings(**_values(config.filter, FilterSettings)),
        objective=objective_settings(config),
        likelihood=likelihood_settings(config),
        reward_weights=dict(config.reward.weights),
        seed=config.seed,
        log_samples_every=stage.log_samples_every,
    )


def optimizer_settings(config: DictConfig) -> OptimizerSettings:
    """AdamW and its schedule."""
    optimizer = config.optimizer
    return OptimizerSettings(
        lr=optimizer.lr,
        betas=(optimizer.betas[0], optimizer.betas[1]),
        weight_decay=optimizer.weight_decay,
        grad_norm=optimizer.grad_norm,
        warmup_steps=optimizer.warmup_steps,
        decay_share=optimizer.decay_share,
    )


def build_loggers(config: DictConfig, resume_step: int | None) -> list[Any]:
    """The configured loggers; a resumed run keeps the lines of metrics.csv up to its checkpoint."""
    metrics_file = run_folder() / METRICS_FILE
    kept = []
    if resume_step is not None and metrics_file.exists():
        kept = [row for row in read_metrics(metrics_file) if row["step"] < resume_step]
    loggers = [hydra.utils.instantiate(node) for node in config.logger.values()]
    for logger in loggers:
        if isinstance(logger, CSVLogger) and kept:
            logger.experiment.metrics.extend(kept)
            logger.save()
    return loggers


def _strategy(config: DictConfig) -> str | Strategy:
    trainer = config.trainer
    if trainer.strategy == "fsdp":
        world = trainer.devices * trainer.num_nodes
        return ModelParallelStrategy(data_parallel_size=world, tensor_parallel_size=1)
    return str(trainer.strategy)


def build_trainer(
    config: DictConfig,
    max_steps: int = -1,
    checkpoint_every: int | None = None,
    validate_every: int | None = None,
    resume_step: int | None = None,
    log_every: int = 1,
) -> lightning.Trainer:
    """Lightning's Trainer with rich progress bars; a checkpoint every n optimizer steps."""
    callbacks: list[Callback] = [RichProgressBar(leave=False)]
    if checkpoint_every is not None:
        callbacks.append(
            ModelCheckpoint(
                dirpath=run_folder() / "checkpoints",
                filename="step-{step}",
                auto_insert_metric_name=False,
                every_n_train_steps=checkpoint_every,
                save_last=True,
                save_top_k=1,
                monitor=None,
            )
        )
    return lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=_strategy(config),
        precision=config.trainer.precision,
        logger=build_loggers(config, resume_step) or False,
        callbacks=callbacks,
        enable_checkpointing=checkpoint_every is not None,
        max_steps=max_steps,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None if validate_every else 1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        log_every_n_steps=log_every,
    )


def resume_checkpoint(config: DictConfig) -> Path | None:
    """The checkpoint to go on from, or None.

    Raises:
        ConfigError: `resume` names neither a checkpoint nor a run folder with one.
    """
    if config.resume is None:
        return None
    path = Path(config.resume)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.exists():
        raise ConfigError(
            f"resume={config.resume}: {path} does not exist; name a checkpoint file or a run "
            "folder that holds checkpoints/last.ckpt"
        )
    return path


def checkpoint_step(path: Path | None) -> int | None:
    """The optimizer step that a checkpoint was written at."""
    if path is None:
        return None
    return int(torch.load(path, map_location="cpu", weights_only=True)["global_step"])
