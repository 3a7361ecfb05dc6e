"""Checks of the model, the trainer and the sizes of a run."""

from omegaconf import DictConfig

from igpo_lightning.checks.basics import require, require_at_least, require_choice, require_within
from igpo_lightning.checks.method import check_rewards
from igpo_lightning.plugins import known_names
from igpo_lightning.rewards.extraction import STRATEGIES


def check_model(config: DictConfig) -> None:
    """Weights, adapters, quantization and precision."""
    model, lora = config.model, config.model.lora
    known_names(config, "model")  # its plugin, if it has one
    require_choice(config, "model.quantization", ("none", "8bit", "4bit"))
    require(
        bool(model.path), "model.path", "''", "name a folder in Hugging Face layout or a hub id"
    )
    require(lora.rank >= 1, "model.lora.rank", lora.rank, "give at least 1")
    require(lora.alpha > 0, "model.lora.alpha", lora.alpha, "must be above 0")
    fits = 0 <= lora.dropout < 1
    require(fits, "model.lora.dropout", lora.dropout, "give a number from 0 to below 1")
    for name in ("mask_token_id", "eos_token_id", "pad_token_id", "eot_token_id"):
        require_at_least(config, 0, f"model.{name}")
    training = config.stage.name in ("rl", "sft")
    require(
        not (training and lora.enabled and config.trainer.precision == "bf16-true"),
        "trainer.precision",
        "bf16-true",
        "would round the adapters to bfloat16, where small updates are lost; use "
        "trainer.precision=bf16-mixed with model.dtype=bfloat16",
    )
    if model.quantization != "none":
        require(
            lora.enabled or not training,
            "model.quantization",
            model.quantization,
            "quantized weights cannot be trained; set model.lora.enabled=true",
        )
        require(
            model.init == "pretrained",
            "model.quantization",
            model.quantization,
            "random weights are not quantized; set model.init=pretrained",
        )
        require(
            config.trainer.strategy != "fsdp",
            "model.quantization",
            model.quantization,
            "quantized weights are not sharded; use trainer=ddp or trainer=gpu",
        )


def check_training(config: DictConfig) -> None:
    """Sizes of a run, its processes and its optimizer."""
    require_at_least(
        config,
        1,
        "stage.steps",
        "stage.prompts_per_step",
        "stage.inner_updates",
        "stage.rollout_batch_size",
        "stage.train_batch_size",
        "stage.batch_size",
        "stage.checkpoint_every",
        "stage.val_every",
        "stage.val_limit",
        "eval.samples",
        "eval.batch_size",
        "eval.limit",
        "reward.workers",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.threads",
        "trainer.keep_last",
        "trainer.max_skipped",
        "trainer.timeout",
        "prompt.max_length",
    )
    if config.stage.name == "rl":
        require_at_least(config, 0, "stage.eval_every", "stage.log_samples_every")
        require(
            config.stage.group_size >= 2,
            "stage.group_size",
            config.stage.group_size,
            "a group needs at least 2 samples to compare",
        )
        check_rewards(config)
    world = config.trainer.devices * config.trainer.num_nodes
    sharded, trainer = config.trainer.strategy == "fsdp", config.trainer
    require(
        trainer.replicas >= 1 and world % trainer.replicas == 0,
        "trainer.replicas",
        trainer.replicas,
        f"must divide the {world} processes (trainer.devices * trainer.num_nodes)",
    )
    for name, neutral in (("replicas", 1), ("cpu_offload", False), ("gather_rollouts", False)):
        require(
            sharded or trainer[name] == neutral,
            f"trainer.{name}",
            trainer[name],
            f"is for trainer.strategy=fsdp; leave it at {neutral} with {trainer.strategy}",
        )
    for name in ("prompts_per_step", "batch_size"):
        if name in config.stage:
            require(
                config.stage[name] % world == 0,
                f"stage.{name}",
                config.stage[name],
                f"must be a multiple of the {world} processes "
                "(trainer.devices * trainer.num_nodes)",
            )
    require_within(config, 0, 1, "optimizer.decay_share")
    require_at_least(
        config,
        0,
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.warmup_steps",
    )
    unknown = set(config.reward.extraction) - set(STRATEGIES)
    require(
        bool(config.reward.extraction) and not unknown,
        "reward.extraction",
        list(config.reward.extraction),
        f"name at least one of {', '.join(STRATEGIES)}",
    )
    for key in ("optimizer.grad_norm", "reward.timeout"):
        group, name = key.split(".")
        require(config[group][name] > 0, key, config[group][name], "must be above 0")
    betas = list(config.optimizer.betas)
    fits = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
    require(fits, "optimizer.betas", betas, "give two numbers in [0, 1), for example [0.9,0.99]")


def check_choices(config: DictConfig) -> None:
    """Names that stand for one of a few choices."""
    require_choice(config, "model.init", ("pretrained", "random"))
    require_choice(config, "model.dtype", ("float32", "bfloat16"))
    require_choice(config, "eval.split", ("train", "validation", "test"))
    require_choice(config, "trainer.accelerator", ("cpu", "gpu"))
    require_choice(config, "trainer.strategy", ("auto", "ddp", "fsdp"))
    require_choice(config, "trainer.precision", ("32-true", "bf16-mixed", "bf16-true"))
    world = config.trainer.devices * config.trainer.num_nodes
    require(
        config.trainer.strategy != "auto" or world == 1,
        "trainer.devices",
        config.trainer.devices,
        f"{world} processes need trainer.strategy=ddp or fsdp",
    )
