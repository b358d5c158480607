"""Runs in the environment that has matminer: crystals come as JSON lines, fingerprints go out as JSON lines.

A script of its own: it imports nothing of ours. Called as ``python worker.py INPUT OUTPUT``; what OUTPUT already holds
is not computed again, and each line is flushed, so that it can be killed at any time.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any


def main(source: Path, target: Path) -> None:
    """Compute what is missing."""
    from matminer.featurizers.composition.composite import ElementProperty
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
    from pymatgen.core import Composition, Structure

    warnings.filterwarnings("ignore")
    sites = CrystalNNFingerprint.from_preset("ops")
    elements = ElementProperty.from_preset("magpie")
    done = {json.loads(line)["key"] for line in _lines(target)}
    with target.open("a") as out:
        for line in _lines(source):
            row = json.loads(line)
            if row["key"] in done:
                continue
            done.add(row["key"])
            found: dict[str, Any] = {"key": row["key"], "composition": None, "sites": None}
            try:
                structure = Structure(row["lattice"], row["species"], row["coords"])
                numbers = elements.featurize(Composition(structure.composition.as_dict()))
                found["composition"] = [None if math.isnan(x) else float(x) for x in numbers]
                found["sites"] = [
                    [round(float(x), 6) for x in sites.featurize(structure, i)] for i in range(len(structure))
                ]
            except Exception as error:  # noqa: BLE001 - CDVAE counts such a crystal as not covered
                found["sites"], found["error"] = None, f"{type(error).__name__}: {error}"[:200]
            out.write(json.dumps(found) + "\n")
            out.flush()


def _lines(path: Path) -> list[str]:
    """Read whole lines; one that a kill cut off is left out (and ended, by whoever writes next)."""
    if not path.exists():
        return []
    text = path.read_text()
    if text and not text.endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1])
    return [line for line in text.split("\n")[:-1] if line]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
