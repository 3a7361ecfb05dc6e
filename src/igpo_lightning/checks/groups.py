"""Rules that span groups of the settings, in the order in which they are asked."""

from igpo_lightning.config import named_data
from igpo_lightning.evaluation.measurements import measurements
from igpo_lightning.plugins import known_names
from igpo_lightning.settings import STAGES, EvalSuiteStage, RLStage, Settings, SFTStage
from igpo_lightning.settings.rules import require


def validate(settings: Settings) -> None:
    """Check that the values fit together.

    Raises:
        ConfigError: Names the first key that does not, its value, and what would be right.
    """
    check_model(settings)
    check_sampler(settings)
    check_inpaint(settings)
    check_likelihood(settings)
    check_names(settings)
    check_processes(settings)
    check_data(settings)
    check_stage(settings)


def check_model(settings: Settings) -> None:
    """Adapters, quantization and precision."""
    model, lora = settings.model, settings.model.lora
    known_names(settings, "model")  # its plugin, if it has one
    training = settings.stage.name in ("rl", "sft")
    require(
        not (training and lora.enabled and settings.trainer.precision == "bf16-true"),
        "trainer.precision",
        "bf16-true",
        "would round the adapters to bfloat16, where small updates are lost; use "
        "trainer.precision=bf16-mixed with model.dtype=bfloat16",
    )
    if model.quantization == "none":
        return
    require(
        lora.enabled or not training,
        "model.quantization",
        model.quantization,
        "quantized weights cannot be trained; set model.lora.enabled=true",
    )
    require(
        settings.trainer.strategy != "fsdp",
        "model.quantization",
        model.quantization,
        "quantized weights are not sharded; use trainer=ddp or trainer=gpu",
    )


def check_sampler(settings: Settings) -> None:
    """What a run asks of the sampler, which by itself may do more."""
    sampler, length = settings.sampler, settings.sampler.completion_length
    require(
        sampler.steps <= length,
        "sampler.steps",
        sampler.steps,
        f"more steps than tokens; give at most sampler.completion_length={length}",
    )
    require(
        sampler.compile != "cuda_graphs" or settings.trainer.accelerator == "gpu",
        "sampler.compile",
        sampler.compile,
        "needs trainer=gpu; use sampler.compile=default on CPUs",
    )
    require(
        sampler.compile == "none" or settings.trainer.strategy != "fsdp",
        "sampler.compile",
        sampler.compile,
        "cannot compile over trainer.strategy=fsdp; use sampler.compile=none",
    )


def check_inpaint(settings: Settings) -> None:
    """Hints fit into the completion."""
    inpaint, length = settings.inpaint, settings.sampler.completion_length
    require(
        inpaint.chunk_max <= length,
        "inpaint.chunk_max",
        inpaint.chunk_max,
        "a hint chunk is longer than the completion; give at most "
        f"sampler.completion_length={length}",
    )
    require(
        inpaint.placement != "stretched" or inpaint.tail < length,
        "inpaint.tail",
        inpaint.tail,
        f"leaves no room for hints; give 0 to sampler.completion_length - 1 = {length - 1}",
    )


def check_likelihood(settings: Settings) -> None:
    """The estimator fits the sampler and the normalisation."""
    likelihood, sampler = settings.likelihood, settings.sampler
    free = [
        name
        for name in ("confidence_threshold", "factor", "entropy_bound", "edit_threshold")
        if getattr(sampler, name) is not None
    ]
    require(
        likelihood.shrink is None or not free,
        "likelihood.shrink",
        likelihood.shrink,
        f"merges a fixed number of sampler steps; leave sampler.{' and '.join(free)} null, or take "
        "likelihood.kind=trajectory",
    )
    weighted = settings.objective.rollout_is
    require(
        weighted is None or likelihood.kind == "trajectory",
        "objective.rollout_is",
        weighted,
        f"compares policy and sampler on the sampler's canvases, which likelihood.kind="
        f"{likelihood.kind} does not score; set likelihood.kind=trajectory, or leave it null",
    )
    require(
        weighted is None
        or (sampler.remasking == "low_confidence" and sampler.eos in ("free", "never")),
        "objective.rollout_is",
        weighted,
        "needs the sampler's probabilities as scores; set sampler.remasking=low_confidence and "
        "sampler.eos=free or never",
    )
    require(
        likelihood.positions is None or settings.objective.normalization in ("constant", "sum"),
        "likelihood.positions",
        likelihood.positions,
        "stands for a sum over all tokens; use it with objective.normalization=constant or sum",
    )


def check_names(settings: Settings) -> None:
    """Objective and rewards are registered here or by a plugin."""
    names = known_names(settings, "objective")
    require(
        settings.objective.loss in names,
        "objective.loss",
        settings.objective.loss,
        f"use one of {', '.join(names)}, or one of your own from objective.plugin=FILE.py",
    )
    if settings.stage.name != "rl":
        return
    weights = settings.reward.weights
    require(
        bool(weights),
        "reward.weights",
        weights,
        "name at least one reward, for example +reward.weights.correctness=1.0",
    )
    names = known_names(settings, "reward")
    for name, weight in weights.items():
        require(
            name in names,
            f"reward.weights.{name}",
            weight,
            f"no reward has this name; use one of {', '.join(names)}, or one of your own from "
            "reward.plugin=FILE.py",
        )


def check_processes(settings: Settings) -> None:
    """Every process gets as much of a step as every other."""
    stage, world = settings.stage, settings.trainer.world_size
    processes = f"the {world} processes (trainer.devices * trainer.num_nodes)"
    if isinstance(stage, RLStage):
        size, group = stage.prompts_per_step, stage.group_size
        fix = f"must be a multiple of {processes}, or divide them so that they share each group"
        fits = world % size == 0 and group % (world // size) == 0
        fix += f" of stage.group_size={group} evenly"
        require(size % world == 0 or fits, "stage.prompts_per_step", size, fix)
    elif isinstance(stage, SFTStage):
        fix = f"must be a multiple of {processes}"
        require(stage.batch_size % world == 0, "stage.batch_size", stage.batch_size, fix)


def check_data(settings: Settings) -> None:
    """Every data=NAME that a key names is there, and no mixture holds another."""
    data = settings.data
    require(
        data.name != "mixture" or bool(data.parts),
        "data.parts",
        data.parts,
        "name the parts, for example data.parts=[gsm8k,math]",
    )
    for name in data.parts:
        nested = name == "mixture" or bool(named_data(name, "data.parts").parts)
        require(not nested, "data.parts", name, "is a mixture itself; name its parts")
    for name in data.against:
        named_data(name, "data.against")
    if data.test_from is not None:
        named_data(data.test_from, "data.test_from")


def check_stage(settings: Settings) -> None:
    """What each stage must be given."""
    name = settings.stage.name
    if isinstance(settings.stage, EvalSuiteStage):
        check_suite(settings, settings.stage)
    if name == "export":
        require(
            settings.checkpoint is not None,
            "checkpoint",
            "null",
            "name a checkpoint, for example checkpoint=RUN/checkpoints/last.ckpt",
        )
    if name == "report":
        require(
            settings.path is not None,
            "path",
            "null",
            "name the folder of a run or of a sweep, for example path=runs/rl_arithmetic/DATE",
        )
    planned = ", ".join(known for known, stage in STAGES.items() if stage.planned)
    require(
        settings.stage.planned or not settings.dry_run,
        "dry_run",
        True,
        f"stage={name} has no plan of its own; plan one of {planned}",
    )
    if name == "rewrite":
        settings.rewriter.check_endpoint()


def check_suite(settings: Settings, stage: EvalSuiteStage) -> None:
    """Benchmarks and lengths, before the first of them takes hours."""
    sampler = settings.sampler
    require(
        settings.resume in (None, "auto"),
        "resume",
        settings.resume,
        "stage=eval_suite goes on in its own hydra.run.dir; use auto, or null to begin again",
    )
    for key in ("temperatures", "samples"):
        for name in getattr(stage, key):
            named_data(name, f"stage.{key}")
    for length in stage.lengths:
        require(
            length * sampler.steps % sampler.completion_length == 0,
            "stage.lengths",
            stage.lengths,
            f"{length} tokens take no whole number of steps at sampler.steps={sampler.steps} for "
            f"sampler.completion_length={sampler.completion_length}; change one of them",
        )
    measurements(settings)  # refuses lengths that do not fit the sampler
