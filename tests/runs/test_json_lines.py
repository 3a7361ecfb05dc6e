"""Records of any text survive being written, read, and cut off anywhere."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igpo_lightning.errors import ConfigError
from igpo_lightning.reporting.run_files import SampleFile
from igpo_lightning.runs import json_lines
from igpo_lightning.runs.resuming import forget_after

# Every code point, those included that `str.splitlines` splits at and that UTF-8 cannot hold.
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_categories=()),
        st.sampled_from("\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n\ud800"),
    )
)
RECORDS = st.lists(st.fixed_dictionaries({"step": st.integers(0, 3), "completion": TEXTS}))


@given(RECORDS)
def test_what_is_written_is_read_back(records: list[dict]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = SampleFile(Path(folder) / "samples.jsonl")
        for record in records:
            file.append(record["step"], [record])
        assert file.read() == records
        file.write(records)
        assert file.read() == records


@given(RECORDS, st.data())
def test_a_file_cut_off_anywhere_keeps_its_whole_lines(records: list[dict], data) -> None:
    """At whatever byte, within a character too, as a full disk cuts it."""
    written = json_lines.encode(records)
    end = data.draw(st.integers(0, len(written)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.jsonl"
        file.write_bytes(written[:end])
        whole = written[:end].count(b"\n")
        forget_after(file, step=3)
        kept = [record for record in records[:whole] if record["step"] < 3]
        assert SampleFile(file).read() == kept
        assert file.read_bytes() == json_lines.encode(kept)


@pytest.mark.parametrize("line", ["[]", "1", "{", "\xff", '{"a": ' + "1" * 5000 + "}", "[" * 10**5])
def test_a_line_that_is_no_record_is_named_where_all_are_needed(tmp_path: Path, line: str) -> None:
    file = tmp_path / "eval_before.jsonl"
    file.write_bytes(b'{"id": "a"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(ConfigError, match=r"eval_before.jsonl, line 2"):
        SampleFile(file).read()


def test_a_line_that_is_no_training_sample_does_not_stop_a_resumed_run(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    file.write_bytes(b'{"step": 0}\n{"id": "a"}\nnull\n\n{"step": 1}\n{"step": "x"}\n')
    forget_after(file, step=1)
    assert file.read_bytes() == b'{"step": 0}\n'


def test_no_file_holds_no_samples(tmp_path: Path) -> None:
    assert SampleFile(tmp_path / "absent.jsonl").read() == []
    forget_after(tmp_path / "absent.jsonl", step=1)
    assert not (tmp_path / "absent.jsonl").exists()
