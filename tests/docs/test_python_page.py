"""docs/python.md runs as it stands, prints what it shows, and names what there is."""

import contextlib
import importlib
import io
import re
from typing import Any

from tests.docs.commands import ROOT

PAGE = ROOT / "docs" / "python.md"
BLOCK = r"^```(\w+)\n(.*?)^```"
LLADA = "## The same with LLaDA"


def blocks(text: str, language: str) -> list[str]:
    return [code for name, code in re.findall(BLOCK, text, re.M | re.S) if name == language]


def run(code: str) -> tuple[dict[str, Any], str]:
    """The names that the code leaves, and what it prints."""
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), names)
    return names, printed.getvalue()


def test_the_page_prints_what_it_shows() -> None:
    page, _ = PAGE.read_text().split(LLADA)
    names, printed = run("\n".join(blocks(page, "python")))
    assert printed == "".join(blocks(page, "text"))
    # What the page says about the output: hints turn an all-wrong group into right answers.
    assert names["rewards"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert names["wrong"] < 0 < names["right"]


def test_the_line_for_llada_gives_what_the_page_uses() -> None:
    """Its settings are the 8B model's, GSM8K's and the paper's lengths; nothing is loaded."""
    page, llada = PAGE.read_text().split(LLADA)
    (line,) = blocks(llada, "python")
    names, _ = run(f"import torch\nfrom igpo_lightning import compose\n{line}")
    settings = names["settings"]
    assert settings.model.path == "GSAI-ML/LLaDA-8B-Instruct"
    assert settings.data.name == "gsm8k"
    assert settings.sampler.completion_length == 256
    assert line.split(" = ")[0] + " = " in page, "the line takes the place of one above"


def test_every_name_of_the_table_exists_and_is_documented() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M)
    assert len(rows) > 10
    for row in rows:
        names = [re.split(r"[(]", name)[0] for name in re.findall(r"`([^`]+)`", row)]
        room, _, first = names[0].rpartition(".")
        package = importlib.import_module(f"igpo_lightning.{room}".removesuffix("."))
        for name in [first, *names[1:]]:
            documentation = getattr(package, name).__doc__ or ""
            assert len(documentation) > 30, f"{package.__name__}.{name}"
            assert name in package.__all__
