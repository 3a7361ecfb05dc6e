"""Who may enter which room: imports go down a list, and never in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "igpo_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A file may import from its own room and from those above it in this list.
ROOMS = (
    "errors",
    "settings",
    "config",
    "distributed",
    "models",
    "rewards",
    "inpainting",
    "diffusion",
    "data",
    "optimization",
    "plugins",
    "runs",
    "rewriting",
    "evaluation",
    "reporting",
    "sft",
    "rl",
    "sweeping",
    "checks",
    "stages",
    "lm_eval",
    "cli",
    "__main__",
)
# The package's own file offers names of any room to scripts and notebooks.
SHOP_WINDOW = "__init__.py"

# Which files may import a library, as prefixes of their paths.
LIBRARIES = {
    "lightning": (
        *("data/datamodules.py", "evaluation/module.py", "sft/module.py", "rl/module.py"),
        *("runs/", "stages/"),
    ),
    "torch.distributed": ("distributed/",),
    "datasets": ("data/hub.py",),
    "hydra": (
        *("cli.py", "config.py", "sweeping.py", "reporting/sweep.py", "stages/"),
        *("runs/interruption.py", "checks/start.py", "__init__.py"),
    ),
}
# Rooms that are functions over tensors and settings, or that must be quick to load.
TORCH_FREE = ("errors.py", "settings/", "checks/", "rewards/", "sweeping.py")


def imports(file: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, those within functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            module = node.module or ""
            yield module
            # `from igpo_lightning import stages` names a room; `from x import f` adds no module.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def place(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def room(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def own_rooms(file: Path) -> set[str]:
    """The rooms of this package that a file imports from."""
    names = [name.split(".") for name in imports(file)]
    return {parts[1] for parts in names if parts[0] == "igpo_lightning" and len(parts) > 1} & {
        *ROOMS
    }


def uses(file: Path, library: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for name in imports(file))


def test_every_room_has_its_place() -> None:
    found = {room(file) for file in FILES} - {"__init__"}
    assert found <= set(ROOMS), "a room that this list does not know"


@pytest.mark.parametrize("file", FILES, ids=place)
def test_imports_go_down(file: Path) -> None:
    if place(file) == SHOP_WINDOW:
        return
    floor = ROOMS.index(room(file))
    assert [name for name in own_rooms(file) if ROOMS.index(name) > floor] == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_where_it_belongs(library: str) -> None:
    users = [place(file) for file in FILES if uses(file, library)]
    assert users
    assert [user for user in users if not user.startswith(LIBRARIES[library])] == []


def test_no_torch_where_a_launch_is_checked() -> None:
    users = [place(file) for file in FILES if uses(file, "torch") or uses(file, "lightning")]
    assert [user for user in users if user.startswith(TORCH_FREE)] == []


def test_settings_import_errors_alone() -> None:
    files = [file for file in FILES if room(file) == "settings"]
    assert [place(f) for f in files if own_rooms(f) - {"errors", "settings"}] == []


def circles(links: dict[str, set[str]]) -> list[str]:
    """Names that lie on a circle of links."""
    found = []
    for start in links:
        seen: set[str] = set()
        waiting = list(links[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += links.get(name, ())
        if start in seen:
            found.append(start)
    return found


def test_files_import_each_other_in_no_circle() -> None:
    modules = {
        "igpo_lightning." + place(f).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for f in FILES
    }
    links = {}
    for file in FILES:
        own = "igpo_lightning." + place(file).removesuffix(".py").replace("/", ".")
        links[own] = {name for name in imports(file) if name in modules} - {own}
    assert circles(links) == []


def test_the_search_for_circles_finds_one() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
