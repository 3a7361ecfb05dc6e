"""The site: every page of docs/ has its place in the menu, and `make docs` builds it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
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


def test_no_page_links_out_of_docs() -> None:
    """The site holds docs/ alone: such a link fails the strict build."""
    for page in (ROOT / "docs").glob("*.md"):
        assert re.findall(r"\]\(\.\./[^)]*", page.read_text(encoding="utf-8")) == [], page.name


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip("needs the extra docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert (tmp_path / "getting_started" / "index.html").exists()
    assert "igpo" in (tmp_path / "search" / "search_index.json").read_text(encoding="utf-8")
