"""No weights that are NaN or infinite leave a run as a model."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from igpo_lightning import distributed
from igpo_lightning.errors import RunError

_PART = 2**24  # numbers looked at together


def require_finite(weights: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Refuse to export weights that are NaN or infinite; under sharding all ranks take part.

    Args:
        weights: Names and tensors; a rank's own shards suffice.
        folder: That would be written.

    Raises:
        RunError: Names the first such weight of this rank.
    """
    spoiled = next((name for name, weight in weights if not _is_finite(weight)), None)
    if distributed.any_rank(spoiled is not None):
        raise RunError(
            f"{folder} is not written: {spoiled or 'a weight of another rank'} holds NaN or inf. "
            "Lower optimizer.lr, or export an earlier checkpoint with stage=export checkpoint=FILE"
        )


def _is_finite(weight: Tensor) -> bool:
    shard = getattr(weight, "to_local", None)  # of FSDP's DTensor
    own = weight.detach() if shard is None else shard().detach()
    if not own.is_floating_point():
        return True
    # In parts: the comparison of a whole embedding of 8B takes more memory than a shard.
    return all(bool(part.isfinite().all()) for part in own.reshape(-1).split(_PART))
