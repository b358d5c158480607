"""CHGNet on many crystals at once: one vectorised graph, one forward pass, one backward pass.

CHGNet's own ``predict_graph`` builds each graph in Python and differentiates twice, keeping second-order graphs that
only training needs. Here the graphs of a whole batch are built with numpy, energies come from CHGNet's own layers, and
forces and stresses from a single first-order backward pass, all in double precision. The numbers are CHGNet's (tests
hold them to ``predict_structure``); only the way there is shorter.

CHGNet: B. Deng et al., Nature Machine Intelligence 5, 1031 (2023), doi:10.1038/s42256-023-00716-3.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from chgnet.model.model import BatchedGraph, CHGNet
from pymatgen.optimization.neighbors import find_points_in_spheres

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from pymatgen.core import Structure

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

DEFAULT_MODEL = "chgnet-0.3.0"
MODELS = ("chgnet-0.3.0", "chgnet-0.2.0", "chgnet-r2scan")
"""Models whose weights ship in the chgnet wheel."""

EV_PER_CUBIC_ANGSTROM_IN_GPA = 160.21766208
"""CODATA 2014, the value that CHGNet itself uses."""

MIN_DISTANCE_ANGSTROM = 0.5
MIN_HEIGHT_ANGSTROM = 0.8
VOLUME_PER_ATOM_RANGE_ANGSTROM3 = (2.0, 200.0)
"""Outside these a crystal has collapsed or exploded: H2 has 0.74 Å, and the sparsest elements about 120 Å³/atom."""


class UnfitGeometryError(ValueError):
    """A crystal that the force field can't be asked about: collapsed, exploded, isolated atoms, not finite."""


@dataclass(frozen=True)
class Geometry:
    """A crystal as arrays.

    Parameters
    ----------
    numbers : ndarray of int, shape (n,)
        Atomic numbers.
    lattice : ndarray, shape (3, 3)
        Rows are lattice vectors, Å.
    positions : ndarray, shape (n, 3)
        Cartesian, Å; need not lie inside the cell.
    """

    numbers: Ints
    lattice: Floats
    positions: Floats

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return float(abs(np.linalg.det(self.lattice)))


@dataclass(frozen=True)
class Evaluation:
    """Energy and its first derivatives.

    Parameters
    ----------
    energy_ev_per_atom : float
    forces_ev_per_angstrom : ndarray, shape (n, 3)
    stress_gpa : ndarray, shape (3, 3)
        ``dE/dε / V``: positive when the crystal wants to shrink (ASE's sign).
    """

    energy_ev_per_atom: float
    forces_ev_per_angstrom: Floats
    stress_gpa: Floats


def load_model(name: str = DEFAULT_MODEL) -> Any:
    """Load a model once a process; later calls return the same object.

    Parameters
    ----------
    name : str
        One of :data:`MODELS`.

    Returns
    -------
    chgnet.model.CHGNet
        In evaluation mode, its weights frozen, on the GPU if there is one, and in double precision: rounding in single
        depends on what else is in the batch, and a relaxation that passes a saddle amplifies it to meV. Double costs a
        fifth more time and makes results the same to 1e-10 eV in any company.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: use one of {', '.join(MODELS)}")
    return _loaded(name)


@functools.cache
def _loaded(name: str) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # CHGNet announces itself with print
        model = CHGNet.load(model_name=name.removeprefix("chgnet-"), verbose=False)
    return model.double().eval().requires_grad_(requires_grad=False)


def relaxer_version(name: str = DEFAULT_MODEL) -> str:
    """Name package and model together, as provenance wants them.

    Examples
    --------
    >>> relaxer_version("chgnet-0.3.0").startswith("chgnet ")
    True
    """
    return f"chgnet {importlib.metadata.version('chgnet')} ({name})"


def geometry_of(structure: Structure) -> Geometry:
    """Turn a structure into arrays.

    Raises
    ------
    UnfitGeometryError
        If sites are partially occupied or hold an element beyond plutonium (CHGNet knows 1 to 94).
    """
    if len(structure) == 0 or not structure.is_ordered:
        raise UnfitGeometryError("disordered or empty: every site must hold one element")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    if numbers.max() > 94:
        raise UnfitGeometryError("an element beyond plutonium: CHGNet knows atomic numbers 1 to 94")
    return Geometry(numbers, np.array(structure.lattice.matrix, float), np.array(structure.cart_coords, float))


@dataclass(frozen=True)
class _Bonds:
    """Directed bonds of one crystal within the atom-graph cutoff."""

    center: Ints
    neighbor: Ints
    image: Ints
    distance: Floats


def _find_bonds(geometry: Geometry, cutoff: float) -> _Bonds:
    lattice, positions = geometry.lattice, geometry.positions
    if not (np.isfinite(lattice).all() and np.isfinite(positions).all()):
        raise UnfitGeometryError("not finite: lattice or positions hold NaN or infinity")
    volume, n_atoms = geometry.volume, len(positions)
    low, high = VOLUME_PER_ATOM_RANGE_ANGSTROM3
    if not low <= volume / n_atoms <= high:
        raise UnfitGeometryError(f"volume {volume / n_atoms:.3g} Å³/atom is outside {low:g} to {high:g}")
    faces = np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
    if (height := float((volume / faces).min())) < MIN_HEIGHT_ANGSTROM:
        raise UnfitGeometryError(f"cell is flat: lattice planes {height:.3g} Å apart, less than {MIN_HEIGHT_ANGSTROM}")
    center, neighbor, image, distance = find_points_in_spheres(
        np.ascontiguousarray(positions),
        np.ascontiguousarray(positions),
        r=cutoff,
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(lattice),
        tol=1e-8,
    )
    image = image.astype(np.int64)
    other = (center != neighbor) | image.any(axis=1)
    center, neighbor, image, distance = center[other], neighbor[other], image[other], distance[other]
    if len(np.unique(center)) < n_atoms:
        raise UnfitGeometryError(f"isolated atoms: no neighbour within {cutoff:g} Å")
    if (shortest := float(distance.min())) < MIN_DISTANCE_ANGSTROM:
        raise UnfitGeometryError(f"atoms {shortest:.3g} Å apart, less than {MIN_DISTANCE_ANGSTROM}")
    return _Bonds(center, neighbor, image, distance)


def _pair_up(center: Ints, neighbor: Ints, image: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Give each undirected bond a number.

    Returns
    -------
    directed_to_undirected : ndarray, shape (n_directed,)
    undirected_to_directed : ndarray, shape (n_undirected,)
    paired : ndarray of bool, shape (n_directed,)
        False where rounding left only one direction inside the cutoff (its weight there is zero).
    """
    span = int(np.abs(image).max()) + 1
    base, n_atoms = 2 * span + 1, int(max(center.max(), neighbor.max())) + 1
    digits = np.array([base * base, base, 1], dtype=np.int64)
    forward = (center * n_atoms + neighbor) * base**3 + (image + span) @ digits
    backward = (neighbor * n_atoms + center) * base**3 + (span - image) @ digits
    _, first, inverse, counts = np.unique(
        np.minimum(forward, backward), return_index=True, return_inverse=True, return_counts=True
    )
    return inverse.astype(np.int64), first.astype(np.int64), counts[inverse] == 2


def _angles(center: Ints, short: Ints) -> tuple[Ints, Ints]:
    """List ordered pairs of different short directed bonds that leave the same atom.

    Parameters
    ----------
    center : ndarray, shape (n_directed,)
    short : ndarray
        Indices of the directed bonds shorter than the bond-graph cutoff.

    Returns
    -------
    left, right : ndarray, shape (n_angles,)
        Indices of directed bonds.
    """
    short = short[np.argsort(center[short], kind="stable")]
    atom, start, degree = np.unique(center[short], return_index=True, return_counts=True)
    which = np.repeat(np.arange(len(atom)), degree)
    left = np.repeat(np.arange(len(short)), degree[which])
    ends = np.cumsum(degree[which])
    within = np.arange(len(left)) - np.repeat(ends - degree[which], degree[which])
    right = start[which][left] + within
    keep = left != right
    return short[left[keep]], short[right[keep]]


def _batch(model: Any, geometries: Sequence[Geometry], bonds: Sequence[_Bonds]) -> tuple[BatchedGraph, Any, Any]:
    """Assemble one graph out of many crystals, differentiable in positions and strain.

    Returns
    -------
    graph : BatchedGraph
    positions : Tensor, shape (n_atoms, 3)
    strain : Tensor, shape (n_crystals, 3, 3)
    """
    device = next(model.parameters()).device
    sizes = np.array([len(g.numbers) for g in geometries])
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    center = np.concatenate([b.center + o for b, o in zip(bonds, offsets, strict=True)]).astype(np.int64)
    neighbor = np.concatenate([b.neighbor + o for b, o in zip(bonds, offsets, strict=True)]).astype(np.int64)
    image = np.concatenate([b.image for b in bonds])
    paired = _pair_up(center, neighbor, image)[2]
    center, neighbor, image = center[paired], neighbor[paired], image[paired]
    distance = np.concatenate([b.distance for b in bonds])[paired]
    shift = np.concatenate([b.image @ g.lattice for b, g in zip(bonds, geometries, strict=True)])[paired]
    directed2undirected, undirected2directed, _ = _pair_up(center, neighbor, image)
    left, right = _angles(center, np.flatnonzero(distance < model.graph_converter.bond_graph_cutoff))
    owners = np.repeat(np.arange(len(geometries)), sizes)

    def index(array: Ints) -> Any:
        return torch.as_tensor(array, device=device)

    positions = torch.tensor(np.concatenate([g.positions for g in geometries]), device=device, requires_grad=True)
    strain = torch.zeros((len(geometries), 3, 3), dtype=torch.float64, device=device, requires_grad=True)
    i, j, owner = index(center), index(neighbor), index(owners[center])
    straight = positions[i] - positions[j] - torch.as_tensor(shift, device=device)
    vectors = straight + torch.bmm(straight[:, None, :], strain[owner])[:, 0]
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    undirected_lengths = lengths[index(undirected2directed)]
    basis = model.bond_basis_expansion
    a, b = index(left), index(right)
    units = vectors / lengths[:, None]
    graph = BatchedGraph(
        atomic_numbers=index(np.concatenate([g.numbers for g in geometries])),
        bond_bases_ag=basis.rbf_expansion_ag(undirected_lengths),
        bond_bases_bg=basis.rbf_expansion_bg(undirected_lengths),
        angle_bases=model.angle_basis_expansion(units[a], units[b]),
        batched_atom_graph=torch.stack([i, j], dim=1),
        batched_bond_graph=index(np.stack([center[left], directed2undirected[left], directed2undirected[right]], 1)),
        atom_owners=index(owners),
        directed2undirected=index(directed2undirected),
        atom_positions=[],
        strains=[],
        volumes=[],
    )
    return graph, positions, strain


def evaluate_geometries(
    geometries: Sequence[Geometry], model: str = DEFAULT_MODEL
) -> list[Evaluation | UnfitGeometryError]:
    """Compute energies, forces and stresses of crystals in one forward and one backward pass.

    Parameters
    ----------
    geometries : sequence of Geometry
        One batch.
    model : str
        One of :data:`MODELS`.

    Returns
    -------
    list of Evaluation or UnfitGeometryError
        In order. A crystal that can't be evaluated gives its error and leaves the others alone.
    """
    network = load_model(model)
    results: list[Evaluation | UnfitGeometryError | None] = [None] * len(geometries)
    fit: list[tuple[int, Geometry, _Bonds]] = []
    for number, geometry in enumerate(geometries):
        try:
            fit.append((number, geometry, _find_bonds(geometry, network.graph_converter.atom_graph_cutoff)))
        except UnfitGeometryError as error:
            results[number] = error
    if fit:
        kept = [geometry for _, geometry, _ in fit]
        graph, positions, strain = _batch(network, kept, [bonds for _, _, bonds in fit])
        # The public forward() builds its own graphs and differentiates twice; _compute takes ours.
        energy = network._compute(graph)["e"]  # noqa: SLF001
        sizes = np.array([len(g.numbers) for g in kept])
        total = energy * torch.as_tensor(sizes, device=energy.device)
        gradients = torch.autograd.grad(total.sum(), [positions, strain])
        forces = np.split(-gradients[0].cpu().numpy(), np.cumsum(sizes)[:-1])
        virials = gradients[1].cpu().numpy()
        reference = network.composition_model.fc.weight[0].cpu().numpy()
        network_energy = energy.detach().cpu().numpy()
        for (number, geometry, _), e, f, w in zip(fit, network_energy, forces, virials, strict=True):
            e_total = float(e + reference[geometry.numbers - 1].mean())
            stress = (w + w.T) / 2 / geometry.volume * EV_PER_CUBIC_ANGSTROM_IN_GPA
            finite = np.isfinite(e_total) and np.isfinite(f).all() and np.isfinite(stress).all()
            results[number] = (
                Evaluation(e_total, f, stress) if finite else UnfitGeometryError("energy or its gradient is not finite")
            )
    return [r for r in results if r is not None]
