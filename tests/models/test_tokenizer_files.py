"""Tokenizers: fast ones from a model's own files, with the ids that the model needs."""

import json
from pathlib import Path

import pytest
from transformers import BertTokenizer

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import load_tokenizer
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.models.tokenizer_files import tokenizer_ids


def configured(folder: Path, model_type: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def test_a_tokenizer_json_is_read_whatever_the_models_type(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["Start 12; A+5"], vocab_size=280)
    for model_type in ("llada", "a2d-qwen3", "igpo_tiny"):
        folder = configured(tmp_path / model_type, model_type)
        tokenizer.save_pretrained(folder)
        loaded = load_tokenizer(str(folder))
        assert loaded.is_fast
        assert loaded.padding_side == "left"
        assert loaded("Start 12")["input_ids"] == tokenizer("Start 12")["input_ids"]
        assert loaded.chat_template == tokenizer.chat_template
        assert (loaded.mask_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)


def test_dreams_vocabulary_and_merges_need_no_remote_code(tmp_path: Path) -> None:
    """Dream's repository has no tokenizer.json; its own class would be remote code."""
    folder = configured(tmp_path, "Dream")
    words = ["a", "b", "ab", "<|endoftext|>", "<|mask|>", "<|im_end|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    special = {"eos_token": "<|endoftext|>", "mask_token": "<|mask|>", "pad_token": "<|endoftext|>"}
    auto_map = {"auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}}
    template = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    chat = {"chat_template": template, "additional_special_tokens": ["<|im_end|>"]}
    text = json.dumps(special | auto_map | chat | {"tokenizer_class": "DreamTokenizer"})
    (folder / "tokenizer_config.json").write_text(text)
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.is_fast
    assert tokenizer("abb")["input_ids"] == [2, 1]
    assert tokenizer_ids(tokenizer) == {
        "mask_token_id": 4,
        "eos_token_id": 3,
        "pad_token_id": 3,
        "eot_token_id": 5,
    }


def test_bert_ends_texts_with_its_separator(tmp_path: Path) -> None:
    """Old checkpoints leave special tokens to the class: no file names [MASK]."""
    folder = configured(tmp_path, "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (4, 3, 0)


def test_a_new_mask_token_takes_the_next_id_and_pads_fall_back_on_eos(tmp_path: Path) -> None:
    trained = train_tokenizer(["abc"], vocab_size=261)
    trained.mask_token = trained.pad_token = None
    trained.save_pretrained(configured(tmp_path, "llama"))
    plain = load_tokenizer(str(tmp_path))
    assert plain.mask_token_id is None
    assert plain.pad_token_id == plain.eos_token_id == 1
    added = load_tokenizer(str(tmp_path), "[NEW]")
    assert added.mask_token_id == len(plain)
    assert added("[NEW]")["input_ids"][-1] == len(plain)


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tokenizer that can be read"):
        load_tokenizer(str(configured(tmp_path, "llada")))
