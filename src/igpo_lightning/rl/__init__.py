"""The RL core: groups, advantages, filters and objectives as pure functions over tensors."""

from igpo_lightning.rl.advantages import group_advantages
from igpo_lightning.rl.filters import entropy_filter
from igpo_lightning.rl.objectives import policy_loss

__all__ = ["entropy_filter", "group_advantages", "policy_loss"]
