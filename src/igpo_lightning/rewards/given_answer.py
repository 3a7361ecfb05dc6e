"""Whether a completion's answer is its own work or was shown to it as a hint."""

from collections.abc import Sequence

from igpo_lightning.rewards.extraction import STRATEGY_ORDER, locate_answer


def answer_was_given(
    pieces: Sequence[str], hint_mask: Sequence[bool], span: tuple[int, int]
) -> bool:
    """Whether a hint holds any character of an answer.

    A hinted sample counts as right only where it generated its answer: hints must not be rewarded
    for what they say themselves (arXiv 2509.10396, Sec. 3.2).

    Args:
        pieces: The text of each token; joined, the text that `span` refers to.
        hint_mask: True where the token is a hint; as long as `pieces`.
        span: Characters [start, end) of the answer, as `locate_answer` gives them.
    """
    start = 0
    for piece, hinted in zip(pieces, hint_mask, strict=True):
        end = start + len(piece)
        if hinted and start < span[1] and end > span[0]:
            return True
        start = end
    return False


def holds_given_answer(
    pieces: Sequence[str], hint_mask: Sequence[bool], strategies: Sequence[str] = STRATEGY_ORDER
) -> bool:
    """`answer_was_given` for the answer that the grader finds; False where it finds none."""
    found = locate_answer("".join(pieces), strategies)
    return found is not None and answer_was_given(pieces, hint_mask, (found.start, found.end))
