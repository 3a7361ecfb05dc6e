"""Rewards by name: functions of a graded completion, added up with the weights of conf/reward.

A new reward is one registered function, here or in a file that `reward.plugin` names:

    @register_reward("exclamation")
    def exclamation(graded: Graded) -> float:
        return float("!" in graded.text)

Whatever a reward adds, the verdict alone decides whether a completion is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from igpo_lightning.errors import OWN_MODULES, ConfigError, call_own
from igpo_lightning.rewards.worker_pool import Verdict


@dataclass(frozen=True)
class Graded:
    """What a reward may look at.

    Attributes:
        text: The completion up to its first EOS.
        verdict: How its answer was graded.
        tokens: Tokens up to and including the first EOS.
        completion_length: Tokens that the completion could have had, C.
    """

    text: str
    verdict: Verdict
    tokens: int
    completion_length: int


Reward = Callable[[Graded], float]

_REWARDS: dict[str, Reward] = {}
_TAGS = ("<reasoning>\n", "</reasoning>", "<answer>\n", "</answer>")


def register_reward(name: str) -> Callable[[Reward], Reward]:
    """Make a reward known as `reward.weights.NAME`; it has to give a finite number.

    Raises:
        ValueError: The name is taken.
    """

    def add(reward: Reward) -> Reward:
        if name in _REWARDS:
            raise ValueError(f"reward {name!r} is registered already")
        _REWARDS[name] = reward
        return reward

    return add


def get_reward(name: str) -> Reward:
    """The reward of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in _REWARDS:
        known = ", ".join(sorted(_REWARDS))
        raise ConfigError(f"reward.weights.{name}: no reward has this name; known are {known}")
    return _REWARDS[name]


def reward_parts(graded: Sequence[Graded], names: Sequence[str]) -> list[list[float]]:
    """The unweighted rewards of each completion, in the order of `names`."""
    rewards = [get_reward(name) for name in names]
    return [[_part(reward, item) for reward in rewards] for item in graded]


def _part(reward: Reward, graded: Graded) -> float:
    """One reward of one completion.

    Raises:
        ConfigError: A plugin's reward raised, or returned something else than a number.
    """
    expected = f"{reward.__name__}(graded) to return a finite number"
    part = call_own(reward, expected, graded)
    if not isinstance(part, Real):
        file = reward.__module__.removeprefix(OWN_MODULES)
        raise ConfigError(f"{file}: {reward.__name__} returned {part!r:.60}; expected {expected}")
    return float(part)


def combine_rewards(parts: Sequence[Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """The weighted sum of each completion's rewards; parts are in the order of `weights`."""
    factors = list(weights.values())
    return [sum(w * part for w, part in zip(factors, row, strict=True)) for row in parts]


@register_reward("correctness")
def correctness(graded: Graded) -> float:
    """1 where the final answer is right, else 0 (arXiv 2509.10396, Algorithm 1)."""
    return float(graded.verdict.correct)


@register_reward("format_tags")
def format_tags(graded: Graded) -> float:
    r"""Up to 0.75 for the form that the prompt asks for (the paper's released code).

    0.125 for each of `<reasoning>` and `<answer>`, both with a line break after them,
    `</reasoning>` and `</answer>` that stands exactly once, and 0.25 for any `\boxed{`.
    """
    tags = sum(graded.text.count(tag) == 1 for tag in _TAGS)
    return 0.125 * tags + 0.25 * ("\\boxed{" in graded.text)


@register_reward("length")
def length(graded: Graded) -> float:
    """The share of the completion that is used, in (0, 1]: a negative weight favours brevity."""
    return graded.tokens / graded.completion_length
