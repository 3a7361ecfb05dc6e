"""The memory that docs/recipes.md names is what the plan of the same command says."""

import re
import shlex

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.stages import plan
from tests.composing import composed
from tests.docs.commands import ROOT

ROW = re.compile(r"^\| `([^`]+)` \| ([\d.]+) \|", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs" / "recipes.md").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("command", "gib"), ROWS)
def test_the_plan_says_the_same(command: str, gib: str) -> None:
    config = composed(*shlex.split(command), "dry_run=true", "logger=[]")
    validate(config)
    assert f"{plan.announce(config)['total'] / 2**30:.2f}" == gib


def test_each_place_has_numbers() -> None:
    assert len(ROWS) >= 20
