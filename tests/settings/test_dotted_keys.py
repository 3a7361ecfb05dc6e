"""Nested settings and their dotted keys."""

from igpo_lightning.config import dotted


def test_leaves_bear_the_names_of_their_groups() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, 3: None}
    assert dotted(nested) == {"a.b.c": 1, "a.d": [{"e": 2}], "3": None}


def test_an_empty_group_is_kept_so_that_its_absence_can_be_told() -> None:
    assert dotted({"a": {}, "b": {"c": {}}}) == {"a": {}, "b.c": {}}
    assert dotted({}) == {}
