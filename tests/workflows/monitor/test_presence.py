"""What is named and not there is refused, with what there is."""

from __future__ import annotations

import pytest

from workflows.monitor.presence import refuse_unknown
from workflows.monitor.selector import Selector, SelectorError


def refusal(scene, **parts):
    with pytest.raises(SelectorError) as caught:
        refuse_unknown(scene.database, Selector(scene.name, **parts))
    return str(caught.value)


def test_rounds(scene):
    scene.campaign()
    assert refusal(scene, rounds=(1,)) == "--round: campaign oxides has no round 1; it has none so far"
    scene.round(1)
    assert refusal(scene, rounds=(7,)) == "--round: campaign oxides has no round 7; it has round 1 alone so far"
    scene.round(2)
    assert "it has 1 to 2 so far" in refusal(scene, rounds=(7, 8))
    refuse_unknown(scene.database, Selector(scene.name, rounds=(2, 3, 4)))


def test_candidates(scene):
    scene.campaign()
    assert "has no x; it has none so far" in refusal(scene, candidates=("x",))
    first, last = scene.candidate(1, 0), scene.candidate(2, 3)
    assert f"has no x; it has {first} to {last} so far" in refusal(scene, candidates=(first, "x"))
    refuse_unknown(scene.database, Selector(scene.name, candidates=(first, last)))
    refuse_unknown(scene.database, Selector(scene.name))
