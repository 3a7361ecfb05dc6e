"""The backbone: where it comes from, its precision, and what is trained of it."""

from dataclasses import dataclass, field

from igpo_lightning.settings.rules import above_zero, as_tuples, at_least, choice, require

INITS = ("pretrained", "random")
DTYPES = ("float32", "bfloat16")
QUANTIZATIONS = ("none", "8bit", "4bit")


@dataclass(frozen=True)
class LoraConfig:
    """Size and place of the adapters (arXiv 2106.09685)."""

    enabled: bool = False  # true: train small matrices beside frozen weights, not the weights
    rank: int = 128  # r, columns of A and rows of B (the paper: 128)
    alpha: float = 64.0  # the update is alpha / r * B A (the paper: 64)
    dropout: float = 0.0  # share of an adapter's inputs dropped in training (the paper: 0.05)
    targets: tuple[str, ...] = ()  # linear layers of the blocks by their last name; [] for all

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        as_tuples(self, "targets")
        at_least(self, "model.lora", 1, "rank")
        above_zero(self, "model.lora", "alpha")
        fits = 0 <= self.dropout < 1
        require(fits, "model.lora.dropout", self.dropout, "give a number from 0 to below 1")


@dataclass(frozen=True)
class ModelConfig:
    """The backbone; models/loading.py reads it."""

    path: str = "tiny"  # folder in Hugging Face layout, hub id, or embedded: tiny, tiny_terse, ...
    init: str = "pretrained"  # pretrained | random (the architecture of config.json, no weights)
    architecture: str | None = None  # bundled config.json for init=random and dry_run
    dtype: str = "float32"  # of the weights: float32 | bfloat16
    lora: LoraConfig = field(default_factory=LoraConfig)
    quantization: str = "none"  # none | 8bit | 4bit: frozen weights under LoRA (bitsandbytes)
    gradient_checkpointing: bool = False  # recompute each block in the backward pass: less memory
    compile: bool = False  # torch.compile each block
    mask_token: str | None = None  # text of a mask token to add to a model that has none
    mask_token_id: int | None = None  # overrides config.json and the tokenizer
    eos_token_id: int | None = None  # likewise; ends a completion
    pad_token_id: int | None = None  # likewise; fills up prompts
    shifted: bool | None = None  # logits at i - 1 predict token i; null: by the model's type
    trust_remote_code: bool = False  # run the code of a checkpoint whose type nobody here knows
    plugin: str | None = None  # .py file of your own that registers the model's type

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "model", init=INITS, dtype=DTYPES, quantization=QUANTIZATIONS)
        fix = "name a folder in Hugging Face layout or a hub id"
        require(bool(self.path), "model.path", "''", fix)
        at_least(self, "model", 0, *self.token_overrides)
        require(
            self.quantization == "none" or self.init == "pretrained",
            "model.quantization",
            self.quantization,
            "random weights are not quantized; set model.init=pretrained",
        )

    @property
    def token_overrides(self) -> dict[str, int | None]:
        """Special tokens by name, None where config.json and the tokenizer decide."""
        names = ("mask_token_id", "eos_token_id", "pad_token_id")
        return {name: getattr(self, name) for name in names}
