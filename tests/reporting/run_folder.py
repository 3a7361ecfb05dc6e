"""Run folders as the stages leave them, with made-up numbers."""

import csv
import json
import math
from pathlib import Path
from typing import Any

C = 24  # completion tokens
STEPS = 8  # denoising steps


def sample(step: int, group: int, number: int, hinted: bool, correct: bool) -> dict[str, Any]:
    """A rollout: words a to v, EOS, padding; every third token is a hint where it is hinted."""
    words = [f"{chr(ord('a') + i)} " for i in range(C - 2)]
    hints = [hinted and i % 3 == 0 and i < C - 2 for i in range(C)]
    return {
        "step": step,
        "id": f"problem-{group}",
        "group": group,
        "sample": number,
        "question": f"What is {group} + 1? <b>&amp;</b></script>",
        "prompt": f"<|user|>What is {group} + 1?<|assistant|>",
        "trace": f"{group} + 1 = \\boxed{{{group + 1}}}",
        "answer": str(group + 1),
        "completion": "".join(words),
        "tokens": [*words, "<|eos|>", "<|pad|>"],
        "hint_mask": hints,
        "unmask_step": [-1 if hint else i * STEPS // C for i, hint in enumerate(hints)],
        "hint": "",
        "replaced": hinted,
        "correct": correct,
        "reason": None if correct else "no_answer" if number % 2 else "wrong",
        "reward": float(correct),
        "reward_parts": {"correctness": float(correct)},
    }


def accuracy(mean: float) -> dict[str, Any]:
    """An accuracy as summary.json holds it."""
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "problems": 400, "samples": 1}


def write_lines(file: Path, records: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def write_run(
    folder: Path,
    overrides: list[str],
    status: str = "finished",
    seed: int = 0,
    ratio: float | None = None,
    steps: int = 20,
) -> Path:
    """A run that ended with `status`; its accuracy rises with the step and, a little, the seed."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
    ratio_text = "null" if ratio is None else str(ratio)
    (folder / "config.yaml").write_text(
        f"seed: {seed}\nstage:\n  name: rl\n  steps: {steps}\ninpaint:\n  trigger: all_wrong\n"
        f"  extra_samples: hinted\n  ratio: {ratio_text}\n  ratio_low: 0.2\n  ratio_high: 0.6\n"
    )
    if status == "failed":
        (folder / "failure.txt").write_text("RuntimeError: out of memory\n\nTraceback\n")
        return folder
    rows = []
    for step in range(steps):
        value = 0.3 + 0.4 * step / steps + 0.02 * math.sin(step + seed)
        row = {
            "step": step,
            "reward/accuracy_before": value,
            "reward/mean_before": value,
            "group/all_wrong_before": 1 - value,
            "group/all_wrong_after": 0.5 * (1 - value),
            "hint/correct_share": value,
            "hint/ratio_mean": 0.4,
            "policy/kl": 0.01 * step,
            "time/rollout": 2.0,
            "time/grading": 0.5,
            "time/update": 1.5,
        }
        rows.append(row | ({"eval/accuracy": value} if step % 5 == 0 else {}))
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    samples = [
        sample(step, group, number, hinted=number == 3, correct=number in (2, 3))
        for step in (0, steps - 1)
        for group in range(2)
        for number in range(4)
    ]
    write_lines(folder / "samples.jsonl", samples)
    graded_keys = ("id", "sample", "question", "answer", "completion", "correct", "reason")
    replay_keys = ("prompt", "trace", "tokens", "hint_mask", "unmask_step")
    # Evaluations of old runs have no tokens.
    for when, keys in (("before", graded_keys), ("after", graded_keys + replay_keys)):
        graded = [{key: record[key] for key in keys} | {"level": 1} for record in samples[:3]]
        write_lines(folder / f"eval_{when}.jsonl", graded)
    if status == "finished":
        summary = {
            "before": accuracy(0.3),
            "after": accuracy(0.6 + 0.01 * seed),
            "group/all_wrong_before": 0.5,
            "group/all_wrong_after": 0.25,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder
