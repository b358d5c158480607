from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from maggma.stores import MemoryStore

from workflows.runtime.blobs import Blobs, pack, unpack
from workflows.runtime.settings import StoreError


@pytest.fixture
def blobs():
    """Any maggma store will do; GridFS is tried in test_store."""
    memory = MemoryStore(key="blob_uuid")
    memory.connect()
    return Blobs(memory)


@given(st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_come_back_by_their_hash(blobs, data):
    sha256 = blobs.put_bytes(data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert blobs.put_bytes(data) == sha256
    assert blobs.get_bytes(sha256) == data


def test_what_is_not_there_or_damaged_is_refused(blobs):
    with pytest.raises(StoreError, match="holds no file 00"):
        blobs.get_bytes("00")
    sha256 = blobs.put_bytes(b"state")
    document = blobs._store.query_one({"blob_uuid": f"sha256-{sha256}"})
    document["base64"] = "AAAA"
    blobs._store.update(document, key="blob_uuid")
    with pytest.raises(StoreError, match="damaged"):
        blobs.get_bytes(sha256)


names = st.text("abcDE-_.é ", min_size=1, max_size=8).filter(lambda n: n.strip(". ") != "")


@given(st.dictionaries(st.tuples(names, names), st.binary(max_size=100), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_directory_comes_back_the_same_and_has_one_hash(tmp_path_factory, files):
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for directory, order in ((first, sorted(files)), (second, sorted(files, reverse=True))):
        for folder, name in order:
            (directory / f"d{folder}").mkdir(exist_ok=True)
            (directory / f"d{folder}" / name).write_bytes(files[folder, name])
    os.utime(second, (0, 0))
    for path in second.rglob("*"):
        path.chmod(0o700)
    archive = pack(first)
    assert pack(second) == archive
    target = tmp_path_factory.mktemp("target")
    unpack(archive, target)
    found = {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == {f"d{folder}/{name}": data for (folder, name), data in files.items()}


def archive_of(name, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("fine"), io.BytesIO())
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info, io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
def test_an_archive_that_leaves_its_directory_is_refused_whole(tmp_path, name):
    with pytest.raises(StoreError, match="refused"):
        unpack(archive_of(name), tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_special_files_are_refused(tmp_path, kind):
    with pytest.raises(StoreError, match="refused"):
        unpack(archive_of("link", kind), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_what_is_no_plain_directory_is_not_packed(tmp_path):
    with pytest.raises(StoreError, match="not a directory"):
        pack(tmp_path / "nothing")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="no plain file"):
        pack(tmp_path)


def test_a_broken_archive_and_a_taken_target_are_refused(tmp_path):
    with pytest.raises(StoreError, match="broken"):
        unpack(b"no archive at all" * 100, tmp_path / "target")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        unpack(archive_of("good"), tmp_path / "taken")
    assert Path(tmp_path / "taken" / "file").read_text() == "mine"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o007, 0o770)])
def test_a_directory_gets_the_mode_that_its_user_asks_for(tmp_path, umask, mode):
    source = tmp_path / "source"
    source.mkdir()
    (source / "weights").write_bytes(b"0")
    before = os.umask(umask)
    try:
        unpack(pack(source), tmp_path / "target")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == mode
