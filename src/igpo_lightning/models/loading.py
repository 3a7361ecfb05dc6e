"""From a folder or hub id to a ready backbone, and back to a folder."""

import json
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import cached_file

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.tiny import MODEL_TYPE as TINY_MODEL_TYPE
from igpo_lightning.models.tiny import TinyBackbone, TinyConfig

EMBEDDED = "tiny"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

# model_type of config.json -> the class that loads it. A new architecture is one line here.
ARCHITECTURES: dict[str, type[PreTrainedModel]] = {TINY_MODEL_TYPE: TinyBackbone}
CONFIGS: dict[str, type[TinyConfig]] = {TINY_MODEL_TYPE: TinyConfig}


def _resolve(path_or_hub_id: str) -> str:
    """The embedded name becomes its folder; anything else stays as it is."""
    return str(EMBEDDED_FOLDER) if path_or_hub_id == EMBEDDED else path_or_hub_id


def _read_model_type(source: str) -> str:
    if Path(source).is_dir():
        config_file: str | None = str(Path(source) / "config.json")
        if not Path(str(config_file)).is_file():
            raise ConfigError(f"model.path={source} holds no config.json; name a model's folder")
    else:
        try:
            config_file = cached_file(source, "config.json")
        except OSError as error:
            raise ConfigError(
                f"model.path={source} is neither a folder nor a reachable hub id: "
                f"{str(error).splitlines()[0]}"
            ) from error
    return str(json.loads(Path(str(config_file)).read_text()).get("model_type"))


def load_backbone(
    path_or_hub_id: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    random_init: bool = False,
    seed: int = 0,
) -> TinyBackbone:
    """Load a backbone from a folder in its Hugging Face layout, a hub id, or "tiny" (embedded).

    Args:
        path_or_hub_id: Where config.json and the safetensors are.
        dtype: Of the weights.
        device: Where the weights go.
        random_init: Build the architecture of config.json with random weights and read no
            checkpoint.
        seed: Of the random initialisation; without effect on the global generator.

    Raises:
        ConfigError: For an unknown architecture, and for weights that are missing, unexpected or
            of the wrong shape; it names them.
    """
    source = _resolve(path_or_hub_id)
    model_type = _read_model_type(source)
    if model_type not in ARCHITECTURES:
        supported = ", ".join(sorted(ARCHITECTURES))
        raise ConfigError(
            f"model.path={path_or_hub_id} has model_type={model_type!r}; supported: {supported}"
        )
    cls = ARCHITECTURES[model_type]
    if random_init:
        config = CONFIGS[model_type].from_pretrained(source)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(config)
        return model.to(device=device, dtype=dtype)
    try:
        model, info = cls.from_pretrained(source, dtype=dtype, output_loading_info=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"model.path={path_or_hub_id}: the checkpoint cannot be read: {error}"
        ) from error
    problems = {key: sorted(map(str, names)) for key, names in info.items() if names}
    if problems:
        raise ConfigError(f"model.path={path_or_hub_id}: the weights do not fit: {problems}")
    return model.to(device=device).eval()


def load_tokenizer(path_or_hub_id: str) -> PreTrainedTokenizerFast:
    """The tokenizer that travels with a backbone."""
    return PreTrainedTokenizerFast.from_pretrained(_resolve(path_or_hub_id))


def save_export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write safetensors, config and tokenizer in the model's own layout; `load_backbone` reads it.

    `state_dict` replaces the model's own weights where those are shared over ranks.
    """
    model.save_pretrained(folder, state_dict=state_dict)
    tokenizer.save_pretrained(folder)
