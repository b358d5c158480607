"""The selector: one vocabulary, and nothing that a user types reaches the database as it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.monitor.selector import (
    FIELDS,
    OPERATORS,
    Selector,
    SelectorError,
    parse_causes,
    parse_query,
    parse_rounds,
)


def test_fields_are_translated_to_where_they_live():
    query = parse_query('{"$or": [{"bulk_modulus": {"$gte": 150, "$lt": 400}}, {"hit": true}]}')
    assert query == {"$or": [{"properties.bulk_modulus.value": {"$gte": 150, "$lt": 400}}, {"hit": True}]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{hit: true}", "not JSON"),
        ("[1]", "JSON object"),
        ('{"$where": "sleep(1000)"}', "no field"),
        ('{"hit": {"$where": "1"}}', "no operator"),
        ('{"hit": {"$regex": ".*"}}', "no operator"),
        ('{"$expr": {"$function": {}}}', "no field"),
        ('{"provenance.host": 1}', "no field"),
        ('{"energy_abve_hull": 1}', "did you mean energy_above_hull"),
        ('{"hit": {"$in": 3}}', "takes a list"),
        ('{"hit": {"$in": [{"$where": "1"}]}}', "compared with"),
        ('{"hit": [1]}', "compared with"),
        ('{"$or": {"hit": true}}', "list of conditions"),
        ('{"$or": []}', "list of conditions"),
        ('{"$and": [' * 10 + '{"hit": true}' + "]}" * 10, "nested"),
        ('{"formula": "' + "x" * 5000 + '"}', "longer"),
        ("[" * 3000, "not JSON"),
    ],
)
def test_what_is_not_on_the_list_is_refused(text, says):
    with pytest.raises(SelectorError, match=says):
        parse_query(text)


def keys_in(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_in(inner)


names = st.sampled_from([*FIELDS, *OPERATORS, "$and", "$or", "$where", "$function", "x.y", ""])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=10,
    )
)
def test_no_key_outside_the_lists_ever_comes_through(content):
    try:
        built = parse_query(json.dumps(content))
    except SelectorError:
        return
    assert set(keys_in(built)) <= {*FIELDS.values(), *OPERATORS, "$and", "$or", "$nor"}


def test_rounds_and_causes():
    assert parse_rounds(["3", "1-2", "2"]) == (1, 2, 3)
    assert parse_causes(["501", "6xx"]) == ((501, 501), (600, 699))
    for wrong in ("0", "2-1", "a", "1-", "-1"):
        with pytest.raises(SelectorError, match="--round"):
            parse_rounds([wrong])
    for wrong in ("50", "abc", "xxx", "0xx"):
        with pytest.raises(SelectorError, match="--cause"):
            parse_causes([wrong])


def test_unknown_stages_and_states_are_refused_with_what_would_be_right():
    with pytest.raises(SelectorError, match="did you mean relax"):
        Selector("a", stages=("relaxx",))
    with pytest.raises(SelectorError, match="did you mean stable"):
        Selector("a", states=("stabel",))


def test_a_selector_selects_on_the_real_database(scene):
    for number in (1, 2):
        for index in range(3):
            scene.verdict(
                number,
                f"c{number}{index}",
                energy_above_hull_ev_per_atom=0.05 * index,
                hit=index == 0,
                cause=601 if index == 2 else None,
                stage="phonon",
                verified=True,
            )

    def found(**parts):
        return sorted(v["candidate"] for v in scene.database.verdicts.find(Selector("oxides", **parts).verdicts()))

    assert found() == ["c10", "c11", "c12", "c20", "c21", "c22"]
    assert found(rounds=(2,)) == ["c20", "c21", "c22"]
    assert found(states=("hit", "failed")) == ["c10", "c12", "c20", "c22"]
    assert found(causes=((600, 699),), rounds=(1,)) == ["c12"]
    assert found(stages=("phonon",)) == ["c12", "c22"]
    assert found(candidates=("c11", "c22")) == ["c11", "c22"]
    assert found(query=parse_query('{"energy_above_hull": {"$lt": 0.06}, "hit": false}')) == ["c11", "c21"]
