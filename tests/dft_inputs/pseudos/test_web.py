"""The web sources, against a server on this machine; the sites themselves can't be asked by a test."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dft_inputs.causes import DftError
from dft_inputs.pseudos.download import Downloader, DownloadError
from dft_inputs.pseudos.manifest import ArchiveSource, FileEntry, Manifest, ManifestError, TableSource
from dft_inputs.pseudos.sources import from_archive, from_table
from dft_inputs.pseudos.unpack import ArchiveError, read_tar

LOCAL = Downloader(schemes=("http",), timeout_s=5)


@dataclass
class Site:
    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site():
    """Give a server whose files and misbehaviour a test may choose."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            place.asked.append((self.path, self.headers.get("Range")))
            if self.path in place.redirects:
                self.send_response(302)
                self.send_header("Location", place.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = place.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            if start >= len(content) > 0 and start:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:] if place.cut_after is None else content[start : place.cut_after])
            if place.cut_after is not None:
                self.close_connection = True

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield place
    server.shutdown()
    server.server_close()


def _tar(members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _fetch(url, path, limit=10**6):
    told = []
    LOCAL.fetch(url, path, limit_bytes=limit, progress=told.append)
    return told


def test_a_file_comes_whole_and_progress_is_told(site, tmp_path):
    site.files["/x"] = bytes(range(256)) * 4000
    told = _fetch(f"{site.address}/x", tmp_path / "x", 2 * 10**6)
    assert (tmp_path / "x").read_bytes() == site.files["/x"]
    assert "1.0 MB" in told[0]
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_a_cut_download_goes_on_where_it_stopped(site, tmp_path):
    site.files["/x"] = b"0123456789" * 1000
    site.cut_after = 4000
    with pytest.raises(DownloadError, match="ended after 4000 of 10000 bytes"):
        _fetch(f"{site.address}/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    site.cut_after = None
    _fetch(f"{site.address}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == site.files["/x"]
    assert [asked for _, asked in site.asked] == [None, "bytes=4000-"]


def test_a_part_longer_than_the_file_is_dropped(site, tmp_path):
    site.files["/x"] = b"short"
    (tmp_path / "x.part").write_bytes(b"much too long")
    _fetch(f"{site.address}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"short"


def test_more_than_allowed_is_not_taken(site, tmp_path):
    site.files["/x"] = bytes(2000)
    with pytest.raises(DownloadError, match="are offered"):
        _fetch(f"{site.address}/x", tmp_path / "x", 1000)
    assert not (tmp_path / "x").exists()


def test_a_server_that_says_no_or_nothing_is_explained(site, tmp_path):
    with pytest.raises(DownloadError, match="the server says 404"):
        _fetch(f"{site.address}/nothing", tmp_path / "x")
    with pytest.raises(DownloadError, match="can't be reached"):
        _fetch("http://127.0.0.1:9/x", tmp_path / "x")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "https://127.0.0.1/x"])
def test_a_redirection_elsewhere_is_not_followed(site, tmp_path, target):
    site.redirects["/x"] = target
    with pytest.raises(DownloadError, match="only http is allowed"):
        _fetch(f"{site.address}/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_redirection_to_the_same_kind_is_followed(site, tmp_path):
    site.redirects["/x"] = f"{site.address}/y"
    site.files["/y"] = b"here"
    _fetch(f"{site.address}/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"here"


def _manifest(files, source):
    return Manifest(
        name="web/test", version="1", functional="PBE", relativistic="scalar", sources=(), files=files
    ), source


def _archive(site, path):
    # the manifest itself accepts https only; what is tested here is what comes after
    return ArchiveSource.model_construct(kind="archive", url=f"{site.address}{path}")


def _table(site):
    return TableSource.model_construct(kind="table", url=f"{site.address}/s.tar.gz", table=f"{site.address}/s.json")


@pytest.fixture
def folders(tmp_path):
    staging, downloads = tmp_path / "staging", tmp_path / "downloads"
    staging.mkdir()
    downloads.mkdir()
    return staging, downloads


def test_an_archive_gives_the_files_that_the_manifest_knows(site, folders, upf):
    good = upf("Si")
    entry = FileEntry(file="Si.upf", sha256=hashlib.sha256(good).hexdigest(), z_valence=4)
    manifest, source = _manifest({"Si": entry}, _archive(site, "/d.tgz"))
    site.files["/d.tgz"] = _tar({"./nc/Si.upf": good, "README": b"x"})
    assert from_archive(manifest, source, *folders, lambda _: None, LOCAL) == manifest
    assert {item.name: item.read_bytes() for item in folders[0].iterdir()} == {"Si.upf": good}
    site.files["/e.tgz"] = _tar({"Si.upf": upf("Si", z_valence=5)})
    with pytest.raises(DftError, match="must have") as caught:
        from_archive(manifest, _archive(site, "/e.tgz"), *folders, lambda _: None, LOCAL)
    assert caught.value.code == 208


def test_a_table_says_what_is_in_an_archive(site, folders, upf):
    files = {
        "Si.pbe-n-rrkjus_psl.1.0.0.UPF": upf("Si", pseudo_type="US", functional=" SLA  PW   PBX  PBC"),
        "O.upf": upf("O", z_valence=6),
        "Mg.upf": upf("Mg", functional="SLA PZ NOGX NOGC"),
    }
    rows = {name.split(".")[0]: name for name in files}
    site.files["/s.tar.gz"] = _tar({f"./{name}": content for name, content in files.items()})
    site.files["/s.json"] = json.dumps(
        {
            element: {
                "filename": name,
                "md5": hashlib.md5(files[name], usedforsecurity=False).hexdigest(),
                "cutoff_wfc": 30.0,
                "cutoff_rho": 240.0,
                "pseudopotential": "100US",
            }
            for element, name in rows.items()
        }
    ).encode()
    manifest, source = _manifest({}, _table(site))
    told = []
    made = from_table(manifest, source, *folders, told.append, LOCAL)
    assert sorted(made.files) == ["O", "Si"]
    assert made.files["Si"].ecutwfc_ry == {"low": 30.0, "normal": 30.0, "high": 30.0}
    assert (made.files["Si"].dual, made.files["Si"].pseudo_type) == (8.0, "US")
    assert made.files["Si"].sha256 == hashlib.sha256(files[rows["Si"]]).hexdigest()
    assert any("Mg is left out" in line and "made for LDA" in line for line in told)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"md5": "0" * 32}, DftError, "another md5"),
        ({"filename": "Mg.upf"}, DftError, "in the table"),
        ({"filename": "../Si.upf"}, ManifestError, r"Si\.filename"),
        ({"filename": None}, ManifestError, "no filename"),
        ({"cutoff_wfc": "a lot"}, ManifestError, r"Si\.cutoff_wfc"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(site, folders, upf, change, error, says):
    content = upf("Si")
    row = {"filename": "Si.upf", "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(), "cutoff_wfc": 30}
    site.files["/s.tar.gz"] = _tar({"Si.upf": content})
    site.files["/s.json"] = json.dumps({"Si": {**row, **change}}).encode()
    manifest, source = _manifest({}, _table(site))
    with pytest.raises(error, match=says):
        from_table(manifest, source, *folders, lambda _: None, LOCAL)


def test_hostile_members_of_a_tar_never_become_files(tmp_path, upf):
    path = tmp_path / "in/evil.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        for name, kind in (("Si.upf", tarfile.SYMTYPE), ("Si.upf", tarfile.LNKTYPE), ("Si.upf", tarfile.FIFOTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
        for name in ("../../Mg.upf", "/etc/O.upf"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    before = sorted(tmp_path.rglob("*"))
    # by its last part a name is found wherever it claims to lie; its content goes where we say
    assert read_tar(path, ["Si.upf", "Mg.upf", "O.upf"]) == {"Mg.upf": b"abc", "O.upf": b"abc"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tar_that_is_none_or_cut_is_refused(tmp_path, upf):
    path = tmp_path / "a.tar"
    path.write_bytes(b"<html>Not found</html>")
    with pytest.raises(ArchiveError, match=r"a\.tar is no whole tar archive"):
        read_tar(path, ["Si.upf"])
    path.write_bytes(_tar({"Si.upf": bytes(range(256)) * 400, "O.upf": upf("O") * 50})[:300])
    with pytest.raises(ArchiveError, match=r"a\.tar is no whole tar archive"):
        read_tar(path, ["Si.upf"])
