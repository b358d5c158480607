"""Fixtures that put the stand-in where Nucleate looks for VASP."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from vasp_stand_in.potcars import VALENCE, make_library

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent

COMMAND = f"{sys.executable} {HERE / 'vasp_std'}"
"""What starts the stand-in."""


@dataclass(frozen=True)
class StandIn:
    """The stand-in as tests use it."""

    command: str
    potcars: Path
    faults: Path

    def plan(self, *faults: dict[str, Any]) -> None:
        """Tell which runs die how; see ``faults.py``."""
        self.faults.write_text(json.dumps(faults), encoding="utf-8")

    def left(self) -> int:
        """Count the faults that have not been taken."""
        return sum(fault.get("times", 1) for fault in json.loads(self.faults.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def vasp_model() -> Iterator[Path]:
    """Run the process that holds the force field; give its socket."""
    with TemporaryDirectory(prefix="vasp-") as short:  # a socket's path has to be short
        socket = Path(short) / "model.sock"
        process = subprocess.Popen(
            [sys.executable, str(HERE / "model_server.py"), str(socket)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                break
        else:
            pytest.fail("the stand-in's force field did not start")
        try:
            yield socket
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def vasp_potcars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make POTCARs without potentials."""
    return make_library(tmp_path_factory.mktemp("potcars"), VALENCE)


@pytest.fixture
def vasp_stand_in(vasp_model: Path, vasp_potcars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Configure this machine as one where the stand-in is VASP."""
    faults = tmp_path / "faults.json"
    monkeypatch.setenv("VASP_STAND_IN_SOCKET", str(vasp_model))
    monkeypatch.setenv("VASP_STAND_IN_FAULTS", str(faults))
    monkeypatch.setenv("NUCLEATE_VASP__COMMAND", COMMAND)
    monkeypatch.setenv("NUCLEATE_VASP__PSEUDOS", str(vasp_potcars))
    monkeypatch.setenv("NUCLEATE_VASP__POLL_SECONDS", "0.05")
    monkeypatch.setenv("NUCLEATE_VASP__CHECK_SECONDS", "0.2")
    return StandIn(COMMAND, vasp_potcars, faults)
