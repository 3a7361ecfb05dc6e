"""What each stage is given beside the groups; the first field names it on the command line."""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from igpo_lightning.settings.data import SPLITS
from igpo_lightning.settings.rules import above_zero, as_tuples, at_least, choice, require, within

PADDINGS = ("full", "longest", "packed")
TIMESTEPS = ("independent", "low_discrepancy")
SURPLUS = ("drop", "keep")
FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class StageConfig:
    """Any stage."""

    planned: ClassVar[bool] = False  # whether dry_run=true has something to say

    name: str = ""  # which stage runs


@dataclass(frozen=True)
class RLStage(StageConfig):
    """Train with IGPO or GRPO: evaluate, train, evaluate again."""

    planned: ClassVar[bool] = True

    name: str = "rl"
    steps: int = 1000  # rollout steps; each has mu optimizer steps
    prompts_per_step: int = 8  # Q over all processes (the paper: 64 groups per step)
    group_size: int = 8  # G completions a prompt (the paper: 8)
    # rounds of prompts until prompts_per_step groups have rewards that differ (DAPO); 1: one round
    sampling_rounds: int = 1
    surplus: str = "drop"  # such groups beyond prompts_per_step: drop | keep for the next step
    inner_updates: int = 4  # mu (the paper: 4)
    rollout_batch_size: int = 64  # rows a denoising pass
    train_batch_size: int = 64  # rows a forward and backward pass
    eval_before: bool = True  # evaluate before training
    eval_after: bool = True  # evaluate after training
    eval_every: int = 0  # rollout steps between evaluations in training; 0 for none
    eval_sampled: bool = False  # evaluations also answer at sampler.temperature, as rollouts do
    checkpoint_every: int = 10  # rollout steps between checkpoints; the last is always kept
    log_samples_every: int = 5  # rollout steps between logged samples (samples.jsonl); 0 for none

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        choice(self, "stage", surplus=SURPLUS)
        at_least(self, "stage", 1, "steps", "prompts_per_step", "inner_updates", "sampling_rounds")
        at_least(self, "stage", 1, "rollout_batch_size", "train_batch_size", "checkpoint_every")
        at_least(self, "stage", 0, "eval_every", "log_samples_every")
        fix = "a group needs at least 2 samples to compare"
        require(self.group_size >= 2, "stage.group_size", self.group_size, fix)


@dataclass(frozen=True)
class SFTStage(StageConfig):
    """Supervised fine-tuning on traces with the diffusion loss (NELBO): the step before RL."""

    planned: ClassVar[bool] = True

    name: str = "sft"
    steps: int = 1000  # optimizer steps
    batch_size: int = 64  # examples an optimizer step, over all processes
    train_batch_size: int = 64  # rows (packed: canvases) a forward and backward pass
    max_length: int | None = None  # tokens of a completion; null: sampler.completion_length
    padding: str = "full"  # with EOS: full (to max_length) | longest (of the step, a tail) | packed
    eos_tail: int = 16  # longest, packed: 1 to this many EOS after the longest, or each, trace
    timesteps: str = "independent"  # independent | low_discrepancy (spread over a step, 2406.07524)
    complementary: bool = False  # use each row twice, with the other tokens masked (LaViDa)
    val_every: int = 200  # optimizer steps between validations
    val_limit: int = 256  # examples in the validation loss
    checkpoint_every: int = 200  # optimizer steps between checkpoints; the last is always kept
    eval_after: bool = True  # evaluate accuracy after training

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "stage", padding=PADDINGS, timesteps=TIMESTEPS)
        at_least(self, "stage", 1, "steps", "batch_size", "train_batch_size", "max_length")
        at_least(self, "stage", 1, "eos_tail", "val_every", "val_limit")
        at_least(self, "stage", 1, "checkpoint_every")


@dataclass(frozen=True)
class SFTThenRLStage(StageConfig):
    """Two runs in one command: SFT, then RL from its export; see experiment=sft_then_igpo."""

    name: str = "sft_then_rl"
    sft: tuple[str, ...] = ("stage=sft",)  # overrides of the first run
    rl: tuple[str, ...] = ("stage=rl",)  # overrides of the second

    def __post_init__(self) -> None:
        """Turn lists into tuples."""
        as_tuples(self, "sft", "rl")


@dataclass(frozen=True)
class EvalStage(StageConfig):
    """Accuracy of a model on a data set, with interval and every sample kept."""

    planned: ClassVar[bool] = True

    name: str = "eval"


@dataclass(frozen=True)
class EvalSuiteStage(StageConfig):
    """Several benchmarks at several lengths, each by itself; the paper's numbers beside them."""

    planned: ClassVar[bool] = True

    name: str = "eval_suite"
    # tokens of a completion (the paper: 256 to 1024); empty: sampler.completion_length alone
    lengths: tuple[int, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)  # data=NAME: not eval.temperature
    samples: dict[str, int] = field(default_factory=dict)  # data=NAME: not eval.samples

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        as_tuples(self, "lengths")
        unique = len(set(self.lengths)) == len(self.lengths)
        require(unique, "stage.lengths", self.lengths, "name every length once")
        fits = all(length >= 1 for length in self.lengths)
        fix = "give numbers of tokens, at least 1"
        require(fits, "stage.lengths", self.lengths, fix)
        for key, least in (("temperatures", 0), ("samples", 1)):
            for name, value in getattr(self, key).items():
                require(value >= least, f"stage.{key}.{name}", value, f"give at least {least}")


@dataclass(frozen=True)
class GenerateStage(StageConfig):
    """One prompt (and a hint) in, text out, with the order of unmasking in colour."""

    planned: ClassVar[bool] = True

    name: str = "generate"
    prompt: str = ""  # the question; has to be given
    hint: str | None = None  # text to keep in the completion
    hint_position: int = 0  # token of the completion at which the hint starts

    def __post_init__(self) -> None:
        """Ask for a question."""
        fix = "give the question, for example stage.prompt='A+12 B-21 from 45'"
        require(bool(self.prompt), "stage.prompt", "''", fix)
        at_least(self, "stage", 0, "hint_position")


@dataclass(frozen=True)
class InspectStage(StageConfig):
    """Counts, lengths, overlap and some rows of a data set, as the model would see them."""

    name: str = "inspect"
    rows: int = 5  # rows shown as the model sees them

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(self, "stage", 0, "rows")


@dataclass(frozen=True)
class RewriteStage(StageConfig):
    """Turn long traces into short, structured ones that fit: the data of length-aligned SFT."""

    planned: ClassVar[bool] = True

    name: str = "rewrite"
    split: str = "train"  # train | validation | test
    limit: int | None = None  # at most this many problems, the first ones; null for all
    max_tokens: int = 1500  # of a rewrite under the model's tokenizer (the paper: about 1,500)
    copy_share: float = 0.8  # of the original's six-word runs that make a rewrite a copy; (0, 1]
    format: str = "jsonl"  # of the rewritten data: jsonl | parquet
    output: str | None = None  # folder; an earlier one is gone on with; null for the run's own

    def __post_init__(self) -> None:
        """Refuse unknown names and values out of range."""
        choice(self, "stage", split=SPLITS, format=FORMATS)
        at_least(self, "stage", 1, "limit", "max_tokens")
        require(self.copy_share > 0, "stage.copy_share", self.copy_share, "must be above 0")
        within(self, "stage", 0, 1, "copy_share")


@dataclass(frozen=True)
class TokenizerStage(StageConfig):
    """Train a tokenizer on generated problems and lay out an untrained tiny model around it."""

    name: str = "tokenizer"
    output: str = ""  # folder for the tokenizer and config.json of an untrained model; required
    vocab_size: int = 512  # at most this many tokens
    examples: int = 4000  # problems that merges are learned from, in each wording
    split_digits: bool = True  # each digit is a token; false: frequent numbers are one
    hidden_size: int = 64  # of the untrained model, D
    layers: int = 4  # transformer blocks
    heads: int = 4  # attention heads; divides hidden_size
    intermediate_size: int = 192  # of the MLP
    initializer_range: float = 0.1  # standard deviation of weights; wide for a narrow model

    def __post_init__(self) -> None:
        """Ask for a folder."""
        fix = "give the folder to write, for example stage.output=runs/tokenizer"
        require(bool(self.output), "stage.output", "''", fix)
        at_least(self, "stage", 1, "vocab_size", "examples", "hidden_size", "layers", "heads")
        at_least(self, "stage", 1, "intermediate_size")
        above_zero(self, "stage", "initializer_range")


@dataclass(frozen=True)
class ExportStage(StageConfig):
    """Turn a run's Lightning checkpoint into a model's folder: checkpoint=RUN/checkpoints."""

    name: str = "export"
    output: str | None = None  # folder to write; null for export/ in this stage's own run folder
    hub: str | None = None  # owner/name: upload the folder with a model card; needs a login
    private: bool = True  # whether a repository that hub creates is private

    def __post_init__(self) -> None:
        """Refuse a name that no repository can have."""
        fits = self.hub is None or re.fullmatch(r"[\w.-]+/[\w.-]+", self.hub) is not None
        require(fits, "stage.hub", self.hub, "give owner/name, for example me/igpo-llada")


@dataclass(frozen=True)
class ReportStage(StageConfig):
    """One HTML file about a run or a sweep, with a viewer of its rollouts: path=runs/..."""

    name: str = "report"
    scoreboard: str | None = None  # a .md page: add the results at `path` to it, and write no HTML
    samples: int = 400  # logged training samples in the viewer, over all runs; evaluations add half

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        at_least(self, "stage", 1, "samples")
        is_page = self.scoreboard is None or self.scoreboard.endswith(".md")
        require(is_page, "stage.scoreboard", self.scoreboard, "give a file that ends in .md")


@dataclass(frozen=True)
class DoctorStage(StageConfig):
    """Check the machine: versions, devices, numerics, processes, speed, memory, disk, network."""

    name: str = "doctor"
    only: tuple[str, ...] = ()  # checks to run, by the names in the table; [] for all

    def __post_init__(self) -> None:
        """Turn a list into a tuple."""
        as_tuples(self, "only")


STAGES: dict[str, type[StageConfig]] = {
    stage.name: stage
    for stage in (
        RLStage,
        SFTStage,
        SFTThenRLStage,
        EvalStage,
        EvalSuiteStage,
        GenerateStage,
        InspectStage,
        RewriteStage,
        TokenizerStage,
        ExportStage,
        ReportStage,
        DoctorStage,
    )
}
