from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from workflows.acquisition import AcquisitionInput, Outcome, choose
from workflows.spec import Range, Targets

METALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ti", "Zr", "Mn", "Fe", "Ni", "Zn")
ANIONS = ("O", "S", "N", "F", "Cl")
HULL = Targets(energy_above_hull=Range(min=None, max=0.1, unit="eV/atom"))
STIFF = Targets(
    energy_above_hull=Range(min=None, max=0.1, unit="eV/atom"),
    bulk_modulus=Range(min=120, max=None, unit="GPa"),
)


def binary(a: str, b: str, edge: float) -> Structure:
    fcc = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * edge / 2
    return Structure(Lattice(fcc), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])


def a_candidate(k: int, e_hull: float | None = 0.05, edge: float | None = None) -> AcquisitionInput:
    structure = binary(METALS[k % len(METALS)], ANIONS[(k * 7) % len(ANIONS)], edge or 4.0 + (k * 37 % 20) / 10)
    return AcquisitionInput(f"c-r01-{k:04d}", structure, e_hull)


def selected(choices) -> list[str]:
    return [c.candidate for c in choices if c.selected]


def test_nothing_in_nothing_out():
    assert choose([], [], HULL, 4, 0) == []


def test_every_candidate_gets_a_choice_sorted_and_with_a_reason():
    choices = choose([a_candidate(k) for k in (3, 1, 2)], [], STIFF, 2, 0)
    assert [c.candidate for c in choices] == ["c-r01-0001", "c-r01-0002", "c-r01-0003"]
    assert sum(c.selected for c in choices) == 2
    assert all("p(hull <= 0.1 eV/atom)=" in c.reason and "p(bulk_modulus >= 120 GPa)=" in c.reason for c in choices)
    assert any("budget of 2 spent" in c.reason for c in choices if not c.selected)


def test_without_a_screening_energy_nobody_is_eligible():
    choices = choose([a_candidate(0, None), a_candidate(1, float("nan")), a_candidate(2)], [], HULL, 3, 0)
    assert selected(choices) == ["c-r01-0002"]
    assert [c.score is None for c in choices] == [True, True, False]
    assert "not eligible" in choices[0].reason


@pytest.mark.parametrize("budget", [0, 1, 5, 100])
def test_the_budget_is_spent_and_never_exceeded(budget):
    same = [a_candidate(k, edge=4.2) for k in range(0, 60, 12)]  # one composition: limits on crowding must give way
    others = [a_candidate(k) for k in range(1, 12)]
    assert len(selected(choose(same + others, [], HULL, budget, 0))) == min(budget, len(same) + len(others))


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="different ids"):
        choose([a_candidate(1), a_candidate(1)], [], HULL, 1, 0)
    with pytest.raises(ValueError, match="negative"):
        choose([], [], HULL, -1, 0)


def test_lower_screening_energy_is_more_probably_stable():
    low, high = choose([a_candidate(0, 0.0, 4.2), a_candidate(12, 0.3, 4.2)], [], HULL, 1, 0)
    assert low.parts["p_stable"] > 0.8
    assert high.parts["p_stable"] < 0.2
    assert low.selected
    assert not high.selected


def test_dense_crystals_are_preferred_when_stiffness_is_wanted_even_without_data():
    soft, stiff = choose([a_candidate(0, 0.05, 6.0), a_candidate(12, 0.05, 4.0)], [], STIFF, 1, 0)
    assert stiff.selected
    assert stiff.parts["p_bulk_modulus"] > soft.parts["p_bulk_modulus"]


def test_verdicts_move_the_prediction_and_take_away_its_uncertainty():
    candidate = a_candidate(0, 0.05, 4.2)
    verdicts = [
        Outcome(f"old-{k}", binary("Li", "O", 4.2 + 0.01 * k), 0.05, 0.30, {"bulk_modulus": 40.0}) for k in range(6)
    ]
    (before,) = choose([candidate], [], STIFF, 1, 0)
    (after,) = choose([candidate], verdicts, STIFF, 1, 0)
    assert after.parts["e_hull_ev_per_atom"] > before.parts["e_hull_ev_per_atom"] + 0.1
    assert after.parts["e_hull_ev_per_atom_std"] < before.parts["e_hull_ev_per_atom_std"]
    assert after.parts["bulk_modulus"] == pytest.approx(40, rel=0.25)
    assert after.parts["p_stable"] < before.parts["p_stable"]
    assert after.parts["exploration"] < before.parts["exploration"]


def test_of_two_equally_probable_hits_the_less_known_is_explored():
    # Verdicts that agree with the screening: the mean of the known one stays, its uncertainty goes.
    verdicts = [Outcome(f"old-{k}", binary("Li", "O", 4.2), 0.1, 0.1) for k in range(8)]
    known, unknown = choose(
        [AcquisitionInput("a", binary("Li", "O", 4.2), 0.1), AcquisitionInput("b", binary("Zr", "Cl", 5.8), 0.1)],
        verdicts,
        HULL,
        1,
        0,
    )
    assert known.parts["p_stable"] == pytest.approx(unknown.parts["p_stable"], abs=0.02)
    assert unknown.selected
    assert unknown.parts["exploration"] > known.parts["exploration"]


def test_phonon_failures_of_a_family_count_against_it():
    wanted = Targets(phonons="stable")
    verdicts = [
        Outcome(f"old-{k}", binary("Li", "O", 4.2 + 0.01 * k), 0.05, 0.05, phonons_stable=False) for k in range(6)
    ] + [Outcome(f"old-g{k}", binary("Zr", "N", 4.6 + 0.01 * k), 0.05, 0.05, phonons_stable=True) for k in range(6)]
    bad, good = choose(
        [AcquisitionInput("a", binary("Li", "O", 4.2), 0.05), AcquisitionInput("b", binary("Zr", "N", 4.6), 0.05)],
        verdicts,
        wanted,
        1,
        0,
    )
    assert good.parts["p_phonons"] > bad.parts["p_phonons"] + 0.2
    assert good.selected


def test_lookalikes_of_one_composition_do_not_take_the_whole_budget():
    lookalikes = [AcquisitionInput(f"a{k}", binary("Mg", "O", 4.2 + 0.001 * k), 0.0) for k in range(8)]
    others = [AcquisitionInput(f"b{k}", binary(m, "S", 5.2), 0.05) for k, m in enumerate(("Ca", "Mn", "Zr", "Sr"))]
    taken = selected(choose(lookalikes + others, [], HULL, 6, 0))
    assert sum(name.startswith("a") for name in taken) == 2
    assert len(taken) == 6


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(14)), st.permutations(range(8)), st.integers(0, 3))
def test_the_order_of_candidates_and_history_does_not_matter(order, past, seed):
    candidates = [a_candidate(k, (k % 5) / 20) for k in range(14)]
    history = [
        Outcome(f"h{k}", a_candidate(k).structure, 0.05, 0.02 * k, {"bulk_modulus": 50.0 + 10 * k}) for k in range(8)
    ]
    usual = choose(candidates, history, STIFF, 5, seed)
    assert choose([candidates[k] for k in order], [history[k] for k in past], STIFF, 5, seed) == usual


def test_the_seed_breaks_ties_and_nothing_else():
    twins = [AcquisitionInput(f"t{k}", binary("Mg", "O", 4.2), 0.05) for k in range(10)]
    taken = {tuple(selected(choose(twins, [], HULL, 1, seed))) for seed in range(20)}
    assert len(taken) > 3
    clear = [a_candidate(0, 0.0, 4.2), a_candidate(12, 0.3, 4.2)]
    assert {tuple(selected(choose(clear, [], HULL, 1, seed))) for seed in range(5)} == {("c-r01-0000",)}


def a_round_of_a_world(rng, family, stiffness, number) -> list[tuple[AcquisitionInput, float, float]]:
    """Draw candidates with their true hull distance (eV/atom) and bulk modulus (GPa)."""
    drawn = []
    for k in range(40):
        metal, anion = str(rng.choice(METALS)), str(rng.choice(ANIONS))
        structure = binary(metal, anion, rng.uniform(3.9, 5.6))
        screened = float(rng.uniform(0.0, 0.3))
        hull = screened + family[anion] + rng.normal(0, 0.02)
        modulus = 1400.0 * len(structure) / structure.volume * stiffness[metal]
        drawn.append((AcquisitionInput(f"r{number}-{k:03d}", structure, screened), hull, modulus))
    return drawn


def test_finds_more_hits_than_first_come_first_served_than_the_screening_alone_and_than_without_learning():
    """Three rounds of simulated worlds: the screening model errs by family, stiffness follows volume and chemistry."""
    hits = dict.fromkeys(("acquisition", "no learning", "screening", "first come"), 0)
    budget = 8
    for world in range(40):
        rng = np.random.default_rng(world)
        family = {anion: rng.normal(0.0, 0.08) for anion in ANIONS}
        stiffness = {metal: np.exp(rng.normal(0.0, 0.4)) for metal in METALS}
        history: list[Outcome] = []
        for number in (1, 2, 3):
            drawn = a_round_of_a_world(rng, family, stiffness, number)
            hit = {c.candidate: bool(hull <= 0.1 and modulus >= 120) for c, hull, modulus in drawn}
            inputs = [c for c, _, _ in drawn]
            taken = selected(choose(inputs, history, STIFF, budget, world))
            ranked = sorted(inputs, key=lambda c: c.screening_e_hull_ev_per_atom)
            hits["acquisition"] += sum(hit[c] for c in taken)
            hits["no learning"] += sum(hit[c] for c in selected(choose(inputs, [], STIFF, budget, world)))
            hits["screening"] += sum(hit[c.candidate] for c in ranked[:budget])
            hits["first come"] += sum(hit[c.candidate] for c in inputs[:budget])
            history += [
                Outcome(c.candidate, c.structure, c.screening_e_hull_ev_per_atom, hull, {"bulk_modulus": modulus})
                for c, hull, modulus in drawn
                if c.candidate in taken
            ]
    assert hits["acquisition"] > 2.5 * hits["first come"]
    assert hits["acquisition"] > 1.25 * hits["screening"]
    assert hits["acquisition"] > 1.05 * hits["no learning"]
