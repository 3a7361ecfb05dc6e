"""Short traces from long ones: the rule-based rewriter, and the checks that every rewrite passes.

Stage 1 of the recipe (arXiv 2509.10396, Sec. 4.1): traces of up to 10,000 tokens become structured
ones that fit the canvas, without reflection and repetition, with the reasoning and the answer kept.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from igpo_lightning.rewards.answer_span import find_answer_span, first_mark
from igpo_lightning.rewards.extraction import after_thinking
from igpo_lightning.rewards.sentences import sentence_bounds

# Second thoughts, and talk about the own work. Words of mathematics ("alternating") do not match.
REFLECTION = re.compile(
    r"\b(?:wait|hmm+|hold on|oops|on second thou?ght|let me (?:see|think|check|re-?check|verify|"
    r"re-?consider|double[- ]check|try|start over|re-?read|re-?calculate|make sure)|"
    r"let'?s (?:verify|double[- ]check|re-?check|make sure|see if)|i (?:think|should|need to|made|"
    r"wonder|guess|am not sure|'?m not sure)|to (?:double[- ]check|verify|be sure)|"
    r"(?:double|re)[- ]?check(?:ing)?|is that right|that (?:can'?t|doesn'?t) be right|"
    r"that (?:seems|looks) (?:right|correct|wrong|off)|another (?:way|approach)|"
    r"alternatively|actually|maybe|okay,? so)\b|</?think>",
    re.IGNORECASE,
)
# A formula or a number: what a sentence must have to be a step.
_STEP = re.compile(r"[\d=$]|\\[a-zA-Z(\[]")
_EQUATION = re.compile(r"[^\s.,;:$]+(?:\s*[-+*/^]\s*[^\s.,;:$]+)*\s*=\s*[^\s.,;:$]+")
_WORDS = re.compile(r"\w+|[^\w\s]")
# Copies are found by runs of so many words.
_RUN = 6


@dataclass(frozen=True)
class RewriteLimits:
    """What a rewrite must fulfil.

    Attributes:
        max_tokens: At most this long under the student's tokenizer (the paper: below 1,500).
        copy_share: From this share of the original's runs of six words on, a rewrite that is as
            long counts as a copy; in (0, 1].
        keep_fitting: An original that passes every check but "copy" is taken as it is, unasked.
    """

    max_tokens: int
    copy_share: float
    keep_fitting: bool


def is_copy(original: str, rewrite: str, share: float) -> bool:
    """Whether a rewrite repeats the original.

    It does where it is at least nine tenths as long and holds at least `share` of the original's
    runs of six words.
    """
    before, after = (_WORDS.findall(text.casefold()) for text in (original, rewrite))
    if len(after) < 0.9 * len(before):
        return False
    if len(before) < _RUN:
        return before == after
    wanted, found = (
        {tuple(words[i : i + _RUN]) for i in range(len(words) - _RUN + 1)}
        for words in (before, after)
    )
    return len(wanted & found) >= share * len(wanted)


def form_fault(original: str, rewrite: str, tokens: int, limits: RewriteLimits) -> str | None:
    """What is wrong with a rewrite's form: "empty" | "too_long" | "reflection" | "copy" | None.

    Whether its answer is right ("no_answer", "wrong_answer") is the grader's to say.

    Args:
        tokens: Its length under the student's tokenizer.
    """
    if not rewrite.strip():
        return "empty"
    if tokens > limits.max_tokens:
        return "too_long"
    if REFLECTION.search(rewrite):
        return "reflection"
    return "copy" if is_copy(original, rewrite, limits.copy_share) else None


def rewrite_by_rules(solution: str, answer: str, fits: Callable[[str], bool]) -> str:
    """The steps of a trace: its formulas and its conclusion, each once, without second thoughts.

    A closed think part is left out where something follows it. What comes after the first
    statement of the answer (other solutions, signatures) goes, and so do sentences with a mark of
    reflection, sentences without a formula or number, and those whose equations were all stated
    before. Where that is still too long, only sentences with an equation and the conclusion stay.

    Returns:
        The rewrite; empty where the trace never states its answer.
    """
    text = after_thinking(solution).replace("<think>", "").replace("</think>", "").strip()
    span = find_answer_span(text, answer)
    if span is None:
        return ""
    mark = first_mark(text, answer)
    stated = span[0] if mark is None else mark
    bounds = sentence_bounds(text)
    last = max(i for i, (start, _) in enumerate(bounds) if start <= stated)
    steps = _distinct([text[start:end] for start, end in bounds[:last]])
    conclusion = text[slice(*bounds[last])]
    short = "".join([*steps, conclusion]).strip()
    if not fits(short):
        short = "".join([*filter(_EQUATION.search, steps), conclusion]).strip()
    return short


def _distinct(sentences: list[str]) -> list[str]:
    """The sentences that are steps and say something new."""
    said: set[str] = set()
    kept = []
    for sentence in sentences:
        if REFLECTION.search(sentence) or not _STEP.search(sentence):
            continue
        claims = {_squeezed(equation) for equation in _EQUATION.findall(sentence)}
        claims = claims or {_squeezed(sentence)}
        if claims <= said:
            continue
        said |= claims
        kept.append(sentence)
    return kept


def _squeezed(text: str) -> str:
    return re.sub(r"[\s.,;:!?$]+", "", text).casefold()
