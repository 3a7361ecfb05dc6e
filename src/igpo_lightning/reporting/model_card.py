"""The model card of a trained model: what a reader on the hub has to know, from the run's files."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from igpo_lightning.evaluation.metrics import Accuracy
from igpo_lightning.reporting.run_data import RunData
from igpo_lightning.reporting.tables import markdown_table
from igpo_lightning.runs.provenance import read_provenance

_METHOD = (
    *("inpaint.trigger", "objective.loss", "objective.ratio", "objective.advantage"),
    *("objective.beta", "likelihood.kind", "filter.kind", "sampler.completion_length"),
    *("stage.steps", "stage.group_size", "optimizer.lr", "seed"),
)
# A public name on the hub is owner/name; everything else that is a path stays at home.
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_PLACES = ("hydra.", "logger.")  # overrides that say where things lie


def public(value: object) -> str:
    """A setting as strangers may read it: of a path on this machine its last part alone."""
    text = str(value)
    if "/" not in text or (_HUB_NAME.fullmatch(text) and not text.startswith((".", "runs/"))):
        return text
    return PurePath(text).name


def model_card(run: RunData) -> str:
    """README.md for the hub, in its layout: a head of metadata, then Markdown."""
    config = run.config
    base = public(config.get("model.path", ""))
    head = ["---", "library_name: igpo-lightning", "tags: [masked-diffusion, igpo-lightning]"]
    if _HUB_NAME.fullmatch(base):
        head.append(f"base_model: {base}")
    data = public(config.get("data.path") or config.get("data.name", ""))
    made_with = read_provenance(run.folder)
    parts = [
        "\n".join([*head, "---"]),
        f"# {base} after stage={config.get('stage.name')} on {data}",
        "Trained with igpo_lightning. `igpo_lightning.models.load_backbone` reads this folder.",
        "## Results",
        _results(run.summary) or "The run measured no accuracy.",
        "## Method",
        _table({key: config[key] for key in _METHOD if key in config}),
        "## Command",
        f"```\n{command(run)}\n```",
        "## Versions",
        _table(made_with.get("versions", {}) | _commit(made_with)) or "Not recorded.",
    ]
    return "\n\n".join(parts) + "\n"


def command(run: RunData) -> str:
    """The command line of the run, without where its files lie."""
    shown = [
        f"{key}={public(value)}"
        for key, value in run.overrides.items()
        if not key.startswith(_PLACES)
    ]
    return " ".join(["python -m igpo_lightning", *shown])


def _results(summary: Mapping[str, Any]) -> str:
    rows = {
        f"accuracy {when} training": Accuracy(**summary[when])
        for when in ("before", "after")
        if summary.get(when)
    }
    if not rows:
        return ""
    problems = {str(accuracy.problems) for accuracy in rows.values()}
    note = f"Accuracy with its 95 % interval over {' and '.join(sorted(problems))} problems."
    return f"{note}\n\n{_table(rows)}"


def _commit(made_with: Mapping[str, Any]) -> dict[str, str]:
    return {"commit": made_with["commit"]} if made_with.get("commit") else {}


def _table(rows: Mapping[str, object]) -> str:
    return markdown_table(["", ""], [[k, str(v)] for k, v in rows.items()]) if rows else ""
