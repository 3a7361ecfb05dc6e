"""Accuracy with honest intervals, and the samples behind it."""

from igpo_lightning.evaluation.intervals import wilson_interval
from igpo_lightning.evaluation.metrics import Accuracy, accuracy

__all__ = ["Accuracy", "accuracy", "wilson_interval"]
