"""Links lead somewhere, the index knows every page, and no group, file or key is left out."""

import re
from pathlib import Path

import pytest

import igpo_lightning.diffusion
import igpo_lightning.inpainting
import igpo_lightning.models
import igpo_lightning.rewards
import igpo_lightning.rl
from igpo_lightning.config import CONF
from igpo_lightning.settings import Settings
from tests.docs import reference
from tests.docs.commands import PAGES, ROOT

DOCS = ROOT / "docs"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", page.read_text()):
        if target.startswith("http"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w]+\.md)\)", (DOCS / "README.md").read_text()))
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert linked == pages, "add the page to docs/README.md"


@pytest.mark.parametrize("page", [*PAGES, *CONF.rglob("*.yaml")], ids=lambda page: page.name)
def test_a_page_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"\bdocs/(\w+\.md)\b", page.read_text()):
        assert (DOCS / name).exists(), name


# ---- the reference -------------------------------------------------------------------------------


def test_the_reference_is_what_conf_and_the_schemas_say() -> None:
    assert reference.PAGE.read_text() == reference.page(), (
        "run python -m tests.docs.reference to write docs/reference.md again"
    )


def test_every_group_and_every_file_is_in_it() -> None:
    text = reference.PAGE.read_text()
    for file in CONF.rglob("*.yaml"):
        group = str(file.parent.relative_to(CONF))
        if group != ".":
            assert f"## {group}\n" in text
            assert re.search(rf"^\| `{file.stem}` \| .{{20}}", text, re.MULTILINE), file


def test_every_key_has_a_meaning() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `[^`]*` \| (.*) \|$", reference.PAGE.read_text(), re.M)
    assert len(rows) > 150
    assert [key for key, meaning in rows if len(meaning) < 4] == []
    keys = {key for key, _ in rows}
    assert {"sampler.steps", "model.lora.rank", "inpaint.ratio", "data.columns", "seed"} <= keys


def test_the_overview_names_every_group() -> None:
    text = (DOCS / "configuration.md").read_text()
    groups = {str(f.parent.relative_to(CONF)) for f in CONF.rglob("*.yaml")} - {"."}
    groups |= {name for name in Settings.__dataclass_fields__}
    assert sorted(g for g in groups if f"`{g}`" not in text and f"`{g}=" not in text) == []


# ---- what outside code relies on -----------------------------------------------------------------


@pytest.mark.parametrize("room", ["diffusion", "inpainting", "models", "rewards", "rl"])
def test_the_names_of_a_room_are_explained(room: str) -> None:
    text = (DOCS / "extending.md").read_text() + (DOCS / "python.md").read_text()
    public = {
        "diffusion": ("SamplerConfig", "denoise"),
        "inpainting": ("chunk_trace", "choose_hints"),
        "models": ("load_backbone", "save_export", "register_backbone"),
        "rewards": ("extract_answer", "is_equivalent", "GradingPool"),
        "rl": ("group_advantages", "entropy_filter", "policy_loss"),
    }[room]
    for name in public:
        assert name in getattr(igpo_lightning, room).__all__
        assert re.search(rf"[`@.]{name}\b", text), name
