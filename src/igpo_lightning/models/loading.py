"""From a folder or hub id to a ready backbone."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.initialization import no_init_weights

from igpo_lightning.errors import ConfigError, call_own
from igpo_lightning.models import masked_lm, tiny
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.checkpoint import load_weights
from igpo_lightning.models.configuration import read_config, read_generation_config, resolve
from igpo_lightning.models.cpu_memory import check_memory
from igpo_lightning.models.decoder import DecoderBackbone
from igpo_lightning.models.families import FAMILIES, SHIFT_KEY, family_of, read_decoder
from igpo_lightning.models.quantization import quantize_blocks, require_bitsandbytes
from igpo_lightning.models.special_tokens import TokenIds, report_once, token_ids
from igpo_lightning.models.tokenizer_files import load_tokenizer, tokenizer_ids

# model_type of config.json -> (reader of its sizes, class). A decoder is a line in families.py.
NATIVE: dict[str, tuple[Callable[[Mapping[str, Any]], Any], Callable[..., BackboneModule]]] = {
    tiny.MODEL_TYPE: (tiny.TinyConfig.read, tiny.TinyBackbone),
    **dict.fromkeys(FAMILIES, (read_decoder, DecoderBackbone)),
}
ARCHITECTURES = Path(__file__).parent / "architectures"  # config.json of public models, by name
_LARGEST = "largest_token_id"  # of the tokenizer, beside its special tokens
VOCABULARY_MULTIPLE = 64  # a grown embedding keeps the head's matrix product aligned
Builder = TypeVar("Builder", bound=Callable[..., BackboneModule])


def register_backbone(model_type: str) -> Callable[[Builder], Builder]:
    """Make a class of your own known as this `model_type` of config.json.

    It is built as `Class(config, tokens)` on the meta device, from the content of config.json and
    its `TokenIds`, and filled from the safetensors beside, whose names are its parameters'.

    Raises:
        ConfigError: The type is taken.
    """

    def add(backbone: Builder) -> Builder:
        if model_type in NATIVE:
            raise ConfigError(f"model_type {model_type!r} is taken by {NATIVE[model_type][1]}")
        expected = f"{backbone.__name__}(config, tokens) to build a Backbone"
        NATIVE[model_type] = (
            dict,
            lambda config, tokens, _: call_own(backbone, expected, config, tokens),
        )
        return backbone

    return add


def load_backbone(
    path_or_hub_id: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    random_init: bool = False,
    seed: int = 0,
    *,
    architecture: str | None = None,
    token_overrides: Mapping[str, int | None] | None = None,
    mask_token: str | None = None,
    shifted: bool | None = None,
    trust_remote_code: bool = False,
    quantization: str = "none",
) -> BackboneModule:
    """Load a backbone from a folder in its Hugging Face layout, a hub id, or an embedded name.

    Args:
        path_or_hub_id: Where config.json and the safetensors are.
        dtype: Of the weights.
        device: Where the weights go; "meta" together with `random_init` for counting alone.
        random_init: Build the architecture of config.json with random weights and read no
            checkpoint.
        seed: Of the random initialisation; without effect on the global generator.
        architecture: A name in `ARCHITECTURES`: its bundled config.json stands in for the model's
            own where no checkpoint is read.
        token_overrides: `mask_token_id`, `eos_token_id`, `pad_token_id`; None leaves an id as the
            model has it.
        mask_token: Text of the mask token for a model that has none; added to the vocabulary if
            it is new. `load_tokenizer` takes the same.
        shifted: Whether a decoder's logits at i - 1 predict token i; None for what config.json says
            or else is known of its type.
        trust_remote_code: Run the code that a checkpoint of an unknown type brings.
        quantization: "none", "8bit" or "4bit": of the blocks' linear layers.

    Raises:
        ConfigError: For an unknown architecture, a missing mask or EOS token, and for weights that
            are missing, unexpected or of the wrong shape; it names them.
    """
    source = resolve(path_or_hub_id)
    bundled = random_init and architecture is not None
    raw = bundled_config(str(architecture)) if bundled else read_config(source)
    if raw["model_type"] not in NATIVE:
        check_supported(path_or_hub_id, raw, trust_remote_code)
    if quantization != "none":
        require_bitsandbytes(quantization)
    if shifted is not None:
        raw = raw | {SHIFT_KEY: shifted}
    files = None if bundled and mask_token is None else source
    known = {} if files is None else _tokenizer_ids(files, mask_token)
    named = None if mask_token is None else known.get("mask_token_id")
    tokens = _special_tokens(path_or_hub_id, raw, files, known, token_overrides or {}, named)
    if raw["model_type"] in NATIVE:
        read, build = NATIVE[raw["model_type"]]
        with torch.device("meta"), no_init_weights():  # values come from a file or a generator
            model: BackboneModule = build(read(raw), tokens, raw)
        if quantization == "none":
            check_memory(path_or_hub_id, model, dtype, device)
        if random_init:
            _materialize(model, dtype, device, seed)
        else:
            if quantization != "none":
                quantize_blocks(model, quantization, compute_dtype=dtype)
            load_weights(model, source, dtype, device)
        if isinstance(model, DecoderBackbone):
            _complete_decoder(model, mask_token)
    else:
        model = _load_transformers(
            source,
            raw,
            tokens,
            dtype,
            random_init,
            seed,
            device,
            mask_token,
            trust_remote_code,
            quantization,
        )
    model.source = source
    model.largest_token_id = known.get(_LARGEST)
    _check_range(path_or_hub_id, model)
    return model.eval()


def _special_tokens(
    name: str,
    raw: Mapping[str, Any],
    files: str | None,
    known: Mapping[str, int | None],
    overrides: Mapping[str, int | None],
    named: int | None,
) -> TokenIds:
    """Special tokens from all that names them: files, the tokenizer (`known`), settings.

    `named` is the id of the settings' own mask token.
    """
    family = family_of(raw)
    decisions = {key: value for key, value in overrides.items() if value is not None}
    if named is not None:
        decisions["mask_token_id"] = named
    found: dict[str, Mapping[str, Any]] = {}
    if family is not None and family.chat and known.get("eot_token_id") is not None:
        turn = {"eos_token_id": known["eot_token_id"]}
        found["the chat template, whose end of turn ends a row"] = turn
    found["config.json"] = raw
    found["generation_config.json"] = {} if files is None else read_generation_config(files)
    found["the tokenizer"] = known
    public = {} if family is None else family.tokens
    found["the public checkpoints"] = {
        key: value
        for key, value in public.items()
        if all(content.get(key) is None for content in found.values())
    }
    # What a setting decides, files need not agree about.
    undecided = {
        source: {key: value for key, value in content.items() if key not in decisions}
        for source, content in found.items()
    }
    return token_ids(name, {"the settings": decisions, **undecided})


def _complete_decoder(model: DecoderBackbone, mask_token: str | None) -> None:
    """Give a decoder's new mask token a row, and its config.json what public ones do not say."""
    if mask_token is not None and model.mask_token_id >= model.vocab_size:
        model.grow_vocabulary(_grown(model.mask_token_id))
    family = family_of(model.raw_config)
    if family is not None and family.converted:
        model.raw_config = model.raw_config | {
            SHIFT_KEY: model.shifted,
            "mask_token_id": model.mask_token_id,
        }


def _grown(mask_token_id: int) -> int:
    """Rows of an embedding that has one for the mask token."""
    return -(-(mask_token_id + 1) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _load_transformers(
    source: str,
    raw: dict[str, Any],
    tokens: TokenIds,
    dtype: torch.dtype,
    random_init: bool,
    seed: int,
    device: str | torch.device,
    mask_token: str | None,
    trust_remote_code: bool,
    quantization: str,
) -> BackboneModule:
    """A model of transformers behind the interface; arguments as in `load_backbone`."""
    on_meta = torch.device(device).type == "meta"
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        torch.manual_seed(seed)
        body = masked_lm.load_transformers(
            source, raw, dtype, random_init, trust_remote_code, quantization, allocates=not on_meta
        )
        if mask_token is not None and tokens.mask >= body.get_input_embeddings().weight.shape[0]:
            masked_lm.grow_vocabulary(body, _grown(tokens.mask))
            raw = raw | {"vocab_size": _grown(tokens.mask)}
    shifted = bool(raw.get(SHIFT_KEY, masked_lm.GPT2.get(raw["model_type"], False)))
    if raw["model_type"] in masked_lm.GPT2:
        raw = raw | {SHIFT_KEY: shifted, "mask_token_id": tokens.mask}
    return masked_lm.TransformersBackbone(body, raw, tokens, shifted).to(device)


def bundled_config(name: str) -> dict[str, Any]:
    """The config.json of a public model that comes with the package.

    Entries under `assumed` are stated by no public text: a warning names them, once.

    Raises:
        ConfigError: There is none of that name.
    """
    file = ARCHITECTURES / f"{name}.json"
    if not file.is_file():
        names = ", ".join(sorted(f.stem for f in ARCHITECTURES.glob("*.json")))
        raise ConfigError(f"model.architecture={name}: no such architecture; there is {names}")
    raw = dict(json.loads(file.read_text(encoding="utf-8")))
    assumed = raw.pop("assumed", {})
    if assumed:
        report_once(
            f"model.architecture={name}: no public text states "
            + ", ".join(f"{key}={value}" for key, value in assumed.items())
            + "; both are assumed here, and a checkpoint's own config.json decides"
        )
    return raw | assumed


def check_supported(name: str, raw: Mapping[str, Any], trust_remote_code: bool) -> None:
    """Raise a ConfigError that lists what is supported, unless the model is."""
    model_type = raw["model_type"]
    if model_type in masked_lm.GPT2 or masked_lm.is_masked_lm(model_type):
        return
    own = ", ".join(sorted([*NATIVE, *masked_lm.GPT2]))
    if not raw.get("auto_map"):
        raise ConfigError(
            f"model.path={name} has model_type={model_type!r}; supported: {own}, every type that "
            "transformers has as a masked LM (bert, roberta, modernbert, ...), and those that "
            "model.plugin=FILE.py registers"
        )
    if not trust_remote_code:
        raise ConfigError(
            f"model.path={name} has model_type={model_type!r}, which only code of its own can "
            f"compute; model.trust_remote_code=true runs that code. Supported without: {own}, and "
            "every type that transformers has as a masked LM"
        )


def _materialize(
    model: BackboneModule, dtype: torch.dtype, device: str | torch.device, seed: int
) -> None:
    """Give a model on the meta device room on another, and random weights."""
    model.to(dtype).to_empty(device=device)
    if torch.device(device).type != "meta":
        model.initialize(torch.Generator(device).manual_seed(seed))


def _tokenizer_ids(source: str, mask_token: str | None) -> dict[str, int | None]:
    """What the tokenizer knows of special tokens; nothing where the model has no tokenizer."""
    try:
        tokenizer = load_tokenizer(source, mask_token)
        return tokenizer_ids(tokenizer) | {_LARGEST: max(tokenizer.get_vocab().values(), default=0)}
    except ConfigError:
        if mask_token is not None:
            raise
        return {}


def check_vocabulary(model: BackboneModule) -> None:
    """Refuse a model whose own tokenizer makes tokens that the embedding has no row for.

    Raises:
        ConfigError: It names both numbers.
    """
    largest = model.largest_token_id
    if largest is not None and largest >= model.vocab_size:
        raise ConfigError(
            f"model.path={model.source}: its tokenizer has a token {largest}, and config.json "
            f"vocab_size={model.vocab_size}; use the tokenizer that the model was trained with"
        )


def _check_range(name: str, model: BackboneModule) -> None:
    """Raise a ConfigError for a special token that the embedding has no row for."""
    for kind in ("mask", "eos", "pad"):
        index = getattr(model, f"{kind}_token_id")
        if not 0 <= index < model.vocab_size:
            raise ConfigError(
                f"model.{kind}_token_id={index}: model.path={name} has {model.vocab_size} tokens; "
                f"give an id below that"
                + (", or model.mask_token, for which a row is added" if kind == "mask" else "")
            )
