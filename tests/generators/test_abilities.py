"""What a trained model says of a condition that goes beyond what it was shown."""

import warnings

import pytest

from generators.abilities import Abilities
from generators.base import Bounds, Condition

SHOWN = Abilities(("Al", "Mg", "O"), ("bulk_modulus",), {"bulk_modulus": (10.0, 300.0)}, 8)


def asking(minimum=None, maximum=None, max_atoms=8, elements=("Mg", "O")):
    bounds = {} if minimum is maximum is None else {"bulk_modulus": Bounds(minimum, maximum, "GPa")}
    return Condition((elements,), properties=bounds, max_atoms=max_atoms)


def test_they_are_read_as_they_were_written_and_from_older_states():
    assert Abilities.from_dict(SHOWN.as_dict()) == SHOWN
    older = Abilities.from_dict({"elements": ["O"], "properties": ["bulk_modulus"]})
    assert older.doubts(asking(900.0, max_atoms=99)) == []


@pytest.mark.parametrize(
    "bounds", [(None, None), (10.0, None), (300.0, None), (None, 10.0), (5.0, 12.0), (290.0, 900.0)]
)
def test_a_target_that_some_training_crystal_meets_is_not_doubted(bounds):
    assert SHOWN.doubts(asking(*bounds)) == []


@pytest.mark.parametrize("bounds", [(300.1, None), (None, 9.9), (400.0, 500.0)])
def test_a_target_that_none_meets_is(bounds):
    (doubt,) = SHOWN.doubts(asking(*bounds))
    assert "they lie between 10 and 300 GPa" in doubt


def test_larger_cells_than_it_saw_are_doubted():
    assert SHOWN.doubts(asking(max_atoms=2)) == []
    (doubt,) = SHOWN.doubts(asking(max_atoms=9))
    assert "more than 8 atoms" in doubt
    assert "9 are allowed" in doubt


def test_elements_are_refused_and_the_rest_is_warned_of():
    with pytest.raises(ValueError, match="model: Pu is in no training crystal"):
        SHOWN.heed("model", asking(900.0, elements=("O", "Pu")))
    with pytest.warns(UserWarning, match="^model: ") as told:
        SHOWN.heed("model", asking(900.0, max_atoms=12))
    assert len(told) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SHOWN.heed("model", asking(100.0))
