"""A trained model as a folder that other code reads: at a run's end, and by stage=export."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from igpo_lightning import distributed
from igpo_lightning.config import read_settings
from igpo_lightning.errors import ConfigError, RunError
from igpo_lightning.models import save_export
from igpo_lightning.models.checkpoint import report_misfits
from igpo_lightning.reporting.model_card import model_card
from igpo_lightning.reporting.run_data import read_run
from igpo_lightning.runs import durable, untrusted
from igpo_lightning.settings import ExportStage, Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.push import push, require_token

PREFIX = "backbone."  # of the model within the LightningModules
_PART = 2**24  # numbers that are looked at together


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The backbone's weights of a Lightning checkpoint: a file, or a folder of shards.

    Raises:
        ConfigError: It is neither, or holds no backbone.
    """
    if checkpoint.is_dir():
        if not (checkpoint / untrusted.METADATA).is_file():
            raise ConfigError(
                f"checkpoint={checkpoint} is a folder without shards; name a checkpoint, for "
                "example RUN/checkpoints/last.ckpt"
            )
        untrusted.check_shards(checkpoint)
        weights = distributed.read_sharded(checkpoint, f"state_dict.{PREFIX}")
    elif checkpoint.is_file():
        problem = durable.damage(checkpoint) if durable.seal_of(checkpoint) else None
        if problem is not None:
            raise ConfigError(f"checkpoint={checkpoint} is damaged ({problem}); name another one")
        state = untrusted.read_file(checkpoint)
        weights = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in state.get("state_dict", {}).items()
            if name.startswith(PREFIX)
        }
    else:
        raise ConfigError(f"checkpoint={checkpoint} does not exist; name a checkpoint of a run")
    if not weights:
        raise ConfigError(f"checkpoint={checkpoint} holds no backbone; name a checkpoint of a run")
    return weights


def run_settings(checkpoint: Path, config: Settings) -> Settings:
    """The settings of the run that wrote a checkpoint; this one's where it left none."""
    file = checkpoint.resolve().parent.parent / "config.yaml"
    if not file.is_file():
        return config
    run = read_settings(file)
    # The folder may come from elsewhere: what may run is decided here.
    model = replace(run.model, trust_remote_code=config.model.trust_remote_code)
    return replace(run, model=model)


def run(config: Settings) -> dict[str, Any]:
    """Write the folder; returns its place."""
    build.quiet_libraries()
    stage = config.stage
    assert isinstance(stage, ExportStage)
    assert config.checkpoint is not None
    checkpoint = Path(config.checkpoint)
    if stage.hub is not None:
        require_token(stage.hub)
    weights = read_weights(checkpoint)
    of_run = run_settings(checkpoint, config)
    model = build.build_backbone(of_run, device="meta")
    absent = set(model.state_dict()) - set(weights)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if absent or of_run.model.quantization != "none":
        # What was never trained need not be in the checkpoint: it is read from model.path.
        model = build.build_backbone(of_run)
    own = model.state_dict()
    misshapen = [
        f"{name} {list(weights[name].shape)} instead of {list(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    ]
    source = f"{of_run.model.path} with checkpoint={checkpoint}"
    report_misfits(source, absent & trained, set(weights) - set(own), misshapen)
    folder = Path(stage.output or build.run_folder() / "export")
    require_finite(weights.items(), folder)
    with durable.new_folder(folder) as partial:
        save_export(model, build.build_tokenizer(of_run), partial, own | weights)
        if stage.hub is not None:
            card = model_card(read_run(checkpoint.resolve().parent.parent))
            (partial / "README.md").write_text(card, encoding="utf-8")
    print(f"{checkpoint} as a model's folder in {folder}")
    if stage.hub is None:
        return {"export": str(folder)}
    address = push(folder, stage.hub, stage.private)
    print(f"uploaded to {address}")
    return {"export": str(folder), "hub": address}


def export_model(module: Any, folder: Path) -> None:
    """Write the trained model in its own layout; under sharding all ranks take part."""
    require_finite(module.backbone.named_parameters(), folder)
    with durable.new_folder(folder, owner=distributed.rank() == 0) as partial:
        save_export(module.backbone, module.tokenizer, partial)


def require_finite(weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Refuse to export weights that are NaN or infinite; under sharding all ranks take part.

    Args:
        weights: Names and tensors; a rank's own shards suffice.

    Raises:
        RunError: Names the first such weight of this rank.
    """
    spoiled = next((name for name, weight in weights if not _is_finite(weight)), None)
    if distributed.any_rank(spoiled is not None):
        raise RunError(
            f"{folder} is not written: {spoiled or 'a weight of another rank'} holds NaN or inf. "
            "Lower optimizer.lr, or export an earlier checkpoint with stage=export checkpoint=FILE"
        )


def _is_finite(weight: Tensor) -> bool:
    shard = getattr(weight, "to_local", None)  # of FSDP's DTensor
    own = weight.detach() if shard is None else shard().detach()
    if not own.is_floating_point():
        return True
    # In parts: the comparison of a whole embedding of 8B takes more memory than a shard.
    return all(bool(part.isfinite().all()) for part in own.reshape(-1).split(_PART))
