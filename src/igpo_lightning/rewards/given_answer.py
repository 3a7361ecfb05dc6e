"""Whether a completion's answer is its own work or was shown to it as a hint."""

from collections.abc import Sequence

from igpo_lightning.rewards.extraction import (
    STRATEGY_ORDER,
    after_thinking,
    find_boxes,
    locate_answer,
)
from igpo_lightning.rewards.grading import joined_boxes


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
    """`answer_was_given` for any part of the answer that the grader compares."""
    spans = compared_spans("".join(pieces), strategies)
    return any(answer_was_given(pieces, hint_mask, span) for span in spans)


def compared_spans(text: str, strategies: Sequence[str] = STRATEGY_ORDER) -> list[tuple[int, int]]:
    r"""Characters [start, end) of all that `grading.answers_of` takes for the answer.

    Of "\boxed{1} and \boxed{2}" these are the contents of both boxes; of a text that marks and
    states no answer, a bare formula or a word, it is the whole.
    """
    rest = after_thinking(text)
    skipped = len(text) - len(rest)
    for name in strategies:
        if name == "box" and (boxes := find_boxes(rest)):
            contents = [
                (rest.rindex(box.content, box.start, box.end), len(box.content))
                for box in joined_boxes(rest, boxes)
            ]
            return [(skipped + start, skipped + start + length) for start, length in contents]
        if found := locate_answer(text, [name]):
            return [(found.start, found.end)]
    return [(skipped, len(text))]
