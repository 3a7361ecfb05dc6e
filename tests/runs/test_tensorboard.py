"""TensorBoard's view of a finished run: settings with final metrics, and the curves."""

import re
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from igpo_lightning.reporting.plots import CURVES_FILE, plot_rl_curves
from igpo_lightning.runs.tensorboard import (
    final_metrics,
    layout,
    log_again,
    log_results,
    settings,
)
from igpo_lightning.settings import Settings
from tests.composing import composed
from tests.reporting.run_folder import accuracy, write_run


@pytest.fixture(scope="module")
def config() -> Settings:
    return composed("seed=3", "data.levels=[1,2]", "rewriter=endpoint")


def test_settings_are_flat_and_plain(config: Settings) -> None:
    shown = settings(config)
    assert (shown["seed"], shown["data.levels"]) == (3, "[1, 2]")
    assert "data.path" not in shown, "what is not set has no row"
    assert not [key for key in shown if key.startswith(("logger", "rewriter"))]
    assert all(isinstance(value, bool | int | float | str) for value in shown.values())


def test_what_differs_comes_first(config: Settings) -> None:
    """The seed stands last in the configuration; `prompt.user` has its default's value."""
    shown = list(settings(config))
    assert shown.index("data.levels") < shown.index("seed") < shown.index("prompt.user")
    assert shown.index("prompt.user") < shown.index("sampler.cache")


def test_the_custom_page_has_the_groups_in_the_order_of_use() -> None:
    names = ("time/rollout", "step", "policy/kl", "new/thing", "eval/accuracy", "policy/loss")
    found = layout(names)
    assert list(found) == ["eval", "policy", "time", "new"]
    assert list(found["policy"]) == ["kl", "loss"]
    kind, (pattern,) = found["policy"]["kl"]
    assert kind == "Multiline"
    assert re.match(pattern, "policy/kl")
    assert not re.match(pattern, "policy/kl_other")


def test_final_metrics_have_names_of_their_own() -> None:
    summary = {"before": None, "after": accuracy(0.5), "group/all_wrong_after": 0.25}
    assert final_metrics(summary) == {
        "final/accuracy_after": 0.5,
        "final/accuracy_after_low": 0.45,
        "final/accuracy_after_high": 0.55,
        "final/group_all_wrong_after": 0.25,
    }


def test_what_is_logged_can_be_read_back(tmp_path: Path, config: Settings) -> None:
    run = write_run(tmp_path / "run", [])
    plot_rl_curves(run)
    board = TensorBoardLogger(run, name="", version="")
    other = CSVLogger(tmp_path, name="other")  # takes no pictures, and is left alone
    log_results([board, other], config, {"after": accuracy(0.5)}, run / CURVES_FILE)
    events = EventAccumulator(str(run))
    events.Reload()
    assert events.Scalars("final/accuracy_after")[0].value == pytest.approx(0.5)
    picture = events.Images("curves")[0]
    assert (picture.width, picture.height) == (1300, 680)  # 13 x 6.8 inches at 100 dots
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    parsed = plugin_data_pb2.HParamsPluginData.FromString(content)
    assert parsed.session_start_info.hparams["seed"].number_value == 3
    assert not (tmp_path / "other").exists()


def test_a_resumed_run_keeps_the_evaluation_before_its_checkpoint(tmp_path: Path) -> None:
    """Killed after step 3; resumes at step 2, whose checkpoint followed an evaluation."""
    first = TensorBoardLogger(tmp_path, name="", version="")
    for step in (0, 1, 2, 3):
        if step % 2 == 0:
            first.log_metrics({"eval/accuracy": step / 10}, step)
        first.log_metrics({"policy/loss": float(step)}, step)
    first.finalize("failed")
    lines: list[dict[str, float]] = [
        {"step": 0, "eval/accuracy": 0.0},
        {"step": 0, "policy/loss": 0.0},
        {"step": 1, "policy/loss": 1.0},
        {"step": 2, "eval/accuracy": 0.2},
    ]
    second = TensorBoardLogger(tmp_path, name="", version="", purge_step=2)
    log_again(second, lines, 2)
    second.log_metrics({"policy/loss": 20.0}, 2)
    second.log_metrics({"eval/accuracy": 0.4}, 4)
    second.finalize("success")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    accuracy_events = [(e.step, round(e.value, 3)) for e in events.Scalars("eval/accuracy")]
    assert accuracy_events == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert [(e.step, e.value) for e in events.Scalars("policy/loss")] == [(0, 0), (1, 1), (2, 20)]
