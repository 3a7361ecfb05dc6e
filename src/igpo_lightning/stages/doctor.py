"""stage=doctor: does this machine do what a run needs? One table, doctor.json, an exit status."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from igpo_lightning.errors import ConfigError, RunError, first_line
from igpo_lightning.reporting.visible import visible
from igpo_lightning.runs import durable
from igpo_lightning.settings import DoctorStage, Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.checkup import environment, numerics, processes, speed
from igpo_lightning.stages.checkup.finding import (
    FAILED,
    OK,
    SKIPPED,
    WARNING,
    Check,
    Finding,
    Site,
)

DOCTOR_FILE = "doctor.json"
_COLOURS = {OK: "green", WARNING: "yellow", FAILED: "red", SKIPPED: "dim"}


def checks(site: Site) -> dict[str, Check]:
    """All checks by their names in the table, quick ones first."""
    return {
        "versions": environment.versions,
        "packages": environment.packages,
        "devices": environment.devices,
        "hub": environment.hub,
        "disk": environment.disk,
        "plan": environment.fits,
        "logits": numerics.logits,
        "block masks": numerics.block_masks,
        "sampler": numerics.sampler,
        "memory": speed.memory,
        "speed": speed.speed,
        "ranks": processes.connection,
        "grader": processes.grader,
        **processes.steps(site.on_gpu, site.gpus),
        "compile": numerics.compiling,
        "CUDA graphs": numerics.graphs,
    }


def site_of(config: Settings) -> Site:
    """This machine; a GPU is looked at where the trainer uses one and there is one."""
    gpus = torch.cuda.device_count()
    on_gpu = config.trainer.accelerator == "gpu" and gpus > 0
    return Site(config, torch.device("cuda" if on_gpu else "cpu"), gpus, build.run_folder())


def looked_at(site: Site, check: Check) -> tuple[Finding, float]:
    """What a check says and the seconds it took; one that breaks has failed."""
    start = time.perf_counter()
    try:
        finding = check(site)
    except Exception as error:
        fix = "look at the message; if it is no fault of the machine, report it with doctor.json"
        finding = Finding(FAILED, f"{type(error).__name__}: {first_line(error)}", fix)
    return finding, time.perf_counter() - start


def look(site: Site, todo: dict[str, Check]) -> dict[str, tuple[Finding, float]]:
    """Findings and seconds of all checks; those that measure have the machine to themselves.

    The runs of the command line compute in other processes: the checks behind them in the table
    (compiling) go on beside them.
    """
    console = Console()
    found: dict[str, tuple[Finding, float]] = {}
    commands = processes.steps(site.on_gpu, site.gpus)
    with ThreadPoolExecutor(1) as beside:
        running = {}
        for name, check in todo.items():
            if name in commands:
                running[name] = beside.submit(looked_at, site, check)
                continue
            with console.status(f"{name} ({len(found) + 1} of {len(todo)})"):
                found[name] = looked_at(site, check)
        for name, finding in running.items():
            with console.status(f"{name} ({len(found) + 1} of {len(todo)})"):
                found[name] = finding.result()
    return {name: found[name] for name in todo}


def chosen(stage: DoctorStage, known: dict[str, Check]) -> dict[str, Check]:
    """The checks that the stage names, or all.

    Raises:
        ConfigError: It names one that there is not.
    """
    for name in stage.only:
        if name not in known:
            raise ConfigError(f"stage.only={name}: no such check; use some of {', '.join(known)}")
    return {name: check for name, check in known.items() if not stage.only or name in stage.only}


def run(config: Settings) -> dict[str, Any]:
    """Look at everything; returns what was found, which doctor.json holds too.

    Raises:
        RunError: A check has failed; the table says what to do.
    """
    build.quiet_libraries()
    stage = config.stage
    assert isinstance(stage, DoctorStage)
    site, console = site_of(config), Console()
    todo = chosen(stage, checks(site))
    build.save_resolved(config, site.folder)
    found = look(site, todo)
    result = {name: asdict(f) | {"seconds": spent} for name, (f, spent) in found.items()}
    durable.write_text(site.folder / DOCTOR_FILE, json.dumps(result, indent=2) + "\n")
    console.print(table(found))
    console.print(
        f"{DOCTOR_FILE} in {site.folder} holds all of it for a bug report", soft_wrap=True
    )
    failed = [name for name, (finding, _) in found.items() if finding.verdict == FAILED]
    if failed:
        raise RunError(f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}")
    return result


def table(found: dict[str, tuple[Finding, float]]) -> Table:
    """A row for each check."""
    rows = Table(title="doctor", title_justify="left")
    for column in ("check", "verdict", "found, and what to do"):
        rows.add_column(column)
    rows.add_column("s", justify="right")
    for name, (finding, spent) in found.items():
        colour = _COLOURS[finding.verdict]
        verdict = f"[{colour}]{finding.verdict}[/]"
        told = [visible(text).replace("[", r"\[") for text in (finding.said, finding.fix) if text]
        rows.add_row(name, verdict, "\n> ".join(told), f"{spent:.1f}")
    return rows
