"""Numbers that combine honestly."""

from igpo_lightning.rl.measures import Measure, join_measures, mean, measured_values


def test_means_of_unequal_parts_are_weighted():
    """Three tokens that sum to 3 and one of 5: (3 + 5) / 4, not (1 + 5) / 2."""
    joined = join_measures([{"a": mean(3.0, 3)}, {"a": mean(5.0, 1)}])
    assert measured_values(joined) == {"a": 2.0}


def test_the_largest_stays_the_largest_and_sums_add_up():
    joined = join_measures(
        [
            {"top": Measure("max", 1.5), "all": Measure("sum", 2)},
            {"top": Measure("max", 1.2), "all": Measure("sum", 3)},
            {"top": Measure("max", 1.4)},
        ]
    )
    assert measured_values(joined) == {"top": 1.5, "all": 5}


def test_a_mean_over_nothing_is_left_out():
    assert measured_values({"a": mean(0.0, 0), "b": mean(0.0, 2)}) == {"b": 0.0}
