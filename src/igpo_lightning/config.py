"""Typed schemas of every config group.

Hydra merges the YAML files under conf/ into these dataclasses, so an unknown key or a wrong type
fails while the configuration is composed; `checks.validate` then looks whether values fit together.
Nothing here imports torch: a mistake must be reported before anything heavy is loaded.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from igpo_lightning.data.sources import Source
from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.extraction import STRATEGY_ORDER

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
    plugin: str | None = None  # .py file of your own that registers the model's type


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
    wording: str = "names"  # arithmetic's traces: names, the embedded policy's own words | values


@dataclass
class SamplerSettings:
    completion_length: int = 256  # tokens (the paper: 256)
    block_length: int = 32  # tokens; divides completion_length (the paper: 32)
    steps: int = 128  # denoising steps over all blocks (the paper: 128)
    temperature: float = 0.0  # of rollouts; evaluation has its own (the paper: 1.2)
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
    stop_after_eos: bool = False  # leave a row's later blocks after EOS; its live part is the same
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
    loss: str = "clip"  # clip (PPO's surrogate) | log_likelihood (free of ratios) | a plugin's
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
    plugin: str | None = None  # .py file of your own that registers the loss


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
    plugin: str | None = None  # .py file of your own that registers rewards


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
    """Train with IGPO or GRPO: evaluate, train, evaluate again."""

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
    """Supervised fine-tuning on traces with the diffusion loss (NELBO): the step before RL."""

    name: str = "sft"
    steps: int = 1000  # optimizer steps
    batch_size: int = 64  # examples an optimizer step, over all processes
    train_batch_size: int = 64  # rows (packed: canvases) a forward and backward pass
    max_length: int | None = None  # tokens of a completion; null: sampler.completion_length
    padding: str = "full"  # with EOS: full (to max_length) | longest (of the step, a tail) | packed
    eos_tail: int = (
        16  # longest, packed: 1 to this many EOS after the longest, or after each, trace
    )
    bucket_steps: int | None = (
        None  # steps sorted by length together; null: 16; generated, packed: 1
    )
    weighting: str = "inverse_t"  # of a masked token: inverse_t (the NELBO) | uniform
    timesteps: str = "independent"  # independent | low_discrepancy (evenly spread over a step)
    complementary: bool = False  # use each row twice, with the other tokens masked
    val_every: int = 200  # optimizer steps between validations
    val_limit: int = 256  # examples in the validation loss
    checkpoint_every: int = 200  # optimizer steps between checkpoints; the last is always kept
    eval_after: bool = True  # evaluate accuracy after training


@dataclass
class SFTThenRLStage(StageConfig):
    """Two runs in one command: SFT, then RL from its export; see experiment=sft_then_igpo."""

    name: str = "sft_then_rl"
    sft: list[str] = field(default_factory=lambda: ["stage=sft"])  # overrides of the first run
    rl: list[str] = field(default_factory=lambda: ["stage=rl"])  # overrides of the second


@dataclass
class EvalStage(StageConfig):
    """Accuracy of a model on a data set, with interval and every sample kept."""

    name: str = "eval"


@dataclass
class EvalSuiteStage(StageConfig):
    """Several benchmarks at several lengths, each by itself; the paper's numbers beside them."""

    name: str = "eval_suite"
    # tokens of a completion (the paper: 256 to 1024); empty: sampler.completion_length alone
    lengths: list[int] = field(default_factory=list)
    temperatures: dict[str, float] = field(default_factory=dict)  # data=NAME: not eval.temperature
    samples: dict[str, int] = field(default_factory=dict)  # data=NAME: not eval.samples


@dataclass
class GenerateStage(StageConfig):
    """One prompt (and a hint) in, text out, with the order of unmasking in colour."""

    name: str = "generate"
    prompt: str = MISSING  # the question
    hint: str | None = None  # text to keep in the completion
    hint_position: int = 0  # token of the completion at which the hint starts
    order: bool = True  # show the unmasking order in colour


@dataclass
class InspectStage(StageConfig):
    """Counts, lengths, overlap and some rows of a data set, as the model would see them."""

    name: str = "inspect"
    rows: int = 5  # rows shown as the model sees them


@dataclass
class RewriteStage(StageConfig):
    """Turn long traces into short, structured ones that fit: the data of length-aligned SFT."""

    name: str = "rewrite"
    split: str = "train"  # train | validation | test
    limit: int | None = None  # at most this many problems, the first ones; null for all
    max_tokens: int = 1500  # of a rewrite under the model's tokenizer (the paper: about 1,500)
    copy_share: float = 0.8  # of the original's six-word runs that make a rewrite a copy; (0, 1]
    format: str = "jsonl"  # of the rewritten data: jsonl | parquet
    output: str | None = None  # folder; an earlier one is gone on with; null for the run's own


@dataclass
class TokenizerStage(StageConfig):
    """Train the embedded model's tokenizer, write its untrained folder (make tiny-checkpoint)."""

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
    """Turn a run's Lightning checkpoint into a model's folder: checkpoint=RUN/checkpoints."""

    name: str = "export"
    output: str | None = None  # folder to write; null for export/ in this stage's own run folder


@dataclass
class ReportStage(StageConfig):
    """One HTML file about a run or a sweep, with a viewer of its rollouts: path=runs/..."""

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
        EvalSuiteStage,
        GenerateStage,
        InspectStage,
        RewriteStage,
        TokenizerStage,
        ExportStage,
        ReportStage,
    )
}


def register_schemas() -> None:
    """Make the dataclasses known to Hydra: the root as `schema`, each stage as `stage/NAME`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for name, node in STAGES.items():
        store.store(group="stage", name=name, node=node)


def config_folders() -> list[Path]:
    """Folders of config groups: those of --config-dir first, then the shipped one."""
    from hydra.core.hydra_config import HydraConfig

    folders = [CONF]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        own = [Path(source.path) for source in sources if source.schema == "file" and source.path]
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
    files = [file for folder in config_folders() for file in sorted(folder.glob("data/*.yaml"))]
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
