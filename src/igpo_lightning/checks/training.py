"""The model under the trainer, and sizes over the processes."""

from igpo_lightning.plugins import known_names
from igpo_lightning.settings import RLStage, Settings, SFTStage
from igpo_lightning.settings.rules import require


def check_model(settings: Settings) -> None:
    """Adapters, quantization and precision."""
    model, lora = settings.model, settings.model.lora
    known_names(settings, "model")  # its plugin, if it has one
    training = settings.stage.name in ("rl", "sft")
    require(
        not (training and lora.enabled and settings.trainer.precision == "bf16-true"),
        "trainer.precision",
        "bf16-true",
        "would round the adapters to bfloat16, where small updates are lost; use "
        "trainer.precision=bf16-mixed with model.dtype=bfloat16",
    )
    if model.quantization == "none":
        return
    require(
        lora.enabled or not training,
        "model.quantization",
        model.quantization,
        "quantized weights cannot be trained; set model.lora.enabled=true",
    )
    require(
        settings.trainer.strategy != "fsdp",
        "model.quantization",
        model.quantization,
        "quantized weights are not sharded; use trainer=ddp or trainer=gpu",
    )


def check_processes(settings: Settings) -> None:
    """Every process gets as much of a step as every other."""
    stage, world = settings.stage, settings.trainer.world_size
    processes = f"the {world} processes (trainer.devices * trainer.num_nodes)"
    if isinstance(stage, RLStage):
        size, group = stage.prompts_per_step, stage.group_size
        fix = f"must be a multiple of {processes}, or divide them so that they share each group"
        fits = world % size == 0 and group % (world // size) == 0
        fix += f" of stage.group_size={group} evenly"
        require(size % world == 0 or fits, "stage.prompts_per_step", size, fix)
    elif isinstance(stage, SFTStage):
        fix = f"must be a multiple of {processes}"
        require(stage.batch_size % world == 0, "stage.batch_size", stage.batch_size, fix)
