from __future__ import annotations

import ase.filters
import ase.optimize
import numpy as np
import pytest
import torch
from chgnet.model import CHGNet
from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from generators.relaxer import DEFAULT_MODEL, MODELS, evaluate, load_model, relax, relaxer_version
from generators.relaxer.forcefield import Evaluation, Geometry, evaluate_geometries, geometry_of
from generators.relaxer.walker import Walker

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rocksalt(a: str = "Mg", b: str = "O", edge: float = 4.3) -> Structure:
    return Structure(Lattice(FCC * edge), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])


def wurtzite(rattle: float = 0.0) -> Structure:
    structure = Structure(
        Lattice.hexagonal(3.2, 5.1),
        ["Al", "Al", "N", "N"],
        [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.38], [2 / 3, 1 / 3, 0.88]],
    )
    return structure.perturb(rattle, seed=3) if rattle else structure


def rattled_quartz_like() -> Structure:
    structure = Structure(
        Lattice.hexagonal(4.9, 5.4),
        ["Si"] * 3 + ["O"] * 6,
        [
            [0.47, 0, 0],
            [0, 0.47, 2 / 3],
            [0.53, 0.53, 1 / 3],
            [0.41, 0.27, 0.12],
            [0.73, 0.14, 0.787],
            [0.86, 0.59, 0.453],
            [0.27, 0.41, 0.88],
            [0.14, 0.73, 0.213],
            [0.59, 0.86, 0.547],
        ],
    )
    return structure.perturb(0.03, seed=1)


def lonely() -> Structure:
    return Structure(Lattice(FCC * 8.6), ["Xe"], [[0, 0, 0]])


@pytest.mark.parametrize("model", MODELS)
def test_energies_forces_and_stresses_are_those_of_chgnet(model):
    reference = CHGNet.load(model_name=model.removeprefix("chgnet-"), verbose=False, use_device="cpu")
    structures = [rocksalt(), wurtzite(0.1), rattled_quartz_like(), rocksalt("Cs", "I", 8.2)]
    expected = reference.predict_structure(structures, task="efs")
    for point, theirs in zip(evaluate(structures, model=model), expected, strict=True):
        ours = point.evaluation
        assert ours.energy_ev_per_atom == pytest.approx(float(theirs["e"]), abs=5e-6)
        assert ours.forces_ev_per_angstrom == pytest.approx(theirs["f"], abs=1e-4)
        assert ours.stress_gpa == pytest.approx(theirs["s"], abs=5e-3)


def test_the_answer_does_not_depend_on_where_atoms_are_wrapped():
    structure = rattled_quartz_like()
    moved = structure.copy()
    moved.translate_sites([0, 4], [1, -2, 3], to_unit_cell=False)
    one, other = (p.evaluation for p in evaluate([structure, moved]))
    assert other.energy_ev_per_atom == pytest.approx(one.energy_ev_per_atom, abs=1e-10)
    assert other.forces_ev_per_angstrom == pytest.approx(one.forces_ev_per_angstrom, abs=1e-9)


def test_gradient_in_the_walkers_coordinates_is_that_of_its_energy():
    walker = Walker(geometry_of(wurtzite(0.1)))
    rng = np.random.default_rng(0)
    away = walker._trial + np.concatenate([np.zeros(12), rng.normal(0, 0.08, 6)])
    (here,) = evaluate_geometries([walker._geometry(away)])
    gradient = walker._point_at(away, here).gradient
    for direction in rng.normal(size=(4, 18)):
        h = 1e-4 * direction
        plus, minus = evaluate_geometries([walker._geometry(away + h), walker._geometry(away - h)])
        slope = 4 * (plus.energy_ev_per_atom - minus.energy_ev_per_atom) / 2e-4
        assert gradient @ direction == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_stopping_rule_is_that_of_ase_on_a_frechet_cell_filter():
    given = wurtzite(0.1)
    done = relax([given], max_steps=4)[0]
    atoms = AseAtomsAdaptor.get_atoms(given)
    atoms.calc = CHGNetCalculator(use_device="cpu")
    filtered = ase.filters.FrechetCellFilter(atoms)
    atoms.set_cell(done.structure.lattice.matrix)
    atoms.set_scaled_positions(done.structure.frac_coords)
    theirs = np.linalg.norm(filtered.get_forces(), axis=1).max()
    assert not done.converged
    assert done.max_force_ev_per_angstrom == pytest.approx(theirs, rel=1e-3)


def test_reaches_the_minimum_that_ase_reaches_in_fewer_steps():
    structures = [rocksalt(edge=4.5), wurtzite(0.05)]
    calculator = CHGNetCalculator(use_device="cpu")
    for given, ours in zip(structures, relax(structures, fmax_ev_per_angstrom=0.02), strict=True):
        atoms = AseAtomsAdaptor.get_atoms(given)
        atoms.calc = calculator
        fire = ase.optimize.FIRE(ase.filters.FrechetCellFilter(atoms), logfile=None)
        assert fire.run(fmax=0.02, steps=200)
        assert ours.converged
        assert ours.energy_ev_per_atom == pytest.approx(atoms.get_potential_energy() / len(atoms), abs=1e-3)
        assert ours.structure.volume == pytest.approx(atoms.get_volume(), rel=0.01)
        assert ours.steps < fire.nsteps


def test_a_result_says_what_the_relaxed_structure_is():
    given = rocksalt(edge=4.6)
    done = relax([given])[0]
    point = evaluate([done.structure])[0].evaluation
    assert done.error is None
    assert done.max_force_ev_per_angstrom < 0.05
    assert point.energy_ev_per_atom == pytest.approx(done.energy_ev_per_atom, abs=1e-9)
    assert np.abs(point.stress_gpa).max() == pytest.approx(done.max_stress_gpa, abs=1e-6)
    assert done.volume_change == pytest.approx(done.structure.volume / given.volume - 1)
    assert done.volume_change < -0.05
    assert [str(s) for s in done.structure.species] == ["Mg", "O"]


def test_company_and_batch_size_do_not_change_a_result():
    structures = [wurtzite(0.1), rocksalt(edge=4.6), rattled_quartz_like(), rocksalt("Li", "F", 4.3)]
    together = relax(structures, max_steps=7)
    alone = relax(structures, max_steps=7, batch_size=1)
    backwards = relax(structures[::-1], max_steps=7, batch_size=3)[::-1]
    for a, b, c in zip(together, alone, backwards, strict=True):
        assert a.steps == b.steps == c.steps
        assert b.energy_ev_per_atom == pytest.approx(a.energy_ev_per_atom, abs=1e-7)
        assert c.energy_ev_per_atom == pytest.approx(a.energy_ev_per_atom, abs=1e-7)


def test_finished_ones_are_reported_at_once_and_make_room():
    structures = [wurtzite(0.1), rocksalt(edge=4.25), lonely(), rocksalt(edge=4.7)]
    seen = []
    results = relax(structures, batch_size=2, on_result=lambda index, result: seen.append((index, result)))
    assert sorted(index for index, _ in seen) == [0, 1, 2, 3]
    assert seen[0][0] == 1  # near its minimum: first out, although second in
    assert [r.index for r in results] == [0, 1, 2, 3]
    assert all(results[index] is result for index, result in seen)


def test_what_was_reported_before_a_crash_is_kept():
    kept = []

    def keep(index, result):
        kept.append(index)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relax([rocksalt(edge=4.25), rocksalt(edge=4.26), wurtzite(0.1)], batch_size=1, on_result=keep)
    assert kept == [0, 1]


def test_bad_structures_give_errors_and_leave_the_others_alone():
    on_top = rocksalt()
    on_top.append("O", [0.001, 0, 0])
    not_finite = rocksalt()
    not_finite.replace(0, "Mg", coords=[float("nan"), 0, 0])
    mixed = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]])
    bad = {
        "isolated": lonely(),
        "Å apart": on_top,
        "not finite": not_finite,
        "disordered": mixed,
        "plutonium": rocksalt("Cm", "O", 5.0),
        "outside 2 to 200": rocksalt(edge=2.0),
        "flat": Structure(Lattice.orthorhombic(20, 20, 0.5), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0]]),
    }
    structures = [rocksalt(edge=4.4), *bad.values(), wurtzite()]
    results = relax(structures, batch_size=4)
    assert results[0].converged
    assert results[-1].converged
    for word, result in zip(bad, results[1:-1], strict=True):
        assert word in result.error
        assert result.structure is None
        assert result.energy_ev_per_atom is None
        assert not result.converged
    singles = evaluate(structures, batch_size=4)
    assert [p.error is None for p in singles] == [r.error is None for r in results]


def test_an_explosion_on_the_way_ends_that_structure_only(monkeypatch):
    real = evaluate_geometries

    def pushed_apart(geometries, model):
        answers = real(geometries, model)
        return [
            Evaluation(a.energy_ev_per_atom - g.volume, a.forces_ev_per_angstrom, np.eye(3) * -500.0)
            if g.numbers[0] == 11 and isinstance(a, Evaluation)
            else a
            for g, a in zip(geometries, answers, strict=True)
        ]

    monkeypatch.setattr("generators.relaxer.batched.evaluate_geometries", pushed_apart)
    burst, fine = relax([rocksalt("Na", "Cl", 5.6), rocksalt(edge=4.4)])
    assert "volume" in burst.error or "isolated" in burst.error
    assert fine.converged


def test_steps_are_limited_and_what_is_not_converged_still_has_an_energy():
    start, limited = rattled_quartz_like(), 2
    done = relax([start], max_steps=limited)[0]
    assert done.steps == limited
    assert not done.converged
    assert done.error is None
    assert done.energy_ev_per_atom < evaluate([start])[0].evaluation.energy_ev_per_atom


def test_a_stress_limit_is_kept_on_top_of_the_force_rule():
    loose, tight = relax([wurtzite(0.05)])[0], relax([wurtzite(0.05)], max_stress_gpa=0.05)[0]
    assert loose.max_stress_gpa > 0.05
    assert tight.converged
    assert tight.max_stress_gpa < 0.05
    assert tight.steps > loose.steps


def test_a_structure_at_its_minimum_takes_no_step():
    once = relax([rocksalt()], fmax_ev_per_angstrom=0.01)[0].structure
    assert relax([once])[0].steps == 0


def test_nothing_in_nothing_out():
    assert relax([]) == []
    assert evaluate([]) == []


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown model"):
        relax([rocksalt()], model="chgnet-9")
    with pytest.raises(ValueError, match="batch_size"):
        relax([rocksalt()], batch_size=0)


def test_a_model_is_loaded_once_and_named():
    assert load_model() is load_model(DEFAULT_MODEL)
    assert DEFAULT_MODEL in relaxer_version()
    assert relaxer_version("chgnet-r2scan") != relaxer_version()


def test_negative_curvature_and_kinks_leave_a_usable_hessian():
    walker = Walker(geometry_of(wurtzite()))
    rng = np.random.default_rng(0)
    for scale in (-1e4, -10.0, 0.0, 1e-9, 30.0, 1e6) * 5:
        step = rng.normal(0, 0.05, 18)
        walker._update_hessian(step, scale * step + rng.normal(0, 0.1, 18))
        values = np.linalg.eigvalsh(walker._hessian)
        assert np.isfinite(values).all()
        assert values.min() > 0


def test_geometry_knows_its_volume():
    assert Geometry(np.array([12]), np.diag([2.0, 3.0, -4.0]), np.zeros((1, 3))).volume == pytest.approx(24.0)
