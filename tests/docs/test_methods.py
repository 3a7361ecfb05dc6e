"""docs/objectives.md says of every method what its preset says."""

import yaml

from igpo_lightning.config import CONF
from tests.docs.methods import BEGIN, END, PAGE, SOURCES, table


def test_the_table_of_methods_is_that_of_the_presets() -> None:
    """After a change: python -m tests.docs.methods."""
    text = PAGE.read_text(encoding="utf-8")
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == table()


def test_every_preset_of_a_method_has_its_line() -> None:
    methods = set()
    for file in (CONF / "experiment").glob("*.yaml"):
        inherits = {str(item) for item in yaml.safe_load(file.read_text())["defaults"]}
        bases = {"base", "base_d1", "base_dare", "igpo_paper", "just_grpo"}
        if inherits & bases and not file.stem.startswith(("base", "hard")):
            methods.add(file.stem)
    assert methods == set(SOURCES)
