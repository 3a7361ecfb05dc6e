"""Text that a stranger wrote reaches the terminal without power over it, wherever it is printed."""

import io
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from igpo_lightning.data.problem import Problem
from igpo_lightning.data.prompts import encode_problem
from igpo_lightning.diffusion.sampler import DenoiseOutput
from igpo_lightning.models.tokenizer import train_tokenizer
from igpo_lightning.reporting.tables import print_eval_table
from igpo_lightning.reporting.unmasking import print_unmasking
from igpo_lightning.reporting.visible import visible
from igpo_lightning.settings import PromptConfig
from igpo_lightning.stages import inspect

ATTACKS = {
    "a window's title": "\x1b]0;owned\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a hidden link": "\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\",
    "a control of eight bits": "\x9b2J",
    "an overwritten line": "good\rbad",
    "a turned direction": "abc\u202edcba",
    "markup that is closed": "[/red]",
    "markup that is obeyed": "[bold red]x",
}
# Rich sets colours itself; nothing else may reach the terminal.
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def harmless(printed: str) -> bool:
    return visible(COLOUR.sub("", printed)) == COLOUR.sub("", printed)


@given(st.text())
def test_nothing_a_terminal_obeys_is_left(text: str) -> None:
    shown = visible(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert visible(shown) == shown
    shown.encode()


def test_what_is_shown() -> None:
    assert visible("a\x1b[2J\tb\n\x7f\x9b\u202e\ud800") == (
        "a\u241b[2J\tb\n\u2421\\u009b\\u202e\\ud800"
    )
    assert visible("2 \u2212 1 = \u03c0, \u2713") == "2 \u2212 1 = \u03c0, \u2713"


@pytest.mark.parametrize("name", ATTACKS)
def test_generate(name: str) -> None:
    tokenizer = train_tokenizer(["abc " + "".join(ATTACKS.values())] * 4, 400)
    ids = torch.tensor([tokenizer(ATTACKS[name], add_special_tokens=False)["input_ids"]])
    output = DenoiseOutput(
        ids, torch.zeros_like(ids).bool(), torch.zeros_like(ids), torch.ones(ids.shape), 1
    )
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    plain = print_unmasking(output, tokenizer, -1, console)
    assert plain == tokenizer.decode(ids[0].tolist())
    assert harmless(screen.getvalue())


@pytest.mark.parametrize("name", ATTACKS)
def test_inspect(name: str) -> None:
    attack = ATTACKS[name]
    tokenizer = train_tokenizer(["abc " + "".join(ATTACKS.values())] * 4, 400)
    problem = Problem(f"id{attack}", f"Q {attack}", f"T {attack} so 7", f"7{attack}")
    encoded = encode_problem(problem, tokenizer, PromptConfig("{question}", "{solution}", 999))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    console.print(inspect._row(encoded, {"prompt": 9, "trace": 9}, tokenizer))
    assert harmless(screen.getvalue())
    assert visible(attack) in screen.getvalue()


@pytest.mark.parametrize("name", ATTACKS)
def test_tables(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_eval_table(Path("run[1]"), ATTACKS[name], {"before": None, "after": None}, [], 1)
    printed = capsys.readouterr().out
    assert harmless(printed)
    assert "run[1]" in printed
    assert visible(ATTACKS[name]) in printed
