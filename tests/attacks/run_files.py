"""Everything in a run folder that does not depend on the clock, to be compared with another's."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CLOCKED = ("time/", "seconds")
# What holds the clock or the process, or is drawn from what else is compared: that it is there.
ONLY_THERE = (".log", ".png", "provenance.json", ".hydra")


def contents(folder: Path) -> dict[str, Any]:
    """What a run folder holds, by path."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    found: dict[str, Any] = {
        str(file.relative_to(folder)): _content(file)
        for file in files
        # cli.log is there where something was logged: that a run goes on, for one.
        if "events.out" not in file.name and file.name != "cli.log"
    }
    for place in {file.parent for file in files if "events.out" in file.name}:
        found[f"{place.relative_to(folder)}/events"] = _events(place)
    return found


def _content(file: Path) -> Any:
    if any(part in str(file) for part in ONLY_THERE):
        return "there"
    if file.suffix == ".ckpt":
        state = torch.load(file, weights_only=True)
        kept = (state["state_dict"], state["optimizer_states"], state["global_step"])
        return repr(kept), {name: tensor.tolist() for name, tensor in state["state_dict"].items()}
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            return [_timeless(row) for row in csv.DictReader(stream)]
    if file.suffix == ".json":
        return _timeless(json.loads(file.read_text()))
    if file.suffix == ".jsonl":
        return sorted(json.dumps(_timeless(json.loads(line))) for line in file.open())
    return file.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k is None or not k.startswith(CLOCKED)}
        return {key: _timeless(inner) for key, inner in kept.items() if inner != ""}
    return value


def _events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
        if not name.startswith(("time/", "final/time"))
    }
