"""The released code's rewards, text by text."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from igpo_lightning.rewards import GradingPool
from igpo_lightning.rewards.functions import Graded, get_reward
from igpo_lightning.rewards.released import same_string
from igpo_lightning.rewards.worker_pool import Verdict

pytestmark = pytest.mark.shared

RIGHT = 3.0  # what the released code gives for a right answer


def test_released_rewards(shared_golden: Path) -> None:
    folder = shared_golden / "methods" / "igpo"
    outputs = load_file(folder / "outputs.safetensors")
    texts = json.loads((folder / "texts.json").read_text())
    with GradingPool(1, grader=same_string, strategies=("first_box",)) as pool:
        verdicts = pool.grade([(text["answer"], text["response"]) for text in texts])
    correct = [RIGHT * verdict.correct for verdict in verdicts]
    assert correct == outputs["reward.correct"].tolist()
    form = get_reward("format_tags")
    given = [form(Graded(text["response"], Verdict(False, None), 0, 1)) for text in texts]
    assert given == outputs["reward.format"].tolist()
