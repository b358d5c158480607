"""The last word on a run in a Custodian: what no handler took and is no success is refused."""

from __future__ import annotations

from pathlib import Path

from custodian.custodian import Validator

from dft_inputs.causes import SUCCESS
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.files import NoRunError


class PwValidator(Validator):  # type: ignore[misc]  # custodian carries no types
    """Refuse a run that has no trustworthy result."""

    def check(self, directory: str | Path = "./") -> bool:
        """Tell whether the run must be refused."""
        try:
            return diagnose_pw(Path(directory).absolute()).code != SUCCESS
        except NoRunError:
            return True
