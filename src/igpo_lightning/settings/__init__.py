"""Every option, once: field, default, unit, meaning and rule, one frozen dataclass a config group.

They are Hydra's schema and the objects that the code takes. Nothing here imports torch: a mistake
is told before anything heavy is loaded. docs/reference.md is made from these files.
"""

from igpo_lightning.settings.data import DataConfig, HubTable
from igpo_lightning.settings.evaluation import EvalConfig
from igpo_lightning.settings.filter import FilterConfig
from igpo_lightning.settings.inpaint import InpaintConfig
from igpo_lightning.settings.likelihood import LikelihoodConfig
from igpo_lightning.settings.model import LoraConfig, ModelConfig
from igpo_lightning.settings.objective import ObjectiveConfig
from igpo_lightning.settings.optimizer import OptimizerConfig
from igpo_lightning.settings.prompt import PromptConfig
from igpo_lightning.settings.reward import RewardConfig
from igpo_lightning.settings.rewriter import RewriterConfig
from igpo_lightning.settings.root import Settings
from igpo_lightning.settings.sampler import SamplerConfig
from igpo_lightning.settings.stages import (
    STAGES,
    DoctorStage,
    EvalStage,
    EvalSuiteStage,
    ExportStage,
    GenerateStage,
    InspectStage,
    ReportStage,
    RewriteStage,
    RLStage,
    SFTStage,
    SFTThenRLStage,
    StageConfig,
    TokenizerStage,
)
from igpo_lightning.settings.trainer import TrainerConfig

__all__ = [
    "STAGES",
    "DataConfig",
    "DoctorStage",
    "EvalConfig",
    "EvalStage",
    "EvalSuiteStage",
    "ExportStage",
    "FilterConfig",
    "GenerateStage",
    "HubTable",
    "InpaintConfig",
    "InspectStage",
    "LikelihoodConfig",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PromptConfig",
    "RLStage",
    "ReportStage",
    "RewardConfig",
    "RewriteStage",
    "RewriterConfig",
    "SFTStage",
    "SFTThenRLStage",
    "SamplerConfig",
    "Settings",
    "StageConfig",
    "TokenizerStage",
    "TrainerConfig",
]
