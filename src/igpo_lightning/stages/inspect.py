"""stage=inspect: what a data set holds, as the configured tokenizer, prompt and sampler see it."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import track
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerFast

from igpo_lightning.data.overlap import Shared, find_overlap
from igpo_lightning.data.prompts import EncodedProblem, encode_problem
from igpo_lightning.data.sources import SplitNotFoundError, divided_file
from igpo_lightning.reporting.lengths import (
    LENGTHS_FILE,
    LengthSummary,
    length_bars,
    plot_lengths,
    summarise_lengths,
)
from igpo_lightning.reporting.tables import table_of
from igpo_lightning.reporting.visible import visible
from igpo_lightning.settings import DataConfig, InspectStage, Settings
from igpo_lightning.settings.data import SPLITS
from igpo_lightning.stages import build
from igpo_lightning.stages.problems import (
    describe_overlap,
    evaluation_sets,
    read_split,
)

INSPECTION_FILE = "inspection.json"


def run(config: Settings) -> dict[str, Any]:
    """Print and draw what the data holds; returns the numbers, which inspection.json holds too."""
    build.quiet_libraries()
    folder, console = build.run_folder(), Console()
    stage, data, tokenizer = config.stage, config.data, build.build_tokenizer(config)
    assert isinstance(stage, InspectStage)
    splits = _read(config, data, tokenizer)
    build.save_resolved(config, folder)
    limits = {"prompt": config.prompt.max_length, "trace": config.sampler.completion_length}
    lengths: dict[str, dict[str, list[int]]] = {
        "prompt": {s: [len(e.prompt_ids) for e in rows] for s, rows in splits.items()},
        "trace": {
            s: [len(e.trace_ids) for e in rows if e.trace_ids is not None]
            for s, rows in splits.items()
        },
    }
    numbers = {split: _numbers(rows, limits) for split, rows in splits.items()}
    console.print(_table(config, numbers))
    console.print(_division(data))
    for what, by_split in lengths.items():
        for split, values in by_split.items():
            if values:
                console.print(length_bars(f"{what}s of {split}", values, limits[what]))
    title = f"data={data.name} under the tokenizer of {config.model.path}"
    plot_lengths(folder / LENGTHS_FILE, lengths, limits, title)
    shared = _overlap(data, splits)
    console.print(_overlap_text(data, splits, shared))
    first = next(iter(splits))
    for encoded in splits[first][: stage.rows]:
        console.print(_row(encoded, limits, tokenizer))
    result = {
        "splits": numbers,
        "overlap": {split: [asdict(entry) for entry in rows] for split, rows in shared.items()},
    }
    file = folder / INSPECTION_FILE
    file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for written in (folder / LENGTHS_FILE, file):
        console.print(f"wrote {written}", markup=False, soft_wrap=True, highlight=False)
    return result


def _read(
    config: Settings, data: DataConfig, tokenizer: PreTrainedTokenizerFast
) -> dict[str, list[EncodedProblem]]:
    """Every split that the data has, encoded, whatever its lengths.

    Raises:
        SplitNotFoundError: It has none.
    """
    found: dict[str, list[EncodedProblem]] = {}
    missing: list[SplitNotFoundError] = []
    for split in SPLITS:
        try:
            problems = read_split(data, split)
        except SplitNotFoundError as error:
            missing.append(error)
            continue
        rows = track(problems, description=f"encode {split}", transient=True)
        found[split] = [encode_problem(problem, tokenizer, config.prompt) for problem in rows]
    if not found:
        raise missing[0]
    return found


def _numbers(rows: list[EncodedProblem], limits: dict[str, int]) -> dict[str, Any]:
    """Counts and lengths of one split."""
    traces = [len(e.trace_ids) for e in rows if e.trace_ids is not None]
    prompts = summarise_lengths([len(e.prompt_ids) for e in rows], limits["prompt"])
    summary = summarise_lengths(traces, limits["trace"])
    both = sum(
        len(e.prompt_ids) <= limits["prompt"] and len(e.trace_ids or []) <= limits["trace"]
        for e in rows
    )
    return {
        "problems": len(rows),
        "with_trace": len(traces),
        "prompts": asdict(prompts) if prompts else None,
        "traces": asdict(summary) if summary else None,
        "fitting": both,
    }


def _table(config: Settings, numbers: dict[str, dict[str, Any]]) -> Table:
    """One column a split."""
    columns = list(numbers.values())
    rows = [
        ["problems", *(f"{n['problems']}" for n in columns)],
        ["with a trace", *(f"{n['with_trace']}" for n in columns)],
    ]
    done = {
        "prompts": f"{config.prompt.long_prompts} (prompt.long_prompts)",
        "traces": "cut",
    }
    for what in done:
        summaries = [LengthSummary(**n[what]) if n[what] else None for n in columns]
        lengths = [
            f"{s.median:g} / {s.percentile_95} / {s.longest}" if s else "-" for s in summaries
        ]
        rows.append([f"{what}, tokens: median / 95 % / longest", *lengths])
        if not any(summaries):
            continue
        limit = next(s.limit for s in summaries if s)
        longer = [f"{s.count - s.fitting}" if s else "-" for s in summaries]
        rows.append([f"{what} of at most {limit} tokens", *map(_share, summaries)])
        rows.append([f"  longer: {done[what]}", *longer])
    fits = [_percent(n["fitting"], n["problems"]) for n in columns]
    rows.append(["prompt and trace fit", *fits])
    return table_of(f"data={config.data.name}", ["", *numbers], rows)


def _share(summary: LengthSummary | None) -> str:
    return _percent(summary.fitting, summary.count) if summary else "-"


def _percent(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)"


def _division(data: DataConfig) -> Text:
    """Whether test is a split of its own; nothing where it is."""
    file = None if data.test_from is not None else divided_file(data)
    if file is None:
        return Text()
    held = f"the share held out of {file.name} (data.validation_share={data.validation_share:g})"
    if data.validation_share == 0:
        held = f"every row of {file.name}, so an evaluation asks training problems"
    return Text(visible(f"no test split: validation and test are {held}"), style="yellow")


def _overlap(data: DataConfig, splits: dict[str, list[EncodedProblem]]) -> dict[str, list[Shared]]:
    """What train and validation share with the evaluation sets."""
    training = [split for split in splits if split != "test"]
    return {
        s: find_overlap([e.problem for e in splits[s]], evaluation_sets(data, s)) for s in training
    }


def _overlap_text(
    data: DataConfig, splits: dict[str, list[EncodedProblem]], shared: dict[str, list[Shared]]
) -> Text:
    """One line a training split."""
    text = Text()
    for split, entries in shared.items():
        total = len(splits[split])
        line = f"none of {total} {split} problems is an evaluation problem"
        if entries:
            line = describe_overlap(data, split, total, entries)
        text.append(f"overlap: {visible(line)}\n", style="yellow" if entries else "green")
    return text


def _row(
    encoded: EncodedProblem, limits: dict[str, int], tokenizer: PreTrainedTokenizerFast
) -> Panel:
    """One problem as the model sees it; what gives the answer away is underlined."""
    prompt = Text(_decode(tokenizer, encoded.prompt_ids))
    parts: list[Text] = [prompt, Text(f"[{len(encoded.prompt_ids)} tokens]", style="dim")]
    if encoded.trace_ids is None or encoded.answer_span is None:
        parts.append(Text("no trace: graded, never hinted", style="dim"))
    else:
        trace, (start, end), room = encoded.trace_ids, encoded.answer_span, limits["trace"]
        completion = Text(_decode(tokenizer, trace[:start]), style="cyan")
        completion.append(_decode(tokenizer, trace[start:end]), style="underline")
        completion.append(_decode(tokenizer, trace[end:]))
        free = room - len(trace)
        note = f"{free} x {tokenizer.eos_token}" if free >= 0 else f"{-free} tokens too long"
        parts += [completion, Text(f"[{len(trace)} tokens, then {note}]", style="dim")]
    parts.append(Text(visible(f"graded against: {encoded.problem.gold}"), style="dim"))
    return Panel(Group(*parts), title=Text(visible(encoded.problem.id)), title_align="left")


def _decode(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """Text with every special token and control character visible."""
    return visible(str(tokenizer.decode(ids, skip_special_tokens=False)))
