"""Files of one JSON object a line: what a kill cut off costs its own line and no other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators import json_lines

RECORDS = [{"key": "a", "x": 1.5}, {"key": "b", "word": "Å\u2028é"}]


def written(path, records):
    for record in records:
        json_lines.append(path, record)


def test_what_was_appended_is_read(tmp_path):
    path = tmp_path / "log.jsonl"
    assert list(json_lines.read(path)) == []
    written(path, RECORDS)
    assert list(json_lines.read(path)) == RECORDS
    json_lines.mend(path)
    assert list(json_lines.read(path)) == RECORDS


@given(kept=st.integers(min_value=0, max_value=200))
def test_wherever_it_was_cut_off_only_that_line_is_lost(tmp_path_factory, kept):
    path = tmp_path_factory.mktemp("lines") / "log.jsonl"
    written(path, RECORDS)
    data = path.read_bytes()[:kept]
    path.write_bytes(data)
    whole = [json.loads(line) for line in data.decode(errors="ignore").split("\n")[:-1]]
    json_lines.mend(path)
    assert list(json_lines.read(path)) == whole
    json_lines.append(path, {"key": "next"})
    assert list(json_lines.read(path)) == [*whole, {"key": "next"}]


@pytest.mark.parametrize("junk", [b"{", b"[1, 2]", b"7", b"\xff\xfe", b""])
def test_a_line_that_is_no_object_is_left_out(tmp_path, junk):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + junk + b'\n{"key": "b"}\n')
    assert [record["key"] for record in json_lines.read(path)] == ["a", "b"]


def test_a_file_that_is_missing_needs_no_mending(tmp_path):
    json_lines.mend(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
