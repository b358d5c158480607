from __future__ import annotations

import gzip
import json

import pytest

from generators.data import sources


@pytest.fixture(scope="module")
def gathered():
    return sources.gather()


def test_what_ships_is_what_the_installed_packages_give(gathered, monkeypatch):
    monkeypatch.setattr(sources, "gather", lambda: pytest.fail("the shipped file is of other versions: write it again"))
    read = sources.read()
    assert [one._replace(structure=None) for one in read] == [one._replace(structure=None) for one in gathered]
    assert all(one.structure == other.structure for one, other in zip(read, gathered, strict=True))


def test_other_versions_are_read_anew(gathered, tmp_path, monkeypatch):
    path = tmp_path / "known.json.gz"
    content = json.loads(gzip.decompress(sources.SHIPPED.read_bytes()))
    content["versions"]["spglib"] = "0.1"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    monkeypatch.setattr(sources, "SHIPPED", path)
    monkeypatch.setattr(sources, "gather", lambda: gathered)
    assert sources.read() is gathered


def test_the_file_is_written_the_same_each_time(gathered, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "gather", lambda: gathered)
    path = tmp_path / "known.json.gz"
    assert sources.write(path) == len(gathered)
    assert gzip.decompress(path.read_bytes()) == gzip.decompress(sources.SHIPPED.read_bytes())
