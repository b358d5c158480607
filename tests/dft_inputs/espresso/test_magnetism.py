from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from dft_inputs.espresso.magnetism import starting_fraction, starting_moments


def box(symbols, coords, a=8.0):
    return Structure(Lattice.cubic(a), symbols, coords, coords_are_cartesian=True)


def pair(one, other, distance):
    return box([one, other], [[0, 0, 0], [distance, 0, 0]])


@pytest.mark.parametrize(
    ("structure", "moments"),
    [
        (pair("Mg", "O", 2.1), None),
        (pair("Na", "Na", 3.0), None),  # an odd number of electrons each, a metal: no spin
        (pair("Fe", "O", 2.1), [4.0, 0.0]),
        (pair("Mn", "Ni", 2.5), [5.0, 2.0]),
        (pair("O", "O", 1.21), [1.0, 1.0]),  # dioxygen
        (pair("O", "O", 1.33), [1.0, 1.0]),  # superoxide
        (pair("O", "O", 1.47), None),  # peroxide
        (pair("N", "N", 1.10), None),
        (box(["O"] * 3, [[0, 0, 0], [1.28, 0, 0], [1.28 + 0.6, 1.1, 0]]), None),  # ozone is a closed shell
        (box(["K", "O", "O"], [[4, 4, 4], [0, 0, 0], [1.3, 0, 0]]), [0.0, 1.0, 1.0]),
    ],
)
def test_spin_by_element(structure, moments):
    assert starting_moments(structure, "by_element") == moments


def test_dioxygen_is_found_across_the_border_of_the_cell():
    assert starting_moments(box(["O", "O"], [[0.6, 0, 0], [7.39, 0, 0]]), "by_element") == [1.0, 1.0]


def test_off_is_off_and_on_is_on():
    assert starting_moments(pair("Fe", "O", 2.1), "off") is None
    assert starting_moments(pair("Cu", "O", 1.9), "on") == [0.5, 0.5]
    assert starting_moments(pair("Fe", "O", 2.1), "on") == [4.0, 0.0]


def test_moments_on_sites_go_before_the_table():
    antiferromagnet = pair("Ni", "Ni", 2.9).copy(site_properties={"magmom": [2, -2]})
    assert starting_moments(antiferromagnet, "by_element") == [2.0, -2.0]
    assert starting_moments(antiferromagnet, "off") is None
    unpolarised = pair("Ni", "Ni", 2.9).copy(site_properties={"magmom": [0, 0]})
    assert starting_moments(unpolarised, "by_element") is None


@pytest.mark.parametrize("magmom", [[1.0, None], [[0, 0, 1], [0, 0, -1]], ["up", "down"]])
def test_moments_that_are_no_numbers_are_refused(magmom):
    with pytest.raises(ValueError, match="magmom"):
        starting_moments(pair("Ni", "Ni", 2.9).copy(site_properties={"magmom": magmom}), "by_element")


def test_fractions_stay_below_all_electrons_up():
    assert starting_fraction(4.0, 16) == 0.25
    assert starting_fraction(-4.0, 16) == -0.25
    assert (starting_fraction(7, 3), starting_fraction(-7, 3)) == (0.9, -0.9)
