"""The tokenizer that travels with a backbone, as a fast one, without remote code."""

import logging
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from igpo_lightning.errors import ConfigError, first_line, is_panic
from igpo_lightning.models.chat_template import ChatTemplateError, render
from igpo_lightning.models.configuration import find_file, read_config, resolve
from igpo_lightning.models.tokenizer_patterns import exploding_pattern

# Checkpoints without a tokenizer.json whose own class is remote code: the class that reads the
# same vocab.json and merges.txt.
EQUIVALENT: dict[str, Any] = dict.fromkeys(
    ("Dream", "Fast_dLLM_Qwen", "sdar", "sdar_moe"), Qwen2Tokenizer
)

log = logging.getLogger(__name__)


def load_tokenizer(path_or_hub_id: str, mask_token: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer that travels with a backbone; it pads on the left.

    A tokenizer without a pad token pads with its EOS token; one without an EOS token (BERT) ends
    texts with its separator.

    Args:
        path_or_hub_id: Where the tokenizer's files are.
        mask_token: The text of the mask token; added as a new token if the tokenizer lacks it.

    Raises:
        ConfigError: There is no tokenizer, or it can only be had by running remote code.
    """
    source = resolve(path_or_hub_id)
    model_type = read_config(source)["model_type"]
    if model_type in TOKENIZER_MAPPING_NAMES:
        # Old checkpoints leave their special tokens to the class.
        cls: Any = AutoTokenizer
    elif model_type in EQUIVALENT and _has_only_merges(source):
        cls = EQUIVALENT[model_type]
    else:
        cls = PreTrainedTokenizerFast
    file = find_file(source, "tokenizer.json")
    pattern = None if file is None else exploding_pattern(file)
    if pattern is not None:
        raise ConfigError(
            f"model.path={path_or_hub_id}: tokenizer.json splits texts by {pattern[:200]!r}, which "
            "takes exponential time; use another model's folder"
        )
    try:
        tokenizer = cls.from_pretrained(source)
    except BaseException as error:
        # Files from elsewhere: whatever their readers raise, the files are at fault. The library
        # in Rust panics beside Exception.
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = first_line(error)
        raise ConfigError(
            f"model.path={path_or_hub_id} holds no tokenizer that can be read: {reason[:300]}"
        ) from error
    if not tokenizer.is_fast:
        raise ConfigError(
            f"model.path={path_or_hub_id}: its tokenizer has no fast form; add a tokenizer.json"
        )
    if mask_token is not None:
        tokenizer.add_special_tokens({"mask_token": mask_token})
    if tokenizer.eos_token is None and tokenizer.sep_token is not None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer  # type: ignore[no-any-return]


def _has_only_merges(source: str) -> bool:
    return find_file(source, "tokenizer.json") is None and bool(find_file(source, "merges.txt"))


def tokenizer_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    """The special tokens that a tokenizer knows, under the names of a config.json."""
    return {
        "mask_token_id": tokenizer.mask_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eot_token_id": end_of_turn(tokenizer),
    }


def end_of_turn(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The special token with which the chat template ends an answer; None where there is none."""
    if tokenizer.chat_template is None:
        return None
    answer = "answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    try:
        text = render(tokenizer, turns)
    except ChatTemplateError as error:  # told again where a prompt needs the template
        log.warning("%s", error)
        return None
    behind = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    special = tokenizer.added_tokens_decoder
    return next((index for index in behind if index in special and special[index].special), None)
