"""Every command of README and docs is run, or it is listed here why not and what is done instead.

Runs are made small by overrides. The commands of seconds that a newcomer sees first run with the
fast tests, all pages with the slow ones; that each command composes and is valid is always tested.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from igpo_lightning.checks import validate
from igpo_lightning.errors import ConfigError
from igpo_lightning.settings import Settings
from tests.composing import composed
from tests.docs.commands import COMMANDS, PAGES, PROGRAMS, ROOT, Command, first_value
from tests.docs.conftest import SMALL_RUN, Desk

# Parts of commands that are not run as they stand, and why. A part that no command has fails.
ONLY_COMPOSED = {
    "srun": "needs a Slurm cluster; tests/integration/test_slurm.py looks at what is asked of it",
    "torchrun": "needs other machines or GPUs; tests/distributed starts ranks as torchrun does",
    "hydra/launcher=slurm": "needs a Slurm cluster",
    "model=hf": "downloads a checkpoint",
    "stage.hub=": "uploads; tests/stages/test_push.py uploads to a stand-in hub",
    "stage=doctor": "takes minutes; tests/stages/test_doctor.py makes its checks",
    "rewriter=endpoint": "needs a server; tests/rewriting/test_rewriting_serve.py runs one",
    "runs/igpo_llada/export": "is there once an 8B model has been trained",
}
# A mistake on purpose: what is said about it is in the page, below the command.
MISTAKES = ("inpaint.ratio_low=0.9", "objective.loss=balancd")
# Other programs, by their first words: what is looked at instead of running them.
NOT_RUN = {
    "git clone": "downloads",
    "cd": "changes nothing",
    "source": "changes nothing",
    "pip install": "downloads; the extras that are named must exist",
    "make": "sets up .venv over the network; the target must expand and be in `make help`",
    "pytest": "is this very test run; the paths must exist",
    "python -m pytest": "likewise",
    "python -m igpo_lightning.lm_eval": "needs the extra lm_eval and the harness's data; "
    "tests/evaluation/test_lm_eval_model.py calls it",
    "python benchmarks/": "takes minutes; the script must exist and take the options",
    "python -m tests.": "writes a page, which a test compares with what would be written",
    "export": "sets the environment; the variable must be read somewhere",
}
FAST_PAGES = ("README.md",)
QUICK_STAGES = ("generate", "inspect", "report")

SMALL = {
    "rl": SMALL_RUN,
    "sft": (
        *("stage.steps=2", "stage.batch_size=4", "stage.val_every=2", "stage.val_limit=4"),
        *("data.train_size=8", "data.eval_size=8", "eval.limit=2", "trainer.threads=1"),
    ),
    "sft_then_rl": (
        "stage.sft=['stage=sft','stage.steps=2','stage.batch_size=4','stage.val_limit=4']",
        "stage.rl=['stage=rl','stage.steps=1','stage.prompts_per_step=2','stage.group_size=2']",
        *("data.train_size=8", "data.eval_size=8", "eval.limit=2"),
    ),
    "eval": ("eval.limit=4",),
    "eval_suite": ("eval.limit=2", "stage.lengths=[32]"),
    "rewrite": ("stage.limit=4",),
    "tokenizer": ("stage.examples=200",),
}
OUR_COMMANDS = [c for c in COMMANDS if c.arguments is not None]
HYDRA_ALONE = ("--help", "--cfg")


def is_mistake(command: Command) -> bool:
    return any(word in command.words for word in MISTAKES)


def listed(command: Command, words: dict[str, str]) -> bool:
    return any(word in command.text for word in words)


def configuration(command: Command) -> Settings:
    """What the command composes, its own config folder included."""
    own = [o for o in command.overrides if not o.startswith("hydra.launcher.")]
    folder = None
    if "--config-dir" in command.words:
        folder = ROOT / command.words[command.words.index("--config-dir") + 1]
    return composed(*own, folder=folder)


@pytest.mark.parametrize(
    "command",
    [c for c in OUR_COMMANDS if not set(HYDRA_ALONE) & set(c.words)],
    ids=lambda c: f"{c.page}: {c.text}",
)
def test_a_command_composes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if "hydra/launcher=slurm" in command.words:
        plugin = "hydra_plugins.hydra_submitit_launcher"
        pytest.importorskip(plugin, reason="needs the extra sweeps")
    monkeypatch.setenv("OPENAI_MODEL", "a-model")  # as docs/rewriting.md says to set it
    monkeypatch.chdir(ROOT / "examples")  # where plugins are found without Hydra's search path
    if not is_mistake(command):
        validate(configuration(command))
        return
    with pytest.raises(ConfigError) as error:
        validate(configuration(command))
    assert f"error: {error.value}" in (ROOT / command.page).read_text()


def is_planned(command: Command) -> bool:
    """Whether it needs a GPU or the weights of a large model: it is planned (dry_run=true) then."""
    return not is_mistake(command) and is_large(configuration(command))


def is_large(settings: Settings) -> bool:
    return settings.trainer.accelerator == "gpu" or settings.model.architecture is not None


def shrunk(command: Command) -> tuple[str, ...]:
    """The command's arguments with overrides that make a run of seconds of it."""
    arguments = command.arguments or ()
    if command.is_sweep:  # the first two values of the first key, the first of the others
        first = next(a for a in arguments if "," in a)
        pair = ",".join(first.split(",")[:2])
        arguments = tuple(pair if a == first else first_value(a) for a in arguments)
    if "dry_run=true" in arguments or is_mistake(command):
        return arguments
    if is_planned(command):
        return (*arguments, "dry_run=true")
    return (*arguments, *SMALL.get(configuration(command).stage.name, ()))


def run_ours(desk: Desk, command: Command) -> None:
    if listed(command, ONLY_COMPOSED) or set(HYDRA_ALONE) & set(command.words):
        return
    several = "trainer.accelerator=cpu" in command.words and "trainer.devices=2" in command.words
    status, log = (desk.run_anew if several else desk.run)(*shrunk(command))
    expected = 2 if is_mistake(command) else 0
    assert status == expected, f"{command.text}\n{log[-4000:]}"
    assert "Epoch " not in log  # a run is one pass over its steps
    printed = [line.strip() for line in log.splitlines()]
    assert [line for line in command.shown if line not in printed] == [], command.text


@pytest.mark.parametrize("page", FAST_PAGES)
def test_the_quick_commands_of_a_page_run(desk: Desk, page: str) -> None:
    ran = 0
    for command in OUR_COMMANDS:
        if command.page == page and not set(HYDRA_ALONE) & set(command.words):
            stage = configuration(command).stage.name
            if is_planned(command) or stage in QUICK_STAGES:
                run_ours(desk, command)
                ran += 1
    assert ran >= 4


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", sorted({c.page for c in OUR_COMMANDS}))
def test_the_commands_of_a_page_run_in_their_order(desk: Desk, page: str) -> None:
    for command in dict.fromkeys(COMMANDS):  # each once
        if command.page != page:
            continue
        if command.words[0] == "cp":
            source, target = (desk.folder / word for word in command.words[1:])
            shutil.copy(source, target)
        elif command.arguments is not None:
            run_ours(desk, command)


# ---- other programs ------------------------------------------------------------------------------


def first_words(command: Command) -> str:
    return next((key for key in NOT_RUN if command.text.startswith(key)), "")


OTHERS = [c for c in COMMANDS if c.arguments is None and c.words[0] != "cp"]


@pytest.mark.parametrize("command", OTHERS, ids=lambda c: f"{c.page}: {c.text}")
def test_another_program_is_called_with_what_exists(command: Command) -> None:
    kind = first_words(command)
    assert kind, f"{command.text}: say in NOT_RUN why it is not run"
    words = command.words
    if kind == "pip install":
        project = (ROOT / "pyproject.toml").read_text()
        for extra in re.findall(r"\[(\w+)\]", command.text):
            assert f"\n{extra} = [" in project
    elif kind == "make":
        text = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:.*## ", text, re.MULTILINE)
        done = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    elif "pytest" in kind:
        paths = [w for w in words if w.startswith("tests")]
        assert paths
        assert all((ROOT / path).exists() for path in paths)
    elif kind == "python benchmarks/":
        source = (ROOT / words[1]).read_text()
        assert all(f'"{w}"' in source for w in words[2:] if w.startswith("--"))
    elif kind == "export":
        names = [w.split("=")[0] for w in words[1:]]
        files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "conf").rglob("*.yaml")]
        text = "".join(file.read_text() for file in files)
        openai = ("OPENAI_BASE_URL", "OPENAI_API_KEY")  # which the client reads, too
        assert all(name in text or name in openai for name in names)


def test_make_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for command in COMMANDS:
        if command.words[0] == "make":
            assert re.search(rf"^{command.words[1]}\s", done.stdout, re.MULTILINE), command.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", sorted({c.words[1] for c in COMMANDS if first_words(c) == "python benchmarks/"})
)
def test_a_benchmark_starts(script: str) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_hydras_own_options(desk: Desk) -> None:
    status, shown = desk.run("--help")
    assert status == 0
    for group in ("objective", "inpaint", "sampler"):
        assert f"{group}: " in shown
    status, shown = desk.run("--cfg", "job")
    assert status == 0
    assert "completion_length: 48" in shown


# ---- the lists above are not stale ---------------------------------------------------------------


@pytest.mark.parametrize("word", [*ONLY_COMPOSED, *MISTAKES])
def test_a_listed_word_is_in_a_command(word: str) -> None:
    assert any(word in command.text for command in OUR_COMMANDS)


@pytest.mark.parametrize("words", NOT_RUN)
def test_a_listed_program_is_called(words: str) -> None:
    assert any(first_words(c) == words for c in OTHERS)


def test_there_are_commands_to_check() -> None:
    pages = {c.page for c in OUR_COMMANDS}
    assert pages >= {
        "README.md",
        *(f"docs/{name}.md" for name in ("getting_started", "recipes", "extending")),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_shell_block_holds_nothing_but_commands(page: Path) -> None:
    for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            assert not line.strip() or line.startswith(("#", *PROGRAMS)), line
