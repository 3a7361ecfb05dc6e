"""A checkpoint is sound only if every byte is as it was written."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from igpo_lightning.errors import ConfigError
from igpo_lightning.runs import durable, untrusted
from igpo_lightning.runs.checkpoints import DurableCheckpointIO, newest_sound

STATE = {"global_step": 2, "state_dict": {"weight": torch.arange(6.0)}, "notes": {"a": "b"}}


def saved(path: Path) -> bytes:
    """The bytes of a small checkpoint."""
    DurableCheckpointIO().save_checkpoint(STATE, path)
    return path.read_bytes()


def same(state: dict[str, Any]) -> bool:
    weight = state["state_dict"]["weight"]
    rest = state["global_step"], state["notes"]
    return torch.equal(weight, STATE["state_dict"]["weight"]) and rest == (2, {"a": "b"})


def test_a_whole_checkpoint_is_sound_and_read_back(tmp_path: Path) -> None:
    saved(tmp_path / "step-2.ckpt")
    assert durable.damage(tmp_path / "step-2.ckpt") is None
    assert same(untrusted.read_file(tmp_path / "step-2.ckpt"))


def test_a_flip_of_any_byte_is_found(tmp_path: Path) -> None:
    """Each byte in turn, the zip archive's directory and the checksum itself included."""
    whole, file = saved(tmp_path / "step-2.ckpt"), tmp_path / "step-2.ckpt"
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert durable.damage(file) is not None, f"byte {place} of {len(whole)}"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_sound_holds_what_was_written(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Any bytes changed, cut off or added; a damaged file is refused in words when it is read."""
    file = tmp_path_factory.mktemp("damaged") / "step-2.ckpt"
    content = bytearray(saved(file))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    file.write_bytes(content[:end] + data.draw(st.binary(max_size=4)))
    if durable.damage(file) is None:
        assert same(untrusted.read_file(file))
        return
    with suppress(ConfigError):  # and nothing else
        untrusted.read_file(file)


def shards(folder: Path) -> Path:
    """A published folder of two shards and what stands beside them."""
    partial = durable.partial_name(folder)
    partial.mkdir(parents=True)
    for name in ("meta.pt", "__0_0.distcp", "__1_0.distcp"):
        (partial / name).write_bytes(name.encode() * 3)
    durable.publish_folder(folder)
    return folder


@pytest.mark.parametrize("name", ["meta.pt", "__0_0.distcp", "__1_0.distcp", durable.SUMS_FILE])
def test_a_flip_in_a_folder_is_found_or_changes_no_shard(tmp_path: Path, name: str) -> None:
    folder = shards(tmp_path / "step-2.ckpt")
    assert durable.damage(folder) is None
    whole = (folder / name).read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            (folder / name).write_bytes(flipped)
            # White space between the sums may change: it holds nothing.
            assert durable.damage(folder) is not None or whole[place : place + 1].isspace()


def test_a_file_too_many_is_found(tmp_path: Path) -> None:
    folder = shards(tmp_path / "step-2.ckpt")
    (folder / "__2_0.distcp").write_bytes(b"of another run")
    assert durable.damage(folder) == "__2_0.distcp has no checksum"


@pytest.mark.parametrize("sums", [b"[]", b"\xff", b"3", b"[" * 10**5, b"{}"])
def test_sums_that_are_none_are_damage(tmp_path: Path, sums: bytes) -> None:
    folder = shards(tmp_path / "step-2.ckpt")
    (folder / durable.SUMS_FILE).write_bytes(sums)
    assert durable.damage(folder) is not None


def test_the_one_before_a_damaged_checkpoint_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path / "step-2.ckpt")
    (tmp_path / "step-4.ckpt").write_bytes(saved(tmp_path / "step-4.ckpt")[:-1])
    (tmp_path / "step-6.ckpt").write_bytes(b"")
    assert newest_sound(tmp_path) == tmp_path / "step-2.ckpt"
    for name in ("step-4.ckpt", "step-6.ckpt"):
        assert f"{name} is damaged" in caplog.text
