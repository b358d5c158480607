"""Skeletons, assignments, geometry and forecasts: what is exact is exact, what is a density is one."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.plain_forecast import predict
from generators.base import Condition
from generators.compositions import is_neutral
from generators.data import prototypes
from generators.symmetric.assignments import assignments, canonical, row_key, row_of
from generators.symmetric.crystals import rows_of
from generators.symmetric.forecast import ForecastNetwork, pack_structures
from generators.symmetric.geometry import GeometryNetwork, draw, negative_log_likelihood
from generators.symmetric.skeletons import (
    LetterNetwork,
    Skeleton,
    draw_letters,
    gather_evidence,
    log_probability,
    options_after,
    steps_of,
)
from generators.symmetric.tables import tabulate
from generators.symmetric.wyckoff import describe

SPINEL_LIKE = Skeleton(227, ("a", "d"))


def letters(number, max_atoms):
    """Every skeleton of a space group with at most so many atoms."""
    found, open_ = [], [()]
    while open_:
        so_far = open_.pop()
        for option in options_after(number, so_far, max_atoms):
            if option is None:
                found.append(Skeleton(number, so_far))
            else:
                open_.append((*so_far, option))
    return found


@pytest.mark.parametrize(("number", "atoms"), [(225, 6), (139, 4), (194, 4), (62, 8)])
def test_probabilities_of_all_skeletons_of_a_group_add_up(number, atoms):
    torch.manual_seed(0)
    network = LetterNetwork().eval()
    total = sum(math.exp(log_probability(network, s, atoms)) for s in letters(number, atoms))
    assert total == pytest.approx(1.0, abs=1e-4)


def test_what_is_drawn_has_the_probability_it_says():
    torch.manual_seed(1)
    network = LetterNetwork().eval()
    rng = np.random.default_rng(0)
    drawn = [draw_letters(network, 221, 3, rng) for _ in range(800)]
    for skeleton in letters(221, 3):
        expected = math.exp(log_probability(network, skeleton, 3))
        share = sum(s == skeleton for s in drawn) / len(drawn)
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / len(drawn)) + 1e-3


def test_steps_hold_each_choice_once_with_its_weight():
    steps = steps_of({Skeleton(225, ("a", "b")): 3.0, Skeleton(225, ("a",)): 1.0}, 8)
    assert float(steps.weight.sum()) == 3 * 3 + 2
    assert len(steps.chosen) == 4  # a; b and stop after a; stop after a, b


def test_skeletons_count_by_the_evidence_for_them():
    rocksalt, other = Skeleton(225, ("a", "b")), Skeleton(221, ("a", "b"))
    assert gather_evidence([(rocksalt, 1.0), (other, 0.0), (rocksalt, 0.02)]) == {rocksalt: 1.02, other: 0.0}
    assert gather_evidence([(rocksalt, 0.0), (other, 0.0), (rocksalt, 0.0)]) == {rocksalt: 2.0, other: 1.0}


def test_new_skeletons_are_in_no_training_crystal_with_or_without_evidence(small, corner):
    everything = {canonical(row_of(d).skeleton) for _, d in rows_of(corner.split("prototype").training)}
    new = set(small.model.log_skeletons) - set(small.model.skeletons)
    assert new
    assert not {canonical(s) for s in new} & everything
    blind = {e.label for e in corner.entries if e.source.startswith(("blind", "random"))}
    assert blind
    assert all(e.evidence == 0 for e in corner.entries if e.label in blind)


def test_fixed_positions_come_once():
    assert "a" not in options_after(225, ["a"], 8)
    assert "e" in options_after(225, ["e"], 30)


@settings(max_examples=20, deadline=None)
@given(
    elements=st.sets(st.sampled_from(["Al", "Mg", "N", "O", "Si"]), min_size=2, max_size=4),
    skeleton=st.sampled_from(
        [Skeleton(225, ("a", "b", "c")), Skeleton(221, ("a", "b", "c")), Skeleton(139, ("a", "c", "e"))]
    ),
    rule=st.sampled_from(["strict", "off"]),
)
def test_assignments_keep_the_condition_exactly(elements, skeleton, rule):
    system = tuple(sorted(elements))
    condition = Condition((system,), max_elements=3, neutrality=rule)
    rows = assignments(skeleton, condition, limit=10_000)
    for row in rows:
        names = tuple(sorted(row.amounts))
        assert condition.allows(row.elements)
        assert is_neutral(names, tuple(row.amounts[e] for e in names), rule)
    expected = {
        row_key(skeleton.number, tuple(zip(skeleton.letters, chosen, strict=True)))
        for chosen in product(system, repeat=len(skeleton.letters))
        if condition.allows(chosen) and _neutral(skeleton, chosen, rule)
    }
    assert {row.key for row in rows} == expected
    assert len(rows) == len(expected)


def _neutral(skeleton, chosen, rule):
    amounts = {}
    for element, n in zip(chosen, skeleton.counts, strict=True):
        amounts[element] = amounts.get(element, 0) + n
    names = tuple(sorted(amounts))
    return is_neutral(names, tuple(amounts[e] for e in names), rule)


def test_one_crystal_has_one_key_whichever_origin():
    assert row_key(225, (("a", "Na"), ("b", "Cl"))) == row_key(225, (("b", "Na"), ("a", "Cl")))
    assert row_key(225, (("a", "Na"), ("c", "Cl"))) != row_key(225, (("a", "Cl"), ("c", "Na")))
    assert canonical(Skeleton(225, ("a", "c"))) == canonical(Skeleton(225, ("b", "c")))


def test_cells_that_are_too_large_have_no_assignment():
    assert assignments(SPINEL_LIKE, Condition((("Al", "Mg"),), max_atoms=3, neutrality="off"), limit=10) == []


def test_the_density_of_free_coordinates_is_normalised():
    """Summed over a grid of the one free coordinate of an orbit it gives one (quadrature)."""
    torch.manual_seed(0)
    network = GeometryNetwork().eval()
    described = (describe(p.structure) for p in prototypes(8))
    wanted = next(d for d in described if d.number >= 195 and sum(len(o.free) for o in d.orbits) == 1)
    n = 4000
    table = tabulate([wanted] * n)
    slot = int(torch.nonzero(table.is_free[0].any(dim=-1))[0])
    column = int(torch.nonzero(table.is_free[0, slot])[0])
    table.free[:, slot, column] = torch.arange(n) / n
    with torch.no_grad():
        nll = negative_log_likelihood(network, table)
        d = network(table.rows(torch.tensor([0])))
    z = (table.expansion[0] - d.volume_mean[0]) / d.volume_log_std[0].exp()
    log_volume = float(-0.5 * z**2 - d.volume_log_std[0] - 0.5 * math.log(2 * math.pi))
    total = float(torch.exp(-nll - log_volume).sum()) * 2 * math.pi / n
    assert total == pytest.approx(1.0, abs=2e-3)


def test_training_geometry_learns_and_draws_lie_where_it_says():
    torch.manual_seed(0)
    chosen = [d for p in prototypes(8) if (d := describe(p.structure)).number in {194, 186, 136}][:6]
    table = tabulate(chosen)
    network = GeometryNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = float(negative_log_likelihood(network.eval(), table).mean().detach())
    network.train()
    for _ in range(150):
        optimizer.zero_grad()
        loss = negative_log_likelihood(network, table).mean()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        assert float(negative_log_likelihood(network, table).mean()) < before - 0.5
        geometry = draw(network(table), [np.random.default_rng(i) for i in range(len(chosen))], temperature=0.1)
    off = np.abs(geometry.free - table.free.numpy())
    off = np.minimum(off, 1 - off)[table.is_free.numpy()]
    assert np.median(off) < 0.1


def test_forecasts_do_not_depend_on_origin_order_or_cell_choice():
    torch.manual_seed(0)
    network = ForecastNetwork(2).eval()
    for prototype in prototypes(8)[5:60:11]:
        structure = prototype.structure
        moved = structure.copy()
        moved.translate_sites(range(len(moved)), [0.31, 0.17, 0.77])
        sheared = structure.copy()
        sheared.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        reordered = type(structure).from_sites(list(structure)[::-1])
        with torch.no_grad():
            answers = network(pack_structures([structure, moved, sheared, reordered]))
        assert torch.allclose(answers[0], answers[1], atol=1e-4)
        assert torch.allclose(answers[0], answers[2], atol=1e-3)
        assert torch.allclose(answers[0], answers[3], atol=1e-4)


def test_row_of_a_description_has_its_composition():
    for prototype in prototypes(8)[:40]:
        row = row_of(describe(prototype.structure))
        assert row.amounts == {
            str(e): int(n)
            for e, n in prototype.structure.get_primitive_structure().composition.get_el_amt_dict().items()
        }


def test_the_batched_network_is_the_plain_one():
    """Against a loop over ASE's neighbour list, one pair after the other, with the same weights."""
    torch.manual_seed(0)
    network = ForecastNetwork(2).eval()
    structures = [p.structure for p in prototypes(8)[3:90:13]]
    with torch.no_grad():
        batched = network(pack_structures(structures))
        for row, structure in zip(batched, structures, strict=True):
            assert torch.allclose(row, predict(network, structure), atol=2e-4), structure.composition
