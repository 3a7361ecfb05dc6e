"""A few settings beside each other: which are comparable, and that each kind keeps its name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from rich.console import Console

from igpo_lightning.reporting.kinds import drawn_how, window_means
from igpo_lightning.reporting.plots import PANELS, draw_shares
from igpo_lightning.reporting.run_data import FAILED, FINISHED, RunData
from igpo_lightning.reporting.side_by_side import comparable, reason, side_by_side

STEPS = 10


def accuracy(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "problems": 256, "samples": 1}


def run(inpaint: str, seed: str = "0", wrong: float = 0.5, after: float = 0.6) -> RunData:
    """A run whose policy samples right answers ever more often: 0.00, 0.01, ... of them."""
    rows = [
        {
            "step": step,
            "reward/accuracy_before": step / 100,
            "reward/accuracy": 0.5,
            "group/all_wrong_before": 0.5,
            "group/all_wrong_after": wrong,
        }
        for step in range(STEPS)
    ]
    return RunData(
        name=f"{inpaint}-{seed}",
        folder=Path("nowhere"),
        status=FINISHED,
        overrides={"inpaint": inpaint, "seed": seed},
        config={"eval.temperature": 0.0, "sampler.temperature": 1.0},
        summary={
            "evaluated_on": "held-out problems",
            "before": accuracy(0.1),
            "after": accuracy(after),
            "before_sampled": accuracy(0.2),
            "after_sampled": accuracy(0.3),
            "group/all_wrong_after": wrong,
        },
        metrics=rows,
    )


def cells(runs: list[RunData]) -> dict[str, list[str]]:
    """First cell of each row: the others."""
    console = Console(width=120)
    with console.capture() as capture:
        console.print(side_by_side(comparable(runs)))
    lines = [line.split("│") for line in capture.get().splitlines() if line.startswith("│")]
    return {line[1].strip(): [cell.strip() for cell in line[2:-1]] for line in lines}


def test_every_kind_of_accuracy_has_a_row_of_its_own() -> None:
    rows = cells([run("none"), run("partial", wrong=0.1)])
    assert rows["held-out greedy before training"] == ["10.0 % [5.0, 15.0]"] * 2
    assert rows["held-out greedy after training"] == ["60.0 % [55.0, 65.0]"] * 2
    assert rows["held-out sampled after training"] == ["30.0 % [25.0, 35.0]"] * 2
    assert rows["right samples as sampled"] == ["7.0 %"] * 2  # mean of 0.05, ..., 0.09
    assert rows["right samples after injection"] == ["50.0 %"] * 2
    assert rows["all-wrong groups as sampled"] == ["50.0 %", "50.0 %"]
    assert rows["all-wrong groups after injection"] == ["50.0 %", "10.0 %"]


def test_problems_that_were_trained_on_are_not_called_held_out() -> None:
    """As with a file that has no test split and validation_share=0."""

    def trained_on(inpaint: str, evaluated_on: str = "training problems") -> RunData:
        told = run(inpaint)
        return replace(told, summary={**told.summary, "evaluated_on": evaluated_on})

    runs = [trained_on("none"), trained_on("partial")]
    rows = cells(runs)
    assert "training problems greedy after training" in rows
    assert not [name for name in rows if "held-out" in name]
    assert "256 training problems" in str(side_by_side(comparable(runs)).title)
    runs = [trained_on("none"), trained_on("partial", "held-out problems")]
    assert "evaluation problems greedy after training" in cells(runs)


def test_several_seeds_have_their_mean_and_interval() -> None:
    seeds = [run("partial", seed, after=0.5 + 0.1 * int(seed)) for seed in ("0", "1")]
    rows = cells([run("none"), run("none", "1"), *seeds])
    # 0.5 and 0.6: standard error 0.05, times t = 12.706 with one degree of freedom.
    assert rows["held-out greedy after training"] == ["60.0 % ± 0.0", "55.0 % ± 63.5"]


def test_runs_without_an_override_of_their_own_bear_the_name_of_their_experiment() -> None:
    """Two folders under one: `runs/a` of the plain command, `runs/b` with `inpaint=none`."""
    plain, without_hints = run("partial"), run("none")
    plain = replace(plain, overrides={"stage.steps": "9"})
    without_hints = replace(without_hints, overrides={"stage.steps": "9", "inpaint": "none"})
    labels = [setting.label for setting in comparable([plain, without_hints])]
    assert labels == ["experiment=tiny", "inpaint=none"]
    plain = replace(plain, overrides={"stage.steps": "9", "experiment": "espo"})
    without_hints.overrides["experiment"] = "espo"
    assert comparable([plain, without_hints])[0].label == "experiment=espo"
    assert comparable([plain, plain]) == [], "seeds of one setting are all runs"


def test_the_reason_names_the_groups_without_gradient() -> None:
    text = reason(comparable([run("none"), run("partial", wrong=0.1)]))
    assert "50.0 % with inpaint=none, 10.0 % with inpaint=partial" in text


@pytest.mark.parametrize(
    "runs",
    [
        [run("none")],
        [run("none"), replace(run("partial"), status=FAILED)],
        [run("none"), replace(run("partial"), summary={"after": accuracy(0.5)})],
        [run(str(i)) for i in range(5)],
    ],
    ids=["one", "a failed run", "no RL run", "too many"],
)
def test_what_cannot_be_compared_gets_the_plain_table(runs: list[RunData]) -> None:
    assert comparable(runs) == []


def test_a_window_is_the_mean_of_either_end() -> None:
    assert window_means(run("none").metrics, "reward/accuracy_before") == pytest.approx(
        (0.02, 0.07)
    )
    assert window_means([], "reward/accuracy_before") is None


def test_how_completions_are_drawn() -> None:
    assert [drawn_how(t) for t in (0.0, 1.2)] == ["greedy", "sampled at temperature 1.2"]


def test_a_line_that_says_nothing_new_is_left_out_and_shares_go_from_0_to_1() -> None:
    _, axes = plt.subplots()
    without, hinted = ([list(run("", wrong=wrong).metrics)] for wrong in (0.5, 0.1))
    draw_shares(axes, PANELS[2], {"GRPO": ("k", without), "IGPO": ("b", hinted)})
    names = axes.get_legend_handles_labels()[1]
    assert names == ["GRPO, as sampled", "IGPO, as sampled", "IGPO, after injection"]
    low, high = axes.get_ylim()
    assert low <= 0
    assert high >= 1
    assert high - low < 1.1
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths[0] > widths[1], "the coinciding line below stays visible"
    plt.close()
