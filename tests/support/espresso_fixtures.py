"""Quantum ESPRESSO and a family of pseudopotentials, for the tests that run the real thing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dft_inputs.pseudos import install_family

if TYPE_CHECKING:
    from dft_inputs.pseudos import Family

FAMILY = "PseudoDojo/0.4/PBE/SR/standard"


@pytest.fixture(scope="session")
def pw_x() -> Path:
    """Path of pw.x.

    On a machine with apt-get its absence is a failure of the set-up, not a reason to pass by.
    """
    found = shutil.which("pw.x")
    if found is None and shutil.which("apt-get"):
        pytest.fail("pw.x is missing: `make espresso` installs it (as root)", pytrace=False)
    if found is None:
        pytest.skip("no pw.x here, and no apt-get to install it with")
    return Path(found)


@pytest.fixture(scope="session")
def family() -> Family:
    """PseudoDojo's standard PBE family, installed once per machine in the user's own place.

    Workers that run side by side wait for one another under the installer's lock.
    """
    return install_family(FAMILY)
