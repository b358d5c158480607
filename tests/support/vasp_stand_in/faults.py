"""Which run of the stand-in dies how, and how often: a JSON file that ``VASP_STAND_IN_FAULTS`` names.

A list of ``{"fault": ..., "times": 1, "after": 0, "step": 1, "relaxation": true, "formula": "MgO"}``; the first whose
conditions hold and that has times left is taken. ``after`` matching runs pass undisturbed before. Faults: ``edddav``,
``zbrent``, ``brmix``, ``nelm``, ``no_contcar``, ``stopped`` (by STOPCAR), ``killed`` (mid-write, by SIGKILL), ``slow``
(``seconds`` a step). ``min_steps`` keeps a relaxation from ending sooner.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any


def take_fault(inputs: Any) -> dict[str, Any]:
    """Take the fault of this run, if any; safe against runs side by side."""
    named = os.environ.get("VASP_STAND_IN_FAULTS")
    if not named or not Path(named).is_file():
        return {}
    with Path(named).open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        planned = json.load(file)
        taken: dict[str, Any] = {}
        for fault in planned:
            if fault.get("times", 1) < 1 or not _meant(fault, inputs):
                continue
            if fault.get("after", 0) > 0:
                fault["after"] -= 1
                continue
            fault["times"] = fault.get("times", 1) - 1
            taken = fault
            break
        file.seek(0)
        file.truncate()
        json.dump(planned, file)
    return taken


def _meant(fault: dict[str, Any], inputs: Any) -> bool:
    relaxation = fault.get("relaxation")
    formula = fault.get("formula")
    return (relaxation is None or relaxation == (inputs.incar["NSW"] > 0)) and (
        formula is None or formula == inputs.atoms.get_chemical_formula("metal", empirical=True)
    )
