"""docs/faults.md says what was tried: every row has its test, every test here its row."""

import ast
from pathlib import Path

from tests.attacks.table import BEGIN, END, PAGE, areas, tables

TESTS = Path(__file__).resolve().parents[1]
OF_THE_TABLE = Path(__file__).name


def names(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = (node.name for node in tree.body if isinstance(node, ast.FunctionDef))
    return {name for name in found if name.startswith("test_")}


def test_the_page_is_that_of_the_table() -> None:
    """After a change: python -m tests.attacks.table."""
    text = PAGE.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) : text.index(END) + len(END)] == tables()


def test_every_attack_has_its_test() -> None:
    for attacks in areas().values():
        for attack in attacks:
            file, _, name = attack.test.partition("::")
            assert name in names(TESTS / file), attack.test


def test_no_attack_stands_twice() -> None:
    for area, attacks in areas().items():
        told = [attack.attack for attack in attacks]
        assert len(told) == len(set(told)), area


def test_every_test_of_this_folder_is_in_the_table() -> None:
    used = {attack.test for attacks in areas().values() for attack in attacks}
    for file in sorted((TESTS / "attacks").glob("test_*.py")):
        if file.name == OF_THE_TABLE:
            continue
        tried = {name for name in names(file) if f"attacks/{file.name}::{name}" in used}
        assert tried, f"{file.name} has no row"
