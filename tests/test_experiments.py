"""The experiments: their commands are valid, and what they tell is what their results hold."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import compare
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from igpo_lightning.checks import validate
from igpo_lightning.reporting.sweep_settings import Setting
from tests.composing import composed

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted(file.parent for file in (ROOT / "experiments").glob("*/run.sh"))
RESULTS = sorted((ROOT / "experiments").glob("*/results/*.json"))
# Stands for the interpreter: notes what it was asked to run.
RECORDER = f"""#!{sys.executable}
import json, sys
with open("asked", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def asked_of_python(experiment: Path, folder: Path) -> list[list[str]]:
    """The arguments of every call of the interpreter that run.sh makes."""
    recorder = folder / "recorder"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    (folder / "experiments").symlink_to(ROOT / "experiments")
    runs = folder / "runs/experiments/rewriting"
    for name in ("original/test.jsonl", "rewrite/rewritten.train.jsonl"):
        (runs / name).parent.mkdir(parents=True)
        (runs / name).touch()
    command = ["sh", f"experiments/{experiment.name}/run.sh"]
    environment = os.environ | {"PYTHON": str(recorder)}
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=60)
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def first_of_each_sweep(overrides: list[str]) -> list[str]:
    """One run of a sweep: the first value of every list or range."""
    chosen = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            value = next(iter(override.sweep_string_iterator()))
        else:
            value = override.get_value_element_as_str()
        if not override.key_or_group.startswith("hydra"):
            chosen.append(f"{override.get_key_element()}={value}")
    return chosen


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda folder: folder.name)
def test_every_run_of_an_experiment_is_valid(experiment: Path, tmp_path: Path) -> None:
    asked = asked_of_python(experiment, tmp_path)
    runs = [call[2:] for call in asked if call[:2] == ["-m", "igpo_lightning"]]
    runs += [call[2:] for call in asked if call[:1] == ["experiments/timed.py"]]
    scripts = [call for call in asked if call[:1] == ["experiments/compare.py"]]
    assert runs
    assert scripts
    for arguments in runs:
        overrides = [part for part in arguments if part != "-m"]
        validate(composed(*first_of_each_sweep(overrides)))
    for script in scripts:
        assert script[script.index("--into") + 1] == f"experiments/{experiment.name}"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda folder: folder.name)
def test_an_experiment_says_its_question_command_time_and_verdict(experiment: Path) -> None:
    readme = (experiment / "README.md").read_text(encoding="utf-8")
    assert readme.partition("\n")[0].endswith("?")
    assert f"sh experiments/{experiment.name}/run.sh" in readme
    assert len(readme.partition("## Verdict\n")[2].split()) > 20
    assert re.search(r"About \d+ minutes", (experiment / "run.sh").read_text())
    marks = set(re.findall(r"<!-- end of (\w+) -->", readme))
    assert marks == {file.stem for file in RESULTS if file.parents[1] == experiment}
    index = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    assert f"]({experiment.name}/README.md)" in index


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: f"{file.parents[1].name}-{file.stem}")
def test_results_are_of_five_finished_seeds(file: Path) -> None:
    """Or of three, where the README says so."""
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    readme = (file.parents[1] / "README.md").read_text(encoding="utf-8")
    least = 3 if "three seeds" in readme else 5
    for row in results["settings"]:
        assert not row["unfinished"]
        assert len(row["final accuracy"]["seeds"]) >= least, row["name"]
    assert compare.table_of(results) in readme
    if row["curves"]["0"]["step"]:
        assert file.with_suffix(".png").stat().st_size > 10_000


def test_a_setting_without_a_name_of_its_own_is_refused() -> None:
    setting = Setting(("inpaint=none",), ())
    assert list(compare.named([setting], ["*none=GRPO"])) == ["GRPO"]
    with pytest.raises(SystemExit, match="inpaint=none"):
        compare.named([setting], ["*partial=IGPO"])
    with pytest.raises(SystemExit, match="inpaint=none"):
        compare.named([setting, setting], ["*none=GRPO"])
