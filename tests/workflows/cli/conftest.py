"""Runs the command as a user does, in this process, and looks at what it printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from workflows.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


SPEC = """\
name: oxides
chemistry: {systems: [Mg-O], max_elements: 2}
samples: 4
rounds: 1
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def nucleate(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Give a function that runs ``nucleate ARGUMENTS`` in an empty directory."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    capsys.readouterr()

    def call(*arguments: object) -> Ran:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def launched(nucleate: Callable[..., Ran], tmp_path: Path) -> Path:
    """Launch a campaign of one round, of which nothing has run; gives its directory."""
    path = tmp_path / "oxides.yaml"
    path.write_text(SPEC)
    assert nucleate("launch", path).code == 0
    return tmp_path / "oxides"
