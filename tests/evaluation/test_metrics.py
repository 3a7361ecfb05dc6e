"""Accuracy and pass@k by hand, by enumeration, and in expectation."""

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igpo_lightning.evaluation.metrics import (
    accuracy,
    accuracy_of,
    interval_over_problems,
    pass_at_k,
    pass_curve,
    wilson_interval,
)

samples_and_k = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.lists(st.booleans(), min_size=n, max_size=n), st.integers(1, n))
)


def test_pass_at_k_by_hand() -> None:
    # Of 4 samples 1 is right: C(3, 2) = 3 of the C(4, 2) = 6 pairs hold no right one.
    assert pass_at_k(4, 1, 1) == 1 - 3 / 4
    assert pass_at_k(4, 1, 2) == 1 - 3 / 6
    assert pass_at_k(4, 1, 4) == 1
    # Of 5 samples 2 are right: C(3, 3) = 1 of the C(5, 3) = 10 triples holds no right one.
    assert pass_at_k(5, 2, 3) == 1 - 1 / 10
    assert pass_at_k(16, 0, 16) == 0
    assert pass_at_k(1, 1, 1) == 1


@given(samples_and_k)
def test_it_is_the_share_of_subsets_with_a_right_sample(case: tuple[list[bool], int]) -> None:
    verdicts, k = case
    subsets = list(combinations(verdicts, k))
    share = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k(len(verdicts), sum(verdicts), k) == pytest.approx(share, abs=1e-12)


@given(
    st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.floats(0, 1),
)
def test_it_is_unbiased(case: tuple[int, int], chance: float) -> None:
    """Over c ~ Binomial(n, p) the mean is 1 - (1 - p)^k, which 1 - (1 - c / n)^k does not reach."""
    n, k = case
    expected = sum(
        math.comb(n, c) * chance**c * (1 - chance) ** (n - c) * pass_at_k(n, c, k)
        for c in range(n + 1)
    )
    assert expected == pytest.approx(1 - (1 - chance) ** k, abs=1e-9)


@pytest.mark.parametrize("case", [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0)])
def test_what_it_is_not_defined_for(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(*case)


def test_a_curve_by_hand() -> None:
    """Two problems, 1 and 3 of 6 right: pass@1 = (1/6 + 3/6) / 2; no pair misses by C(5,2)/15."""
    curve = pass_curve([[True] + 5 * [False], 3 * [True, False]])
    assert list(curve) == [1, 2, 4, 6]
    assert curve[1][0] == pytest.approx((1 / 6 + 3 / 6) / 2)
    # 1 - C(5,2)/C(6,2) = 1 - 10/15 and 1 - C(3,2)/C(6,2) = 1 - 3/15.
    assert curve[2][0] == pytest.approx((5 / 15 + 12 / 15) / 2)
    # 1 - C(5,4)/C(6,4) = 1 - 5/15; four samples of which three are wrong always hold a right one.
    assert curve[4][0] == pytest.approx((10 / 15 + 1) / 2)
    # Both problems are solved by six: no variance, so Wilson's interval of 2 of 2.
    assert curve[6] == [1.0, *wilson_interval(2, 2)]


@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=6))
def test_a_curve_rises_and_begins_at_the_mean(verdicts: list[list[bool]]) -> None:
    curve = pass_curve(verdicts)
    means = [mean for mean, _, _ in curve.values()]
    assert means == sorted(means)
    assert means[0] == pytest.approx(accuracy(verdicts).mean)
    # Of all n samples together a problem is solved or it is not.
    assert means[-1] == pytest.approx(sum(map(any, verdicts)) / len(verdicts))
    assert all(0 <= low <= mean <= high <= 1 for mean, low, high in curve.values())


def test_the_interval_over_problems_by_hand() -> None:
    # Mean 1/2; variance (1/4 + 1/4) / 1 = 1/2, standard error sqrt(1/2 / 2) = 1/2.
    mean, low, high = interval_over_problems([0.0, 1.0])
    assert (mean, low, high) == (0.5, 0.0, 1.0)
    # 1/4, 1/2, 3/4: variance 1/16, standard error sqrt(1/48) = 0.1443; times 1.96: 0.2829.
    mean, low, high = interval_over_problems([0.25, 0.5, 0.75])
    assert (round(mean, 4), round(low, 4), round(high, 4)) == (0.5, 0.2171, 0.7829)
    assert interval_over_problems([0.5]) == (0.5, 0.0, 1.0)
    # None of 83 problems solved says that at most z^2 / (83 + z^2) = 3.84 / 86.84 are.
    mean, low, high = interval_over_problems(83 * [0.0])
    assert (mean, low, round(high, 4)) == (0.0, 0.0, 0.0442)


def test_accuracy_of_records() -> None:
    """One sample a problem: Wilson's interval and no curve; several: avg@k with one."""
    single = accuracy_of([{"id": "a", "correct": True}, {"id": "b", "correct": False}])
    assert (single.mean, single.problems, single.samples) == (0.5, 2, 1)
    assert (single.low, single.high) == wilson_interval(1, 2)
    assert single.pass_at_k is None
    several = accuracy_of(
        [{"id": name, "correct": name == "a" and place == 0} for name in "ab" for place in range(2)]
    )
    assert (several.mean, several.problems, several.samples) == (0.25, 2, 2)
    assert several.pass_at_k is not None
    assert [several.pass_at_k[k][0] for k in (1, 2)] == [0.25, 0.5]
