"""Comparisons of small generators on a hull of the test's own: what is drawn, kept, counted and told."""

from __future__ import annotations

import json

import pytest
from pymatgen.core import Lattice, Structure
from small_generators import Listed

from generators.base import Condition
from generators.comparison import BASELINES, UNTRAINED, Comparison, with_baselines
from generators.data.dataset import Dataset, Entry
from generators.evaluation import Contender, Familiar, Hull, Phase, Protocol, Second, Store, Task, evaluate
from generators.evaluation import store as store_module
from generators.evaluation.run import held_out_prototypes
from generators.evaluation.samples import digest_of, draw
from generators.registry import named

CONDITION = Condition((("Mg", "O"),), min_elements=2, max_elements=2, max_atoms=4)
FCC = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def fcc(edge: float, species: list[str], places: list[list[float]]) -> Structure:
    return Structure(Lattice([[edge * x for x in row] for row in FCC]), species, places)


def rocksalt(edge: float = 4.25) -> Structure:
    return fcc(edge, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


CAESIUM = Structure(Lattice.cubic(2.66), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
OVERLAP = Structure(Lattice.cubic(2.0), ["Mg", "O"], [[0, 0, 0], [0.1, 0, 0]])
HULL = Hull(
    [
        Phase("Mg", Structure(Lattice.cubic(3), ["Mg"], [[0, 0, 0]]), -1.5),
        Phase("O", Structure(Lattice.cubic(3), ["O"], [[0, 0, 0]]), -4.9),
        Phase("MgO", rocksalt(), -6.3),
    ]
)
KNOWN = Familiar([("magnesia", rocksalt())], "magnesia")


def task(**other) -> Task:
    options = {"n": 3, "protocol": Protocol(max_steps=60), "known": KNOWN, "hull": HULL}
    return Task(CONDITION, **{**options, **other})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    good = Contender("good", Listed([rocksalt(), CAESIUM, OVERLAP]))
    none = Contender("none", Listed([], "none", refuses="it knows no oxides"))
    told = []
    second = Second("constant", lambda structures: [-3.0] * len(structures))
    return folder, evaluate([good, none], task(), Store(folder), second=second, told=told.append), told


def test_rows_say_what_the_samples_amount_to(finished):
    _, found, told = finished
    good, none = found.rows
    assert (good.shares["valid"].count, good.shares["relaxed"].count, good.asked) == (2, 2, 3)
    assert good.shares["novel"].count == 1  # caesium chloride; rocksalt is known
    # CHGNet has rocksalt near -6.3 eV/atom and caesium chloride far above it.
    assert good.samples[0]["above_hull_ev_per_atom"] == pytest.approx(0, abs=0.15)
    assert good.samples[1]["above_hull_ev_per_atom"] > good.samples[0]["above_hull_ev_per_atom"] + 0.1
    assert none.error == "it knows no oxides"
    assert not none.shares
    assert {t.step for t in told} >= {"sample", "relax", "judge", "second opinion"}


def test_a_second_model_judges_by_its_own_energies_of_the_competitors(finished):
    _, found, _ = finished
    opinion = found.opinions["good"]
    # To the constant model everything lies on the hull: it agrees with whatever is asked.
    assert (opinion.agrees.count, opinion.agrees.n) == (found.rows[0].shares["stable"].count,) * 2
    assert "not an independent one" in opinion.note


def test_a_second_call_draws_and_relaxes_nothing(finished, monkeypatch):
    folder, before, _ = finished
    asked = []
    real = store_module.relax
    monkeypatch.setattr(store_module, "relax", lambda missing, **o: asked.extend(missing) or real(missing, **o))
    again = Listed([rocksalt(), CAESIUM, OVERLAP])
    found = evaluate([Contender("good", again)], task(), Store(folder))
    assert (asked, again.given) == ([], 0)
    assert found.rows[0].as_dict() | {"costs": None} == before.rows[0].as_dict() | {"costs": None}
    cost, earlier = found.rows[0].costs["cpu_s"], before.rows[0].costs["cpu_s"]
    assert cost == pytest.approx(earlier, abs=1.0)  # what relaxing cost is remembered, too


def test_a_killed_stream_goes_on_where_it_was(tmp_path):
    first = Listed([rocksalt(), CAESIUM, OVERLAP])
    draw(first, 2, CONDITION, 0, Store(tmp_path))
    second = Listed([rocksalt(), CAESIUM, OVERLAP])
    found = draw(second, 3, CONDITION, 0, Store(tmp_path))
    assert [d.index for d in found.drawn] == [0, 1, 2]
    assert found.start_s > 0
    # Each run that draws throws one sample away, to load what the generator needs before the clock runs.
    assert (first.given, second.given) == (2 + 1, 1 + 1)
    draw(second, 3, CONDITION, 1, Store(tmp_path))
    assert second.given == 2 + 3 + 1  # another seed is another stream


def test_states_never_share_samples():
    assert digest_of(Listed([CAESIUM])) != digest_of(Listed([rocksalt()]))
    assert digest_of(Listed([CAESIUM])) == digest_of(Listed([CAESIUM]))


def test_a_comparison_can_be_written(finished, tmp_path):
    _, found, _ = finished
    Comparison(task(), found).write_json(tmp_path / "comparison.json")
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert [row["label"] for row in document["rows"]] == ["good", "none"]
    assert document["rows"][0]["second_opinion"]["model"] == "constant"
    assert document["rows"][1]["second_opinion"] is None
    assert "Materials Project" in document["second_opinion"]
    assert len(document["rows"][0]["samples"]) == 3


def test_baselines_are_always_among_the_rows():
    mine = Contender("mine", Listed([CAESIUM]))
    assert [c.label for c in with_baselines([mine])] == ["mine", *BASELINES, UNTRAINED]
    assert [c.label for c in with_baselines([Contender(*named("random")), mine])] == [
        "random",
        "mine",
        "ion_exchange",
        UNTRAINED,
    ]


def test_labels_must_differ(tmp_path):
    twice = [Contender("a", Listed([CAESIUM])), Contender("a", Listed([rocksalt()]))]
    with pytest.raises(ValueError, match="one label"):
        evaluate(twice, task(), Store(tmp_path))


def test_held_out_prototypes_fit_the_condition_and_were_not_trained_on():
    def entry(label, structure, prototype):
        return Entry(label, structure, prototype)

    large = rocksalt()
    large.make_supercell(2)
    training = Dataset("t", (entry("a", rocksalt(), "225_1a_1b"),))
    held_out = Dataset(
        "h",
        (
            entry("b", rocksalt(), "225_1a_1b"),  # trained on
            entry("c", CAESIUM, "221_1a_1b"),
            entry("d", large, "too large"),
            entry("e", Structure(Lattice.cubic(3), ["Mg"], [[0, 0, 0]]), "an element"),
        ),
    )
    assert held_out_prototypes(task(training=training, held_out=held_out)) == {"221_1a_1b"}
    assert held_out_prototypes(task()) == frozenset()


@pytest.mark.parametrize("bad", [{"n": 0}, {"seeds": ()}, {"seeds": (1, 1)}])
def test_a_task_without_samples_or_seeds_is_refused(bad):
    with pytest.raises(ValueError, match="at least one"):
        task(**bad)
