"""Bad days: one clear message, exit code 2, no traceback, nothing half-written."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.proxy import free_port
from workflows.runtime import embedded
from workflows.spec_file import template

GOOD = """\
name: oxides
chemistry: {systems: [Mg-O], max_elements: 2}
samples: 4
rounds: 1
"""


def files_in(directory):
    return {path: path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()}


def assert_refused(ran, *says):
    assert ran.code == 2
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert ran.err.startswith("nucleate: ")
    for part in says:
        assert part in ran.err.replace("\n", " ")


def campaigns(store):
    return store.database.campaigns.count_documents({})


BAD_FILES = {
    "malformed YAML": ("name: a\nchemistry: {allowed: [Mg, O\n", "line 3", "not YAML"),
    "tabs": ("name: a\nchemistry:\n\tallowed: [Mg]\n", "line 3", "spaces"),
    "empty": ("", "is empty"),
    "a list": ("- name: a\n", "not a mapping"),
    "an unknown key": (GOOD + "protokol: fast\n", "line 5", "protokol", "did you mean protocol?"),
    "a key given twice": (GOOD + "rounds: 2\n", "line 5", "given twice"),
    "no such element": (GOOD.replace("Mg-O", "Mg-Ox"), "line 2", "'Ox' is no element"),
    "min above max": (
        GOOD + "targets:\n  bulk_modulus: {min: 300, max: 100, unit: GPa}\n",
        "line 6",
        "min 300 is above max 100",
    ),
    "a wrong unit": (GOOD + "targets: {bulk_modulus: {min: 1, unit: Mbar}}\n", "write it in GPa"),
    "what the engine can't measure": (
        GOOD + "targets:\n  band_gap: {min: 2, unit: eV}\n",
        "line 6",
        "targets.band_gap",
        "mlip",
    ),
    "an element without a potential": (GOOD.replace("Mg-O", "Fr-O") + "engine: vasp\n", "Fr: MPRelaxSet has no POTCAR"),
    "no such generator": (GOOD + "generator: ion_exchang\n", "line 5", "did you mean ion_exchange?"),
    "no such option of a generator": (
        GOOD + "generator: [{name: random, options: {colour: red}}]\n",
        "generator[0].options.colour",
    ),
    "absurd sizes": (GOOD.replace("samples: 4", "samples: 10000000"), "must be at most 100,000"),
    "a password": (GOOD + "store: mongodb://ada:s3cret@host/\n", "not a profile's name"),
}


@pytest.mark.parametrize("verb", ["check", "launch"])
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_before_anything_happens(nucleate, tmp_path, verb, case):
    text, *says = BAD_FILES[case]
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    before = files_in(tmp_path)
    ran = nucleate(verb, path)
    assert_refused(ran, str(path), *says)
    assert "s3cret" not in ran.err
    assert files_in(tmp_path) == before


def test_all_that_is_wrong_with_a_file_comes_at_once_the_engines_refusal_too(nucleate, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(
        "name: Bad\nchemistry: {allowed: [Mg, Xq]}\n"
        "targets:\n  band_gap: {min: 1, unit: eV}\n"
        "generator: nope\nrounds: 0\n"
    )
    ran = nucleate("check", path)
    assert_refused(ran, "5 problems", "line 1", "line 2", "line 4", "line 5", "line 6")


@pytest.mark.parametrize("verb", ["check", "launch"])
def test_a_file_that_cannot_be_read(nucleate, tmp_path, verb):
    assert_refused(nucleate(verb, tmp_path / "nothing.yaml"), "no such file")
    assert_refused(nucleate(verb, tmp_path), "is a directory")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    assert_refused(nucleate(verb, tmp_path / "latin.yaml"), "UTF-8")


CIF = """data_x
_cell_length_a {a}
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mg1 Mg 0 0 0 {occupancy}
"""


@pytest.mark.parametrize("verb", ["check", "launch"])
def test_crystals_of_ones_own_that_cannot_be_taken(nucleate, tmp_path, verb, monkeypatch):
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(tmp_path / "data"))
    place = tmp_path / "c"
    (place / "empty").mkdir(parents=True)
    (place / "partial.cif").write_text(CIF.format(a=4, occupancy=0.5))
    (place / "broken.cif").write_text(CIF.format(a=0.001, occupancy=1))
    (place / "torn.cif").write_bytes(bytes(range(256)))
    (place / "good.cif").write_text(CIF.format(a=4, occupancy=1))
    known = "known: [good.cif, partial.cif, broken.cif, torn.cif, gone.cif, empty]\n"
    path = place / "mine.yaml"
    path.write_text(GOOD.replace("rounds: 1", "rounds: 0") + known)
    before = files_in(tmp_path)
    ran = nucleate(verb, path)
    assert_refused(
        ran,
        "6 problems",  # the file's own problem in the same list
        "line 5: known[1] = partial.cif: Mg:0.5 at (0, 0, 0) is partially",
        "occupied; give an ordered structure",
        "known[2] = broken.cif: can't be read as a crystal: 0 of its 1 data blocks",
        "known[3] = torn.cif: can't be read as a crystal",
        "known[4] = gone.cif: there is no such file",
        "known[5] = empty: has no crystal files",
    )
    assert "good.cif" not in ran.err
    assert files_in(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "home"]


VERBS = [
    ["status"],
    ["failures"],
    ["work"],
    ["reconcile"],
    ["report"],
    ["export"],
    ["reproduce", "oxides-r01-0001"],
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_no_campaign_here(nucleate, tmp_path, verb):
    assert_refused(nucleate(*verb), "there is no campaign.yaml here", "-C DIR")
    assert_refused(nucleate(*verb, "-C", tmp_path / "nowhere"), "is no directory")
    (Path.cwd() / "campaign.yaml").write_text(GOOD)
    assert_refused(nucleate(*verb), "not launched yet", "nucleate launch")
    assert [path.name for path in Path.cwd().iterdir()] == ["campaign.yaml"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != ["work"]], ids=lambda verb: verb[0])
def test_no_such_campaign_in_the_store(nucleate, store, verb):
    assert_refused(nucleate(*verb, "--campaign", "nitrides"), "no campaign 'nitrides'", "there are: none")
    assert_refused(nucleate(*verb, "--campaign", "nitrides", "--store", "nosuch"), "unknown store 'nosuch'")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--query", '{"$where": "sleep(10)"}'], "no field"),
        (["--query", "hit"], "not JSON"),
        (["--round", "0"], "rounds count from 1"),
        (["--stage", "relaxx"], "did you mean relax?"),
        (["--cause", "five"], "5xx"),
        (["--state", "bad"], "no state"),
    ],
)
def test_a_selector_that_says_nothing(nucleate, options, says):
    assert_refused(nucleate("failures", *options), says)


@pytest.fixture
def no_embedded_server(tmp_path, monkeypatch):
    """Give a data directory of our own, for whatever would start a server."""
    data = tmp_path / "data"
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(data))
    yield data
    if data.is_dir() and data.stat().st_mode & 0o700 == 0o700:
        embedded.stop(data)


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / "c" / "campaign.yaml"
    path.parent.mkdir()
    path.write_text(GOOD)
    return path


def assert_nothing_written(path):
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_data_directory_without_permission(nucleate, campaign_file, monkeypatch):
    # Not even root may make a directory there.
    monkeypatch.setenv("NUCLEATE_DATA_DIR", "/sys/nucleate")
    assert_refused(nucleate("launch", campaign_file), "/sys/nucleate")
    assert_nothing_written(campaign_file)


def test_a_data_directory_that_is_a_file(nucleate, campaign_file, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(tmp_path / "file"))
    assert_refused(nucleate("launch", campaign_file), str(tmp_path / "file"))
    assert_nothing_written(campaign_file)


def test_a_port_in_use(nucleate, campaign_file, monkeypatch, no_embedded_server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("NUCLEATE_EMBEDDED_PORT", port)
        assert_refused(nucleate("launch", campaign_file), port)
    assert_nothing_written(campaign_file)


def write_config(tmp_path, monkeypatch, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    monkeypatch.setenv("NUCLEATE_CONFIG", str(path))
    monkeypatch.setenv("NUCLEATE_STORE_TIMEOUT_SECONDS", "0.5")


def test_a_store_that_is_down(nucleate, campaign_file, monkeypatch, tmp_path):
    port = free_port()
    write_config(tmp_path, monkeypatch, f"stores: {{cluster: {{uri: 'mongodb://127.0.0.1:{port}/'}}}}\n")
    campaign_file.write_text(GOOD + "store: cluster\n")
    assert_refused(nucleate("launch", campaign_file), "store 'cluster'", f"127.0.0.1:{port}", "can't be reached")
    assert_refused(nucleate("status", "--campaign", "x", "--store", "cluster"), "can't be reached")
    assert_nothing_written(campaign_file)


def test_a_store_that_does_not_know_us_and_the_password_stays_secret(nucleate, campaign_file, uri_profile, monkeypatch):
    monkeypatch.setenv("CLUSTER_PASSWORD", "wr0ng-p4ss")
    campaign_file.write_text(GOOD + f"store: {uri_profile}\n")
    ran = nucleate("launch", campaign_file)
    assert_refused(ran, "refused user ada")
    assert "wr0ng-p4ss" not in ran.err
    monkeypatch.delenv("CLUSTER_PASSWORD")
    assert_refused(nucleate("launch", campaign_file), "CLUSTER_PASSWORD")
    assert_nothing_written(campaign_file)


def test_a_broken_configuration(nucleate, campaign_file, monkeypatch, tmp_path):
    write_config(tmp_path, monkeypatch, "stores: [")
    assert_refused(nucleate("launch", campaign_file), "config.yaml")
    write_config(tmp_path, monkeypatch, "colour: red\n")
    assert_refused(nucleate("launch", campaign_file), "colour")


def test_a_name_taken_by_another_spec(nucleate, campaign_file, store, tmp_path):
    first = nucleate("launch", campaign_file)
    assert first.code == 0, first.err
    again = nucleate("launch", campaign_file)
    assert (again.code, "nothing to do" in again.out) == (0, True)

    other = tmp_path / "other" / "campaign.yaml"
    other.parent.mkdir()
    other.write_text(GOOD + "seed: 7\n")
    jobs = store.database.fireworks.count_documents({})
    assert_refused(nucleate("launch", other), "'oxides'", "another spec", "choose another name")
    assert_nothing_written(other)
    assert store.database.fireworks.count_documents({}) == jobs
    assert campaigns(store) == 1


def test_a_directory_of_another_campaign(nucleate, campaign_file, tmp_path):
    other = tmp_path / "mine.yaml"
    other.write_text(GOOD.replace("oxides", "nitrides"))
    before = files_in(campaign_file.parent)
    assert_refused(nucleate("launch", other, "-C", campaign_file.parent), "another campaign's file")
    assert files_in(campaign_file.parent) == before


@pytest.fixture
def launched(nucleate, campaign_file, store):
    ran = nucleate("launch", campaign_file)
    assert ran.code == 0, ran.err
    return campaign_file.parent


def test_files_of_a_launched_campaign_that_were_spoilt(nucleate, launched):
    launchpad = launched / "my_launchpad.yaml"
    launchpad.chmod(0o644)
    assert_refused(nucleate("status", "-C", launched), "chmod 600")
    launchpad.chmod(0o600)
    launchpad.write_text("host: [")
    assert_refused(nucleate("status", "-C", launched), "corrupt")
    (launched / "campaign.yaml").write_text("name: [")
    assert_refused(nucleate("status", "-C", launched), "nucleate check")


def test_a_place_where_no_report_can_go(nucleate, launched, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    assert_refused(nucleate("report", "-C", launched, "-o", tmp_path / "thesis"), "not a report's")
    assert_refused(nucleate("report", "-C", launched, "-o", "/sys/report"), "/sys")
    assert_refused(nucleate("export", "-C", launched, "-f", "json", "-o", "/sys/x.json"), "/sys")
    assert files_in(tmp_path / "thesis") == {tmp_path / "thesis" / "chapter.tex": b"mine"}


def test_init_overwrites_nothing(nucleate, tmp_path):
    target = tmp_path / "New Oxides"
    assert nucleate("init", target).code == 0
    assert (target / "campaign.yaml").read_text() == template("new-oxides")
    (target / "campaign.yaml").write_text("mine")
    assert_refused(nucleate("init", target), "there already")
    assert (target / "campaign.yaml").read_text() == "mine"
    assert_refused(nucleate("init", "/sys/oxides"), "/sys/oxides")
    assert_refused(nucleate("init", tmp_path / "___"), "no name")


def test_what_nobody_foresaw_is_saved_not_shown(nucleate, launched, monkeypatch, tmp_path):
    def broken(*_args):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("workflows.monitor.status.campaign_status", broken)
    ran = nucleate("status", "-C", launched)
    assert_refused(ran, "RuntimeError: the sky fell", "the traceback is in")
    saved = next(word.rstrip(",") for word in ran.err.split() if word.rstrip(",").endswith(".txt"))
    assert "the sky fell" in Path(saved).read_text()
    assert Path(saved).stat().st_mode & 0o077 == 0
    Path(saved).unlink()


def test_an_interrupt_is_quiet(nucleate, launched, monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("workflows.monitor.status.campaign_status", interrupted)
    ran = nucleate("status", "-C", launched)
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "bad.yaml"], b"did you mean rounds?"),
        (["launch", "missing.yaml"], b"no such file"),
        (["status"], b"there is no campaign.yaml here"),
    ],
)
def test_the_installed_command_says_the_same(tmp_path, arguments, says):
    (tmp_path / "bad.yaml").write_text(GOOD.replace("rounds", "roundz"))
    ran = subprocess.run(
        [Path(sys.executable).parent / "nucleate", *arguments],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 2
    assert says in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert ran.stdout == b""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
