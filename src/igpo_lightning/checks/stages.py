"""What stages must be given, and data that other data name."""

from igpo_lightning.config import named_data
from igpo_lightning.evaluation.measurements import measurements
from igpo_lightning.settings import STAGES, EvalSuiteStage, Settings
from igpo_lightning.settings.rules import require


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
