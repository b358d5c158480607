import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from pymatgen.io.cif import CifParser

from workflows.report.html import render

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """All tags with their attributes, the text of scripts, and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.seen, self.inside = [], [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = tag
            if tag == "script":
                self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, text):
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + text)
        elif self.inside is None:
            self.seen.append(text)

    @property
    def text(self):
        return " ".join(" ".join(self.seen).split())


@pytest.fixture(scope="module")
def html(data, reference):
    return render(data, reference)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_nothing_is_fetched(page):
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        assert "src" not in attributes, (tag, attributes)
        if href := attributes.get("href"):
            assert href.startswith(("#", "data:chemical/x-cif;base64,")), href
        assert "url(" not in attributes.get("style", "")


def test_policy_forbids_fetching_and_allows_exactly_our_scripts(page):
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy  # falls back to 'none'
    allowed = set(re.findall(r"'(sha256-[^']+)'", policy))
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 2
    assert {"sha256-" + base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code} == allowed
    assert "unsafe" not in policy.split("script-src")[1]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]


def test_every_section_shows_what_it_promises(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"funnel", "hits", "hull", "properties", "phonons", "verdicts", "failures", "protocol"} <= set(ids)
    for expected in (
        "3 hits.",
        "MgAl₂O₄",
        "ionic steps exhausted",
        "fmax 0.31 eV/Å after 500 steps",
        "nucleate reproduce light-r01-0000",
        "mlip:7net-0:fast:0a1b2c3d",
        "ltol 0.2, stol 0.3, angle_tol 5°",
        "a second opinion, not an independent one",
        "tolerance −0.3 THz",
        "formation energy (eV/atom)",
        "energy above hull (meV/atom)",
        "hull cut 100",
        "bulk modulus (GPa)",
        "frequency (THz)",
    ):
        assert expected in page.text, expected


def test_downloads_are_the_hits_as_cif(page, data):
    links = {a["download"]: a["href"] for t, a in page.tags if t == "a" and "download" in a}
    hit = data.of("hits")[1]
    text = base64.b64decode(links[f"{hit.candidate}.cif"].split(",")[1]).decode()
    structure = CifParser.from_str(text).parse_structures(primitive=False)[0]
    assert structure.composition.reduced_formula == hit.formula
    assert len(links) == len(data.of("verified"))


def test_models_of_the_viewer_are_json_with_whole_cells(page, data):
    models = json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "models"))
    assert set(models) == {v.candidate for v in data.of("verified")}
    rocksalt = models["light-r01-0000"]
    assert len(rocksalt["sites"]) == 8
    assert set(rocksalt["colors"]) == {"Mg", "O"}
    assert all(0 <= x < 1 for site in rocksalt["sites"] for x in site[1:])


def test_plots_are_well_formed(html):
    pictures = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) > 20
    for picture in pictures:
        root = ET.fromstring(picture)  # noqa: S314 - our own output
        for element in root.iter():
            for value in element.attrib.values():
                assert "nan" not in value.lower().split(), value


def test_whatever_the_data_says_stays_text(make_data, reference):
    data = make_data(description=EVIL)
    verdict = data.verdicts[0]
    evil = verdict.model_copy(
        update={
            "spacegroup": EVIL,
            "formula": EVIL,
            "provenance": {EVIL: EVIL, "software": {EVIL: EVIL}, "reproduce": EVIL},
            "cause": data.verdicts[-1].cause.model_copy(update={"evidence": EVIL, "name": EVIL}),
            "phonon": verdict.phonon.model_copy(update={"how": EVIL}),
            "energy_ev_per_atom": None,
            "energy_above_hull_ev_per_atom": None,
        }
    )
    attempts = {**data.attempts, verdict.candidate: [{"stage": EVIL, "directory": EVIL, "host": EVIL}]}
    changed = type(data)(**{**vars(data), "verdicts": (evil, *data.verdicts[1:]), "attempts": attempts})
    page = Page(render(changed, reference))
    assert len(page.scripts) == 3  # models, viewer, our own
    assert not [t for t, _ in page.tags if t == "img"]
    assert "<script>alert(1)</script>" in page.text  # shown, as text
    models = json.loads(page.scripts[0][1])
    assert models[verdict.candidate]["formula"] == EVIL


def test_a_campaign_without_rounds(make_data):
    data = make_data(judged=())
    page = Page(render(type(data)(campaign=data.campaign, spec=data.spec, document={})))
    assert "No answer yet." in page.text
    assert "No round has begun." in page.text
    assert len(page.scripts) == 2  # no viewer where there is nothing to view


def test_rounds_without_verdicts(make_data, reference):
    page = Page(render(make_data(judged=()), reference))
    assert "none verified so far" in page.text
    assert "Nothing has been verified yet." in page.text


def test_failures_only(make_data, reference):
    failed = ("AlN", None, None, "not_measured", None, (602, "not_finite", "energy is nan"))
    page = Page(render(make_data(judged=(failed,) * 3), reference))
    assert "None of the 3 verdicts has a trustworthy energy" in page.text


def test_verified_but_no_hit_says_why_and_shows_the_nearest(make_data, reference):
    soft = ("AlN", 0.01, 0.2, "stable", 88.0, None)
    page = Page(render(make_data(judged=(soft, ("MgO", 0.3, None, "not_measured", None, None))), reference))
    assert "No hit yet" in page.text
    assert "nearest 88.0 GPa, AlN" in page.text
    assert "These came nearest:" in page.text


def test_no_reference_set_at_hand(data):
    page = Page(render(data))
    assert "hulls are not drawn" in page.text
    assert "formation energy" not in page.text


def test_many_rounds_fold_into_a_table_and_a_trend(data, reference):
    rounds = tuple(
        type(data.rounds[0])(n, "closed", data.rounds[0].summary.model_copy(update={"number": n})) for n in range(1, 21)
    )
    page = Page(render(type(data)(**{**vars(data), "rounds": rounds}), reference))
    assert "All 20 rounds as a table" in page.text
    assert "share of samples (%)" in page.text
    assert page.text.count("Funnel") <= 2 + 6


def test_a_round_tells_what_it_taught(data, reference):
    from dataclasses import replace

    update = {"generator": "symmetric", "taken": True, "lessons": 9, "good": 1, "bad": 4, "trust": 0.5}
    first = replace(data.rounds[0], learned={"updates": [update]})
    page = render(replace(data, rounds=(first, *data.rounds[1:])), reference)
    assert "round 1 taught symmetric: 9 crystals (1 stable and novel, 4 bad), taken at 50 %" in page
