"""stage=rewrite: long traces in, short ones out, with what was kept, dropped, and why."""

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from igpo_lightning.config import plain
from igpo_lightning.data.problem import Problem
from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.lengths import LENGTHS_FILE, plot_lengths, summarise_lengths
from igpo_lightning.rewriting.endpoint import EndpointRewriter
from igpo_lightning.rewriting.rules import RewriteLimits, rewrite_by_rules
from igpo_lightning.rewriting.run import Outcome, RewriteLog, Rewriting, rewrite_all
from igpo_lightning.settings import RewriteStage, Settings
from igpo_lightning.stages import build
from igpo_lightning.stages.problems import read_problems

LOG_FILE, MANIFEST_FILE = "rewrites.log.jsonl", "manifest.json"
# What may change between a run and its resumption without changing a rewrite.
_OPERATION = ("concurrency", "requests_per_minute", "request_retries", "timeout", "base_url")

log = logging.getLogger(__name__)


def rewrite_stage(config: Settings) -> RewriteStage:
    """The stage's own options."""
    assert isinstance(config.stage, RewriteStage)
    return config.stage


def run(config: Settings) -> dict[str, Any]:
    """Rewrite the traces of a split; returns the counts, which manifest.json holds too.

    Raises:
        ConfigError: No problem has a trace, or none is left, or the endpoint refuses.
    """
    build.quiet_libraries()
    stage = rewrite_stage(config)
    folder = Path(stage.output or build.run_folder())
    folder.mkdir(parents=True, exist_ok=True)
    problems = read_problems(config, stage.split, stage.limit)
    with_trace = [p for p in problems if p.solution and p.solution.strip()]
    if not with_trace:
        raise ConfigError(f"data={config.data.name}: no problem of {stage.split} has a trace")
    build.save_resolved(config, folder)
    requests, outcomes = _rewrite(config, folder, with_trace)
    file = _write(config, folder, with_trace, outcomes)
    manifest = _manifest(config, problems, outcomes, requests, file)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    lengths = {"before": [o.tokens_before for o in outcomes], "after": _kept_lengths(outcomes)}
    title = f"data={config.data.name}, rewriter={config.rewriter.kind}"
    plot_lengths(folder / LENGTHS_FILE, {"trace": lengths}, {"trace": stage.max_tokens}, title)
    _report(manifest, folder)
    if not manifest["counts"]["kept"]:
        raise ConfigError(f"rewriter={config.rewriter.kind}: no rewrite passed; see {folder}")
    counts: dict[str, Any] = manifest["counts"]
    return counts


def _rewrite(
    config: Settings, folder: Path, problems: Sequence[Problem]
) -> tuple[int, list[Outcome]]:
    """Rewrite what the folder's log does not have yet.

    Returns:
        The number of requests sent, and what became of every problem, in the order of the source.
    """
    with closing(RewriteLog(folder / LOG_FILE, _fingerprint(config))) as done:
        before = done.finished
        todo = [p for p in problems if p.id not in before or not before[p.id].finished]
        had = len(problems) - len(todo)
        if had:
            log.info("%d of %d rows are finished in %s", had, len(problems), folder)
        kept = sum(outcome.text is not None for outcome in before.values())
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn()) as progress:
            bar = progress.add_task("rewrite", total=len(problems), completed=had)

            def tell(outcome: Outcome) -> None:
                nonlocal kept
                done.add(outcome)
                kept += outcome.text is not None
                progress.update(bar, advance=1, description=f"rewrite ({kept} kept)")

            requests = asyncio.run(_rewrite_rows(config, todo, tell))
        return requests, [done.finished[p.id] for p in problems]


async def _rewrite_rows(config: Settings, todo: Sequence[Problem], tell: Any) -> int:
    stage, rewriter = rewrite_stage(config), config.rewriter
    tokenizer = build.build_tokenizer(config)

    def count_tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    async def by_rules(problem: Problem) -> str:
        return rewrite_by_rules(
            problem.solution or "", problem.answer, lambda t: count_tokens(t) <= stage.max_tokens
        )

    limits = RewriteLimits(stage.max_tokens, stage.copy_share, rewriter.keep_fitting)
    with build.build_pool(config) as pool:
        running = Rewriting(
            by_rules, count_tokens, pool, limits, rewriter.attempts, rewriter.concurrency
        )
        if rewriter.kind == "extractive":
            await rewrite_all(todo, running, tell)
            return 0
        async with EndpointRewriter(rewriter, stage.max_tokens) as endpoint:
            await rewrite_all(todo, replace(running, rewrite=endpoint.rewrite), tell)
            return endpoint.requests


def _fingerprint(config: Settings) -> str:
    """A hash of everything that a rewrite depends on."""
    rewriter = {k: v for k, v in plain(config.rewriter).items() if k not in _OPERATION}
    stage = {k: getattr(config.stage, k) for k in ("split", "max_tokens", "copy_share")}
    source = {k: v for k, v in plain(config.data).items() if k != "limit"}
    parts = [rewriter, stage, source, str(config.model.path)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _write(
    config: Settings, folder: Path, problems: Sequence[Problem], outcomes: Sequence[Outcome]
) -> Path:
    """Write the accepted rows in the common form, named so that IGPO_DATA_DIR finds them."""
    stage, rows = rewrite_stage(config), []
    for problem, outcome in zip(problems, outcomes, strict=True):
        if outcome.text is not None:
            row = asdict(replace(problem, solution=outcome.text))
            row.pop("part")
            rows.append({key: value for key, value in row.items() if value is not None})
    file = folder / f"{config.data.name}.{stage.split}.{stage.format}"
    if stage.format == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.write_text("".join(lines), encoding="utf-8")
    return file


def _kept_lengths(outcomes: Sequence[Outcome]) -> list[int]:
    return [o.tokens_after for o in outcomes if o.text is not None]


def _manifest(
    config: Settings,
    problems: Sequence[Problem],
    outcomes: Sequence[Outcome],
    requests: int,
    file: Path,
) -> dict[str, Any]:
    """What was made, from what, how, and with what result."""
    dropped = Counter(o.rejected[-1] for o in outcomes if o.text is None)
    stage = rewrite_stage(config)
    limit = stage.max_tokens
    before = summarise_lengths([o.tokens_before for o in outcomes], limit)
    after = summarise_lengths(_kept_lengths(outcomes), limit)
    messages = f"{config.rewriter.system}\n{config.rewriter.prompt}"
    return {
        "file": file.name,
        "source": {"data": config.data.name, "path": config.data.path, "split": stage.split},
        "model": config.rewriter.model,
        "prompt_sha256": hashlib.sha256(messages.encode()).hexdigest(),
        "tokenizer": config.model.path,
        "rewriter": plain(config.rewriter),
        "stage": plain(stage),
        "fingerprint": _fingerprint(config),
        "counts": {
            "problems": len(problems),
            "without_trace": len(problems) - len(outcomes),
            "kept": sum(o.text is not None for o in outcomes),
            "as_is": sum(o.as_is for o in outcomes),
            "dropped": sum(dropped.values()),
            "dropped_by_reason": dict(sorted(dropped.items())),
            "rejected_by_reason": dict(
                sorted(Counter(r for o in outcomes for r in o.rejected).items())
            ),
            "requests_of_this_run": requests,
        },
        "tokens_before": asdict(before) if before else None,
        "tokens_after": asdict(after) if after else None,
    }


def _report(manifest: dict[str, Any], folder: Path) -> None:
    console, counts = Console(), manifest["counts"]
    before, after = manifest["tokens_before"], manifest["tokens_after"]
    console.print(
        f"kept {counts['kept']} of {counts['problems']} traces ({counts['as_is']} as they were), "
        f"dropped {counts['dropped']} {counts['dropped_by_reason'] or ''}"
    )
    if after:
        console.print(
            f"tokens, median / longest: {before['median']:g} / {before['longest']} before, "
            f"{after['median']:g} / {after['longest']} after"
        )
    for name in (manifest["file"], MANIFEST_FILE, LENGTHS_FILE):
        console.print(f"wrote {folder / name}", markup=False, soft_wrap=True, highlight=False)
