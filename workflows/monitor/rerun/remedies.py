"""What each cause asks to be changed: small functions, one a cause or band, on what is known of the failed job.

A remedy says what happens to the job's Maker (its fields by name), to its arguments, to what it takes (memory, minutes)
and whether it starts from where the failed attempt ended. What no remedy names stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dft_inputs.espresso.protocols import load_protocol
from workflows.runtime.cluster import Needs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Start = Literal["", "where it ended", "geometry"]
"""From the beginning; with all that the failed attempt left; from its last geometry and nothing else."""

_NSW = 99
"""atomate2's default."""
_SOLVERS = ("cg", "paro", "david")
_ALGORITHMS = ("All", "Normal", "Damped")


@dataclass(frozen=True)
class Case:
    """A failed job, as far as remedies want to know.

    Parameters
    ----------
    code : int
    evidence : str
    maker : dict
        Fields of its Maker as stored; empty for a plain function.
    arguments : dict
        Its plain arguments by name, as far as they are numbers.
    resources : dict
        What it took: of the batch job that ran it last, if one did; its own ``spec.resources`` go before that.
    minutes : float
        The longest that an attempt at it ran, min.
    resumable : bool
        Whether it goes on by itself from what its last attempt left.
    has_geometry : bool
        Whether its last attempt left one.
    tries : int
        How often it was re-run for this cause before.
    earlier : dict
        The overrides that were in force.
    """

    code: int
    evidence: str = ""
    maker: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 0.0
    resumable: bool = False
    has_geometry: bool = False
    tries: int = 0
    earlier: Mapping[str, Any] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        """``pw``, ``vasp``, ``mlip``, or empty for a job of another kind."""
        kinds = (("pw", "pw"), ("incar", "vasp"), ("steps", "mlip"))
        return next((engine for name, engine in kinds if name in self.maker), "")

    def now(self, name: str, default: Any) -> Any:
        """Give the value that a tag of the code, or a field of the Maker, had last."""
        maker = self.earlier.get("maker", {})
        inside = {"pw": "pw", "vasp": "incar"}.get(self.engine)
        if inside is None:
            return maker.get(name, self.maker.get(name, default))
        return (maker.get(inside) or {}).get(name, (self.maker.get(inside) or {}).get(name, default))


@dataclass(frozen=True)
class Remedy:
    """What a re-run changes.

    Parameters
    ----------
    words : str
        For people.
    tags : dict
        Of the code: pw.x's ``namelist.key``, INCAR tags, or fields of a force field's Maker.
    fields : dict
        Fields of the Maker itself.
    arguments : dict
        Of the job, by name; they change what children it has.
    resources : dict
        Parts of ``spec.resources``.
    start : str
    afresh : bool
        Whether earlier overrides are forgotten.
    """

    words: str
    tags: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    start: Start = ""
    afresh: bool = False


def remedy_for(case: Case) -> Remedy:
    """Give what the cause of a failed job asks."""
    return _REMEDIES.get(case.code, _SAME)(case)


def _same(case: Case) -> Remedy:
    return Remedy("nothing: it goes on where it ended" if case.resumable else "nothing")


def _mended(case: Case) -> Remedy:
    del case
    return Remedy("nothing: what was missing must be there now")


def _more_minutes(case: Case) -> Remedy:
    before = max(case.resources.get("minutes") or Needs().minutes, float(round(case.minutes + 0.5)))
    wanted = 2 * before
    start: Start = "" if case.resumable else _restart(case)
    how = "goes on where it ended" if case.resumable else _how(start)
    return Remedy(f"{wanted:g} min instead of {before:g}, {how}", resources={"minutes": wanted}, start=start)


def _more_memory(case: Case) -> Remedy:
    before = case.resources.get("memory_gb") or Needs().memory_gb
    wanted = 2 * before
    return Remedy(f"{wanted:g} GB instead of {before:g}", resources={"memory_gb": wanted})


def _more_steps(case: Case) -> Remedy:
    start = _restart(case)
    if case.engine == "mlip":
        before = int(case.now("steps", 500))
        return Remedy(f"{2 * before} steps instead of {before}, {_how(start)}", tags={"steps": 2 * before}, start=start)
    if case.engine == "vasp":
        before = int(case.now("NSW", _NSW))
        return Remedy(f"NSW {2 * before} instead of {before}, {_how(start)}", tags={"NSW": 2 * before}, start=start)
    if case.engine == "pw":
        before = int(case.now("control.nstep", _protocol(case, "max_ionic_steps")))
        wanted = {"control.nstep": 2 * before}
        return Remedy(f"nstep {2 * before} instead of {before}, {_how(start)}", tags=wanted, start=start)
    return Remedy("nothing")


def _minimiser(case: Case) -> Remedy:
    first = "a fresh minimiser, from the last geometry"
    if case.tries == 0 or case.engine not in {"vasp", "pw"}:
        return Remedy(first, start="geometry")
    if case.engine == "vasp":
        return Remedy("IBRION 1 with POTIM 0.3, from the last geometry", {"IBRION": 1, "POTIM": 0.3}, start="geometry")
    small = {"ions.trust_radius_ini": 0.1, "ions.trust_radius_max": 0.2}
    return Remedy("shorter steps (trust radius 0.1 to 0.2 bohr), from the last geometry", small, start="geometry")


def _geometry(case: Case) -> Remedy:
    del case
    return Remedy("from the last geometry", start="geometry")


def _another_solver(case: Case) -> Remedy:
    which = case.tries % len(_SOLVERS)
    if case.engine == "vasp":
        return Remedy(f"ALGO {_ALGORITHMS[which]}", {"ALGO": _ALGORITHMS[which]}, start=_restart(case))
    if case.engine == "pw":
        wanted = {"electrons.diagonalization": _SOLVERS[which], "electrons.startingwfc": "atomic+random"}
        return Remedy(f"diagonalisation with {_SOLVERS[which]}", wanted, start=_restart(case))
    return Remedy("nothing")


def _smaller_mixing(case: Case) -> Remedy:
    start = _restart(case)
    if case.engine == "vasp":
        before = int(case.now("NELM", 100))
        return Remedy(f"ALGO All, NELM {2 * before}", {"ALGO": "All", "NELM": 2 * before}, start=start)
    if case.engine == "pw":
        beta = float(case.now("electrons.mixing_beta", _protocol(case, "mixing_beta")))
        most = int(case.now("electrons.electron_maxstep", _protocol(case, "scf_max_steps")))
        wanted = {"electrons.mixing_beta": round(beta / 2, 4), "electrons.electron_maxstep": 2 * most}
        words = f"mixing_beta {beta / 2:g} instead of {beta:g}, {2 * most} iterations, {_how(start)}"
        return Remedy(words, wanted, start=start)
    return Remedy("nothing")


def _another_mixer(case: Case) -> Remedy:
    if case.engine == "vasp":
        return Remedy("ALGO All, which mixes nothing", {"ALGO": "All"}, start=_restart(case))
    if case.engine == "pw":
        wanted = {"electrons.mixing_mode": "local-TF", "electrons.mixing_beta": 0.2}
        return Remedy("mixing local-TF with mixing_beta 0.2", wanted, start="geometry" if case.has_geometry else "")
    return Remedy("nothing")


def _no_symmetry(case: Case) -> Remedy:
    if case.engine == "vasp":
        if case.tries == 0:
            return Remedy("SYMPREC 1e-6", {"SYMPREC": 1e-6}, start=_restart(case))
        return Remedy("no symmetry (ISYM 0)", {"ISYM": 0}, start=_restart(case))
    if case.engine == "pw":
        return Remedy("no symmetry", {"system.nosym": True, "system.noinv": True}, start=_restart(case))
    return Remedy("nothing")


def _tighter(case: Case) -> Remedy:
    """Relax on what phonons start from: more steps where they ran out, smaller forces where they were left over."""
    if "steps" in case.evidence or case.engine == "vasp":
        return _more_steps(case)
    if case.engine == "mlip":
        kwargs = dict(case.now("relax_kwargs", {}))
        before = float(kwargs.get("fmax", 0.01))
        return Remedy(
            f"forces below {before / 2:g} eV/Å instead of {before:g}", {"relax_kwargs": {**kwargs, "fmax": before / 2}}
        )
    before = float(case.maker.get("fmax_ev_per_angstrom", 0.01))
    return Remedy(
        f"forces below {before / 2:g} eV/Å instead of {before:g}", fields={"fmax_ev_per_angstrom": before / 2}
    )


def _other_volumes(case: Case) -> Remedy:
    """Look wider where the minimum lies outside, narrower where the crystal changes on the way."""
    source = case.maker if "volume_strain" in case.maker else case.arguments
    if "volume_strain" not in source:
        return Remedy("nothing")
    given = case.earlier.get("maker" if source is case.maker else "kwargs") or {}
    before = float(given.get("volume_strain", source["volume_strain"]))
    wanted = round(before * (1.5 if "outside" in case.evidence else 0.6), 4)
    words = f"volumes within ±{100 * wanted:g} % instead of {100 * before:g} %"
    change = {"volume_strain": wanted}
    return Remedy(words, fields=change) if source is case.maker else Remedy(words, arguments=change)


def _larger_supercell(case: Case) -> Remedy:
    if "min_length" not in case.arguments:
        return Remedy("nothing")
    given = case.earlier.get("kwargs") or {}
    before = float(given.get("min_length", case.arguments["min_length"]))
    atoms = int(given.get("max_atoms", case.arguments.get("max_atoms", 64)))
    wanted = {"min_length": round(1.25 * before, 3), "max_atoms": 2 * atoms}
    return Remedy(f"a supercell of at least {wanted['min_length']:g} Å instead of {before:g} Å", arguments=wanted)


def _own_settings(case: Case) -> Remedy:
    return Remedy(
        "the protocol's own settings" + (", from the last geometry" if case.has_geometry else ""),
        start="geometry" if case.has_geometry else "",
        afresh=True,
    )


def _restart(case: Case) -> Start:
    return "where it ended" if case.has_geometry else ""


def _how(start: Start) -> str:
    return "from the last geometry" if start else "from the beginning"


def _protocol(case: Case, name: str) -> Any:
    return getattr(load_protocol(case.maker.get("protocol", "fast")), name)


_SAME: Callable[[Case], Remedy] = _same
_REMEDIES: dict[int, Callable[[Case], Remedy]] = {
    101: _more_minutes,
    102: _more_memory,
    304: _more_memory,
    **dict.fromkeys((201, 202, 203, 204, 206, 207, 208, 606), _mended),
    211: _geometry,
    307: _no_symmetry,
    401: _another_solver,
    410: _smaller_mixing,
    411: _another_mixer,
    501: _more_steps,
    502: _tighter,
    510: _minimiser,
    511: _geometry,
    603: _other_volumes,
    604: _larger_supercell,
    607: _own_settings,
}
"""By cause; the others run as they did."""
