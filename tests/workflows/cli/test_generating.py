"""``nucleate generator`` as a user runs it: tiny numbers, real files."""

from __future__ import annotations

import json
import re

import pytest
from pymatgen.core import Lattice, Structure
from small_generators import Linear, Listed

from generators import registry
from generators.data.dataset import Dataset, Entry
from generators.learning import Epoch
from workflows.cli.generating_train import Losses, chart, parts_of

MG_O = ("--elements", "Mg,O")


def tetragonal(a: float, c: float) -> Structure:
    return Structure(Lattice.tetragonal(a, c), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def linear(monkeypatch):
    """Register a small model that can be trained."""
    entry = registry.Entry("linear", "small_generators:Linear", "a linear autoencoder of cells")
    monkeypatch.setattr(registry, "ENTRIES", (*registry.ENTRIES, entry))
    monkeypatch.setattr("generators.comparison.ENTRIES", registry.ENTRIES)


@pytest.fixture
def data(tmp_path):
    entries = [
        Entry(f"c{i}", tetragonal(a, c), f"p{i % 3}", properties={"formation_energy": -1.0 - 0.1 * i})
        for i, (a, c) in enumerate([(2.6, 2.6), (2.8, 2.6), (2.6, 3.1), (2.9, 3.2), (3.0, 2.7)])
    ]
    path = tmp_path / "crystals.extxyz.gz"
    Dataset("crystals", tuple(entries)).write(path)
    return path


@pytest.fixture
def trained(nucleate, linear, data, tmp_path):
    ran = nucleate("generator", "train", "linear", "--data", data, "--output", tmp_path / "model", "--epochs", 4)
    assert ran.code == 0, ran.err
    return tmp_path / "model", ran.out


def test_list_tells_what_is_trained(nucleate, linear):
    ran = nucleate("generator", "list", "--json")
    rows = {row["name"]: row for row in json.loads(ran.out)}
    assert rows["random"]["trained"] == rows["ion_exchange"]["trained"] == "baseline"
    assert rows["linear"]["trained"] == "no"
    assert rows["linear"]["conditions_on"] == []
    assert re.search(r"linear +no +– +a linear autoencoder", nucleate("generator", "list").out)


def test_train_prints_its_losses_and_saves_the_state(trained):
    folder, said = trained
    assert "linear: 5 crystals of data set crystals" in said
    assert "epoch    1  training" in said
    assert re.search(r"held-out loss [\d.]+ to [\d.]+  █\S*  epoch 4 of 4 kept; all epochs done", said)
    assert f"trained linear in 0.0 minutes; saved in {folder}" in said
    assert (folder / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert Linear.load(folder).training["best"] == 4


def test_fresh_forgets_a_training_but_nothing_else(nucleate, linear, data, tmp_path):
    place = tmp_path / "model" / "training"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    command = ("generator", "train", "linear", "--data", data, "--output", tmp_path / "model", "--epochs", 2)
    ran = nucleate(*command, "--fresh")
    assert (ran.code, (place / "notes.txt").exists()) == (2, True)
    (place / "notes.txt").rename(place / "training.json")
    assert nucleate(*command, "--fresh").code == 0
    assert not (place / "training.json").exists()


def test_sample_writes_crystals_that_can_be_read_again(nucleate, trained, tmp_path):
    folder, _ = trained
    into = tmp_path / "samples"
    ran = nucleate("generator", "sample", folder, *MG_O, "-n", 3, "--output", into, "--json")
    rows = json.loads(ran.out)
    assert [row["formula"] for row in rows] == ["MgO"] * 3
    assert Structure.from_file(into / rows[0]["file"]).composition.reduced_formula == "MgO"
    assert (into / "samples.extxyz").read_text().count("Lattice=") == 3
    again = nucleate("generator", "sample", folder, *MG_O, "-n", 3, "--output", into)
    assert again.code == 2
    assert "name a directory without samples" in again.err
    same = json.loads(
        nucleate("generator", "sample", folder, *MG_O, "-n", 3, "--output", tmp_path / "twin", "--json").out
    )
    assert [row["seed"] for row in same] == [row["seed"] for row in rows]
    assert (tmp_path / "twin" / "samples.extxyz").read_bytes() == (into / "samples.extxyz").read_bytes()


def test_a_target_that_is_ignored_is_named(nucleate, trained, tmp_path):
    wanted = ("--property", "bulk_modulus>=120", "-n", 1)
    ran = nucleate("generator", "sample", trained[0], *MG_O, *wanted, "--output", tmp_path / "samples")
    assert "does not condition on bulk_modulus" in ran.out


def test_latent_draws_a_map_and_a_walk(nucleate, trained, data, tmp_path):
    into = tmp_path / "look"
    ran = nucleate("generator", "latent", trained[0], "--data", data, "--output", into, "--from", "c0", "--to", "c3")
    assert ran.code == 0, ran.err
    assert "5 crystals in 2 dimensions; a walk from c0 to c3, 7 of 7 valid" in ran.out
    document = json.loads((into / "latent.json").read_text())
    assert [p["label"] for p in document["points"]] == ["c0", "c1", "c2", "c3", "c4"]
    page = (into / "index.html").read_text()
    assert page.count('<circle class="class-') + page.count('class="class-') >= 5
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_evaluate_and_compare_write_table_json_and_page(nucleate, trained, monkeypatch, tmp_path):
    # The baselines' and the hull's own tests use the library, which takes long to load: here both are small.
    from generators.evaluation import Familiar, Hull, Phase

    hull = Hull([Phase(e, Structure(Lattice.cubic(3), [e], [[0, 0, 0]]), -2.0) for e in ("Mg", "O")])
    monkeypatch.setattr("generators.evaluation.run.build_hull", lambda *_, **__: hull)
    monkeypatch.setattr("generators.evaluation.run.familiar", lambda *_: Familiar([], "nothing"))
    listed = {name: Listed([tetragonal(2.7, 2.7 + 0.1 * i)], name) for i, name in enumerate(("random", "ion_exchange"))}
    monkeypatch.setattr("generators.comparison.make_generator", listed.__getitem__)
    monkeypatch.setattr("workflows.cli.generating_compare.shipped_if_there", lambda: None)
    into = tmp_path / "comparison"
    command = ("generator", "compare", trained[0], *MG_O, "-n", 2, "--output", into, "--no-second-opinion")
    ran = nucleate(*command, "--max-steps", 40)
    assert ran.code == 0, ran.err
    assert re.search(r"random +2 +50 ± 35", ran.out)
    assert "relax: random, 1 of 1" in ran.err
    document = json.loads((into / "comparison.json").read_text())
    assert [row["label"] for row in document["rows"]] == [
        str(trained[0]),
        "random",
        "ion_exchange",
        "symmetric, untrained",
    ]
    page = (into / "index.html").read_text()
    assert "Generators compared" in page
    assert "ion_exchange" in page
    before = (into / "cache" / "results.jsonl").read_bytes()
    again = nucleate(*command, "--max-steps", 40, "--json")
    assert json.loads(again.out)["rows"][1]["shares"] == document["rows"][1]["shares"]
    assert (into / "cache" / "results.jsonl").read_bytes() == before
    alone = nucleate("generator", "evaluate", "random", *MG_O, "-n", 1, "--output", tmp_path / "one", "--json")
    assert [row["label"] for row in json.loads(alone.out)["rows"]] == ["random"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sample", "nosuch", *MG_O), "neither a folder nor a name; generators are symmetric, "),
        (("sample", "random"), "give --elements such as Mg,Al,O, or --systems"),
        (("sample", "random", "--elements", "Mg,Xx"), "Xx is no element"),
        (("sample", "random", "--elements", "Mg"), "can't be made of Mg"),
        (("sample", "random", *MG_O, "--systems", "Mg-O"), "one of the two"),
        (("sample", "random", *MG_O, "--property", "hardness>=3"), "hardness is unknown; known are"),
        (("sample", "random", *MG_O, "--property", "bulk_modulus=3"), "write one such as 'bulk_modulus>=120'"),
        (("sample", "random", *MG_O, "--property", "bulk_modulus>=1.2.3"), "is no target"),
        (
            ("sample", "random", *MG_O, "--property", "band_gap>=3", "--property", "band_gap<=1"),
            "can't be above 3 and below 1",
        ),
        (("sample", "random", *MG_O, "--neutrality", "loose"), "strict, permissive, off"),
        (("sample", "mixture", *MG_O), "mixture needs the option members"),
        (("train", "random"), "random is not trained here; these are: symmetric"),
        (("train", "nosuch"), "no generator is called 'nosuch'"),
        (("train", "linear", "--data", "nosuch.extxyz"), "nosuch.extxyz: no such file"),
        (("train", "linear", "--split-by", "row"), "--split-by is prototype or chemistry"),
        (("train", "linear", "--property", "hardness"), "hardness is unknown"),
        (("compare", "nosuch", *MG_O), "neither a folder nor a name"),
        (("compare", *MG_O, "--data", "nosuch.extxyz"), "no such file"),
        (("latent", "random"), "random has no latent space"),
        (("latent", "random", "--from", "a"), "belong together"),
        (("latent", "random", "--color", "hue"), "hue is unknown"),
    ],
)
def test_what_can_not_be_is_refused_in_one_message(nucleate, linear, arguments, says, tmp_path):
    ran = nucleate("generator", *arguments, "--output", tmp_path / "out")
    assert ran.code == 2
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_named(nucleate, tmp_path):
    path = tmp_path / "taken"
    path.write_text("")
    ran = nucleate("generator", "compare", *MG_O, "--output", path)
    assert (ran.code, f"{path} is a file" in ran.err) == (2, True)


def test_each_network_has_a_curve_of_its_own(capsys):
    losses = Losses()
    for number, held_out in [(1, 2.0), (2, 1.0), (3, 1.5), (1, 9.0), (2, 8.0)]:
        losses(Epoch(number, held_out, held_out, 0.1, 8))
    assert [len(part.points) for part in parts_of(None, losses)] == [3, 2]
    assert [part.best for part in parts_of({}, losses)] == [2, 2]
    assert "network 2  epoch    1" in capsys.readouterr().out
    whole = {"epochs": [[1, 2.0, 3.0, 0.1, 8]], "best": 1, "ending": "early"}
    assert parts_of({"curves": whole, "sizes": {}}, losses) == parts_of(whole, losses)
    own = {"letters": {"epochs": [[1, 2.0, 3.0, 0.1, 8]], "best": 1, "ending": "early"}, "none": {"epochs": []}}
    assert [part[:3] for part in parts_of({"curves": own}, losses)] == [("letters", [(1, 2.0, 3.0)], 1)]


def test_a_chart_falls_as_its_numbers_do():
    assert chart([4.0, 3.0, 2.0, 1.0]) == "█▆▃▁"
    assert len(chart(list(range(1000)))) == 60
    assert chart([2.0, 2.0]) == "▁▁"
    assert chart([]) == ""
