"""The progress bar of a training."""

from lightning.pytorch.callbacks import RichProgressBar


class StepBar(RichProgressBar):
    """Lightning's bar over the steps of a run, which are one pass: there are no epochs to count."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"
