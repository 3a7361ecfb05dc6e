"""Whatever stands in a model's files, reading them gives a model or one line."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from igpo_lightning.errors import ConfigError
from igpo_lightning.models.backbone import BackboneModule
from igpo_lightning.models.configuration import read_config
from igpo_lightning.models.loading import NATIVE
from igpo_lightning.models.safetensors_header import read_header
from igpo_lightning.models.special_tokens import token_ids
from tests.small_backbones import CONFIGS

# What JSON can hold in the place of a number.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.sampled_from(["rope_type", "factor", "rope_theta"]), st.integers(-1, 9)),
)


def built(raw: dict[str, Any]) -> BackboneModule:
    """As `load_backbone` builds a model, on the meta device."""
    read, build = NATIVE[raw["model_type"]]
    with torch.device("meta"):
        return build(read(raw), token_ids("m", {"config.json": raw}), raw)


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_entries_of_config_json_give_a_model_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    keys = sorted(CONFIGS[name].keys() - {"model_type"})
    changes = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=3))
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIGS[name] | changes))
    with suppress(ConfigError):
        model = built(read_config(str(folder)))
        assert all(parameter.numel() > 0 for parameter in model.parameters())


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_bytes_of_a_header_give_entries_within_the_file_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4)}, file)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255) | st.sampled_from(b'0123456789[]{},:"-'))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with suppress(ConfigError):
        for entry in read_header(file).values():
            assert entry.start + entry.size <= file.stat().st_size
            assert torch.empty(entry.shape, dtype=entry.dtype, device="meta").nbytes == entry.size


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_config_json_is_an_object_with_a_type_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder: Path = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_bytes(content)
    with suppress(ConfigError):
        assert isinstance(read_config(str(folder))["model_type"], str)
