"""Models of transformers behind the interface: heads, padding, attention, shift, new tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from igpo_lightning.errors import ConfigError
from igpo_lightning.models import KeyValueCache, load_backbone, load_tokenizer, save_export
from igpo_lightning.models.attention import rotary_angles
from igpo_lightning.models.tokenizer import train_tokenizer

close = torch.testing.assert_close
VOCAB = 60
TOKENS = {"mask_token_id": 4, "eos_token_id": 3}
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.3,
}
GROUPED = SMALL | {"num_attention_heads": 4, "num_key_value_heads": 2}
MASKED = {
    "Bert": SMALL | {"max_position_embeddings": 32},
    "Roberta": SMALL | {"max_position_embeddings": 34, "pad_token_id": 1},
    "ModernBert": SMALL
    | {"num_hidden_layers": 4, "local_attention": 4, "pad_token_id": 0, "eos_token_id": 3},
}
DECODERS = {
    "Qwen3": GROUPED | {"head_dim": 8, "tie_word_embeddings": True},
    "Qwen2": GROUPED,
    "Llama": GROUPED,
    "GPT2": {
        "vocab_size": VOCAB,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 32,
        "bos_token_id": 3,
        "eos_token_id": 3,
        "initializer_range": 0.3,
    },
}
FAMILIES = MASKED | DECODERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of every family, as transformers writes it."""
    made = {}
    for name, sizes in FAMILIES.items():
        config = getattr(transformers, f"{name}Config")(**sizes)
        kind = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
        cls = getattr(transformers, name + ("ForMaskedLM" if name in MASKED else kind))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = cls(config)
        made[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(made[name])
    return made


def reference(name: str, folder: Path) -> Any:
    auto: Any = "AutoModelForMaskedLM" if name in MASKED else "AutoModelForCausalLM"
    return getattr(transformers, auto).from_pretrained(folder).eval()


def load(folder: Path, **options: Any) -> Any:
    return load_backbone(str(folder), token_overrides=TOKENS, **options)


@pytest.mark.parametrize("name", MASKED)
@torch.no_grad()
def test_masked_lms_compute_what_transformers_computes(folders, tokens, name: str) -> None:
    ids = tokens(2, 9)
    model = load(folders[name])
    close(model(ids), reference(name, folders[name])(ids).logits, atol=1e-5, rtol=1e-4)
    close(model.encode(ids, window=(2, 5)), model.encode(ids)[:, 2:5])
    chosen = torch.tensor([[4, 2], [3, 4]])
    expected = model.encode(ids)[torch.arange(2)[:, None], chosen]
    close(model.encode(ids, window=(2, 5), positions=chosen), expected)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoders_see_everything_and_hide_their_shift(folders, tokens, name: str) -> None:
    """Against transformers' decoder under a full 4-D mask, logits moved one place right."""
    ids = tokens(2, 9)
    model = load(folders[name])
    full = torch.zeros(2, 1, 9, 9)  # added to the scores: nothing is hidden
    logits = reference(name, folders[name])(ids, attention_mask=full).logits
    close(model(ids)[:, 1:], logits[:, :-1], atol=1e-5, rtol=1e-4)
    close(model(ids)[:, 0], logits[:, 0], atol=1e-5, rtol=1e-4)
    unshifted = load(folders[name], shifted=False)
    close(unshifted(ids), logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_llama_3_1_stretches_its_rotary_positions(tokens, tmp_path: Path) -> None:
    """A first context of 16 tokens: of four frequencies some stay and some change."""
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 2.0,
        "original_max_position_embeddings": 16,
    }
    sizes = GROUPED | {"hidden_size": 32, "rope_parameters": scaling}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
    made.save_pretrained(tmp_path)
    ids = tokens(2, 24)
    logits = made(ids, attention_mask=torch.zeros(2, 1, 24, 24)).logits
    model = load(tmp_path, shifted=False)
    close(model(ids), logits, atol=1e-5, rtol=1e-4)
    unscaled = rotary_angles(torch.tensor([[1]]), 8, 500.0)[0]
    scaled = rotary_angles(torch.tensor([[1]]), 8, 500.0, model.rope_scaling)[0]
    assert 0 < int((unscaled != scaled).sum()) < unscaled.numel()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_padding_changes_nothing(folders, tokens, name: str) -> None:
    """A row of 5 tokens, alone and padded left to 9 beside another."""
    model, ids = load(folders[name]), tokens(2, 9)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :4] = False
    together = model(ids, mask)
    close(together[0, 4:], model(ids[:1, 4:])[0], atol=1e-5, rtol=1e-4)
    close(together[1], model(ids[1:])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(folders, tokens, name: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = load(folders[name])
        if recompute:
            model.checkpoint_blocks()
        model(tokens(2, 6)).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, plain in gradients[0].items():
        close(gradients[1][key], plain, atol=1e-5, rtol=1e-4)


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        """Nothing travels along."""


@pytest.mark.parametrize("name", FAMILIES)
def test_exports_keep_the_names_and_every_bit(folders, tmp_path, name: str) -> None:
    save_export(load(folders[name]), NoTokenizer(), tmp_path)
    original = load_file(folders[name] / "model.safetensors")
    exported = load_file(tmp_path / "model.safetensors")
    assert exported.keys() == original.keys()
    assert all(torch.equal(exported[key], original[key]) for key in original)
    reference(name, tmp_path)  # transformers reads it
    again = load_backbone(str(tmp_path), token_overrides=TOKENS)
    assert (again.shifted, again.mask_token_id) == (name in DECODERS, 4)


@pytest.mark.shared
@torch.no_grad()
def test_a_bidirectional_qwen2_is_dream(shared_golden: Path, tmp_path: Path) -> None:
    """Dream is Qwen2 with full attention and the shift: the reference values hold here, too."""
    config = json.loads((shared_golden / "dream" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    weights = shared_golden / "dream" / "model.safetensors"
    (tmp_path / "model.safetensors").symlink_to(weights)
    expected = load_file(shared_golden / "dream" / "forward.safetensors")
    logits = load_backbone(str(tmp_path))(expected["input_ids"])
    close(logits[:, 1:], expected["logits_aligned"][:, 1:], atol=1e-4, rtol=0)


def test_a2d_conversions_are_decoders_without_shift(folders, tmp_path, tokens) -> None:
    """The public conversions keep their decoder's weights under a type of their own."""
    config = json.loads((folders["Qwen3"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "a2d-qwen3"}))
    (tmp_path / "model.safetensors").symlink_to(folders["Qwen3"] / "model.safetensors")
    ids = tokens(2, 7)
    with torch.no_grad():
        close(load(tmp_path)(ids), load(folders["Qwen3"], shifted=False)(ids))


def test_weights_that_do_not_fit_are_named(folders, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folders["Qwen2"] / "config.json").read_text())
    weights = load_file(folders["Qwen2"] / "model.safetensors")
    del weights["model.norm.weight"]
    weights["model.extra.weight"] = torch.zeros(2)
    weights["lm_head.weight"] = torch.zeros(3, 16)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    for text in ("missing: model.norm.weight", "model.extra.weight", "lm_head.weight [3, 16]"):
        assert text in str(error.value)


def test_heads_of_another_objective_are_no_misfit(folders, tmp_path: Path) -> None:
    """BERT's public checkpoints carry the head of next-sentence prediction."""
    (tmp_path / "config.json").write_text((folders["Bert"] / "config.json").read_text())
    weights = load_file(folders["Bert"] / "model.safetensors")
    weights["cls.seq_relationship.weight"] = torch.zeros(2, 16)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load(tmp_path).vocab_size == VOCAB


def test_a_decoder_without_a_mask_token_says_so(folders) -> None:
    with pytest.raises(ConfigError, match=r"no mask token.*model\.mask_token"):
        load_backbone(str(folders["GPT2"]), token_overrides={"eos_token_id": 3})


def test_an_added_mask_token_gets_a_row(folders, tmp_path: Path, tokens) -> None:
    """The tokenizer's 261 tokens take ids 0 to 260, the new mask token 261: the table of 60 rows
    grows to the next multiple of 64, 320, by rows that are the mean of the old ones."""
    for file in folders["GPT2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = train_tokenizer(["abc"], vocab_size=261)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    count = len(load_tokenizer(str(tmp_path)))
    model = load_backbone(str(tmp_path), mask_token="[NEW]")
    assert model.mask_token_id == count == 261
    assert model.vocab_size == 320
    table = model.model.get_input_embeddings().weight
    close(table[60:], table[:60].mean(dim=0).expand(260, -1))
    assert load_tokenizer(str(tmp_path), "[NEW]").mask_token_id == 261
    save_export(model, load_tokenizer(str(tmp_path), "[NEW]"), tmp_path / "export")
    again = load_backbone(str(tmp_path / "export"))
    assert (again.mask_token_id, again.vocab_size) == (261, 320)
    with torch.no_grad():
        close(again(tokens(1, 5)), model(tokens(1, 5)))


def test_what_the_model_cannot_do_is_refused(folders, tokens) -> None:
    model = load(folders["Bert"])
    with pytest.raises(ValueError, match="keeps no key-values"):
        model.encode(tokens(1, 4), cache=KeyValueCache())
    with pytest.raises(ValueError, match="longer than the 32 positions"):
        model.encode(pad(tokens(1, 4), (0, 29)))
    assert not model.supports_cache


def test_sliding_windows_are_refused(folders, tmp_path: Path) -> None:
    config = json.loads((folders["Qwen2"] / "config.json").read_text())
    config["layer_types"] = ["full_attention", "sliding_attention"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"sliding_window": 4}))
    with pytest.raises(ConfigError, match="supported: full_attention alone"):
        load(tmp_path, random_init=True)
