"""The whole configuration, as every stage takes it."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from igpo_lightning.settings.data import DataConfig
from igpo_lightning.settings.evaluation import EvalConfig
from igpo_lightning.settings.filter import FilterConfig
from igpo_lightning.settings.inpaint import InpaintConfig
from igpo_lightning.settings.likelihood import LikelihoodConfig
from igpo_lightning.settings.model import ModelConfig
from igpo_lightning.settings.objective import ObjectiveConfig
from igpo_lightning.settings.optimizer import OptimizerConfig
from igpo_lightning.settings.prompt import PromptConfig
from igpo_lightning.settings.reward import RewardConfig
from igpo_lightning.settings.rewriter import RewriterConfig
from igpo_lightning.settings.rules import finite, require
from igpo_lightning.settings.sampler import SamplerConfig
from igpo_lightning.settings.stages import RLStage, StageConfig
from igpo_lightning.settings.trainer import TrainerConfig


@dataclass(frozen=True)
class Settings:
    """The whole configuration; groups in the order of conf/config.yaml."""

    stage: StageConfig = field(default_factory=StageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
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

    def __post_init__(self) -> None:
        """Refuse NaN and inf in every key of every group."""
        for group in fields(self):
            finite(getattr(self, group.name), group.name)
        require(
            self.resume != "", "resume", "''", "name a checkpoint or a run folder, or write null"
        )

    @property
    def evaluation_sampler(self) -> SamplerConfig:
        """The sampler at the evaluation's temperature; its drift is not measured."""
        temperature = self.eval.temperature
        return replace(self.sampler.unmeasured, temperature=temperature)

    @property
    def scores_old_policy(self) -> bool:
        """Whether the policy that sampled is scored in passes of its own, before the updates.

        The only update of a step starts from that policy, so that its own scores are the old ones
        too, unless dropout thins them, or the filter or the weights of `objective.rollout_is` are
        needed before the update.
        """
        stage, lora = self.stage, self.model.lora
        one_update = isinstance(stage, RLStage) and stage.inner_updates == 1
        thinned = lora.enabled and lora.dropout > 0
        weighted = self.objective.rollout_is is not None
        return not one_update or thinned or weighted or self.filter.kind != "none"
