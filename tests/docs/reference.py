"""Writes docs/reference.md: every config group with its files and keys, from conf/ and the schemas.

`python -m tests.docs.reference` writes it again after a change of either.
"""

import ast
import dataclasses
import inspect
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from igpo_lightning.config import CONF
from igpo_lightning.settings import STAGES, Settings
from tests.docs.commands import ROOT

PAGE = ROOT / "docs" / "reference.md"
HEAD = """# Every group, file and key

Made from `conf/` and the schemas by `python -m tests.docs.reference`; a test holds it to them.
[configuration.md](configuration.md) says how to use it. A default is the schema's; a file of the
group may set another, and so do `sizes` for the embedded model.
"""


def comments_of(schema: type) -> dict[str, str]:
    """What the source says about each field: beside it, or above where the line has no room."""
    text = inspect.getsource(schema)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    (definition,) = ast.parse(text).body
    assert isinstance(definition, ast.ClassDef)
    found, before = {}, definition.lineno
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.end_lineno or node.lineno
            lines = [*range(node.lineno, last + 1)]
            if not set(lines) & set(comments):
                lines = [*range(before + 1, node.lineno)]
            found[node.target.id] = " ".join(comments[n] for n in lines if n in comments)
        before = node.end_lineno or node.lineno
    return found


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = field.default
    if isinstance(value, str):
        return value or "''"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def keys_of(schema: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning of each field, those of nested groups among them."""
    types = get_type_hints(schema)
    comments: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if dataclasses.is_dataclass(base):
            comments |= comments_of(base)
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(types[field.name]):
            yield from keys_of(types[field.name], f"{prefix}{field.name}.")
        elif not (prefix == "stage." and field.name == "name"):
            yield f"{prefix}{field.name}", default_of(field), comments[field.name]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def key_table(schema: type, prefix: str) -> str:
    rows = [f"| `{k}` | `{cell(d)}` | {cell(c)} |" for k, d, c in keys_of(schema, prefix)]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n" if rows else ""


def choose_when(file: Path) -> str:
    """The comment that a file begins with."""
    lines = file.read_text().splitlines()
    lines = lines[1:] if lines[0].startswith("# @package") else lines
    count = next(i for i, line in enumerate([*lines, ""]) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:count])


def file_table(group: str) -> str:
    rows = [
        f"| `{file.stem}` | {cell(choose_when(file))} |"
        for file in sorted((CONF / group).glob("*.yaml"))
    ]
    return "\n".join([f"| `{group}=` | when |", "|---|---|", *rows]) + "\n"


def page() -> str:
    parts = [HEAD]
    types = get_type_hints(Settings)
    folders = [str(p.relative_to(CONF)) for p in sorted(CONF.rglob("*")) if p.is_dir()]
    folders = [name for name in folders if list((CONF / name).glob("*.yaml"))]
    groups = [
        f.name for f in dataclasses.fields(Settings) if dataclasses.is_dataclass(types[f.name])
    ]
    top = [f for f in dataclasses.fields(Settings) if f.name not in groups]
    meanings = comments_of(Settings)
    for group in [*groups, *(name for name in folders if name not in groups)]:
        parts.append(f"## {group}\n")
        if group in folders:
            parts.append(file_table(group))
        if group == "stage":
            rows = [
                f"| `{name}` | {cell(inspect.cleandoc(s.__doc__ or ''))} |"
                for name, s in STAGES.items()
            ]
            parts.append("\n".join(["| `stage=` | when |", "|---|---|", *rows]) + "\n")
            for name, schema in STAGES.items():
                table = key_table(schema, "stage.")
                parts.append(
                    f"`stage={name}`\n\n{table}" if table else f"`stage={name}`: no keys\n"
                )
        elif group in groups:
            parts.append(key_table(types[group], f"{group}."))
    rows = [f"| `{f.name}` | `{default_of(f)}` | {cell(meanings[f.name])} |" for f in top]
    parts.append("## At the top\n")
    parts.append("\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
