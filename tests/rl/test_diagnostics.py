"""What is measured of an update: split by the origin of the tokens."""

import pytest
import torch

from igpo_lightning.rl.diagnostics import advantage_measures, update_measures
from igpo_lightning.rl.measures import join_measures, measured_values

STATS = {
    "token_ratio": torch.tensor([[1.0, 2.0, 4.0, 99.0]]),
    "token_clipped": torch.tensor([[False, True, True, True]]),
    "token_kl": torch.tensor([[0.3, 0.1, 0.2, 9.0]]),
}
COUNTED = torch.tensor([[True, True, True, False]])
HINTS = torch.tensor([[False, False, True, True]])


def test_ratio_clipping_and_kl_are_split_by_origin():
    values = measured_values(update_measures(STATS, COUNTED, HINTS))
    assert values == pytest.approx(
        {
            "policy/ratio_mean": 7 / 3,
            "policy/ratio_max": 4.0,
            "policy/clip_fraction": 2 / 3,
            "policy/kl": 0.2,
            "policy/ratio_mean_generated": 1.5,
            "policy/ratio_max_generated": 2.0,
            "policy/clip_fraction_generated": 0.5,
            "policy/kl_generated": 0.2,
            "policy/ratio_mean_hint": 4.0,
            "policy/ratio_max_hint": 4.0,
            "policy/clip_fraction_hint": 1.0,
            "policy/kl_hint": 0.2,
        },
        rel=1e-6,
    )


def test_where_no_hint_counts_there_is_no_hint_measure():
    measures = update_measures(STATS, COUNTED, torch.zeros_like(HINTS))
    assert not any(name.endswith("_hint") for name in measures)


def test_halves_join_to_the_whole():
    rows = {name: torch.cat((t, t.flip(1))) for name, t in STATS.items()}
    counted, hints = (torch.cat((m, m.flip(1))) for m in (COUNTED, HINTS))
    whole = update_measures(rows, counted, hints)
    parts = []
    for part in (slice(0, 1), slice(1, 2)):
        stats = {name: value[part] for name, value in rows.items()}
        parts.append(update_measures(stats, counted[part], hints[part]))
    assert measured_values(join_measures(parts)) == pytest.approx(measured_values(whole))


def test_advantages_at_hint_and_generated_tokens():
    """Rows of advantage 1 and -1/2; counted hints: one token of row 1; generated: 2 and 1."""
    advantages = torch.tensor([1.0, -0.5])
    counted = torch.tensor([[True, True, True], [True, False, False]])
    hints = torch.tensor([[True, False, False], [False, True, False]])
    values = measured_values(advantage_measures(advantages, counted, hints))
    assert values == pytest.approx(
        {
            "policy/advantage_hint": 1.0,
            "policy/advantage_generated": (1.0 + 1.0 - 0.5) / 3,
            "policy/advantage_abs": 0.75,
        }
    )
