"""What the stand-in reads and writes: VASP's four inputs, and its five outputs as pymatgen, emmet and custodian read
them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

if TYPE_CHECKING:
    from electrons import Electrons

VERSION = "6.4.3"
"""Version whose output format is written."""


class InputError(Exception):
    """An input file is missing or wrong, in VASP's manner."""


DEFAULTS: dict[str, Any] = {
    "NSW": 0, "IBRION": None, "ISIF": None, "EDIFF": 1e-4, "EDIFFG": None, "NELM": 60, "ISPIN": 1, "ISMEAR": 1,
    "SIGMA": 0.2, "ENCUT": None, "KSPACING": 0.5, "KGAMMA": True, "ISYM": 2, "POTIM": 0.5, "LREAL": False,
    "PREC": "Normal", "ALGO": "Normal", "LORBIT": 0, "LWAVE": True, "LCHARG": True, "GGA": "PE",
}  # fmt: skip
"""INCAR tags that the stand-in heeds or reports, with VASP's defaults."""


def _value(text: str) -> Any:
    text = text.strip()
    if re.fullmatch(r"\.?(T|TRUE)\.?", text, re.IGNORECASE):
        return True
    if re.fullmatch(r"\.?(F|FALSE)\.?", text, re.IGNORECASE):
        return False
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass
class Inputs:
    """INCAR (given, and with defaults), POSCAR, KPOINTS and POTCAR of a directory."""

    given: dict[str, Any]
    incar: dict[str, Any]
    atoms: Atoms
    symbols: list[str]
    counts: list[int]
    titles: list[str]
    valences: list[float]
    divisions: tuple[int, int, int]
    style: str

    @classmethod
    def read(cls, directory: Path = Path()) -> Inputs:
        for name in ("INCAR", "POSCAR", "POTCAR"):
            if not (directory / name).is_file():
                raise InputError(f"ERROR: {name} not found, STOPPING")
        given = read_incar((directory / "INCAR").read_text())
        symbols, counts, atoms = read_poscar((directory / "POSCAR").read_text())
        potcar = (directory / "POTCAR").read_text()
        titles = [line.strip() for line in re.findall(r"TITEL\s*=\s*(.*)", potcar)]
        valences = [float(z) for z in re.findall(r"ZVAL\s*=\s*([\d.]+)", potcar)]
        elements = [re.sub(r"[^A-Za-z].*", "", e) for e in re.findall(r"VRHFIN\s*=\s*(\w+)", potcar)]
        if elements != symbols:
            raise InputError(f"ERROR: the type information on POSCAR {symbols} and POTCAR {elements} is incompatible")
        incar = {**DEFAULTS, **given}
        incar["IBRION"] = incar["IBRION"] if incar["IBRION"] is not None else (0 if incar["NSW"] > 1 else -1)
        incar["ISIF"] = incar["ISIF"] if incar["ISIF"] is not None else 2
        incar["EDIFFG"] = incar["EDIFFG"] if incar["EDIFFG"] is not None else 10 * incar["EDIFF"]
        if incar["ISIF"] not in {2, 3} or incar["IBRION"] == 0:
            raise InputError(f"the stand-in does no ISIF = {incar['ISIF']}, IBRION = {incar['IBRION']}")
        incar["ENCUT"] = incar["ENCUT"] or max(float(e) for e in re.findall(r"ENMAX\s*=\s*([\d.]+)", potcar))
        kpoints = directory / "KPOINTS"
        if kpoints.is_file():
            lines = kpoints.read_text().splitlines()
            style = lines[2].strip()
            if lines[1].split()[0] != "0" or style[0].upper() not in "GM":
                raise InputError("the stand-in reads automatic KPOINTS only")
            first, second, third = (int(n) for n in lines[3].split()[:3])
            divisions = (first, second, third)
        else:
            style = "Gamma"
            lengths = np.linalg.norm(atoms.cell.reciprocal(), axis=1) * 2 * np.pi
            first, second, third = (max(1, int(np.ceil(b / incar["KSPACING"]))) for b in lengths)
            divisions = (first, second, third)
        return cls(given, incar, atoms, symbols, counts, titles, valences, divisions, style)

    @property
    def n_electrons(self) -> float:
        return sum(n * z for n, z in zip(self.counts, self.valences, strict=True))


def read_incar(text: str) -> dict[str, Any]:
    """Read INCAR: tags, comments and several statements a line; lists stay text."""
    found = {}
    for line in text.splitlines():
        for statement in re.split(r";", re.split(r"[#!]", line)[0]):
            key, equals, value = statement.partition("=")
            if equals:
                found[key.strip().upper()] = _value(value)
    return found


def read_poscar(text: str) -> tuple[list[str], list[int], Atoms]:
    """Read POSCAR in the format of VASP 5 and later."""
    lines = text.splitlines()
    scale = float(lines[1])
    cell = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
    scale = scale if scale > 0 else (-scale / abs(np.linalg.det(cell))) ** (1 / 3)
    symbols, counts = lines[5].split(), [int(n) for n in lines[6].split()]
    row = 7
    if lines[row].strip()[0] in "sS":
        row += 1
    direct = lines[row].strip()[0] not in "cCkK"
    n = sum(counts)
    positions = np.array([[float(x) for x in line.split()[:3]] for line in lines[row + 1 : row + 1 + n]])
    if len(positions) != n:
        raise InputError("ERROR: there are fewer positions on POSCAR than ions")
    species = [s for s, m in zip(symbols, counts, strict=True) for _ in range(m)]
    where = {"scaled_positions": positions} if direct else {"positions": positions * scale}
    return symbols, counts, Atoms(species, cell=cell * scale, pbc=True, **where)


def rows(values: Any, form: str = "%16.8f", indent: str = "   ", tag: str = "v") -> str:
    """Write a matrix as vasprun.xml does."""
    return "".join(
        f"{indent}<{tag}> {' '.join(form % x for x in row)} </{tag}>\n" for row in np.atleast_2d(np.asarray(values))
    )


class Writer:
    """Writes the outputs step by step, each flushed, so that a killed run leaves what a killed VASP leaves."""

    def __init__(self, inputs: Inputs, electrons: Electrons) -> None:
        self.inputs = inputs
        self.electrons = electrons
        self.began = time.monotonic()
        names = ("vasprun.xml", "OUTCAR", "OSZICAR", "XDATCAR")
        self.xml, self.outcar, self.oszicar, self.xdatcar = (Path(name).open("w") for name in names)  # noqa: SIM115
        Path("CONTCAR").write_text("")
        self._begin()

    def _begin(self) -> None:
        i, e, atoms = self.inputs, self.electrons, self.inputs.atoms
        self.xml.write('<?xml version="1.0" encoding="ISO-8859-1"?>\n<!-- by a stand-in for tests; no VASP ran -->\n')
        self.xml.write("<modeling>\n <generator>\n")
        for name, value in (("program", "vasp"), ("version", VERSION), ("subversion", "stand-in for tests")):
            self.xml.write(f'  <i name="{name}" type="string">{value} </i>\n')
        self.xml.write(" </generator>\n <incar>\n")
        for name, value in i.given.items():
            self.xml.write(f"  {_parameter(name, value)}\n")
        self.xml.write(f' </incar>\n <kpoints>\n  <generation param="{i.style}">\n')
        self.xml.write(f'   <v type="int" name="divisions"> {" ".join(map(str, i.divisions))} </v>\n')
        self.xml.write('   <v name="usershift"> 0.0 0.0 0.0 </v>\n  </generation>\n')
        self.xml.write(f'  <varray name="kpointlist" >\n{rows(e.kpoints)}  </varray>\n')
        self.xml.write(f'  <varray name="weights" >\n{rows(e.weights[:, None])}  </varray>\n </kpoints>\n')
        self.xml.write(' <parameters>\n  <separator name="general" >\n')
        shown = {**i.incar, "ENMAX": i.incar["ENCUT"], "NELECT": i.n_electrons, "NBANDS": e.n_bands}
        for name, value in shown.items():
            if value is not None:
                self.xml.write(f"   {_parameter(name, value)}\n")
        self.xml.write(f"  </separator>\n </parameters>\n <atominfo>\n  <atoms> {len(atoms)} </atoms>\n")
        self.xml.write(f'  <types> {len(i.symbols)} </types>\n  <array name="atoms" >\n')
        self.xml.write('   <dimension dim="1">ion</dimension>\n   <field type="string">element</field>\n')
        self.xml.write('   <field type="int">atomtype</field>\n   <set>\n')
        for number, (symbol, count) in enumerate(zip(i.symbols, i.counts, strict=True), start=1):
            self.xml.write(f"    <rc><c>{symbol:2s}</c><c>{number:4d}</c></rc>\n" * count)
        self.xml.write('   </set>\n  </array>\n  <array name="atomtypes" >\n   <dimension dim="1">type</dimension>\n')
        for kind, name in (("int", "atomspertype"), ("string", "element"), ("", "mass"), ("", "valence")):
            self.xml.write(f'   <field type="{kind}">{name}</field>\n')
        self.xml.write('   <field type="string">pseudopotential</field>\n   <set>\n')
        for symbol, count, title, valence in zip(i.symbols, i.counts, i.titles, i.valences, strict=True):
            cells = (f"{count:4d}", f"{symbol:2s}", "  10.0000", f"{valence:9.4f}", f" {title} ")
            self.xml.write("    <rc>" + "".join(f"<c>{cell}</c>" for cell in cells) + "</rc>\n")
        self.xml.write(f"   </set>\n  </array>\n </atominfo>\n{self._structure('initialpos')}")

        out = self.outcar
        out.write(f" vasp.{VERSION} 19Mar24 (STAND-IN FOR TESTS: numbers of a force field) complex\n\n")
        out.write(
            " executed on             stand-in date 2026.01.01  00:00:00\n running    1 mpi-ranks, on    1 nodes\n\n"
        )
        out.write(" distr:  one band on    1 cores,    1 groups\n\n INCAR:\n")
        out.writelines(f" POTCAR:    {title}\n" for title in i.titles)
        out.write(f"\n Dimension of arrays:\n   k-points           NKPTS = {len(e.kpoints):6d}   ")
        out.write(f"k-points in BZ     NKDIM = {len(e.kpoints):6d}   number of bands    NBANDS= {e.n_bands:6d}\n")
        out.write(f"   number of dos      NEDOS =    301   number of ions     NIONS = {len(atoms):6d}\n")
        out.write("   total plane-waves  NPLWV =   4096\n\n Electronic Relaxation 1\n")
        out.write(f"   PREC   = {i.incar['PREC']}\n   ENCUT  = {i.incar['ENCUT']:.1f} eV\n")
        out.write(f"   NELM   = {i.incar['NELM']:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps\n")
        out.write(f"   EDIFF  = {i.incar['EDIFF']:.1E}   stopping-criterion for ELM\n")
        out.write(f"   ISPIN  = {i.incar['ISPIN']:6d}    spin polarized calculation?\n\n Ionic relaxation\n")
        out.write(f"   EDIFFG = {i.incar['EDIFFG']:.1E}   stopping-criterion for IOM\n")
        out.write(f"   NSW    = {i.incar['NSW']:6d}    number of steps for IOM\n")
        out.write(f"   IBRION = {i.incar['IBRION']:6d}    ionic relax: 0-MD 1-quasi-New 2-CG\n")
        out.write(f"   ISIF   = {i.incar['ISIF']:6d}    stress and relaxation\n")
        out.write(f"   NELECT = {i.n_electrons:12.4f}    total number of electrons\n\n")
        out.write(f"  volume of cell : {atoms.get_volume():12.2f}\n\n")
        self._flush()

    def _flush(self) -> None:
        for file in (self.xml, self.outcar, self.oszicar, self.xdatcar):
            file.flush()

    def _structure(self, name: str | None = None, indent: str = " ") -> str:
        atoms = self.inputs.atoms
        named = f' name="{name}"' if name else ""
        return (
            f'{indent}<structure{named} >\n{indent} <crystal>\n{indent}  <varray name="basis" >\n'
            f'{rows(atoms.cell.array)}{indent}  </varray>\n{indent}  <i name="volume"> {atoms.get_volume():.8f} </i>\n'
            f'{indent}  <varray name="rec_basis" >\n{rows(atoms.cell.reciprocal())}{indent}  </varray>\n'
            f'{indent} </crystal>\n{indent} <varray name="positions" >\n{rows(atoms.get_scaled_positions())}'
            f"{indent} </varray>\n{indent}</structure>\n"
        )

    def _energies(self, energy: float) -> str:
        return "".join(
            f'    <i name="{name}"> {energy:.8f} </i>\n' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        )

    def step(
        self, number: int, energy: float, forces: Any, stress_kbar: Any, n_scf: int, *, last: bool, seconds: float
    ) -> None:
        """Write one ionic step."""
        i, atoms, out = self.inputs, self.inputs.atoms, self.outcar
        self.xml.write(" <calculation>\n")
        self.oszicar.write(
            "       N       E                     dE             d eps       ncg     rms          rms(c)\n"
        )
        unconverged = n_scf >= i.incar["NELM"]
        size = i.incar["EDIFF"] * 0.5
        for cycle in range(1, n_scf + 1):
            change = 10 * i.incar["EDIFF"] if unconverged else size * 10 ** (n_scf - cycle)
            now = energy + (change if cycle < n_scf or unconverged else 0)
            self.xml.write(f"  <scstep>\n   <energy>\n{self._energies(now)}   </energy>\n  </scstep>\n")
            self.oszicar.write(
                f"DAV:{cycle:4d} {now:20.12E}  {-change:12.5E}  {-change:12.5E}  {640:6d} {change:10.3E}\n"
            )
            out.write(
                f"\n----------------------------------- Iteration {number:6d}({cycle:4d})  ------------------------\n\n"
            )
            out.write(f" number of electron   {i.n_electrons:12.7f} magnetization\n")
            out.write(f"      LOOP:  cpu time {seconds / n_scf:9.4f}: real time {seconds / n_scf:9.4f}\n")
        if unconverged:
            out.write(
                "\n------------------------ aborting loop EDIFF was not reached (unconverged)  ------------------\n\n"
            )
        else:
            out.write(
                "\n------------------------ aborting loop because EDIFF is reached -----------------------------\n\n"
            )
        self.oszicar.write(f"{number:4d} F= {energy:.8E} E0= {energy:.8E}  d E ={-size:.6E}  mag=     0.0000\n")
        self.xml.write(self._structure(indent="  "))
        self.xml.write(f'  <varray name="forces" >\n{rows(forces)}  </varray>\n')
        self.xml.write(f'  <varray name="stress" >\n{rows(stress_kbar)}  </varray>\n')
        self.xml.write(f"  <energy>\n{self._energies(energy)}  </energy>\n")
        out.write(f" E-fermi :   {self.electrons.fermi:.4f}     XC(G=0):  -9.0000     alpha+bet : -8.0000\n\n")
        moments = "    0.0000000" if i.incar["ISPIN"] == 2 else ""
        out.write(f" number of electron   {i.n_electrons:12.7f} magnetization {moments}\n")
        if i.incar["ISPIN"] == 2 and i.incar["LORBIT"] >= 10:
            out.write("\n\n magnetization (x)\n\n# of ion       s       p       d       tot\n" + "-" * 42 + "\n")
            out.writelines(f"{k:5d}        0.000   0.000   0.000   0.000\n" for k in range(1, len(atoms) + 1))
            out.write("-" * 42 + "\ntot          0.000   0.000   0.000   0.000\n\n")
        s = np.asarray(stress_kbar)
        six = (s[0, 0], s[1, 1], s[2, 2], s[0, 1], s[1, 2], s[2, 0])
        out.write("  FORCE on cell =-STRESS in cart. coord.  units (eV):\n")
        out.write("  Direction    XX          YY          ZZ          XY          YZ          ZX\n")
        out.write("  in kB    " + " ".join(f"{x:11.5f}" for x in six) + "\n")
        out.write(f"  external pressure = {np.trace(s) / 3:11.2f} kB  Pullay stress =        0.00 kB\n\n")
        out.write(f" VOLUME and BASIS-vectors are now :\n  volume of cell : {atoms.get_volume():12.2f}\n")
        out.write("      direct lattice vectors                 reciprocal lattice vectors\n")
        for direct, reciprocal in zip(atoms.cell.array, atoms.cell.reciprocal(), strict=True):
            out.write(" ".join(f"{x:13.9f}" for x in (*direct, *reciprocal)) + "\n")
        out.write("\n POSITION                                       TOTAL-FORCE (eV/Angst)\n " + "-" * 83 + "\n")
        for place, force in zip(atoms.positions, forces, strict=True):
            out.write(
                " " + " ".join(f"{x:12.5f}" for x in place) + "   " + " ".join(f"{x:13.6f}" for x in force) + "\n"
            )
        out.write(" " + "-" * 83 + "\n    total drift:                           " + "    0.000000" * 3 + "\n\n")
        out.write("  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  " + "-" * 51 + "\n")
        out.write(f"  free  energy   TOTEN  = {energy:20.8f} eV\n\n")
        out.write(f"  energy  without entropy= {energy:20.8f}  energy(sigma->0) = {energy:20.8f}\n\n")
        out.write(f"     LOOP+:  cpu time {seconds:9.4f}: real time {seconds:9.4f}\n\n")
        self._xdatcar(number)
        if last:
            self.xml.write(self.electrons.eigenvalues_xml() + self.electrons.dos_xml(i))
        self.xml.write(" </calculation>\n")
        self._flush()

    def _xdatcar(self, number: int) -> None:
        atoms = self.inputs.atoms
        if number == 1 or self.inputs.incar["ISIF"] == 3:
            self.xdatcar.write(f"{atoms.get_chemical_formula()}\n           1\n")
            self.xdatcar.writelines(" ".join(f"{x:12.6f}" for x in row) + "\n" for row in atoms.cell.array)
            self.xdatcar.write(f"   {'  '.join(self.inputs.symbols)}\n   {'  '.join(map(str, self.inputs.counts))}\n")
        self.xdatcar.write(f"Direct configuration= {number:5d}\n")
        self.xdatcar.writelines(" ".join(f"{x:11.8f}" for x in row) + "\n" for row in atoms.get_scaled_positions())

    def contcar(self, *, empty: bool = False) -> None:
        """Write the geometry that VASP would go on from."""
        atoms, i = self.inputs.atoms, self.inputs
        text = f"{atoms.get_chemical_formula()}\n   1.00000000000000\n"
        text += "".join("  " + " ".join(f"{x:21.16f}" for x in row) + "\n" for row in atoms.cell.array)
        text += f"   {'  '.join(i.symbols)}\n   {'  '.join(map(str, i.counts))}\nDirect\n"
        text += "".join(" " + " ".join(f"{x:19.16f}" for x in row) + "\n" for row in atoms.get_scaled_positions())
        Path("CONTCAR").write_text("" if empty else text)

    def half_a_step(self, energy: float) -> None:
        """Leave the files in the middle of a step."""
        self.xml.write(f" <calculation>\n  <scstep>\n   <energy>\n{self._energies(energy)[:60]}")
        self.outcar.write("\n----------------------------------- Iteration      9(   1)\n  POSITION        TOTAL-FO")
        contcar = Path("CONTCAR").read_text()
        if contcar:
            Path("CONTCAR").write_text(contcar[: len(contcar) * 2 // 3])
        self._flush()

    def reached(self) -> None:
        """Say that the relaxation converged."""
        self.outcar.write("\n reached required accuracy - stopping structural energy minimisation\n\n")

    def stopped(self, how: str) -> None:
        """Say that STOPCAR was obeyed."""
        line = f" {how} stop encountered!  aborting job ..."
        self.outcar.write(f"\n{line}\n\n")
        print(line, flush=True)  # noqa: T201 - VASP says it on stdout too

    def die(self) -> None:
        """Leave the files as they are when VASP stops with an error."""
        self._flush()

    def close(self) -> None:
        """Write what comes at the end."""
        self.xml.write(self._structure("finalpos") + "</modeling>\n")
        seconds = time.monotonic() - self.began
        self.outcar.write(
            "\n General timing and accounting informations for this job:\n ========================================\n\n"
            f"                  Total CPU time used (sec): {seconds:12.3f}\n"
            f"                            User time (sec): {seconds:12.3f}\n"
            "                          System time (sec):        0.010\n"
            f"                         Elapsed time (sec): {seconds:12.3f}\n\n"
            "                   Maximum memory used (kb):       50000.\n"
            "                   Average memory used (kb):          N/A\n\n"
            "                          Minor page faults:        10000\n"
            "                          Major page faults:            0\n"
            "                 Voluntary context switches:           10\n"
        )
        self._flush()
        for file in (self.xml, self.outcar, self.oszicar, self.xdatcar):
            file.close()


def _parameter(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}"> {"T" if value else "F"}  </i>'
    if isinstance(value, int):
        return f'<i type="int" name="{name}"> {value} </i>'
    if isinstance(value, float):
        return f'<i name="{name}"> {value:.8f} </i>'
    if name in {"MAGMOM", "LDAUU", "LDAUJ", "LDAUL"}:
        # "4*0.6 2*5.0" as the list it means
        numbers = []
        for word in str(value).split():
            times, star, number = word.partition("*")
            numbers += [float(number)] * int(times) if star else [float(word)]
        kind = ' type="int"' if name == "LDAUL" else ""
        text = " ".join(f"{int(n)}" if name == "LDAUL" else f"{n:.4f}" for n in numbers)
        return f'<v{kind} name="{name}"> {text} </v>'
    return f'<i type="string" name="{name}">{value}</i>'
