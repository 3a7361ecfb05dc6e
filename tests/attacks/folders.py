"""Hostile model folders: what is done to a sound folder of a small model, and what is said then."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOMB = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
LONG = "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}"
BASES = ("llama", "bert")  # native, and through transformers


@dataclass(frozen=True)
class Folder:
    """A hostile folder.

    Attributes:
        attack: What is done to it, in words.
        says: A part of the refusal.
        spoil: Does it.
        base: The sound folder that it starts from.
    """

    attack: str
    says: str
    spoil: Callable[[Path], None]
    base: str = "llama"


def config(**changes: Any) -> Callable[[Path], None]:
    """Other entries in config.json."""

    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return spoil


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Another content of a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def template(content: str) -> Callable[[Path], None]:
    """Another chat template."""
    return text("chat_template.jinja", content)


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Another header of the weights, before the same bytes."""

    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        entries = json.loads(data[8:end])
        changed = json.dumps(change(entries)).encode()
        file.write_bytes(len(changed).to_bytes(8, "little") + changed + data[end:])

    return spoil


def first_entry(**changes: Any) -> Callable[[Path], None]:
    """Another entry of the first weight."""

    def change(entries: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in sorted(entries) if name != "__metadata__")
        return entries | {name: entries[name] | changes}

    return header(change)


def first_bytes(length: int) -> Callable[[Path], None]:
    """Another length of the header."""

    def spoil(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(length.to_bytes(8, "little") + file.read_bytes()[8:])

    return spoil


def index(content: Any) -> Callable[[Path], None]:
    """An index in place of the one file."""

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return spoil


def sparse(folder: Path) -> None:
    """A file of 10^13 bytes that takes none of the disk, with a config that fits."""
    config(vocab_size=2**24, hidden_size=2**17)(folder)
    file = folder / "model.safetensors"
    size = 2**24 * 2**17 * 4
    name = "model.embed_tokens.weight"
    entries = {name: {"dtype": "F32", "shape": [2**24, 2**17], "data_offsets": [0, size]}}
    head = json.dumps(entries).encode()
    with file.open("wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        stream.truncate(8 + len(head) + size)


def smaller_vocabulary(folder: Path) -> None:
    """Weights that fit a config.json with fewer tokens than the tokenizer has."""
    from safetensors.torch import load_file, save_file

    config(vocab_size=40)(folder)
    state = load_file(folder / "model.safetensors")
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    state |= {name: state[name][:40].clone() for name in tables}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def pipe(folder: Path) -> None:
    """A named pipe, which would be read for ever, in place of the weights."""
    import os

    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def without(name: str) -> Callable[[Path], None]:
    """A file too few."""
    return lambda folder: (folder / name).unlink()


def vocabulary_of(number: Any) -> Callable[[Path], None]:
    """A token with another number in tokenizer.json."""

    def spoil(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["model"]["vocab"]["a"] = number
        file.write_text(json.dumps(content))

    return spoil


def splitting(pattern: str) -> Callable[[Path], None]:
    """A tokenizer that splits texts by a pattern."""

    def spoil(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        first = split | {"invert": False}
        content["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [first, content["pre_tokenizer"]],
        }
        file.write_text(json.dumps(content))

    return spoil


def added_token(**entries: Any) -> Callable[[Path], None]:
    """One more added token in tokenizer.json."""

    def spoil(folder: Path) -> None:
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        content["added_tokens"].append(content["added_tokens"][0] | entries)
        file.write_text(json.dumps(content))

    return spoil


FOLDERS = [
    Folder("10^7 layers", "num_hidden_layers=10000000", config(num_hidden_layers=10**7)),
    Folder(
        "10^7 layers of BERT", "num_hidden_layers=10000000", config(num_hidden_layers=10**7), "bert"
    ),
    Folder("a negative width", "hidden_size=-16", config(hidden_size=-16)),
    Folder("a negative width of BERT", "describes no model", config(hidden_size=-16), "bert"),
    Folder("no heads", "num_attention_heads=0", config(num_attention_heads=0)),
    Folder("no heads in BERT", "describes no model", config(num_attention_heads=0), "bert"),
    Folder("a width that is a text", "hidden_size=wide", config(hidden_size="wide")),
    Folder("a width that is a list", "hidden_size=[16]", config(hidden_size=[16])),
    Folder("a width of 1.5", "intermediate_size=1.5", config(intermediate_size=1.5)),
    Folder("true for a width", "intermediate_size=True", config(intermediate_size=True)),
    Folder("5 heads over 2 of keys", "5 heads over 2", config(num_attention_heads=5)),
    Folder("10^12 tokens", "vocab_size=1000000000000", config(vocab_size=10**12)),
    Folder("10^9 tokens of BERT", "GB of memory are free", config(vocab_size=10**9), "bert"),
    Folder("10^7 tokens that the files lack", "of the wrong shape", config(vocab_size=10**7)),
    Folder(
        "10^7 tokens that BERT's files lack", "and the files hold", config(vocab_size=10**7), "bert"
    ),
    Folder("a norm epsilon of nan", "NaN is no number", config(rms_norm_eps=float("nan"))),
    Folder("a rope base of infinity", "Infinity is no number", config(rope_theta=float("inf"))),
    Folder("1e400 in config.json", "1e400 is no finite", text("config.json", '{"a": 1e400}')),
    Folder("a negative rope base", "rope_theta=-1", config(rope_theta=-1)),
    Folder("JSON 10^5 levels deep", "config.json is no JSON", text("config.json", '{"a":' * 10**5)),
    Folder("a list in config.json", "is no JSON object", text("config.json", "[]")),
    Folder("bytes that are no UTF-8", "config.json is no JSON", text("config.json", b"\xff\xfe{")),
    Folder(
        "an integer of 5,000 digits", "is no JSON", text("config.json", '{"a": ' + "1" * 5000 + "}")
    ),
    Folder("an empty config.json", "is no JSON", text("config.json", "")),
    Folder("a config.json of 80 MB", "has 80000000 bytes", text("config.json", b" " * 80_000_000)),
    Folder("a mask token that is a text", "mask_token_id=x", config(mask_token_id="x")),
    Folder("a negative EOS token", "eos_token_id=-1", config(eos_token_id=-1)),
    Folder("an EOS token beyond the vocabulary", "eos_token_id=999", config(eos_token_id=999)),
    Folder("a header of 10^13 bytes", "a header of 10000000000000 bytes", first_bytes(10**13)),
    Folder("a header of 2^64 - 1 bytes", "a header of", first_bytes(2**64 - 1)),
    Folder(
        "an entry of 10^13 bytes",
        "is cut off within",
        first_entry(data_offsets=[0, 4 * 10**13], shape=[10**13]),
    ),
    Folder("an entry whose shape contradicts its bytes", "bytes, and", first_entry(shape=[10**13])),
    Folder("a negative shape", "its header says", first_entry(shape=[-1, -16])),
    Folder("an end before the start", "bytes, and", first_entry(data_offsets=[64, 0])),
    Folder(
        "an entry without a shape", "its header says", header(lambda e: {"a": {"dtype": "F32"}})
    ),
    Folder("a dtype that is none", "dtype='F3'", first_entry(dtype="F3")),
    Folder("a header that is a list", "no JSON object", header(lambda e: [1])),
    Folder(
        "a header 10^5 levels deep",
        "no safetensors",
        text("model.safetensors", (10**5).to_bytes(8, "little") + b"[" * 10**5),
    ),
    Folder("empty weights", "no safetensors", text("model.safetensors", b"")),
    Folder("a sparse file of 10^13 bytes", "GB of memory are free", sparse),
    Folder("a named pipe for the weights", "holds neither", pipe),
    Folder(
        "shapes that contradict config.json", "of the wrong shape", config(intermediate_size=48)
    ),
    Folder(
        "an index that names absent files",
        "absent files",
        index({"weight_map": {"a": "model-9.safetensors"}}),
    ),
    Folder(
        "an index that names files outside",
        "/etc/passwd",
        index({"weight_map": {"a": "/etc/passwd"}}),
    ),
    Folder(
        "an index that names files above",
        "../m.safetensors",
        index({"weight_map": {"a": "../m.safetensors"}}),
    ),
    Folder("an index without files", "no files", index({"weight_map": {}})),
    Folder("an index that is a list", "no JSON object", index([1])),
    Folder("a weight map that is a list", "no files", index({"weight_map": [1]})),
    Folder("a chat template that loops", "does not end within", template(BOMB)),
    Folder(
        "a chat template that takes the memory",
        "GiB of memory",
        template("{{ 'a' * 10**11 }}"),
    ),
    Folder("a chat template of 10^8 characters a turn", "characters of a turn", template(LONG)),
    Folder(
        "a chat template with a power of a power", "does not end", template("{{ 9 ** (9 ** 9) }}")
    ),
    Folder(
        "a chat template that calls itself",
        "its chat template",
        template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    ),
    Folder("a chat template that is none", "TemplateSyntaxError", template("{% for %}")),
    Folder(
        "a chat template that raises", "its chat template", template("{{ raise_exception('no') }}")
    ),
    Folder(
        "a chat template that looks for classes",
        "its chat template",
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    ),
    Folder("a chat template of 2 MB", "2000000 characters", template("a" * 2_000_000)),
    Folder("no tokenizer", "no tokenizer that can be read", without("tokenizer.json")),
    Folder(
        "a tokenizer.json 10^5 levels deep", "no tokenizer", text("tokenizer.json", '{"a":' * 10**5)
    ),
    Folder("a tokenizer.json that is a list", "no tokenizer", text("tokenizer.json", "[]")),
    Folder(
        "a tokenizer_config.json that is a list",
        "no tokenizer",
        text("tokenizer_config.json", "[]"),
    ),
    Folder(
        "a tokenizer with more tokens than the model",
        ", and config.json vocab_size=40",
        smaller_vocabulary,
    ),
    Folder("a token with the number 10^9", "has a token 1000000000", vocabulary_of(10**9)),
    Folder("a pattern that explodes", "exponential time", splitting("(a+)+x")),
    Folder("a pattern that is none", "no tokenizer", splitting("(((")),
    Folder(
        "an added token with the number 10^12", "no tokenizer", added_token(id=10**12, content="z")
    ),
    Folder("a token with a negative number", "no tokenizer", vocabulary_of(-5)),
]


def make_bases(root: Path) -> None:
    """Sound folders of a small decoder, and of a small BERT."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from igpo_lightning.models import save_export
    from igpo_lightning.models.tokenizer import train_tokenizer
    from tests.small_backbones import build_native

    tokenizer = train_tokenizer(["Start 12; A+5; B-3", "12+34=46; 46-5=41"], 300)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|eos|>{% endfor %}"
    sizes = {"vocab_size": 320, "shifted_logits": False}
    with torch.random.fork_rng(devices=[]):
        model = build_native("dream", **sizes)
        save_export(model, tokenizer, root / "llama")
        bert = BertForMaskedLM(
            BertConfig(
                vocab_size=320,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=24,
                mask_token_id=0,
                eos_token_id=1,
            )
        )
    bert.save_pretrained(root / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(root / "llama" / name, root / "bert" / name)
