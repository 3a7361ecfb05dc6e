"""Architectures of transformers as backbones: masked LMs, and GPT-2 turned bidirectional.

transformers computes the body; this file takes the head apart from it, gives padded rows their
own positions, and hides GPT-2's shift. Remote code is run by `load_transformers` alone, and only
when told to.
"""

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BitsAndBytesConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from igpo_lightning.errors import ConfigError, first_line
from igpo_lightning.models.backbone import BackboneModule, KeyValueCache, Layout, Weight
from igpo_lightning.models.checkpoint import (
    INDEX_FILE,
    SINGLE_FILE,
    report_misfits,
    weight_files,
)
from igpo_lightning.models.configuration import MOST_LAYERS, NO_SIZES, find_file
from igpo_lightning.models.cpu_memory import check_memory
from igpo_lightning.models.safetensors_header import read_header
from igpo_lightning.models.special_tokens import TokenIds
from igpo_lightning.models.transformer import align_shifted

# model_type -> whether the checkpoint's logits at i - 1 predict token i. A causal model's do; the
# public sampler of the A2D conversions does not shift. A config.json may say otherwise.
GPT2: dict[str, bool] = {"gpt2": True, "a2d-gpt2": False}
POSITION_TABLES = ("position_embeddings", "wpe")  # learned positions: BERT and kin, GPT-2
_DEPTH = re.compile("layer|block|group|network|attend")
_SLACK = 10**6  # weights that a file may lack before its config.json is not believed
# Weights of heads that a masked LM's checkpoint carries beside its own (BERT's first objective).
OTHER_HEADS = ("cls.seq_relationship.", "bert.pooler.", "roberta.pooler.")


def is_masked_lm(model_type: str) -> bool:
    """Whether transformers has the type as a masked LM."""
    return model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def load_transformers(
    source: str,
    raw: Mapping[str, Any],
    dtype: torch.dtype,
    random_init: bool,
    trust_remote_code: bool,
    quantization: str,
    allocates: bool = True,
) -> Any:
    """The PreTrainedModel of transformers, its weights strictly checked.

    Arguments as in `load_backbone`; remote code runs only for a type that neither this project nor
    transformers knows. `allocates` is False where torch's default device is "meta".

    Raises:
        ConfigError: config.json describes no model, or one that is larger than its files or the
            memory; weights are missing, unexpected or of the wrong shape, which it names.
    """
    model_type = raw["model_type"]
    if model_type in GPT2 or is_masked_lm(model_type):
        auto: Any = AutoModelForCausalLM if model_type in GPT2 else AutoModelForMaskedLM
        config, skeleton = _skeleton(raw, auto)
        if allocates and quantization == "none":
            check_memory(source, skeleton, dtype, "cpu")
        if not random_init:
            _check_against_files(source, skeleton)
        trust_remote_code = False
    else:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        classes = {c.__name__: c for c in (AutoModelForMaskedLM, AutoModelForCausalLM, AutoModel)}
        auto = next(c for name, c in classes.items() if name in raw.get("auto_map", {}))
    # A likelihood must be a function of the weights: old and new policy are compared on it.
    for key, value in config.to_dict().items():
        if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float):
            setattr(config, key, 0.0)
    if model_type in GPT2:
        config.is_causal, config.use_cache = False, False
    if random_init:
        model = auto.from_config(config, trust_remote_code=trust_remote_code)
        return model.to(dtype)
    try:
        model, info = auto.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            quantization_config=_quantization_config(quantization, dtype),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # as in `_skeleton`
        reason = first_line(error)
        raise ConfigError(
            f"model.path={source}: the checkpoint cannot be read: {reason[:300]}"
        ) from error
    unexpected = [k for k in info["unexpected_keys"] if not k.startswith(OTHER_HEADS)]
    misshapen = [
        f"{name} {list(found)} instead of {list(wanted)}"
        for name, found, wanted in info["mismatched_keys"]
    ]
    report_misfits(source, info["missing_keys"], unexpected, misshapen)
    return model


def _skeleton(raw: Mapping[str, Any], auto: Any) -> tuple[Any, Any]:
    """The configuration that a config.json describes, and its model on the meta device.

    Raises:
        ConfigError: It describes none.
    """
    deep = [k for k, v in raw.items() if _DEPTH.search(k) and type(v) is int and v > MOST_LAYERS]
    if deep:
        raise ConfigError(
            f"config.json of the {raw['model_type']} model has {deep[0]}={raw[deep[0]]}; give a "
            f"whole number up to {MOST_LAYERS}"
        )
    entries = {k: v for k, v in raw.items() if k not in NO_SIZES}
    kind = "gpt2" if raw["model_type"] in GPT2 else raw["model_type"]
    try:
        config = AutoConfig.for_model(kind, **entries)
        with torch.device("meta"):
            return config, auto.from_config(copy.deepcopy(config))
    except Exception as error:  # a stranger's file in a library's hands: the file is at fault
        reason = first_line(error)
        raise ConfigError(
            f"config.json of the {raw['model_type']} model describes no model that transformers "
            f"can build: {type(error).__name__}: {reason[:300]}"
        ) from error


def _check_against_files(source: str, skeleton: Any) -> None:
    """Refuse a config.json that describes far more weights than there are in the files.

    Raises:
        ConfigError: It gives both numbers.
    """
    files = [find_file(source, name) for name in (SINGLE_FILE, INDEX_FILE)]
    if not any(files):
        return  # transformers looks for other files, and says so where there are none
    headers = [read_header(file).values() for file in weight_files(source)]
    held = sum(math.prod(entry.shape) for entries in headers for entry in entries)
    described = sum(parameter.numel() for parameter in skeleton.parameters())
    if described > 2 * held + _SLACK:  # smaller gaps are named, weight by weight, once it is read
        raise ConfigError(
            f"model.path={source}: config.json describes {described:,} weights, and the files "
            f"hold {held:,}; fetch both from the same place"
        )


def _quantization_config(kind: str, compute_dtype: torch.dtype) -> Any:
    if kind == "none":
        return None
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute_dtype
    )


def grow_vocabulary(model: Any, size: int) -> None:
    """Add rows for new tokens; they start as the mean of the old ones, whatever the seed."""
    table = model.get_input_embeddings().weight
    old = table.shape[0]
    mean = table.detach().mean(dim=0)
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            if module is not None:
                module.weight[old:] = mean


class TransformersBackbone(BackboneModule):
    """A model of transformers behind the `Backbone` interface; without a key-value cache.

    Attributes:
        model: The body; where its head was, it now returns what the head reads.
        head: The output embedding.
        head_path: Where the head stands in the checkpoint's names.
        shifted: Whether the checkpoint's logits at i - 1 predict token i; hidden from callers.
    """

    supports_positions = True

    def __init__(
        self,
        model: Any,
        raw_config: dict[str, Any],
        tokens: TokenIds,
        shifted: bool = False,
    ) -> None:
        head = model.get_output_embeddings()
        if head is None:
            raise ConfigError(
                f"the {raw_config['model_type']} model has no language-model head over its "
                "vocabulary; give a masked LM or a decoder"
            )
        super().__init__(raw_config, tokens, *head.weight.shape)
        self.shifted = shifted
        self.head_path = next(name for name, part in model.named_modules() if part is head)
        parent, _, leaf = self.head_path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())
        if not getattr(model.config, "is_causal", True):
            for part in model.modules():
                if hasattr(part, "is_causal"):  # what SDPA goes by where there is no mask
                    part.is_causal = False
        self.model: Any = model
        self.head = head
        body = {id(parameter) for parameter in model.parameters()}
        self._tied = frozenset(n for n, p in head.named_parameters() if id(p) in body)
        tables = [m for n, m in model.named_modules() if n.split(".")[-1] in POSITION_TABLES]
        self._first_position, self._positions = 0, None
        for table in tables:
            # RoBERTa counts positions from behind the padding index.
            self._first_position = 0 if table.padding_idx is None else table.padding_idx + 1
            self._positions = table.num_embeddings - self._first_position

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        depth = self.model.config.num_hidden_layers
        stacks = (m for m in self.model.modules() if isinstance(m, nn.ModuleList))
        return next(stack for stack in stacks if len(stack) == depth)

    def checkpoint_blocks(self) -> None:
        """Recompute each block in the backward pass."""
        super().checkpoint_blocks()
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        window: tuple[int, int] | None = None,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        layout: Layout | None = None,
    ) -> Tensor:
        """Hidden states before the head; arguments as in `Backbone.encode`.

        Raises:
            ValueError: A cache is given, or the canvas has more positions than the model.
        """
        if cache is not None or layout is not None:
            raise ValueError(
                f"the {self.raw_config['model_type']} backbone keeps no key-values; use cache=none"
            )
        batch, length = input_ids.shape
        if self._positions is not None and length > self._positions:
            raise ValueError(
                f"a canvas of {length} tokens is longer than the {self._positions} positions of "
                f"the {self.raw_config['model_type']} backbone"
            )
        if attention_mask is None:
            places = torch.arange(length, device=input_ids.device).expand(batch, length)
        else:
            # Counting real tokens only gives a row the same positions however far it is padded.
            places = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
        for block in self.blocks:
            # transformers recomputes only blocks in training mode; dropout is off in any case.
            block.training = self.gradient_checkpointing and torch.is_grad_enabled()
        hidden: Tensor = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=places + self._first_position,
        ).logits
        if self.shifted:
            hidden = align_shifted(hidden, attention_mask)
        if positions is not None:
            return hidden.take_along_dim(positions[..., None], dim=1)
        return hidden if window is None else hidden[:, window[0] : window[1]]

    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        return self.head(hidden)  # type: ignore[no-any-return]

    def head_weight(self) -> Tensor | None:
        """The head as a matrix; None where it has a bias (BERT and kin)."""
        if type(self.head) is not nn.Linear or self.head.bias is not None:
            return None
        # A view, since FSDP hangs hooks on what a forward method returns, for good on a parameter.
        return self.head.weight.view_as(self.head.weight)

    def checkpoint_names(self, state: Mapping[str, Weight]) -> dict[str, Weight]:
        """The weights under the names of the checkpoint; a tied head is left to its embedding."""
        named = {}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            if part == "model":
                named[rest] = tensor
            elif rest not in self._tied:
                named[f"{self.head_path}.{rest}"] = tensor
        return named
