"""Accuracy with honest intervals, and the samples behind it."""

from igpo_lightning.evaluation.metrics import Accuracy, accuracy, wilson_interval

__all__ = ["Accuracy", "accuracy", "wilson_interval"]
