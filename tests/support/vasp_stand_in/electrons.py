"""K-points as VASP would reduce them, and bands and densities of states that are made up and mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

if TYPE_CHECKING:
    from files import Inputs

METALS = {"Li", "Be", "Na", "Mg", "Al", "K", "Ca", "Ti", "Fe", "Cu", "Zn"}
"""Of the elements that ``potcars.py`` knows, those that are metals."""

GAP = 4.0
"""eV; gap of whatever holds something else than metals. Made up."""


class Electrons:
    """K-points, bands and Fermi energy of a cell."""

    def __init__(self, inputs: Inputs) -> None:
        atoms = inputs.atoms
        mapping, grid = spglib.get_ir_reciprocal_mesh(
            inputs.divisions, (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), is_shift=(0, 0, 0)
        )
        chosen, counts = np.unique(mapping, return_counts=True)
        self.kpoints = grid[chosen] / np.array(inputs.divisions)
        self.weights = counts / counts.sum()
        self.n_spins = inputs.incar["ISPIN"]
        self.metal = set(inputs.symbols) <= METALS
        self.n_filled = max(1, int(np.ceil(inputs.n_electrons / 2)))
        self.n_bands = self.n_filled + max(4, self.n_filled // 8)
        self.fermi = 5.0
        wave = 0.2 * np.cos(2 * np.pi * self.kpoints).sum(axis=1)  # eV
        bands = np.empty((len(self.kpoints), self.n_bands))
        bands[:, : self.n_filled] = self.fermi - 1 - 0.1 * np.arange(self.n_filled)[::-1] + wave[:, None]
        empty = np.arange(self.n_bands - self.n_filled)
        bands[:, self.n_filled :] = self.fermi - 1.2 + GAP + 0.5 * empty - wave[:, None]
        if self.metal:  # the highest filled band crosses the Fermi energy
            bands[:, self.n_filled - 1] = self.fermi + 10 * wave - 5 * wave.mean() - 1e-3
        self.bands = bands

    def eigenvalues_xml(self) -> str:
        parts = ['  <eigenvalues>\n   <array>\n    <dimension dim="1">band</dimension>\n    <field>eigene</field>\n']
        parts.append("    <field>occ</field>\n    <set>\n")
        occupied = (self.bands <= self.fermi).astype(float)
        for spin in range(1, self.n_spins + 1):
            parts.append(f'     <set comment="spin {spin}">\n')
            for k in range(len(self.kpoints)):
                parts.append(f'      <set comment="kpoint {k + 1}">\n')
                parts.extend(
                    f"       <r>{e:10.4f}{o:9.4f} </r>\n" for e, o in zip(self.bands[k], occupied[k], strict=True)
                )
                parts.append("      </set>\n")
            parts.append("     </set>\n")
        parts.append("    </set>\n   </array>\n  </eigenvalues>\n")
        return "".join(parts)

    def dos_xml(self, inputs: Inputs) -> str:
        energies = np.linspace(self.fermi - 6, self.fermi + 6, 25)
        step = energies[1] - energies[0]
        edges = np.append(energies - step / 2, energies[-1] + step / 2)
        weights = np.repeat(self.weights[:, None], self.n_bands, axis=1)
        density = np.histogram(self.bands, bins=edges, weights=weights)[0] / step
        summed = np.cumsum(density) * step
        total = _sets(self.n_spins, np.column_stack([energies, density, summed]), "     ")
        text = f'  <dos>\n   <i name="efermi"> {self.fermi:.8f} </i>\n   <total>\n    <array>\n'
        text += f"{_fields('energy', 'total', 'integrated')}    <set>\n{total}    </set>\n    </array>\n   </total>\n"
        if inputs.incar["LORBIT"] >= 10:
            share = density[:, None] / (3 * len(inputs.atoms)) * np.ones(3)
            partial = np.column_stack([energies, share])
            text += f"   <partial>\n    <array>\n{_fields('energy', 's', 'p', 'd')}    <set>\n"
            for ion in range(1, len(inputs.atoms) + 1):
                text += f'     <set comment="ion {ion}">\n{_sets(self.n_spins, partial, "      ")}     </set>\n'
            text += "    </set>\n    </array>\n   </partial>\n"
        return text + "  </dos>\n"


def _fields(*names: str) -> str:
    return '     <dimension dim="1">gridpoints</dimension>\n' + "".join(f"     <field>{n}</field>\n" for n in names)


def _sets(n_spins: int, table: Any, indent: str) -> str:
    body = "".join(f"{indent} <r> {' '.join(f'{x:11.4f}' for x in row)} </r>\n" for row in table)
    return "".join(f'{indent}<set comment="spin {spin}">\n{body}{indent}</set>\n' for spin in range(1, n_spins + 1))
