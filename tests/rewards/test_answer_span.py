"""A hint must never give the answer away, and must still have a trace to be cut from."""

import gzip
import json
import re
import statistics
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.rewards import find_answer_span

# (what is tested, trace with the span's start as |, answer)
CASES = [
    ("a box", r"So 3 + 4 = |\boxed{7}.", "7"),
    ("the value again before the box", r"3 + 4 = |7, so it is \boxed{7}.", "7"),
    ("the sentence before is another statement", r"He has 7. She has |\boxed{7}.", "7"),
    ("hashes belong to the line before", "2 + 2 = 4\nHe pays 4 * 2 = |8 dollars.\n#### 8", "8"),
    ("the currency sign goes with it", "He pays 4 * 2 = |$8 in all.\n#### 8", "8"),
    ("a calculator mark", "He pays 4 * 2 = $<<4*2=|8>>8.\n#### 8", "8"),
    ("a repeated result", "4 * 2 = |8\nSo he pays 8.\n#### 8", "8"),
    ("an earlier number that is no result", "He has 8 cats.\nThey eat |8 mice.\n#### 8", "8"),
    ("hashes after a line without the answer", "Add both.\n|#### 8", "8"),
    ("a longer number is not a mention", "He has 80 and 1.8 and 8.5.\n|#### 8", "8"),
    ("thousands separators", "It is 500 * 3 = |1,500.\n#### 1500", "1500"),
    ("decimals", "It is |12.50 dollars.\n#### 12.5", "12.5"),
    ("a number in words", "There are |seven such pairs. The answer is 7.", "7"),
    ("a fraction as decimal", r"That is |7.5, or \boxed{\frac{15}{2}}.", r"\frac{15}{2}"),
    ("a decimal as fraction", r"That is |\frac{15}{2}. The answer is 7.5.", "7.5"),
    ("a spelled fraction", r"It is |15/2 = \boxed{\dfrac{15}{2}}.", r"\frac{15}{2}"),
    ("a division is a step, not a mention", r"It is 12/2 = |6.", "6"),
    ("a mixed number", r"It is |12\frac{3}{5}.", r"12\frac{3}{5}"),
    ("a negative number", r"So x = |-2, and \boxed{-2}.", "-2"),
    ("percent", r"The chance is |0.5, so the answer is 50\%.", r"50\%"),
    ("degrees", r"So $R = |\boxed{75^\circ}$.", r"75^\circ"),
    ("a label of a choice", r"We get $|\boxed{\textbf{(D)}\ 25}$ cupcakes.", "25"),
    ("another spelling in the box", r"It is $|\boxed{\left( 3, \dfrac{\pi}{2} \right)}$.", r"(3,\frac{\pi}{2})"),  # noqa: E501
    ("the formula before its box", r"It is |p - q = \boxed{p-q}.", "p - q"),
    ("two boxes in one enumeration", r"So $x = |\boxed{1}$ or $\boxed{2}$.", "1, 2"),
    ("the first of two solutions", "It is |\\boxed{7}. ~Ann\nAlso 14/2 = \\boxed{7}.", "7"),
    ("a tag", "<reasoning>x</reasoning>\n|<answer>7</answer>", "7"),
    ("the answer is", "Half of 14 is |7. The answer is 7.", "7"),
    ("a box that is spelled otherwise still ends it", r"It is |\boxed{x^2 + 2x + 1}.", "(x+1)^2"),
    ("no mark at all", "First 3. Then there are |7 of them. Signed, Ann.", "7"),
    ("a display is one statement", "\\[S = |7 + 0 \\\\\n= \\boxed{7}\\]", "7"),
    ("after a command", r"So 2\cdot5 = |10 and $x \approx10$, \boxed{10}.", "10"),
    ("right after \\cdot", r"It is $2 + 1\cdot|10 - 2 = \boxed{10}$.", "10"),
    ("a sign as a command", r"So $x = \pm|5$, and \boxed{5}.", "5"),
    ("a result in words", "37 * 11 gives you |407.\nSo he has 407.\n#### 407", "407"),
    ("the sentence before says it", r"The gcd of 54 and 81 is |27. Thus it is $\boxed{27}$.", "27"),
    ("an exponent is no mention", r"As $x^{2016} = y^2016$, we get $|\boxed{2016}$.", "2016"),
    ("an index is no mention", r"Since $a_{7} + b_7 = c$, it is $|\boxed{7}$.", "7"),
    ("a display ends a sentence", "Now\n\\[x + 8 = 2 + 8\n= y.\\]Thus it is $|\\boxed{8}$.", "8"),
    ("a letter", "Only graph |C fits. The answer is C", "C"),
]  # fmt: skip


@pytest.mark.parametrize(("trace", "answer"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_where_the_answer_begins(trace: str, answer: str) -> None:
    start, text = trace.index("|"), trace.replace("|", "", 1)
    span = find_answer_span(text, answer)
    assert span is not None
    assert text[: span[0]] + "|" + text[span[0] :] == trace
    assert span == (start, len(text))


def test_a_trace_that_never_says_it() -> None:
    assert find_answer_span("By symmetry the choice is clear.", "7") is None
    assert find_answer_span("", "7") is None


@settings(max_examples=50)
@given(st.text("01 \n.=$\\{}boxed#<answer>/", max_size=80), st.text("01/.\\{}x", max_size=6))
def test_a_span_of_any_text_ends_with_it(trace: str, answer: str) -> None:
    span = find_answer_span(trace, answer)
    assert span is None or (0 <= span[0] < span[1] == len(trace))


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.integers(0, 30),
    st.sampled_from(["\n#### {}", " The answer is {}.", " \\boxed{{{}}}"]),
)
def test_no_result_is_left_in_the_last_sentence(steps: list[int], answer: int, mark: str) -> None:
    lines = [f"{s} + 0 = {s}." for s in steps]
    trace = "\n".join([*lines, f"That makes {answer}."]) + mark.format(answer)
    span = find_answer_span(trace, str(answer))
    assert span is not None
    left = trace[: span[0]].rpartition("\n")[2]
    assert not re.search(rf"\b{answer}\b", left)


SIZE = 200_000
HOSTILE = {
    "spaces": " " * SIZE,
    "line breaks": "\n " * (SIZE // 2),
    "displays": "\\[" * (SIZE // 2),
    "environments": "\\begin{}" * (SIZE // 8),
    "named environments": "\\begin{align}" * (SIZE // 13),
    "many environments": "".join(f"\\begin{{a{chr(97 + i % 26)}}}" for i in range(SIZE // 10)),
    "dollars": "$$" * (SIZE // 2),
    "figures": "[asy]" * (SIZE // 5),
    "digits": "7" * SIZE,
    "numbers": "7 " * (SIZE // 2),
    "fractions": "\\frac{7}" * (SIZE // 8),
    "boxes": "".join(f"\\boxed{{{i}}}" for i in range(SIZE // 12)),
    "full stops": "." * SIZE,
    "equations": "7 = 7. " * (SIZE // 7),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("answer", ["7", "x+1", "7" * 5000])
def test_the_span_takes_linear_time(name: str, answer: str) -> None:
    start = time.process_time()
    find_answer_span(HOSTILE[name] + r" so \boxed{7}", answer)
    assert time.process_time() - start < 4.0


def test_numbers_beyond_pythons_limit_are_text() -> None:
    """Python refuses to read an integer of more than 4,300 digits."""
    number = "9" * 5000
    assert find_answer_span(f"It is {number}.", number) == (6, 5007)
    assert find_answer_span(f"It is {number}, so 7.", "7") == (5011, 5013)
    assert find_answer_span("\\frac{" + number + r"}{2} is \boxed{7}", "7") is not None


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    data = (folder / name).read_bytes()
    lines = (gzip.decompress(data) if name.endswith("gz") else data).splitlines()
    return [row for row in map(json.loads, lines) if row["solution"]]


# A sentence ends at . ! ? before a space (closing signs may stand between), or at a line's end.
_SENTENCE = re.compile(r"[.!?][\"')\]}$*\\]*\s+|\s*\n\s*")


def _last_sentence(trace: str) -> int:
    """Where the last sentence with reasoning starts: GSM8K's `#### N` is an announcement."""
    body = trace.partition("####")[0].rstrip()
    cuts = [0] + [m.end() for m in _SENTENCE.finditer(body) if m.end() < len(body)]
    return cuts[-1]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "largest_median"),
    [
        ("gsm8k.test.jsonl", 0.15),
        ("math500.test.jsonl", 0.15),
        ("amc.train.jsonl", 0.15),
    ],
)
def test_real_traces(shared_data: Path, name: str, largest_median: float) -> None:
    shares, given_away = [], []
    for row in _rows(shared_data, name):
        trace = re.sub(r"<<[^<>\n]*>>", "", row["solution"]).strip()
        span = find_answer_span(trace, row["answer"])
        if span is None:
            continue
        shares.append((span[1] - span[0]) / len(trace))
        # An exponent or an index is not the answer.
        alone = rf"(?<![\w.^])(?<![\^_]\{{){re.escape(row['answer'])}(?!\w|[.,]\d)"
        if re.search(alone, trace[_last_sentence(trace) : span[0]]):
            given_away.append(row["id"])
    assert given_away == []
    assert len(shares) >= len(_rows(shared_data, name)) - 6
    assert statistics.median(shares) < largest_median
