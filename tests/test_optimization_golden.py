"""The released code's learning rate, step by step."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from igpo_lightning.optimization import linear
from igpo_lightning.settings import OptimizerConfig

pytestmark = pytest.mark.shared


def test_linear_schedule(shared_golden: Path) -> None:
    folder = shared_golden / "methods" / "igpo"
    total = int(load_file(folder / "inputs.safetensors")["lr.total_steps"])
    outputs = load_file(folder / "outputs.safetensors")
    (name,) = (key for key in outputs if key.startswith("lr.linear_warmup"))
    warmup = int(name.removeprefix("lr.linear_warmup").split("_")[0])
    recorded = outputs[name].tolist()
    stride = total // (len(recorded) - 1)
    settings = OptimizerConfig(max(recorded), (0.9, 0.99), 0.1, 0.2, warmup, 0.0, "linear")
    made = [settings.lr * linear(i * stride, total, settings) for i in range(len(recorded))]
    assert made == pytest.approx(recorded, rel=1e-6)
