"""Rewards by name: functions of a completion's text and its verdict.

Register a new one in one line: `register("brevity", lambda text, verdict: 100 / len(text))`.
Whatever a reward adds, `correctness` alone decides whether a group is all wrong.
"""

from collections.abc import Callable

from igpo_lightning.errors import ConfigError
from igpo_lightning.rewards.worker_pool import Verdict

Reward = Callable[[str, Verdict], float]

_REWARDS: dict[str, Reward] = {}
_TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


def register(name: str, reward: Reward) -> Reward:
    """Make a reward known as `reward.weights.NAME`.

    Args:
        name: New name.
        reward: Takes the completion's text and its verdict, gives a finite number.

    Raises:
        ValueError: The name is taken.
    """
    if name in _REWARDS:
        raise ValueError(f"reward {name!r} is registered already")
    _REWARDS[name] = reward
    return reward


def get_reward(name: str) -> Reward:
    """The reward of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in _REWARDS:
        known = ", ".join(sorted(_REWARDS))
        raise ConfigError(f"reward.weights.{name}: no reward has this name; known are {known}")
    return _REWARDS[name]


def correctness(text: str, verdict: Verdict) -> float:
    """1.0 where the final answer is right, else 0.0 (arXiv 2509.10396, Algorithm 1)."""
    return float(verdict.correct)


def format_tags(text: str, verdict: Verdict) -> float:
    """Up to 0.75 for the tags of the prompt's format (the paper's released code).

    A quarter of 0.75 for each of `<reasoning>`, `</reasoning>`, `<answer>` and `</answer>` that
    stands exactly once.
    """
    return 0.75 * sum(text.count(tag) == 1 for tag in _TAGS) / len(_TAGS)


register("correctness", correctness)
register("format_tags", format_tags)
