"""A reward of one's own; reward=stepwise, of reward/stepwise.yaml, chooses it."""

from igpo_lightning.rewards.functions import Graded, register_reward


@register_reward("steps_shown")
def steps_shown(graded: Graded) -> float:
    """The share of up to four steps that a completion writes down as equations, in [0, 1]."""
    return min(graded.text.count("="), 4) / 4
