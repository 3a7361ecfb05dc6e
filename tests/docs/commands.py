"""The commands of README and docs, as a reader would copy them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a line of a code block begins with if it is a command and not output.
PROGRAMS = (
    *("python", "make", "pip", "pytest", "torchrun", "srun", "sbatch", "salloc"),
    *("export", "cp", "cd", "git", "source", "tensorboard", "docker", "bash", "igpo-lightning"),
)
SHELL = ("", "bash", "sh", "console")


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        page: Its file, from the checkout.
        words: As the shell would split them.
        shown: The lines of output below it, where it stands behind a `$`.
    """

    page: str
    words: tuple[str, ...]
    shown: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def arguments(self) -> tuple[str, ...] | None:
        """What follows `-m igpo_lightning`; None where something else is called."""
        if "-m" not in self.words or self.words[self.words.index("-m") + 1] != "igpo_lightning":
            return None
        return self.words[self.words.index("igpo_lightning") + 1 :]

    @property
    def overrides(self) -> list[str]:
        """The overrides of one run; of a sweep's, the first value of each key."""
        arguments = [a for a in self.arguments or () if a not in ("-m", "--multirun")]
        if "--config-dir" in arguments:
            at = arguments.index("--config-dir")
            del arguments[at : at + 2]
        return [first_value(a) if self.is_sweep else a for a in arguments]

    @property
    def is_sweep(self) -> bool:
        arguments = self.arguments or ()
        return bool({"-m", "--multirun"} & set(arguments))


def first_value(override: str) -> str:
    """`a=1` of `a=1,2` and of `a=range(1,3)`; lists and functions of the search stay."""
    if re.search(r"[\[({]", override):
        return re.sub(
            r"=range\((\d+).*", lambda m: f"={'0' if ',' not in m[0] else m[1]}", override
        )
    return override.split(",")[0]


def lines_of(page: Path) -> Iterator[tuple[bool, str]]:
    """The lines of a page, those of a shell's code block marked; a trailing backslash joins.

    A block stands between fences, or is indented and begins with a program.
    """
    language: str | None = None
    held = ""
    indented = re.compile(rf"    (\$ )?({'|'.join(PROGRAMS)}) ")
    for line in page.read_text().splitlines():
        if language is None and (held or indented.match(line)):
            ends = not line.endswith("\\")
            held += line.strip().removesuffix("\\")
            if ends:
                yield True, held
                held = ""
        elif line.lstrip().startswith("```"):
            language = line.strip().strip("`") if language is None else None
        elif language in SHELL and line.endswith("\\"):
            held += line[:-1]
        elif language is None or language in SHELL:
            yield language is not None, held + line
            held = ""


def commands_of(page: Path) -> list[Command]:
    """In the order of the page."""
    found: list[Command] = []
    below = False  # a command with its output
    for in_block, line in lines_of(page):
        texts = [line] if in_block else re.findall(r"`([^`]+)`", line)
        below = in_block and (below or line.startswith("$ "))
        if below and not line.startswith("$ "):
            found[-1] = replace(found[-1], shown=(*found[-1].shown, line.strip()))
            continue
        for text in texts:
            text = text.strip().removeprefix("$ ")
            if text.split(" ")[0] in PROGRAMS and (in_block or " " in text):
                # "..." stands for what the reader adds.
                words = [w for w in shlex.split(text, comments=True) if w != "..."]
                found.append(Command(str(page.relative_to(ROOT)), tuple(words)))
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]
