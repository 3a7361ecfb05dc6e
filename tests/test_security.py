"""Nothing from outside is run: by the source as it is written, and by a folder made to trap it."""

import ast
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml

from igpo_lightning.errors import ConfigError
from igpo_lightning.runs import untrusted

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
# Unpickling within: a grader between this project's own processes, and a reader that refuses.
OWN_PICKLES = {"rewards/worker.py", "rewards/worker_pool.py", "runs/untrusted.py"}
# Files of the user's own, which the configuration names.
IMPORTERS = {"plugins.py"}


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Dotted names of what is called in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def arguments(call: ast.Call) -> dict[str, str]:
    return {keyword.arg or "**": ast.unparse(keyword.value) for keyword in call.keywords}


def offences(file: Path, name: str) -> Iterator[str]:
    """What in a file might run code or read a pickle that came from outside."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    for module in imported & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}:
        if name not in OWN_PICKLES:
            yield f"imports {module}"
    for called, call in calls(file):
        given = arguments(call)
        line = f"line {call.lineno}: {called}"
        if called == "torch.load" and given.get("weights_only") != "True":
            yield f"{line} without weights_only=True"
        resumes = called.endswith((".fit", ".test", ".predict")) and "ckpt_path" in given
        if resumes and given.get("weights_only") != "True":
            yield f"{line} with ckpt_path and without weights_only=True"
        if called in ("eval", "exec", "compile", "__import__"):
            yield line
        if called.endswith("exec_module") and name not in IMPORTERS:
            yield line
        if called.endswith("load_from_checkpoint"):
            yield line
        if given.get("trust_remote_code") == "True" or given.get("allow_pickle") == "True":
            yield f"{line} trusts what it reads"
        if given.get("shell") == "True" or called in ("os.system", "os.popen"):
            yield f"{line} goes through a shell"
        loader = [ast.unparse(a) for a in call.args[1:]] + list(given.values())
        reads_yaml = called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
        if reads_yaml and loader != ["_LOADER"]:
            yield f"{line} without a safe loader"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_no_source_file_reads_pickles_or_runs_text(file: Path) -> None:
    name = str(file.relative_to(ROOT / "src" / "igpo_lightning"))
    assert list(offences(file, name)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import pickle",
        "eval('1')",
        "trainer.fit(module, ckpt_path='x')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "subprocess.run('ls', shell=True)",
        "yaml.load(text, yaml.Loader)",
    ],
)
def test_the_search_finds_what_it_looks_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text(text)
    assert list(offences(tmp_path / "a.py", "a.py"))


def test_the_yaml_loader_is_a_safe_one() -> None:
    from igpo_lightning import config

    assert config._LOADER in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", None))


def test_no_configuration_trusts_code_of_a_checkpoint() -> None:
    files = list((ROOT / "conf").rglob("*.yaml"))
    assert len(files) > 50
    assert not [file for file in files if "trust_remote_code: true" in file.read_text()]
    from igpo_lightning.settings import ModelConfig

    assert ModelConfig.trust_remote_code is False


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A checkpoint as FSDP's is: tensors, and settings beside them."""
    state = {"weight": torch.arange(4.0), "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}
    dcp.save(state, checkpoint_id=tmp_path / "shards", no_dist=True)
    return tmp_path / "shards"


def test_a_sound_folder_of_shards_passes(shards: Path) -> None:
    untrusted.check_shards(shards)


def test_a_table_of_contents_that_calls_a_function_is_refused(shards: Path) -> None:
    mark = shards.parent / "it_ran"
    (shards / untrusted.METADATA).write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ConfigError, match=r"could run code.*mkdir"):
        untrusted.check_shards(shards)
    assert not mark.exists()


def test_a_setting_beside_the_tensors_that_calls_a_function_is_refused(tmp_path: Path) -> None:
    folder, mark = tmp_path / "shards", tmp_path / "it_ran"
    dcp.save({"lr": Trap(mark)}, checkpoint_id=folder, no_dist=True)
    with pytest.raises(ConfigError, match="could run code"):
        untrusted.check_shards(folder)
    assert not mark.exists()


def test_a_file_that_calls_a_function_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    torch.save({"state_dict": Trap(mark)}, tmp_path / "trap.ckpt")
    with pytest.raises(ConfigError, match="could run code"):
        untrusted.read_file(tmp_path / "trap.ckpt")
    assert not mark.exists()
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "sound.ckpt")
    assert untrusted.read_file(tmp_path / "sound.ckpt")["state_dict"]["a"].tolist() == [1, 1]
