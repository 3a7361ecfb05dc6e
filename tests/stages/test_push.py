"""An export is uploaded with its card to a stand-in hub, without secrets and private paths."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning import compose
from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.model_card import model_card, public
from igpo_lightning.reporting.run_data import read_run
from tests.reporting.run_folder import write_run
from tests.stages.hub_server import Hub, hub

CODE = (
    "import sys; from pathlib import Path\n"
    "from igpo_lightning.errors import ConfigError, RunError\n"
    "from igpo_lightning.stages.push import push, require_token\n"
    "try:\n"
    "    require_token('me/model'); print(push(Path(sys.argv[1]), 'me/model'))\n"
    "except (ConfigError, RunError) as error:\n"
    "    sys.exit(f'error: {error}')\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export = tmp_path / "export"
    export.mkdir()
    run = write_run(tmp_path / "run", ["inpaint.ratio=0.4", "data.path=/home/me/secret/own.jsonl"])
    (export / "README.md").write_text(model_card(read_run(run)))
    (export / "model.safetensors").write_bytes(bytes(range(256)))
    return export


def push(server: Hub, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads its address when it is imported."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    place = {"HF_ENDPOINT": server.address, "HF_HOME": str(folder.parent / "home")}
    return subprocess.run(
        (sys.executable, "-c", CODE, str(folder)),
        env={**kept, **place, "HF_HUB_DISABLE_XET": "1", **extra},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_push_creates_a_private_repository_and_uploads_every_file(folder: Path) -> None:
    with hub() as server:
        done = push(server, folder, HF_TOKEN="hf_abc")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("/me/model")
        assert server.created[0]["name"] == "model"
        assert server.created[0]["visibility"] == "private", server.created
        assert server.files["model.safetensors"] == bytes(range(256))
        assert server.files["README.md"] == (folder / "README.md").read_bytes()
        assert server.tokens == {"Bearer hf_abc"}
        assert not any(b"hf_abc" in content for content in server.files.values())


def test_nobody_logged_in_is_told_before(folder: Path) -> None:
    with hub() as server:
        done = push(server, folder)
        assert done.returncode == 1
        assert "nobody is logged in to the hub; run `hf auth login`" in done.stderr
        assert not server.created


def test_a_hub_that_refuses_ends_in_one_line(folder: Path) -> None:
    with hub(refuses=True) as server:
        done = push(server, folder, HF_TOKEN="hf_abc")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "stage.hub=me/model: cannot upload" in line
    assert "403" in line
    assert "Traceback" not in done.stderr


def test_the_card_says_what_was_done_and_no_path(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "/home/me" not in card
    assert "python -m igpo_lightning inpaint.ratio=0.4 data.path=own.jsonl" in card
    assert "| accuracy after training | 60.0 % [55.0, 65.0] |" in card
    assert "over 400 problems" in card
    assert "| stage.steps | 20 |" in card


def test_names_on_the_hub_are_public_and_paths_are_not() -> None:
    assert public("GSAI-ML/LLaDA-8B-Instruct") == "GSAI-ML/LLaDA-8B-Instruct"
    assert public("/home/me/models/own") == "own"
    assert public("runs/sft/export") == "export"
    assert public("tiny") == "tiny"


def test_a_name_that_no_repository_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stage.hub=model: give owner/name"):
        compose(["stage=export", "checkpoint=x", "stage.hub=model"])
