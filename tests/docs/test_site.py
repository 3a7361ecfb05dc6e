"""The site: every page of docs/ has its place in the menu, and `make docs` builds it."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def pages_in(menu: object) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    parts = menu.values() if isinstance(menu, dict) else menu
    return [page for part in parts for page in pages_in(part)]


def test_every_page_is_in_the_menu_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    written = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages_in(config["nav"])) == sorted(written)
    assert config["strict"] is True  # a broken link fails the build
