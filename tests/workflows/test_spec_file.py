"""A campaign file's problems: all at once, each with its line, its value and what would be right."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.checks import check_engine
from workflows.problems import Problem
from workflows.spec import CampaignSpec
from workflows.spec_file import SpecError, check_file, check_text, load_spec, template

GOOD = """\
name: oxides
chemistry:
  allowed: [Mg, Al, O]
"""


def refused(text, checks=()):
    with pytest.raises(SpecError) as caught:
        check_text(text, checks)
    return caught.value.problems


def outcome(text):
    try:
        return check_text(text).spec
    except SpecError as error:
        return error.problems


def test_a_short_file_is_enough():
    spec = check_text(GOOD).spec
    assert spec == CampaignSpec.model_validate({"name": "oxides", "chemistry": {"allowed": ["Mg", "Al", "O"]}})


def test_every_problem_is_listed_at_once_with_line_value_and_what_would_be_right():
    found = refused(
        """\
name: Bad Name
chemistry:
  allowed: [Mg,
            Xx, O]
  max_atms: 8
  neutrality: strickt
targets:
  energy_above_hull: {max: 100, unit: meV/atom}
  bulk_modulus: {min: 300, max: 100, unit: GPa}
enginee: mlip
rounds: "2"
seed: 1
seed: 2
""",
        [lambda spec: [Problem("protocol", f"{spec.protocol} is too coarse", level="warning")]],
    )
    assert [(p.line, p.key, p.value) for p in found if p.level == "error"] == [
        (1, "name", "Bad Name"),
        (4, "chemistry.allowed[1]", "Xx"),
        (5, "chemistry.max_atms", None),
        (6, "chemistry.neutrality", "strickt"),
        (8, "targets.energy_above_hull.max", "100"),
        (8, "targets.energy_above_hull.unit", "meV/atom"),
        (9, "targets.bulk_modulus.max", "100"),
        (10, "enginee", None),
        (11, "rounds", "2"),
        (13, "seed", None),
    ]
    said = "\n".join(str(problem) for problem in found)
    for hint in (
        "lower-case letters",
        "did you mean Xe?",
        "did you mean max_atoms?",
        "did you mean strict?",
        "must be at most 10",
        "write it in eV/atom",
        "min 300 is above max 100",
        "did you mean engine?",
        "must be a whole number",
        "given twice (first on line 12)",
        "fast is too coarse",
    ):
        assert hint in said


def test_an_engines_refusal_is_in_the_same_list_as_the_files_own_problems():
    def cannot(spec):
        assert spec.targets.band_gap is not None
        return [
            Problem("targets.band_gap", "mlip can't measure it"),
            Problem("chemistry.allowed", "what it says of a section that is broken is not told"),
        ]

    text = "name: a\nchemistry:\n  allowed: [Mg, Xx]\ntargets:\n  band_gap: {min: 2, unit: eV}\n  phonons: maybe\n"
    assert [(p.line, p.key) for p in refused(text, [cannot])] == [
        (3, "chemistry.allowed[1]"),
        (5, "targets.band_gap"),
        (6, "targets.phonons"),
    ]


def test_warnings_alone_refuse_nothing():
    checked = check_text(GOOD, [lambda _: [Problem("name", "is dull", level="warning")]])
    assert [(w.line, w.value) for w in checked.warnings] == [(1, "oxides")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "is empty"),
        ("# only a comment\n", None, "is empty"),
        ("- a\n", 1, "is a list, not a mapping"),
        ("just text\n", 1, "is text, not a mapping"),
        ("name: a\nchemistry: {allowed: [Mg, O\n", 3, "not YAML"),
        ("name: a\n\tchemistry: 1\n", 2, "tabs"),
        ("name: a: b\n", 1, "second colon"),
        ("name: 'a\n", 2, "not YAML"),
        ("name: a\n---\nname: b\n", 2, "another document"),
        ("name: &x a\nstore: *x\n", 2, "aliases"),
        ("!!python/object/apply:os.system [echo]\n", 1, "constructor for the tag"),
        ("name: \x07\n", 1, "character that YAML does not allow"),
        ("{[a]: 1}\n", 1, "unhashable"),
        ("a: " + "[" * 5000, None, "nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_one_problem_with_its_line(text, line, says):
    (problem,) = refused(text)
    assert problem.line == line
    assert says in str(problem)


def test_numbers_and_words_are_what_they_look_like():
    text = GOOD + "  neutrality: off\ntargets:\n  phonon_tolerance: -1e-1\n"
    spec = check_text(text).spec
    assert spec.chemistry.neutrality == "off"
    assert spec.targets.phonon_tolerance == -0.1
    assert "Nobelium" not in str(check_text("name: a\nchemistry: {allowed: [No, O, Y, N]}").spec)
    assert check_text("name: a\nchemistry: {allowed: [No, O, Y, N]}").spec.chemistry.allowed == ("N", "No", "O", "Y")


def test_a_password_in_a_uri_is_never_repeated():
    (problem,) = refused(GOOD + "store: mongodb://ada:s3cret@host/db\n")
    assert "s3cret" not in repr(problem)
    assert "ada" not in repr(problem)
    assert "config.yaml" in problem.message


def test_files_that_cannot_be_read_say_why(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: a\ndescription: \xe9\n")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 2_000_000)
    (tmp_path / "campaign.yaml").write_text(GOOD)
    for name, says in (
        ("nothing.yaml", "no such file"),
        ("latin.yaml", "not UTF-8"),
        ("huge.yaml", "larger than"),
        ("", "campaign.yaml in it"),
    ):
        with pytest.raises(SpecError, match=says) as caught:
            load_spec(tmp_path / name)
        assert caught.value.source == str(tmp_path / name)[: len(caught.value.source)]
    assert load_spec(tmp_path / "campaign.yaml").name == "oxides"


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert check_file(path).spec.name == "oxides"


@given(st.text(alphabet=string.printable, max_size=80))
def test_any_text_is_accepted_or_refused_with_problems(text):
    said = outcome(text)
    assert isinstance(said, CampaignSpec) or all(problem.message for problem in said)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CampaignSpec.model_fields, "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_content_is_accepted_or_refused_with_problems(content):
    said = outcome(json.dumps(content))  # JSON is YAML; NaN and Infinity are words to it
    assert isinstance(said, CampaignSpec) or all(problem.message for problem in said)


def test_the_template_is_a_campaign_and_mentions_every_field():
    text = template("my-campaign")
    spec = check_text(text).spec
    assert spec.name == "my-campaign"

    def names(model):
        for name, field in model.model_fields.items():
            yield name
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields") and name != "energy_above_hull":
                yield from names(inner)

    for name in names(CampaignSpec):
        assert f"{name}:" in text, name
    for line in text.splitlines():
        assert "#" in line or not line.strip() or line.strip() == "budget:", f"no comment: {line}"


def test_the_template_differs_from_the_defaults_only_where_the_demo_means_to():
    spec = check_text(template("demo")).spec
    default = CampaignSpec(name="demo", chemistry=spec.chemistry)
    differing = {name for name in CampaignSpec.model_fields if getattr(spec, name) != getattr(default, name)}
    assert differing == {"description", "targets", "budget", "seed"}
    assert (spec.rounds, spec.samples, spec.budget.verifications) == (2, 64, 10)
    assert spec.targets.energy_above_hull.max == 0.1


def test_what_the_template_has_commented_out_is_right_too():
    lines = template("demo").splitlines()
    for index, line in enumerate(lines):
        if line.strip().startswith("# ") and ": " in line and line.startswith("  "):
            changed = [*lines[:index], line.replace("# ", "", 1), *lines[index + 1 :]]
            if "systems" in line:
                changed = [other for other in changed if "  allowed:" not in other]
            assert check_text("\n".join(changed)).spec.name == "demo"


def test_a_name_that_cannot_be_a_campaigns_makes_no_template():
    with pytest.raises(SpecError, match="name"):
        template("Not A Name")


def test_a_misspelt_engine_is_not_answered_by_another_one():
    text = "name: a\nchemistry: {systems: [Al-N]}\ntargets: {band_gap: {min: 1, unit: eV}}\nengine: espreso\n"
    with pytest.raises(SpecError) as caught:
        check_text(text, [check_engine])
    assert [p.key for p in caught.value.problems] == ["engine"]
