"""Typed schemas of every config group, and the checks across groups.

Hydra merges the YAML files under conf/ into these dataclasses, so an unknown key or a wrong type
fails while the configuration is composed. `validate` then checks that the values fit together.
Nothing here imports torch: a mistake must be reported before anything heavy is loaded.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.data.reading import KINDS
from igpo_lightning.data.sources import Source
from igpo_lightning.data.synthetic import MAX_LEVEL
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.extraction import STRATEGIES, STRATEGY_ORDER

_PACKAGED = Path(__file__).parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parents[2] / "conf"


@dataclass
class LoraConfig:
    enabled: bool = False  # true: train small matrices beside frozen weights, not the weights
    rank: int = 128  # r (the paper: 128)
    alpha: float = 64.0  # the update is alpha / r * B A (the paper: 64)
    dropout: float = 0.0  # share of an adapter's inputs dropped in training (the paper: 0.05)
    targets: list[str] = field(default_factory=list)  # linear layers by their last name; [] for all


@dataclass
class ModelConfig:
    path: str = "tiny"  # folder in Hugging Face layout, hub id, or "tiny" (the embedded checkpoint)
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
    eot_token_id: int | None = None  # likewise; ends a turn
    shifted: bool | None = None  # logits at i - 1 predict token i; null: by the model's type
    trust_remote_code: bool = False  # run the code of a checkpoint whose type nobody here knows


@dataclass
class PromptConfig:
    user: str = "{question}"  # what the model is asked; {question} is replaced
    completion: str = "{solution}"  # what SFT teaches and hints are cut from; {solution}, {answer}
    max_length: int = 600  # tokens of a prompt, chat template included (the paper: 600)
    long_prompts: str = "drop"  # what is longer: drop the problem | cut the question's beginning
    long_traces: str = "cut"  # longer than the completion: cut its end | drop the problem
    chat: bool = True  # apply the tokenizer's chat template; false for base models


@dataclass
class DataConfig(Source):
    parts: list[str] = field(default_factory=list)  # mixture: data=NAMEs that it consists of
    weights: list[float] = field(default_factory=list)  # mixture: a share for each; empty: equal
    test_from: str | None = None  # data=NAME that gives the test split, where there is none
    overlap: str = "report"  # train problems that are evaluation problems: report | remove | ignore
    against: list[str] = field(default_factory=list)  # data=NAMEs to compare with, beside test
    levels: list[int] = field(default_factory=list)  # arithmetic: levels drawn, easiest is 1
    train_size: int = 4096  # arithmetic: problems for RL
    eval_size: int = 512  # arithmetic: problems in each of validation and test
    terse_share: list[float] = field(default_factory=list)  # arithmetic SFT: bare answers, by level


@dataclass
class SamplerSettings:
    completion_length: int = 256  # tokens (the paper: 256)
    block_length: int = 32  # tokens; divides completion_length (the paper: 32)
    steps: int = 128  # denoising steps over all blocks (the paper: 128)
    temperature: float = 1.2  # of rollouts; evaluation has its own (the paper: 1.2)
    remasking: str = "low_confidence"  # what commits first; or random, entropy, margin, topk_margin
    schedule: str = "fixed"  # how many a step commits: fixed (the paper) | linear | cosine
    confidence_threshold: float | None = None  # in [0, 1]: commit all above, steps as needed
    factor: float | None = None  # above 0: commit the n best with (n + 1)(1 - c_n) < factor
    remask: float = 0.0  # in [0, 1): chance that a step masks a committed token again (ReMDM)
    top_k: int | None = None  # draw from the k most probable tokens
    top_p: float | None = None  # in (0, 1]: draw from the most probable tokens of this mass
    cfg_scale: float = 0.0  # classifier-free guidance weight; above 0 doubles the work
    eos: str = "free"  # free | last: committed after the block's other tokens | never
    forbidden_ids: list[int] = field(default_factory=list)  # token ids that are never produced
    stop_after_eos: bool = True  # leave a row's later blocks after EOS; its live part is the same
    cache: str = "none"  # none (exact) | prefix | dual (approximate, Fast-dLLM)
    cache_refresh: int | None = None  # full pass every so many steps of a block; null: at its start
    cache_blocks: int = 1  # full pass at the start of every so many blocks; between, windows only
    compile: str = "none"  # none | default: torch.compile | cuda_graphs: with CUDA graphs
    autocast: str = "none"  # bfloat16: run the model in it; none: as trainer.precision says
    token_budget: int | None = None  # canvas positions a micro-batch; null: so many rows as set


@dataclass
class InpaintConfig:
    trigger: str = "all_wrong"  # who gets G extra samples: all_wrong | mean_below | always | never
    threshold: float = 0.5  # mean reward of a group, for trigger=mean_below
    scope: str = "group"  # where the trigger looks: group | batch of a process (released)
    extra_samples: str = "hinted"  # hinted | plain (no hints: the sample-matched control)
    ratio: float | None = None  # fixed hint ratio eta in [0, 1]; null draws from the range
    ratio_low: float = 0.2  # eta_low (the paper: 0.2)
    ratio_high: float = 0.6  # eta_high (the paper: 0.6)
    schedule: str = "constant"  # of the ratio over steps: constant | linear | cosine | adaptive
    schedule_final: float = 0.0  # factor on the ratio at the last step, or where none is all wrong
    rounds: int = 1  # rounds for a group until one extra sample is right
    round_growth: float = 1.5  # factor on the ratio with each further round
    chunk_min: int = 5  # smallest chunk in tokens (the paper: 5)
    chunk_max: int = 10  # largest chunk in tokens (the paper: 10)
    drop_short_chunk: bool = False  # drop a last chunk below chunk_min (released)
    choice: str = "random"  # chunks given: random | prefix | suffix | uncertain (policy's entropy)
    placement: str = "own"  # own position in the trace | stretched gaps (released)
    stretch: float = 1.5  # stretched: largest factor on a gap
    gap_limit: int = 100  # stretched: largest gap in tokens
    tail: int = 30  # stretched: last positions of the completion that stay free, in tokens
    exclude_answer: bool = True  # leave the final answer out of the hints (released: false)
    max_share: float = 1.0  # at most this share of the completion is given, in [0, 1]
    long_traces: str = "cut"  # traces longer than the completion: cut | skip | compress
    noise: float = 0.0  # share of hint tokens that are corrupted, in [0, 1]
    replace_fraction: float = 0.5  # lambda: at most floor(lambda * G) samples replaced (paper: 0.5)


@dataclass
class FilterConfig:
    kind: str = "entropy"  # entropy: top share of the hint tokens | entropy_all | threshold | none
    keep_fraction: float = 0.2  # tau in (0, 1] (the paper: 0.2)
    threshold: float = 0.5  # least entropy of a hint token in nats, for kind=threshold


@dataclass
class ObjectiveConfig:
    advantage: str = "mean"  # mean (IGPO) | std (GRPO) | loo (RLOO) | dr_grpo | wd1
    loss: str = "clip"  # clip (PPO's surrogate) | log_likelihood (free of ratios)
    ratio: str = "sequence"  # importance ratio: sequence (IGPO) | token (GRPO)
    ratio_length: str = "counted"  # sequence ratio divides by: counted tokens | full (released)
    clip_low: float = 0.2  # epsilon below 1 (the paper: 0.2)
    clip_high: float = 0.2  # epsilon above 1 (the paper: 0.2)
    beta: float = 0.01  # weight of the KL penalty; 0 keeps no reference (the paper: 0.01)
    kl: str = "k3"  # estimator of the penalty: k1 | k2 | k3 | none
    normalization: str = "sequence"  # of token terms: sequence | batch (DAPO) | constant (Dr. GRPO)
    normalization_length: int | None = None  # the constant in tokens; null: completion_length
    drop_uniform_groups: bool = False  # groups with equal rewards do not count (DAPO)
    count_after_eos: bool = False  # tokens after the first EOS count too (released)


@dataclass
class LikelihoodConfig:
    # mean_field (the paper) | elbo | quadrature | strata | sandwich | trajectory
    kind: str = "mean_field"
    samples: int = 2  # elbo, sandwich: masked inputs a row; quadrature: masks for each node
    coupling: str = "independent"  # of these masks: independent | shared | antithetic
    nodes: int = 2  # quadrature: nodes in t
    fixed_counts: bool = False  # quadrature: fixed number of masked tokens at each node
    strata: int = 2  # strata: complementary masks, each scoring its own tokens
    full_pass: bool = False  # strata: average with one pass over the fully masked completion
    slices: int = 4  # trajectory: slices of the order in which the sampler committed tokens
    upper_beta: float = 1.5  # sandwich: beta of the upper bound, at least 1 (SPG: 1.5)
    upper_share: float = 0.5  # sandwich: of the upper bound where the advantage is negative
    prompt_mask_rate: float = 0.0  # share of prompt tokens masked (the paper: 0; diffu-GRPO: 0.15)
    hints_visible: bool = (
        False  # true: hints stay visible, unscored; false: masked like all (paper)
    )
    credit_strength: float = 0.0  # in [-1, 1]; above 0 early tokens count more; 0: all the same


@dataclass
class RewardConfig:
    weights: dict[str, float] = field(default_factory=lambda: {"correctness": 1.0})  # name: weight
    workers: int = 2  # grader processes
    timeout: float = 3.0  # seconds of computation a single grading may take
    extraction: list[str] = field(
        default_factory=lambda: list(STRATEGY_ORDER)
    )  # how an answer is found, the first that finds one: quoted, box, tag, hash, stated, number


@dataclass
class RewriterConfig:
    kind: str = "extractive"  # extractive: by rules, offline | endpoint: an instruction model
    attempts: int = 1  # rewrites of a row that may fail a check before it is dropped
    keep_fitting: bool = False  # take originals that fulfil everything as they are, unasked
    model: str | None = None  # endpoint: the model's name there
    base_url: str | None = None  # endpoint: of the API, for example http://localhost:8000/v1
    system: str = ""  # endpoint: system message
    prompt: str = ""  # endpoint: with {question}, {solution}, {answer}, {max_tokens}
    temperature: float = 0.7  # endpoint: of sampling
    max_output_tokens: int = 2048  # endpoint: tokens after which an answer is cut
    concurrency: int = 1  # rows that are worked on at the same time
    requests_per_minute: float | None = None  # endpoint: at most; null for no limit
    request_retries: int = 6  # endpoint: of a failed request, with growing pauses
    timeout: float = 600.0  # endpoint: seconds a request may take


@dataclass
class OptimizerConfig:
    lr: float = 5e-7  # learning rate (the paper: 5e-7)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])  # AdamW (the paper: 0.9, 0.99)
    weight_decay: float = 0.1  # (the paper: 0.1)
    grad_norm: float = 0.2  # gradients are clipped to this norm (the paper: 0.2)
    warmup_steps: int = 50  # optimizer steps of linear warm-up (the paper: 50)
    decay_share: float = 0.0  # share of all steps, at the end, with linear decay to 0


@dataclass
class EvalConfig:
    split: str = "test"  # train | validation | test
    limit: int | None = None  # at most this many problems; null for all
    temperature: float = 0.0  # 0 is greedy (the paper: 0; AMC 0.1)
    samples: int = 1  # completions a problem, k of avg@k (the paper: 1; AMC 16)
    batch_size: int = 64  # rows a forward pass


@dataclass
class TrainerConfig:
    accelerator: str = "cpu"  # cpu | gpu
    devices: int = 1  # processes a node
    num_nodes: int = 1  # nodes
    strategy: str = "auto"  # auto | ddp | fsdp (FSDP2 through ModelParallelStrategy)
    precision: str = "32-true"  # Lightning's names: 32-true | bf16-mixed | bf16-true
    threads: int | None = None  # torch threads of a process; null leaves torch's choice
    keep_last: int = 2  # newest checkpoints that are kept, beside that of the best evaluation
    max_skipped: int = 10  # updates in a row with NaN or inf after which a run stops
    replicas: int = 1  # fsdp: copies of the model that processes share (hybrid: one a node)
    cpu_offload: bool = False  # fsdp: weights, gradients, optimizer states in the CPU's memory
    gather_rollouts: bool = False  # fsdp: hold all weights while sampling (see the plan)
    timeout: float = 1800.0  # seconds that ranks wait for each other before they give up


@dataclass
class StageConfig:
    name: str = MISSING  # which stage runs


@dataclass
class RLStage(StageConfig):
    name: str = "rl"
    steps: int = 1000  # rollout steps; each has mu optimizer steps
    prompts_per_step: int = 8  # Q over all processes (the paper: 64 groups a step)
    group_size: int = 8  # G completions a prompt (the paper: 8)
    inner_updates: int = 4  # mu (the paper: 4)
    rollout_batch_size: int = 64  # rows a denoising pass
    train_batch_size: int = 64  # rows a forward and backward pass
    eval_before: bool = True  # evaluate before training
    eval_after: bool = True  # evaluate after training
    eval_every: int = 0  # rollout steps between evaluations in training; 0 for none
    checkpoint_every: int = 10  # rollout steps between checkpoints; the last is always kept
    log_samples_every: int = 5  # rollout steps between logged samples (samples.jsonl)


@dataclass
class SFTStage(StageConfig):
    name: str = "sft"
    steps: int = 1000  # optimizer steps
    batch_size: int = 64  # examples an optimizer step, over all processes
    train_batch_size: int = 64  # rows a forward and backward pass
    max_length: int | None = None  # tokens of a completion; null: sampler.completion_length
    padding: str = "full"  # with EOS, to: full (max_length) | longest (of the step, and a tail)
    eos_tail: int = 16  # padding=longest: 1 to this many EOS after the longest trace, drawn a step
    bucket_steps: int | None = None  # steps sorted by length together; null: 16, generated data: 1
    weighting: str = "inverse_t"  # of a masked token: inverse_t (the NELBO) | uniform
    timesteps: str = "independent"  # independent | low_discrepancy (evenly spread over a step)
    complementary: bool = False  # use each row twice, with the other tokens masked
    val_every: int = 200  # optimizer steps between validations
    val_limit: int = 256  # examples in the validation loss
    checkpoint_every: int = 200  # optimizer steps between checkpoints; the last is always kept
    eval_after: bool = True  # evaluate accuracy after training


@dataclass
class SFTThenRLStage(StageConfig):
    name: str = "sft_then_rl"
    sft: list[str] = field(default_factory=lambda: ["stage=sft"])  # overrides of the first run
    rl: list[str] = field(default_factory=lambda: ["stage=rl"])  # overrides of the second


@dataclass
class EvalStage(StageConfig):
    name: str = "eval"


@dataclass
class GenerateStage(StageConfig):
    name: str = "generate"
    prompt: str = MISSING  # the question
    hint: str | None = None  # text to keep in the completion
    hint_position: int = 0  # token of the completion at which the hint starts
    order: bool = True  # show the unmasking order in colour


@dataclass
class InspectStage(StageConfig):
    name: str = "inspect"
    rows: int = 5  # rows shown as the model sees them


@dataclass
class RewriteStage(StageConfig):
    name: str = "rewrite"
    split: str = "train"  # train | validation | test
    limit: int | None = None  # at most this many problems, the first ones; null for all
    max_tokens: int = 1500  # of a rewrite under the model's tokenizer (the paper: about 1,500)
    copy_share: float = 0.8  # of the original's six-word runs that make a rewrite a copy; (0, 1]
    format: str = "jsonl"  # of the rewritten data: jsonl | parquet
    output: str | None = None  # folder; an earlier one is gone on with; null for the run's own


@dataclass
class TokenizerStage(StageConfig):
    name: str = "tokenizer"
    output: str = MISSING  # folder for the tokenizer and config.json of an untrained tiny model
    vocab_size: int = 512  # at most this many tokens
    examples: int = 4000  # embedded problems that merges are learned from
    hidden_size: int = 64  # of the untrained model, D
    layers: int = 4  # transformer blocks
    heads: int = 4  # attention heads; divides hidden_size
    intermediate_size: int = 192  # of the MLP
    initializer_range: float = 0.1  # standard deviation of weights; wide for a narrow model


@dataclass
class ExportStage(StageConfig):
    name: str = "export"
    output: str | None = None  # folder to write; null for export/ in this stage's own run folder


@dataclass
class ReportStage(StageConfig):
    name: str = "report"
    samples: int = 400  # logged training samples in the viewer, over all runs; evaluations add half


@dataclass
class Config:
    """The whole configuration; groups in the order of conf/config.yaml."""

    stage: StageConfig = field(default_factory=StageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    inpaint: InpaintConfig = field(default_factory=InpaintConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    rewriter: RewriterConfig = field(default_factory=RewriterConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)  # name: Lightning logger (_target_)
    seed: int = 0  # every random choice follows from it
    path: str | None = None  # stage=report: folder of a run or of a sweep
    checkpoint: str | None = None  # stage=export: a run's Lightning checkpoint, file or folder
    dry_run: bool = False  # print parameters, FLOPs and memory of the run, and stop
    # auto: from the newest sound checkpoint in this run's folder, if there is one | null: from the
    # beginning | a checkpoint, or a run folder whose newest one to go on from
    resume: str | None = "auto"


STAGES: dict[str, type[StageConfig]] = {
    stage.name: stage
    for stage in (
        RLStage,
        SFTStage,
        SFTThenRLStage,
        EvalStage,
        GenerateStage,
        InspectStage,
        RewriteStage,
        TokenizerStage,
        ExportStage,
        ReportStage,
    )
}


def register_schemas() -> None:
    """Make the dataclasses known to Hydra: the root as `schema`, one `stage/NAME_schema` each."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in STAGES.items():
        store.store(group="stage", name=f"{name}_schema", node=node)


def data_folders() -> list[Path]:
    """Folders with data/NAME.yaml: those of --config-dir first, then the shipped one."""
    from hydra.core.hydra_config import HydraConfig

    folders = [CONF / "data"]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        own = [Path(source.path) / "data" for source in sources if source.schema == "file"]
        folders = [folder for folder in own if folder not in folders] + folders
    return folders


def named_data(name: str, key: str) -> DataConfig:
    """The data configuration that `data=NAME` selects, for keys that name one.

    Args:
        name: Of a file in a `data` group.
        key: Where the name stands, for the message.

    Raises:
        ConfigError: There is no such file, or it does not fit the schema.
    """
    files = [file for folder in data_folders() for file in sorted(folder.glob("*.yaml"))]
    file = next((file for file in files if file.stem == name), None)
    if file is None:
        known = ", ".join(sorted({file.stem for file in files}))
        raise ConfigError(f"{key}={name}: there is no data={name}; use one of {known}")
    try:
        values = OmegaConf.create(file.read_text(encoding="utf-8"))
        assert isinstance(values, DictConfig)
        values.pop("defaults", None)
        data = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), values))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}={name}: {file}: {error}") from error
    assert isinstance(data, DataConfig)
    return data


def _require(holds: bool, key: str, value: object, fix: str) -> None:
    if not holds:
        raise ConfigError(f"{key}={value}: {fix}")


def _require_choice(config: DictConfig, key: str, choices: tuple[str, ...]) -> None:
    group, name = key.split(".")
    value = config[group][name]
    _require(value in choices, key, value, f"use one of {', '.join(choices)}")


def _require_at_least(config: DictConfig, minimum: float, *keys: str) -> None:
    for key in keys:
        group, name = key.split(".")
        if name not in config[group]:
            continue
        value = config[group][name]
        _require(value is None or value >= minimum, key, value, f"give at least {minimum:g}")


def _require_within(config: DictConfig, low: float, high: float, *keys: str) -> None:
    for key in keys:
        group, name = key.split(".")
        value = config[group][name]
        fits = value is None or low <= value <= high
        _require(fits, key, value, f"give a number from {low:g} to {high:g}")


def _validate_model(config: DictConfig) -> None:
    model, lora = config.model, config.model.lora
    _require_choice(config, "model.quantization", ("none", "8bit", "4bit"))
    _require(
        bool(model.path), "model.path", "''", "name a folder in Hugging Face layout or a hub id"
    )
    _require(lora.rank >= 1, "model.lora.rank", lora.rank, "give at least 1")
    _require(lora.alpha > 0, "model.lora.alpha", lora.alpha, "must be above 0")
    fits = 0 <= lora.dropout < 1
    _require(fits, "model.lora.dropout", lora.dropout, "give a number from 0 to below 1")
    for name in ("mask_token_id", "eos_token_id", "pad_token_id", "eot_token_id"):
        _require_at_least(config, 0, f"model.{name}")
    training = config.stage.name in ("rl", "sft")
    _require(
        not (training and lora.enabled and config.trainer.precision == "bf16-true"),
        "trainer.precision",
        "bf16-true",
        "would round the adapters to bfloat16, where small updates are lost; use "
        "trainer.precision=bf16-mixed with model.dtype=bfloat16",
    )
    if model.quantization != "none":
        _require(
            lora.enabled or not training,
            "model.quantization",
            model.quantization,
            "quantized weights cannot be trained; set model.lora.enabled=true",
        )
        _require(
            model.init == "pretrained",
            "model.quantization",
            model.quantization,
            "random weights are not quantized; set model.init=pretrained",
        )
        _require(
            config.trainer.strategy != "fsdp",
            "model.quantization",
            model.quantization,
            "quantized weights are not sharded; use trainer=ddp or trainer=gpu",
        )


def _validate_sampler(config: DictConfig) -> None:
    sampler = config.sampler
    _require_at_least(config, 1, "sampler.completion_length", "sampler.block_length")
    length, width = sampler.completion_length, sampler.block_length
    _require(
        length % width == 0,
        "sampler.block_length",
        width,
        f"must divide sampler.completion_length={length}",
    )
    blocks = length // width
    _require(
        sampler.steps >= blocks and sampler.steps % blocks == 0,
        "sampler.steps",
        sampler.steps,
        f"must be a multiple of the {blocks} blocks "
        f"(sampler.completion_length={length} / sampler.block_length={width}), "
        f"for example {max(1, round(sampler.steps / blocks)) * blocks}",
    )
    _require(
        sampler.steps <= length,
        "sampler.steps",
        sampler.steps,
        f"more steps than tokens; give at most sampler.completion_length={length}",
    )
    _require_at_least(config, 0, "sampler.temperature", "eval.temperature", "sampler.cfg_scale")
    _validate_unmasking(config)
    _validate_sampler_speed(config)


def _validate_unmasking(config: DictConfig) -> None:
    sampler = config.sampler
    probabilities = ("low_confidence", "margin", "topk_margin")
    _require_choice(config, "sampler.remasking", (*probabilities, "random", "entropy"))
    _require_choice(config, "sampler.schedule", ("fixed", "linear", "cosine"))
    _require_choice(config, "sampler.eos", ("free", "last", "never"))
    _require_within(config, 0, 1, "sampler.remask", "sampler.confidence_threshold", "sampler.top_p")
    _require(sampler.remask < 1, "sampler.remask", sampler.remask, "must be below 1")
    _require(sampler.top_p != 0, "sampler.top_p", sampler.top_p, "must be above 0")
    _require_at_least(config, 1, "sampler.top_k")
    _require(
        sampler.factor is None or sampler.factor > 0,
        "sampler.factor",
        sampler.factor,
        "must be above 0",
    )
    if sampler.confidence_threshold is None and sampler.factor is None:
        return
    rule = "factor" if sampler.confidence_threshold is None else "confidence_threshold"
    for key, fits, problem in (
        ("factor", rule == "factor" or sampler.factor is None, "give only one of the two"),
        ("remasking", sampler.remasking in probabilities, "use one of " + ", ".join(probabilities)),
        ("schedule", sampler.schedule == "fixed", "leave it at fixed"),
        ("remask", sampler.remask == 0, "leave it at 0"),
    ):
        _require(fits, f"sampler.{key}", sampler[key], f"with sampler.{rule} set: {problem}")


def _validate_sampler_speed(config: DictConfig) -> None:
    sampler = config.sampler
    _require_choice(config, "sampler.cache", ("none", "prefix", "dual"))
    _require_choice(config, "sampler.compile", ("none", "default", "cuda_graphs"))
    _require_choice(config, "sampler.autocast", ("none", "bfloat16"))
    _require_at_least(config, 1, "sampler.cache_refresh", "sampler.token_budget")
    _require_at_least(config, 1, "sampler.cache_blocks")
    for key, neutral in (("cache_refresh", None), ("cache_blocks", 1)):
        _require(
            sampler[key] == neutral or sampler.cache != "none",
            f"sampler.{key}",
            sampler[key],
            "there is no cache to refresh; set sampler.cache=prefix or dual, or leave it "
            + ("null" if neutral is None else str(neutral)),
        )
    _require(
        sampler.cache_refresh is None or sampler.cache_blocks == 1,
        "sampler.cache_refresh",
        sampler.cache_refresh,
        f"cannot be combined with sampler.cache_blocks={sampler.cache_blocks}; leave one as it is",
    )
    graphs = sampler.compile == "cuda_graphs"
    _require(
        not graphs or config.trainer.accelerator == "gpu",
        "sampler.compile",
        sampler.compile,
        "needs trainer=gpu; use sampler.compile=default on CPUs",
    )
    _require(
        not graphs or sampler.cache == "none",
        "sampler.compile",
        sampler.compile,
        f"cannot replay sampler.cache={sampler.cache}; use sampler.compile=default with a cache",
    )
    _require(
        sampler.compile == "none" or config.trainer.strategy != "fsdp",
        "sampler.compile",
        sampler.compile,
        "cannot compile over trainer.strategy=fsdp; use sampler.compile=none",
    )


def _validate_inpaint(config: DictConfig) -> None:
    inpaint, length = config.inpaint, config.sampler.completion_length
    _require_choice(config, "inpaint.trigger", ("all_wrong", "mean_below", "always", "never"))
    _require_choice(config, "inpaint.scope", ("group", "batch"))
    _require_choice(config, "inpaint.extra_samples", ("hinted", "plain"))
    _require_choice(config, "inpaint.schedule", ("constant", "linear", "cosine", "adaptive"))
    _require_choice(config, "inpaint.choice", ("random", "prefix", "suffix", "uncertain"))
    _require_choice(config, "inpaint.placement", ("own", "stretched"))
    _require_choice(config, "inpaint.long_traces", ("cut", "skip", "compress"))
    _require_within(
        config,
        0,
        1,
        "inpaint.ratio",
        "inpaint.ratio_low",
        "inpaint.ratio_high",
        "inpaint.schedule_final",
        "inpaint.max_share",
        "inpaint.noise",
        "inpaint.replace_fraction",
    )
    _require(
        inpaint.ratio_low <= inpaint.ratio_high,
        "inpaint.ratio_low",
        inpaint.ratio_low,
        f"is above inpaint.ratio_high={inpaint.ratio_high}; give the smaller one first",
    )
    _require_at_least(
        config,
        1,
        "inpaint.chunk_min",
        "inpaint.rounds",
        "inpaint.round_growth",
        "inpaint.stretch",
        "inpaint.gap_limit",
    )
    _require(
        inpaint.chunk_min <= inpaint.chunk_max,
        "inpaint.chunk_min",
        inpaint.chunk_min,
        f"is above inpaint.chunk_max={inpaint.chunk_max}; give the smaller one first",
    )
    _require(
        inpaint.chunk_max <= length,
        "inpaint.chunk_max",
        inpaint.chunk_max,
        "a hint chunk is longer than the completion; give at most "
        f"sampler.completion_length={length}",
    )
    if inpaint.placement == "stretched":
        _require(
            0 <= inpaint.tail < length,
            "inpaint.tail",
            inpaint.tail,
            f"leaves no room for hints; give 0 to sampler.completion_length - 1 = {length - 1}",
        )
        _require(
            inpaint.long_traces != "compress",
            "inpaint.long_traces",
            inpaint.long_traces,
            "compresses own positions; with inpaint.placement=stretched use cut or skip",
        )


def objective_names() -> tuple[str, ...]:
    """The registered objectives, read from their source: importing it would load torch."""
    source = (Path(__file__).parent / "rl" / "objectives.py").read_text(encoding="utf-8")
    return tuple(re.findall(r'^@register_objective\("(\w+)"\)$', source, re.MULTILINE))


def _validate_objective(config: DictConfig) -> None:
    objective = config.objective
    _require_choice(config, "filter.kind", ("entropy", "entropy_all", "threshold", "none"))
    _require_choice(config, "objective.advantage", ("mean", "std", "loo", "dr_grpo", "wd1"))
    _require_choice(config, "objective.loss", objective_names())
    _require_choice(config, "objective.ratio", ("sequence", "token"))
    _require_choice(config, "objective.ratio_length", ("counted", "full"))
    _require_choice(config, "objective.kl", ("k1", "k2", "k3", "none"))
    _require_choice(config, "objective.normalization", ("sequence", "batch", "constant"))
    _require_within(config, 0, 1, "filter.keep_fraction", "objective.clip_low")
    _require(
        config.filter.keep_fraction > 0,
        "filter.keep_fraction",
        config.filter.keep_fraction,
        "must be above 0; filter=none keeps every hint token",
    )
    _require_at_least(config, 0, "filter.threshold", "objective.clip_high", "objective.beta")
    _require_at_least(config, 1, "objective.normalization_length")
    _require(
        objective.ratio_length == "counted" or objective.ratio == "sequence",
        "objective.ratio_length",
        objective.ratio_length,
        "is a property of the sequence ratio; use it with objective.ratio=sequence",
    )


def _validate_rewards(config: DictConfig) -> None:
    from igpo_lightning.rewards.functions import get_reward

    weights = config.reward.weights
    _require(
        bool(weights),
        "reward.weights",
        weights,
        "name at least one reward, for example reward=correctness",
    )
    for name in weights:
        get_reward(name)


def _validate_training(config: DictConfig) -> None:
    _require_at_least(
        config,
        1,
        "stage.steps",
        "stage.prompts_per_step",
        "stage.inner_updates",
        "stage.rollout_batch_size",
        "stage.train_batch_size",
        "stage.batch_size",
        "stage.checkpoint_every",
        "stage.val_every",
        "stage.val_limit",
        "eval.samples",
        "eval.batch_size",
        "eval.limit",
        "reward.workers",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.threads",
        "trainer.keep_last",
        "trainer.max_skipped",
        "trainer.timeout",
        "prompt.max_length",
    )
    if config.stage.name == "rl":
        _require_at_least(config, 0, "stage.eval_every", "stage.log_samples_every")
        _require(
            config.stage.group_size >= 2,
            "stage.group_size",
            config.stage.group_size,
            "a group needs at least 2 samples to compare",
        )
        _validate_rewards(config)
    world = config.trainer.devices * config.trainer.num_nodes
    sharded, trainer = config.trainer.strategy == "fsdp", config.trainer
    _require(
        trainer.replicas >= 1 and world % trainer.replicas == 0,
        "trainer.replicas",
        trainer.replicas,
        f"must divide the {world} processes (trainer.devices * trainer.num_nodes)",
    )
    for name, neutral in (("replicas", 1), ("cpu_offload", False), ("gather_rollouts", False)):
        _require(
            sharded or trainer[name] == neutral,
            f"trainer.{name}",
            trainer[name],
            f"is for trainer.strategy=fsdp; leave it at {neutral} with {trainer.strategy}",
        )
    for name in ("prompts_per_step", "batch_size"):
        if name in config.stage:
            _require(
                config.stage[name] % world == 0,
                f"stage.{name}",
                config.stage[name],
                f"must be a multiple of the {world} processes "
                "(trainer.devices * trainer.num_nodes)",
            )
    _require_within(config, 0, 1, "optimizer.decay_share")
    _require_at_least(
        config,
        0,
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.warmup_steps",
    )
    unknown = set(config.reward.extraction) - set(STRATEGIES)
    _require(
        bool(config.reward.extraction) and not unknown,
        "reward.extraction",
        list(config.reward.extraction),
        f"name at least one of {', '.join(STRATEGIES)}",
    )
    for key in ("optimizer.grad_norm", "reward.timeout"):
        group, name = key.split(".")
        _require(config[group][name] > 0, key, config[group][name], "must be above 0")
    betas = list(config.optimizer.betas)
    fits = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
    _require(fits, "optimizer.betas", betas, "give two numbers in [0, 1), for example [0.9,0.99]")


def _validate_choices(config: DictConfig) -> None:
    _require_choice(config, "model.init", ("pretrained", "random"))
    _require_choice(config, "model.dtype", ("float32", "bfloat16"))
    _require_choice(config, "eval.split", ("train", "validation", "test"))
    _require_choice(config, "trainer.accelerator", ("cpu", "gpu"))
    _require_choice(config, "trainer.strategy", ("auto", "ddp", "fsdp"))
    _require_choice(config, "trainer.precision", ("32-true", "bf16-mixed", "bf16-true"))
    world = config.trainer.devices * config.trainer.num_nodes
    _require(
        config.trainer.strategy != "auto" or world == 1,
        "trainer.devices",
        config.trainer.devices,
        f"{world} processes need trainer.strategy=ddp or fsdp",
    )


def _validate_likelihood(config: DictConfig) -> None:
    kinds = ("mean_field", "elbo", "quadrature", "strata", "sandwich", "trajectory")
    _require_choice(config, "likelihood.kind", kinds)
    _require_choice(config, "likelihood.coupling", ("independent", "shared", "antithetic"))
    counts = ("samples", "nodes", "strata", "slices", "upper_beta")
    _require_at_least(config, 1, *(f"likelihood.{name}" for name in counts))
    _require_within(config, 0, 1, "likelihood.upper_share", "likelihood.prompt_mask_rate")
    _require_within(config, -1, 1, "likelihood.credit_strength")
    likelihood = config.likelihood
    _require(
        likelihood.samples % 2 == 0
        or likelihood.coupling != "antithetic"
        or likelihood.kind not in ("elbo", "sandwich"),
        "likelihood.samples",
        likelihood.samples,
        "must be even with likelihood.coupling=antithetic, whose masks come in pairs",
    )


def _validate_data(config: DictConfig) -> None:
    data = config.data
    _require_choice(config, "data.kind", KINDS)
    _require_choice(config, "data.overlap", ("report", "remove", "ignore"))
    _require_choice(config, "prompt.long_prompts", ("drop", "cut"))
    _require_choice(config, "prompt.long_traces", ("cut", "drop"))
    _require_at_least(config, 1, "data.limit")
    _require(
        all(1 <= level <= MAX_LEVEL for level in data.levels)
        and (bool(data.levels) or data.name != "arithmetic"),
        "data.levels",
        data.levels,
        f"give levels from 1 to {MAX_LEVEL}, for example [1,2,3]",
    )
    _require(
        len(data.terse_share) in (0, len(data.levels))
        and all(0 <= share <= 1 for share in data.terse_share),
        "data.terse_share",
        data.terse_share,
        f"give a share from 0 to 1 for each of data.levels={data.levels}, or none",
    )
    _require(
        data.name != "mixture" or bool(data.parts),
        "data.parts",
        data.parts,
        "name the parts, for example data.parts=[gsm8k,math]",
    )
    for name in data.parts:
        nested = bool(named_data(name, "data.parts").parts) or name == "mixture"
        _require(not nested, "data.parts", name, "is a mixture itself; name its parts")
    _require(
        len(set(data.parts)) == len(data.parts),
        "data.parts",
        data.parts,
        "name every part once; data.weights gives their shares",
    )
    _require(
        not data.weights or (len(data.weights) == len(data.parts) and min(data.weights) > 0),
        "data.weights",
        data.weights,
        f"give one number above 0 for each of data.parts={data.parts}, or none for equal shares",
    )
    for name in data.against:
        named_data(name, "data.against")
    if data.test_from is not None:
        named_data(data.test_from, "data.test_from")
    _require(
        "{question}" in config.prompt.user,
        "prompt.user",
        config.prompt.user,
        "must hold {question}, which the problem's text replaces",
    )


def _validate_sft(config: DictConfig) -> None:
    choices = {
        "padding": ("full", "longest"),
        "weighting": ("inverse_t", "uniform"),
        "timesteps": ("independent", "low_discrepancy"),
    }
    for name, allowed in choices.items():
        _require_choice(config, f"stage.{name}", allowed)
    _require_at_least(config, 1, "stage.max_length", "stage.eos_tail", "stage.bucket_steps")


def _validate_stage(config: DictConfig) -> None:
    if config.stage.name == "sft":
        _validate_sft(config)
    if config.stage.name == "generate":
        _require(
            "prompt" in config.stage and not _missing(config.stage, "prompt"),
            "stage.prompt",
            "???",
            "give the question, for example stage.prompt='A+3 B-2 from 12'",
        )
        _require_at_least(config, 0, "stage.hint_position")
    if config.stage.name == "inspect":
        _require_at_least(config, 0, "stage.rows")
    if config.stage.name == "export":
        _require(
            config.checkpoint is not None,
            "checkpoint",
            "null",
            "name a checkpoint, for example checkpoint=RUN/checkpoints/last.ckpt",
        )
    if config.stage.name == "report":
        _require(
            config.path is not None,
            "path",
            "null",
            "name the folder of a run or of a sweep, for example path=runs/rl_arithmetic/DATE",
        )
        _require_at_least(config, 1, "stage.samples")
    if config.stage.name not in ("rl", "sft", "eval", "generate"):
        _require(
            not config.dry_run,
            "dry_run",
            True,
            f"stage={config.stage.name} has no plan of its own; plan rl, sft, eval or generate",
        )
    if config.stage.name == "rewrite":
        _validate_rewrite(config)
    if config.stage.name == "tokenizer":
        _require(
            not _missing(config.stage, "output"),
            "stage.output",
            "???",
            "give the folder to write, for example stage.output=runs/tokenizer",
        )


def _validate_rewrite(config: DictConfig) -> None:
    _require_choice(config, "stage.split", ("train", "validation", "test"))
    _require_choice(config, "stage.format", ("jsonl", "parquet"))
    _require_choice(config, "rewriter.kind", ("extractive", "endpoint"))
    _require_at_least(config, 1, "stage.limit", "stage.max_tokens")
    _require_at_least(config, 1, "rewriter.attempts", "rewriter.concurrency")
    _require_at_least(config, 1, "rewriter.max_output_tokens")
    _require_at_least(config, 0, "rewriter.request_retries", "rewriter.temperature")
    for key in ("rewriter.timeout", "rewriter.requests_per_minute", "stage.copy_share"):
        group, name = key.split(".")
        value = config[group][name]
        _require(value is None or value > 0, key, value, "must be above 0")
    _require_within(config, 0, 1, "stage.copy_share")
    if config.rewriter.kind == "endpoint":
        model = config.rewriter.model
        _require(
            bool(model),
            "rewriter.model",
            model,
            "set OPENAI_MODEL to the model's name on the server",
        )
        prompt = config.rewriter.prompt
        _require(
            "{solution}" in prompt,
            "rewriter.prompt",
            repr(prompt[:60]),
            "must hold {solution}, and may hold {question}, {answer} and {max_tokens}; "
            "rewriter=endpoint has a prompt",
        )


def _missing(node: DictConfig, key: str) -> bool:
    from omegaconf import OmegaConf

    return OmegaConf.is_missing(node, key)


def validate(config: DictConfig) -> None:
    """Check that the values fit together.

    Raises:
        ConfigError: Names the first key that does not, its value, and what would be right.
    """
    _validate_choices(config)
    _validate_model(config)
    _validate_sampler(config)
    _validate_inpaint(config)
    _validate_objective(config)
    _validate_training(config)
    _validate_likelihood(config)
    _validate_data(config)
    _validate_stage(config)
