"""Rows of the Hugging Face hub, or of its local cache where the hub does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from igpo_lightning.data.reading import Row, columns_read
from igpo_lightning.models.hub import hub_answers, unreachable
from igpo_lightning.settings import HubTable


class HubError(Exception):
    """Why a table could not be had, in one line."""


def hub_rows(table: HubTable) -> Iterator[Row]:
    """The rows of a table.

    Raises:
        HubError: Neither the hub nor its cache gives it.
    """
    reachable = hub_answers()
    try:
        import datasets

        with _offline(not reachable):
            rows = datasets.load_dataset(table.repository, table.config, split=table.split)
    except Exception as error:  # whatever the libraries raise, the user needs the whole list of
        lines = str(error).strip().splitlines()  # places that were tried
        reason = f"{type(error).__name__}: {lines[0] if lines else ''}"
        if not reachable:
            reason = f"{unreachable()}, and its cache does not hold it ({reason})"
        raise HubError(reason) from error
    looked_at, named = columns_read(table)
    if named <= set(rows.column_names):  # tables of traces are mostly columns that nobody reads
        rows = rows.select_columns([name for name in rows.column_names if name in looked_at])
    where = f"{table.repository}, split {table.split}, row"
    return (Row(f"{where} {index}", index, dict(row)) for index, row in enumerate(rows))


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Let `datasets` look into its cache alone, instead of asking in vain for half a minute."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    try:
        if wanted:
            datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
