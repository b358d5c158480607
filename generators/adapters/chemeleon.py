"""Chemeleon-DNG (Park, Onwuli, Walsh, Nat. Commun. 16 (2025), doi 10.1038/s41467-025-59636-y) as a generator.

Written after github.com/hspark1212/chemeleon-dng (commit 554caa9): the options are the arguments of ``sample`` in
``chemeleon_dng/sample.py``, read by python-fire (the README's ``scripts/sample.py`` is no longer there), which writes
``sample_<number>_<formula>.cif``. Of its three tasks ``guide`` samples nothing there, so it is not offered.

It has no option for a seed; so the same module is run by :mod:`generators.adapters.seeded`. Without ``--model_path`` it
downloads its checkpoints into the working directory: here that would happen in every run, so the option is needed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.adapters import seeded
from generators.adapters.options import Running, choice, program, text, texts
from generators.adapters.options import path as checked_path
from generators.adapters.process import EnvironmentProblem
from generators.adapters.reading import read_file
from generators.adapters.runs import Part
from generators.adapters.stream import OutsideGenerator
from generators.compositions import asked, complexity_shares, element_sets, neutral_stoichiometries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from generators.adapters.runs import Run
    from generators.base import Condition

TASKS = ("csp", "dng")
SIZES = ("condition", "mp-20")
"""``condition``: even from the fewest elements to the most atoms that the condition allows; ``mp-20``: upstream's."""
_FORMULA = re.compile(r"([A-Z][a-z]?[0-9]*)+")
_FILE = re.compile(r"sample_([0-9]+)_\w+\.cif")


class ChemeleonDNG(OutsideGenerator):
    """Crystals of Chemeleon-DNG, one run of its ``sample`` a batch.

    Parameters
    ----------
    python : str
        Interpreter of the environment into which it was installed (``pip install -e``, as upstream says).
    model_path : str
        Checkpoint, as ``ckpts/chemeleon_csp_alex_mp_20_v0.0.2.ckpt``; it must be one for the task.
    task : {"csp", "dng"}
        ``csp``: structures for compositions; ``dng``: any crystals, of which those that do not fit the condition are
        passed over, which in a narrow chemical system is nearly all.
    formulas : sequence of str
        For ``csp``: contents of the cell, as ``Na2Cl2``, given out in turn; none: drawn from the compositions that
        the condition allows, half of them with as many elements as it allows.
    num_atoms : {"condition", "mp-20"}
        For ``dng``: how many atoms the cells have.
    device : str or None
        ``cuda``, ``cpu``; None: upstream chooses.
    batch, timeout_s, environment, cache, max_failures, tries, grace_s
        As :class:`generators.adapters.script.OutsideModel`; ``batch`` is ``--batch_size``.

    Raises
    ------
    ValueError
        If an option has a wrong type or value; the message names it.
    """

    name = "chemeleon"
    package = "chemeleon_dng"

    def __init__(
        self,
        python: str,
        model_path: str,
        task: str = "csp",
        formulas: Sequence[str] = (),
        num_atoms: str = "condition",
        device: str | None = None,
        batch: int = 32,
        timeout_s: float = 7200.0,
        environment: Sequence[str] = (),
        cache: str | None = None,
        max_failures: int = 3,
        tries: int = 20,
        grace_s: float = 10.0,
    ) -> None:
        running = Running.checked(
            self.name,
            batch=batch,
            timeout_s=timeout_s,
            environment=environment,
            cache=cache,
            max_failures=max_failures,
            tries=tries,
            grace_s=grace_s,
        )
        super().__init__(running, program(self.name, "python", python), ("chemeleon_dng", "fire", "torch"))
        self.model_path = checked_path(self.name, "model_path", model_path)
        self.task = choice(self.name, "task", task, TASKS)
        self.formulas = texts(self.name, "formulas", formulas)
        for formula in self.formulas:
            if not _FORMULA.fullmatch(formula):
                raise ValueError(f"{self.name}: the option formulas has {formula!r}; write the cell as Na2Cl2")
        if self.formulas and self.task != "csp":
            raise ValueError(f"{self.name}: the option formulas is for the task csp, not {self.task}")
        self.num_atoms = choice(self.name, "num_atoms", num_atoms, SIZES)
        self.device = None if device is None else text(self.name, "device", device)

    def options(self) -> dict[str, Any]:
        """Return the options that make an equal generator."""
        return {
            "python": self.python,
            "model_path": self.model_path,
            "task": self.task,
            "formulas": list(self.formulas),
            "num_atoms": self.num_atoms,
            "device": self.device,
            **self.running.as_options(),
        }

    def _refuse(self, condition: Condition) -> None:
        if self.task == "csp" and not self.formulas and not composable(condition):
            raise ValueError(f"chemeleon: no composition of {asked(condition)}")

    def _command(self, run: Run, output: Path, condition_file: Path) -> tuple[list[str], dict[str, Any]]:
        del condition_file
        command = [str(self.python), seeded.__file__, str(run.seed), "chemeleon_dng.sample", f"--task={self.task}"]
        if self.task == "csp":
            # --num_samples counts for each formula.
            command += [f"--formulas={','.join(self._formulas(run))}", "--num_samples=1"]
        else:
            command += [f"--num_samples={run.n}", f"--num_atom_distribution={self._sizes(run)}"]
        command += [
            f"--batch_size={run.n}",
            f"--model_path={self.model_path}",
            f"--output_dir={output}",
            "--save_json=False",
        ]
        if self.device is not None:
            command.append(f"--device={self.device}")
        return command, {}

    def _formulas(self, run: Run) -> list[str]:
        if self.formulas:
            first = run.start + run.n * run.number
            return [self.formulas[(first + i) % len(self.formulas)] for i in range(run.n)]
        rng = np.random.default_rng(run.seed)
        return draw_formulas(run.condition, run.n, rng)

    def _sizes(self, run: Run) -> str:
        if self.num_atoms != "condition":
            return self.num_atoms
        rng = np.random.default_rng(run.seed)
        least, most = run.condition.min_elements, run.condition.max_atoms
        sizes = rng.integers(min(least, most), most + 1, size=run.n)
        return "[" + ",".join(map(str, sizes)) + "]"

    def _parts(self, folder: Path, seen: int, code: int | None) -> Iterator[Part]:
        if code != 0 or seen:
            return
        numbered = sorted((int(match[1]), path) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name)))
        digest = hashlib.sha256()
        crystals = []
        for _, path in numbered:
            digest.update(path.read_bytes())
            crystals += read_file(path)[:1]
        if crystals:
            yield Part(crystals, f"chemeleon-dng {Path(self.model_path).name}", "", digest.hexdigest())

    def _files(self) -> tuple[str, ...]:
        return (self.model_path,)

    def _check(self, environment: Mapping[str, str]) -> None:
        del environment
        if not Path(self.model_path).is_file():
            raise EnvironmentProblem(
                f"{self.name}: {self.model_path} (option model_path) is not there; upstream's sample.py, run once "
                "without --model_path, downloads the checkpoints into ckpts/"
            )


def composable(condition: Condition) -> dict[int, list[tuple[str, ...]]]:
    """List the element sets, by size, of which some composition meets the condition."""
    found: dict[int, list[tuple[str, ...]]] = {}
    for size, members in element_sets(condition).items():
        if able := [s for s in members if neutral_stoichiometries(s, condition.max_atoms, condition.neutrality)]:
            found[size] = able
    return found


def draw_formulas(condition: Condition, n: int, rng: np.random.Generator) -> list[str]:
    """Draw cell contents: number of elements, elements, stoichiometry, then how many formula units fit, each evenly.

    Only the number of elements is not even: half have as many as the condition allows.
    """
    sets = composable(condition)
    shares = complexity_shares(list(sets))
    formulas = []
    for _ in range(n):
        members = sets[int(rng.choice(list(shares), p=list(shares.values())))]
        elements = members[int(rng.integers(len(members)))]
        possible = neutral_stoichiometries(elements, condition.max_atoms, condition.neutrality)
        counts = possible[int(rng.integers(len(possible)))]
        units = int(rng.integers(1, condition.max_atoms // sum(counts) + 1))
        formulas.append("".join(f"{e}{units * c}" for e, c in zip(elements, counts, strict=True)))
    return formulas
