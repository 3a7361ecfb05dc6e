"""Model output is untrusted: no text may hang, crash or fill the trainer."""

import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rewards import GradingPool, extract_answer, is_equivalent
from igpo_lightning.rewards.extraction import STRATEGIES
from igpo_lightning.rewards.grading import answer_of, answers_of, is_same_spelling

SIZE = 100_000

# Texts that cost or break something: the exact path, the parser, or sympy.
LONG = {
    "open braces": "{" * SIZE,
    "open boxes": r"\boxed{" * (SIZE // 7),
    "nested boxes": r"\boxed{" * (SIZE // 8) + "1" + "}" * (SIZE // 8),
    "many boxes": r"\boxed{1}" * (SIZE // 9),
    "boxes in a list": r"\boxed{1} and and (((((( " * (SIZE // 25),
    "null bytes": "\0" * SIZE,
    "parentheses": "(" * SIZE,
    "math openings": r"\(" * (SIZE // 2),
    "dollars": "$ x" * (SIZE // 3),
    "digits": "9" * SIZE,
    "commas": "1," * (SIZE // 2),
    "thousands": "1,000" * (SIZE // 5),
    "hashes": "####" * (SIZE // 4),
    "hashes with numbers": "#### 1 " * (SIZE // 7),
    "answer tags": "<answer>" * (SIZE // 8),
    "statements": "the answer is " * (SIZE // 14),
    "final answers": "final answer is I hope it " * (SIZE // 26),
    "spaces": "1" + " " * SIZE,
    "line breaks": "\n" * SIZE,
    "fractions": r"\frac{1}{" * (SIZE // 9),
    "towers": "9^" * (SIZE // 2),
    "backslashes": "\\" * SIZE,
    "right to left": "\u202e\u0661\u0662" * (SIZE // 3),
    "stacked accents": "e" + "\u0301" * SIZE,
    "lone surrogates": "\ud800" * SIZE,
    "wide digits": "\uff11" * SIZE,
    "thinking": "</think>" * (SIZE // 8),
}
SHORT = {
    "a tower of powers": "9^{9^{9^9}}",
    "a tower without braces": "9^9^9^9^9",
    "a tower in code": "9**9**9**9",
    "a tower of parentheses": "(9^9)^(9^9)^(9^9)",
    "a huge factorial": "99999999!",
    "factorials of factorials": "((99!)!)!",
    "a huge power": "10^{999999999}",
    "a huge binomial": r"\binom{10^{9}}{5 \cdot 10^{8}}",
    "a long sum": r"\sum_{k=1}^{10^{9}} \frac{1}{k}",
    "a long product": r"\prod_{k=1}^{10^{8}} k",
    "a hard integral": r"\int_0^{\infty} e^{-x^{x^{x}}} \sin(x^x) dx",
    "deep fractions": r"\frac{1}{" * 200 + "1" + "}" * 200,
    "deep roots": r"\sqrt{" * 300 + "2" + "}" * 300,
    "deep parentheses": "(" * 900 + "1" + ")" * 900,
    "many factors": "".join(f"(x+{i})" for i in range(300)),
    "a huge expansion": "(x+y+z+w+1)^{9999}",
    "a long list": ", ".join(map(str, range(400))),
    "null bytes inside": "7\0\0",
    "a huge exponent": "1e999999999",
    "a long decimal": "0." + "3" * 1900,
    "division by zero": r"\frac{1}{0}",
    "an unknown command": r"\input{/etc/passwd} \write18{ls}",
    "python": "__import__('os').system('true')",
    "format strings": "%s%n{0.__class__}",
    "wide digit": "\uff17",
    "superscripts": "9\u2079\u2079\u2079\u2079",
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, timeout=0.5) as made:
        yield made


@pytest.mark.parametrize("name", LONG)
def test_finding_the_answer_is_fast_in_any_text(name: str) -> None:
    """The trainer's own process reads every text, so none may cost it more than a moment."""
    for text in (LONG[name], rf"\boxed{{{LONG[name]}}}", rf"\boxed{{{LONG[name][:1990]}}}"):
        start = time.process_time()
        extract_answer(text)
        is_same_spelling("7", answer_of(text))
        assert time.process_time() - start < 2.0


def test_long_texts_are_graded_wrong_and_counted(pool: GradingPool) -> None:
    start = time.monotonic()
    verdicts = pool.grade([("7", text) for text in LONG.values()])
    assert time.monotonic() - start < 60
    assert {v.correct for v in verdicts} == {False}
    assert {v.reason for v in verdicts} <= {"wrong", "no_answer", "too_long", "timeout", "crash"}


def test_hostile_answers_are_graded_wrong_in_bounded_time(pool: GradingPool) -> None:
    items = [("7", rf"\boxed{{{text}}}") for text in SHORT.values()]
    start = time.monotonic()
    verdicts = pool.grade(items)
    assert time.monotonic() - start < 60
    right = {name for name, v in zip(SHORT, verdicts, strict=True) if v.correct}
    # Typing habits of a model, not tricks: these say 7.
    assert right <= {"null bytes inside", "wide digit"}
    # The pool still works.
    assert [v.correct for v in pool.grade([("x+1", r"\boxed{1+x}")])] == [True]


@pytest.mark.parametrize("name", ["a tower of powers", "deep roots", "null bytes inside", "python"])
def test_hostile_gold_answers_do_no_harm(pool: GradingPool, name: str) -> None:
    verdicts = pool.grade([(SHORT[name], r"\boxed{5}"), ("5", r"\boxed{5}")])
    assert [v.correct for v in verdicts] == [False, True]


def test_hostile_text_does_not_grow_the_trainer() -> None:
    """At most 50 MB more at the highest, in a process that grades all of it."""
    script = (
        "import resource, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_hostile_text import LONG, SHORT, GradingPool\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "short = [SHORT[name] for name in ('a tower of powers', 'a huge binomial', 'deep roots')]\n"
        "texts = [*LONG.values(), *(r'\\boxed{' + t + '}' for t in short)]\n"
        "with GradingPool(workers=1, timeout=0.3) as pool:\n"
        "    pool.grade([('x+1', r'\\boxed{1+2x}')])\n"
        "    before = peak()\n"
        "    pool.grade([('7', text) for text in texts])\n"
        "    print(peak() - before)\n"
    )
    folder = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 50


@settings(max_examples=200, deadline=None)
@given(st.text(r"\boxedfrac{}<answer>/$()[]#0123456789.,- is^_!" + "\n\0\u0661\uff11", max_size=80))
def test_every_strategy_takes_any_text(text: str) -> None:
    for strategy in STRATEGIES.values():
        answer = strategy(text)
        assert answer is None or answer in text.replace(",", "") or answer in text
    assert is_same_spelling("7", answer_of(text)) in (True, False)


@settings(max_examples=100, deadline=None)
@given(st.text(r"\boxed{}12, and", max_size=60))
def test_the_answer_of_an_answer_is_itself(text: str) -> None:
    """The pool sends the answer alone to a worker, which must read the same in it."""
    answers = answers_of(text)
    if len(answers) > 1:
        assert answers_of(answer_of(text)) == answers


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_equal_only_to_themselves(gold: int, prediction: int) -> None:
    assert is_equivalent(str(gold), f"so it is \\boxed{{{prediction}}}") == (gold == prediction)
    assert is_equivalent(str(gold), f"{gold:,}")
    assert not is_equivalent(str(gold), f"{gold}, {gold + 1}")


def test_fuzzing_the_pool(pool: GradingPool) -> None:
    """Random texts from the alphabet of answers: a verdict for each, none of them right."""
    choose = random.Random(0)
    tokens = re.findall(
        r"\S+",
        r"\frac \sqrt { } ( ) x y 2 31 + - * / ^ \pi , [ ] ! \cup = < \{ \} \left \begin{pmatrix} "
        r"\end{pmatrix} & \\ and \text{ % \pm \int \sum _",
    )
    texts = ["".join(choose.choices(tokens, k=choose.randint(1, 12))) for _ in range(150)]
    verdicts = pool.grade([("777", rf"\boxed{{{text}}}") for text in texts])
    assert len(verdicts) == len(texts)
    assert not [t for t, v in zip(texts, verdicts, strict=True) if v.correct]
