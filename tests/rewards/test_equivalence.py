"""What counts as the same answer: pairs of (gold answer, prediction) by kind, both ways round.

A pair of `SAME` holds whichever side is the gold, one of `ONE_WAY` only as it is written, and one
of `DIFFERENT` in neither direction.
"""

from typing import Any

import pytest

from igpo_lightning.rewards import is_equivalent

Pairs = list[tuple[str, str]]

SAME: dict[str, Pairs] = {
    "integers": [
        ("7", "7"),
        ("7", "+7"),
        ("7", "007"),
        ("-3", "- 3"),
        ("-3", "\u22123"),
        ("0", "-0"),
        ("12", r"\boxed{12}"),
        ("12", "$12$"),
        ("12", r"\(12\)"),
        ("12", r"\[12\]"),
        ("12", "12."),
        ("12", "**12**"),
        ("12", " 12 \n"),
        ("12", r"\text{12}"),
        ("12", r"\textbf{12}"),
        ("12", r"{12}"),
        ("12", "3 * 4"),
        ("1024", "2^{10}"),
        ("1024", "2**10"),
        ("120", "5!"),
        ("10", r"\binom{5}{2}"),
    ],
    "thousands separators": [
        ("1234567", "1,234,567"),
        ("1234567", r"1{,}234{,}567"),
        ("1234567", r"1,\!234,\!567"),
        ("1234567", "1 234 567"),
        ("1234567", r"1\,234\,567"),
        ("1234567", r"1\ 234\ 567"),
        ("11111", r"11,\! 111"),
        ("1234.5", "1,234.5"),
        ("617", "1,234/2"),
        ("-5000", "-5,000"),
    ],
    "currency": [
        ("10", r"\$10"),
        ("10", "$10"),
        ("10", "10 dollars"),
        ("10", r"\$10.00"),
        ("1000", r"\$1,000"),
        ("18.90", r"\$18.90"),
        ("5", "\u20ac5"),
        ("5", "\u00a35"),
        ("5", r"5\text{ dollars}"),
        ("5", "5 USD"),
        ("0.06", r"0.06 \text{ yuan}"),
    ],
    "percent": [
        ("28", r"28\%"),
        ("28", "28%"),
        (r"28\%", "28 percent"),
        (r"28\%", r"28 \%"),
        (r"12.5\%", "12.5%"),
        (r"\frac{1}{2}\%", r"0.5\%"),
    ],
    "decimals": [
        ("0.5", ".5"),
        ("0.5", "0.50"),
        ("3.0", "3"),
        ("-0.25", "-.25"),
        ("2.5", "2,5"),
        ("1e3", "1000"),
        ("0.001", r"10^{-3}"),
        (r"1.5 \times 10^{4}", "15000"),
        (r"6 \times 10^{13}", "6e13"),
        ("1.2e-5", r"1.2 \times 10^{-5}"),
    ],
    "fractions": [
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{1}{2}", r"\frac{2}{4}"),
        (r"\frac{1}{2}", r"\dfrac{1}{2}"),
        (r"\frac{1}{2}", r"\tfrac12"),
        (r"\frac{1}{2}", r"\frac12"),
        (r"\frac{1}{2}", r"\frac 1 2"),
        (r"\frac{1}{2}", r"\cfrac{1}{2}"),
        (r"\frac{1}{2}", "\u00bd"),
        (r"\frac{1}{2}", r"{1 \over 2}"),
        (r"\frac{1}{2}", "(1)/(2)"),
        (r"-\frac{3}{4}", r"\frac{-3}{4}"),
        (r"-\frac{3}{4}", r"\frac{3}{-4}"),
        (r"-\frac{3}{4}", "-3/4"),
        (r"-\frac{3}{4}", "-0.75"),
        (r"\frac{14}{3}", "14/3"),
        (r"\frac{11}{1}", "11"),
        (r"\frac{3}{51}", r"\frac{1}{17}"),
        (r"\frac{x+2}{7}", r"\frac{x}{7} + \frac{2}{7}"),
    ],
    "decimals for fractions, to the stated precision": [
        (r"\frac{1}{3}", "0.3333"),
        (r"\frac{2}{3}", "0.667"),
        (r"-\frac{2}{3}", "-0.6667"),
        (r"\left(\frac{3}{5}, \frac{8}{3}\right]", "(0.6, 2.6667]"),
        (r"\frac{22}{7}", "3.142857"),
    ],
    "mixed numbers": [
        (r"12\frac{3}{5}", "12 3/5"),
        (r"12\frac{3}{5}", r"12 \frac{3}{5}"),
        (r"12\frac{3}{5}", r"\frac{63}{5}"),
        (r"12\frac{3}{5}", "12.6"),
        (r"7\frac{1}{2}", "7 1/2"),
        (r"7\frac12", "7.5"),
        (r"-2\frac{1}{4}", "-2.25"),
        (r"-2\frac{1}{4}", "-9/4"),
    ],
    "units and text": [
        ("5", "5 cm"),
        ("5", r"5\text{ cm}"),
        ("5", r"5 \mathrm{~cm}"),
        ("5", r"5\,\mathrm{cm}"),
        ("5", r"5 \text{ cm}^2"),
        ("5", "5 square units"),
        ("125", "125 miles"),
        ("125", r"125\textnormal{ miles}"),
        ("125", "125 miles per hour"),
        ("12", "12 apples"),
        ("2.5", "2.5 hours"),
        (r"\frac{1}{3}", r"\frac{1}{3} \text{ meters}"),
        (r"13.5\text{ feet}", "13.5"),
        ("9.8", r"9.8 \mathrm{~m} / \mathrm{s}^{2}"),
        ("12", r"12\mbox{ inches}"),
        ("3", "3 hours ago"),
        ("36", "36 \\text{ square centimeters}"),
        ("100", "100 km/h"),
    ],
    "degrees": [
        (r"75^\circ", "75"),
        (r"75^\circ", r"75^{\circ}"),
        (r"75^\circ", "75 degrees"),
        (r"75^\circ", "75\u00b0"),
        (r"75^\circ", r"75\text{ degrees}"),
        (r"75^\circ", r"75\degree"),
    ],
    "words": [
        (r"\text{Evelyn}", "Evelyn"),
        (r"\text{Evelyn}", "evelyn"),
        (r"\text{even}", "Even"),
        ("True", "true"),
        ("true", r"\text{True}"),
        ("yes", "Yes."),
        ("No", r"\text{no}"),
        (r"\text{east}", "East"),
        ("Tuesday", r"\mathrm{Tuesday}"),
    ],
    "choices": [
        ("C", "(C)"),
        ("C", r"\text{(C)}"),
        ("C", r"\textbf{(C)}"),
        ("C", r"\textbf{C}"),
        ("C", r"\mathrm{C}"),
        ("C", "C."),
        ("C", "C)"),
        ("25", r"\textbf{(D)}\ 25"),
        ("25", r"\textbf{(D) } 25"),
        ("D", r"\textbf{(D)}\ 25"),
        (r"\frac{15}{2}", r"\textbf{(D)}\ \frac{15}{2}"),
        ("25", r"(D) 25"),
    ],
    "a name before the value": [
        ("5", "x = 5"),
        ("5", "$x=5$"),
        (r"\frac{1}{3}", r"k = \frac{1}{3}"),
        ("5", "f(2) = 5"),
        ("11", r"x \approx 11"),
        ("(3,2)", "(p, q) = (3, 2)"),
        ("x = 5", "5 = x"),
        ("7", r"\angle ABC = 7"),
        ("4", "AB = 4"),
        ("19", "a_{37} = 19"),
        ("[0,1]", r"x \in [0,1]"),
        ("[0,1]", "x \u2208 [0, 1]"),
    ],
    "roots and powers": [
        (r"\sqrt{2}", r"\sqrt2"),
        (r"\sqrt{2}", r"\sqrt 2"),
        (r"\sqrt{2}", "sqrt(2)"),
        (r"\sqrt{2}", "\u221a2"),
        (r"\sqrt{2}", r"2^{1/2}"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        (r"\sqrt{8}", "2*sqrt(2)"),
        (r"\sqrt[3]{2}", r"\sqrt[3]2"),
        (r"\sqrt[3]{2}", r"2^{\frac{1}{3}}"),
        (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt3}"),
        (r"3 + 2\sqrt{2}", r"2\sqrt{2} + 3"),
        (r"(1+\sqrt{2})^2", r"3 + 2\sqrt{2}"),
        (r"2^{10}", "1024"),
    ],
    "pi, e, i, infinity": [
        (r"\pi", "pi"),
        (r"\pi", "\u03c0"),
        (r"2\pi", "2*pi"),
        (r"2\pi", "2\u03c0"),
        (r"\frac{\pi}{4}", "pi/4"),
        (r"\frac{5\pi}{4}", r"\frac{5}{4}\pi"),
        (r"\frac{9}{4}\pi", r"\frac94\pi"),
        (r"\infty", "oo"),
        (r"\infty", "\u221e"),
        (r"1-\frac{1}{e}", r"1 - e^{-1}"),
        ("3+4i", "4i+3"),
        (r"e^{2}", "e^2"),
    ],
    "expressions": [
        ("x^2+2x+1", "x^2 + 2*x + 1"),
        ("x^2+2x+1", "1 + 2x + x^2"),
        ("x^2+2x+1", "(x+1)^2"),
        ("x^2+2x+1", "x**2 + 2*x + 1"),
        ("2-2p", "-2p + 2"),
        ("3R^2", "3 R^{2}"),
        ("p - q", "p-q"),
        ("x(x-1)", r"x \cdot (x - 1)"),
        (r"\sin x \cos y", r"\cos y \sin x"),
        ("ab", r"a \cdot b"),
        (r"\log_2 8", "3"),
        (r"\tan^2 y + 1", r"\sec^2 y"),
        ("(r+5)(r+5)", "(r+5)^2"),
        (r"n^{2} - n", "n(n-1)"),
    ],
    "equations": [
        ("y = 2x + 3", "y = 3 + 2x"),
        ("y = 2x + 3", "2x - y + 3 = 0"),
        (r"\frac{x^2}{4} + \frac{y^2}{3} = 1", r"3x^2 + 4y^2 = 12"),
        ("2x + 4y = 3", "4x + 8y = 6"),
    ],
    "inequalities": [
        ("x > 5", "5 < x"),
        (r"x \ge 5", "x >= 5"),
        (r"x \ge 5", "x \u2265 5"),
        (r"x \geqslant 5", r"x \geq 5"),
    ],
    "intervals": [
        ("[-2,7]", "[-2, 7]"),
        ("[-2,7]", r"\left[-2, 7\right]"),
        ("[-2,7)", r"\big[-2, 7\big)"),
        (r"(-\infty, 3]", r"(-oo, 3]"),
        (r"(-\infty, 3]", "(-\u221e, 3]"),
        (r"(1, \infty)", r"(1, +\infty)"),
        (r"(2,12) \cup (12,102)", "(2, 12) \u222a (12, 102)"),
        (r"(2,12) \cup (12,102)", "(2,12)U(12,102)"),
        (r"[0, \frac{1}{2})", "[0, 0.5)"),
        (r"\mathbb{R}", r"(-\infty, \infty)"),
    ],
    "tuples": [
        ("(3, 4)", "(3,4)"),
        ("(3, 4)", r"\left(3, 4\right)"),
        (r"(1, \frac{9}{2})", "(1, 4.5)"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        ("(1,2),(3,4)", "(3,4), (1,2)"),
        ("(11,7)", "(11, 7)."),
        ("(-1,2,3)", "( -1 , 2 , 3 )"),
    ],
    "sets and lists": [
        (r"\{1, 2, 3\}", r"\{3, 2, 1\}"),
        (r"\{1, 2, 3\}", "{1,2,3}"),
        ("1, 2, 3", "3, 2, 1"),
        ("1, 2, 3", "1,2,3"),
        ("1, 2, 3", "1, 2 and 3"),
        ("1, 2, 3", r"1, 2, \text{ and } 3"),
        ("1, 2", "1 or 2"),
        ("1, 2", "x = 1 or x = 2"),
        ("1, 2", r"x = 1, x = 2"),
        ("1; 2", "1, 2"),
        ("-2, 1", r"\boxed{-2} and \boxed{1}"),
        (r"\pm 3", "-3, 3"),
        (r"1 \pm \sqrt{5}", r"1 + \sqrt{5}, 1 - \sqrt{5}"),
        (r"\emptyset", r"\varnothing"),
        (r"\emptyset", r"\{\}"),
    ],
    "matrices": [
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}", r"\begin{pmatrix} \frac12 \\ 2 \end{pmatrix}"),
        (
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"\left[\begin{array}{cc}1 & 2 \\ 3 & 4\end{array}\right]",
        ),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1.0 \\ 2.0 \end{pmatrix}"),
    ],
    "doubled backslashes": [
        (r"\frac{1}{2}", r"\\frac{1}{2}"),
        (r"\sqrt{3}", r"\\sqrt{3}"),
        ("42", r"\\boxed{42}"),
        (r"\pi", r"\\pi"),
    ],
    "ratios and times": [
        ("7:32", "7 : 32"),
        ("12:30", "12:30"),
        ("11:21", r"V_1 : V_2 = 11 : 21"),
    ],
    "other bases": [
        ("2516_8", "2516_{8}"),
        ("1101_2", r"1101_{2}"),
        ("204_5", r"204_{\text{five}}"),
    ],
}  # fmt: skip

# The prediction says more or less than the gold answer, in a way that only one side may.
ONE_WAY: dict[str, Pairs] = {
    "an equation names what is asked for": [
        ("y = x^2+2x+1", "x^2+2x+1"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{\sqrt{3}}{3} \approx 0.577"),
        ("11", "5 + 6 = 11"),
    ],
    "a set without its brackets": [("1, 2", r"\{1, 2\}")],
    "an inequality as an interval": [
        (r"-2 \le x \le 7", "[-2, 7]"),
        ("0 < x < 1", "(0, 1)"),
    ],
    "whole texts": [
        ("18", "She sells 9 eggs for $2 each, so she makes 9 * 2 = $18.\n#### 18"),
        ("18", "<reasoning>9 * 2 = 18</reasoning>\n<answer>\\boxed{18}</answer>"),
        ("18", "So the answer is 18 dollars."),
        ("18", "**Answer:** 18"),
        ("18", "First \\boxed{17}, no: \\boxed{18}."),
        ("18", "She has 9 eggs and makes 18"),
        (r"\frac{3}{4}", r"Therefore the probability is $\frac{3}{4}$."),
        ("(7,6)", "So the pair $(x, y)$ that solves it is $(7, 6)$."),
        ("3", "Final Answer: Jane started growing Sphere 3 hours ago. I hope it is correct."),
        ("10455", "It is \\boxed{255}. The final answer is $10,455$. I hope it is correct."),
        ("x+11", r"This yields $\boxed{x+11}$ or $\boxed{11+x}$."),
    ],
}  # fmt: skip

# The gold answer is an equation, and its right side alone is not it.
TOO_LITTLE: Pairs = [("2x + z = 1", "1"), ("a + 3z = 0", "0"), ("a^2 + b = 0", "0")]

DIFFERENT: dict[str, Pairs] = {
    "numbers": [
        ("7", "8"),
        ("7", "-7"),
        ("7", "70"),
        ("7", "77"),
        ("7", "0.7"),
        ("7", ""),
        ("7", "seven cats"),
        ("5", "5.001"),
        ("1234", "1,235"),
        ("12", "1, 2"),
        ("12", "1 2"),
        ("32349", "32, 349"),
        ("1000", "1.000"),
        ("10", "10!"),
        ("0", r"\emptyset"),
        ("2", r"\frac{1+\sqrt{5}}{2}"),
        ("4", r"4\sqrt{2}"),
        ("100", "10^3"),
        ("2", "AZYUK2A"),
    ],
    "decimals for fractions": [
        (r"\frac{1}{3}", "0.3"),
        (r"\frac{1}{3}", "0.3334"),
        (r"\frac{2}{3}", "0.6666"),
        (r"\frac{1}{8}", "0.13"),
        (r"\frac{1}{3}", "0.34"),
        (r"\frac{1}{3}", "3"),
        (r"\frac{1}{2}", r"\frac{2}{1}"),
        ("12 3/5", "123/5"),
        (r"12\frac{3}{5}", r"\frac{36}{5}"),
    ],
    "a list does not win by holding the answer": [
        ("7", "6, 7, 8"),
        ("7", "7 or 8"),
        ("7", "7, 8"),
        ("7", r"\{7, 8\}"),
        ("7", r"\boxed{7} or \boxed{8}"),
        ("7", r"\boxed{7, 8}"),
        ("7", "x = 7 or x = 8"),
        ("7", "either 7 or 8"),
        ("7", r"\pm 7"),
        ("7", "1 2 3 4 5 6 7 8 9"),
        ("7", "7 and 8"),
        ("7", "[7, 8]"),
        ("7", "(7, 7)"),
        ("7", "7; 8; 9"),
        ("7", r"7 \text{ or } 8"),
        (r"\frac{1}{2}", r"\frac{1}{2}, \frac{1}{3}"),
        (r"\sqrt{67}", r"\sqrt{67}, -\sqrt{85}"),
        ("C", "A, B, C, D"),
        ("C", "A or C"),
        ("1, 2", "1, 2, 3"),
        ("1, 2, 3", "1, 2"),
        (r"\{1, 2\}", r"\{1, 2, 3\}"),
        ("Evelyn", "Evelyn or Carla"),
    ],
    "order counts in tuples and intervals": [
        ("(2,4)", "(4,2)"),
        ("(2,4)", "(2,4,6)"),
        ("[2,5)", "[2,5]"),
        ("(2,5)", "[2,5)"),
        ("[2,5)", "[2,6)"),
        (r"(-\infty, 3]", r"(-\infty, 3)"),
        (r"(2,12) \cup (12,102)", "(2, 102)"),
        ("(1,2),(3,4)", "(1,2)"),
        ("(1,2),(3,4)", "(1,3),(2,4)"),
    ],
    "expressions": [
        ("x^2+2x+1", "x^3+2x+1"),
        ("x+1", "x-1"),
        ("p - q", "q - p"),
        ("3R^2", "3R"),
        ("ab", "a+b"),
        (r"\sqrt{2}", "2"),
        (r"\sqrt{2}", "1.4"),
        (r"\sqrt[3]{2}", r"\sqrt{2}"),
        (r"\pi", "3"),
        (r"\pi", "3.14"),
        (r"2\pi", r"\pi"),
        ("(a+5)(b+2)", "(+5)(b+2)"),
        ("x+2n+1", "x+1"),
        (r"\sin x", r"\cos x"),
    ],
    "equations and inequalities": [
        ("y = 2x + 3", "y = 2x - 3"),
        ("x > 5", "x < 5"),
        ("x > 5", r"x \ge 5"),
        (r"x \ge 5", r"x \le 5"),
        (r"-2 \le x \le 7", r"-2 < x < 7"),
    ],
    "words and choices": [
        (r"\text{east}", r"\text{west}"),
        ("odd", r"\text{oddd}"),
        ("C", "B"),
        ("C", "(B)"),
        ("D", r"\textbf{(C)}\ 25"),
        ("25", r"\textbf{(D)}\ 24"),
        ("yes", "no"),
        ("True", "False"),
        ("Evelyn", "Eve"),
        ("E", r"\mathrm{E} \cdot 2"),
    ],
    "matrices, times, bases": [
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
        ("12:00", "1:00"),
        ("7:32", "32:7"),
        ("2516_8", "2516_9"),
    ],
    "whole texts": [
        ("17", "First \\boxed{17}, no: \\boxed{18}."),
        ("9", "She sells 9 eggs for $2 each.\n#### 18"),
        ("9", "There are 9 eggs. The answer is 18."),
        ("42", "<think>It is \\boxed{42}.</think> It is \\boxed{43}."),
        ("42", "<think>It is \\boxed{42}.</think> I do not know."),
    ],
}  # fmt: skip


def _rows(table: dict[str, Pairs]) -> list[Any]:
    return [
        pytest.param(gold, prediction, id=f"{kind}: {gold} | {prediction}"[:90])
        for kind, pairs in table.items()
        for gold, prediction in pairs
    ]


def test_the_table_is_large_enough() -> None:
    assert len(_rows(SAME)) >= 200
    assert len(_rows(DIFFERENT)) >= 80


@pytest.mark.parametrize(("gold", "prediction"), _rows(SAME))
def test_same(gold: str, prediction: str) -> None:
    assert is_equivalent(gold, prediction)
    assert is_equivalent(prediction, gold)


@pytest.mark.parametrize(("gold", "prediction"), _rows(ONE_WAY))
def test_same_as_gold_only(gold: str, prediction: str) -> None:
    assert is_equivalent(gold, prediction)


@pytest.mark.parametrize(("gold", "prediction"), TOO_LITTLE)
def test_too_little(gold: str, prediction: str) -> None:
    assert not is_equivalent(gold, prediction)


@pytest.mark.parametrize(("gold", "prediction"), _rows(DIFFERENT))
def test_different(gold: str, prediction: str) -> None:
    assert not is_equivalent(gold, prediction)
    assert not is_equivalent(prediction, gold)
