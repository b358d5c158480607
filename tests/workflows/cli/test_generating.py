"""``nucleate generator`` as a user runs it: tiny numbers, real files."""

from __future__ import annotations

import fcntl
import json
import re
import shutil

import pytest
import torch
from checkpoints import rewrite
from pymatgen.core import Lattice, Structure
from small_generators import Linear, Listed

from generators import registry
from generators.data.dataset import Dataset, Entry
from generators.learning import Epoch
from generators.symmetric.generator import shipped_checkpoint
from workflows.cli.generating_train import Losses, chart, parts_of

MG_O = ("--elements", "Mg,O")


def tetragonal(a: float, c: float) -> Structure:
    return Structure(Lattice.tetragonal(a, c), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def linear(monkeypatch):
    """Register a small model that can be trained."""
    entry = registry.Entry("linear", "small_generators:Linear", "a linear autoencoder of cells", trained=True)
    monkeypatch.setattr(registry, "ENTRIES", (*registry.ENTRIES, entry))


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
    assert f"trained linear in 0.0 minutes (0.0 of them in the networks); saved in {folder}" in said
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


def test_samples_go_on_after_an_interruption(nucleate, trained, monkeypatch, tmp_path):
    whole, into = tmp_path / "whole", tmp_path / "samples"
    assert nucleate("generator", "sample", trained[0], *MG_O, "-n", 5, "--output", whole).code == 0
    plain, asked = Linear.sample, []

    def interrupted(self, n, condition, seed, start=0):
        asked.append(start)
        for one in plain(self, n, condition, seed, start):
            if one.index == 3:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(Linear, "sample", interrupted)
    command = ("generator", "sample", trained[0], *MG_O, "-n", 5, "--output", into)
    ran = nucleate(*command)
    assert (ran.code, (into / "samples.extxyz").exists()) == (130, False)
    assert "the same command goes on" in ran.err
    monkeypatch.setattr(Linear, "sample", plain)
    with (into / "samples.jsonl").open("a") as rows:
        rows.write('{"index": 3, "formu')  # a kill in the middle of a line
    other = nucleate(*command, "--seed", 1)
    assert other.code == 2
    assert "holds the beginning of other samples (seed differ)" in other.err
    again = nucleate(*command, "--json")
    assert [row["index"] for row in json.loads(again.out)] == [0, 1, 2, 3, 4]
    for name in ("samples.extxyz", "samples.jsonl"):
        assert (into / name).read_bytes() == (whole / name).read_bytes()


def test_what_a_model_warns_of_is_said(nucleate, tmp_path):
    wanted = ("--property", "bulk_modulus>=5000", "-n", 1)
    ran = nucleate("generator", "sample", "symmetric", *MG_O, *wanted, "--output", tmp_path / "samples")
    assert ran.code == 0, ran.err
    assert "note: symmetric: no training crystal has bulk_modulus in the target" in ran.err


def test_a_training_with_other_settings_is_not_gone_on_with(nucleate, trained, data):
    command = ("generator", "train", "linear", "--data", data, "--output", trained[0])
    (trained[0] / "training" / "training.json").write_text("{}")  # as models with more than one step keep
    ran = nucleate(*command, "--epochs", 7)
    assert ran.code == 2
    assert "holds another training (epochs was 4, now 7); --fresh starts over" in ran.err
    assert nucleate(*command, "--epochs", 7, "--fresh").code == 0


@pytest.mark.parametrize("how", ["--resume", "--fresh"])
def test_two_trainings_do_not_share_a_folder(nucleate, linear, data, tmp_path, how):
    place = tmp_path / "model" / "training"
    place.mkdir(parents=True)
    (place / "training.json").write_text("{}")  # the other's
    with (place / "training.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = nucleate("generator", "train", "linear", "--data", data, "--output", tmp_path / "model", how)
    assert ran.code == 2
    assert f"another training is running in {place}" in ran.err
    assert sorted(p.name for p in place.iterdir()) == ["training.json", "training.lock"]


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


def test_latent_tells_a_program_what_it_wrote_and_what_lies_on_the_way(nucleate, trained, data, tmp_path):
    into = tmp_path / "look"
    ends = ("--from", "c0", "--to", "c3", "--steps", 3)
    ran = nucleate("generator", "latent", trained[0], "--data", data, "--output", into, *ends, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["files"] == [str(into / "index.html"), str(into / "latent.json")]
    assert sorted(path.name for path in into.iterdir()) == ["index.html", "latent.json"]
    assert (said["from"], said["to"], said["crystals"], said["color"]) == ("c0", "c3", 5, "formation_energy")
    assert [row["along"] for row in said["walk"]] == [0.0, 0.5, 1.0]
    assert all(row["formula"] == "MgO" and row["atoms"] == 2 and row["refused"] == [] for row in said["walk"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--color", "band_gap"), "no crystal of data set crystals has band_gap; it has formation_energy"),
        (("--from", "c", "--to", "c1"), "no crystal 'c'; did you mean 'c0' or 'c1' or 'c2' or 'c3' or 'c4'?"),
        (("--from", "MgO", "--to", "c1"), "no crystal 'MgO'; did you mean 'c0' or "),
        (("--from", "c1", "--to", "c44"), "no crystal 'c44'; did you mean 'c4'?"),
        (("--from", "NaCl", "--to", "c1"), "latent.json lists the labels that are on the map"),
    ],
)
def test_latent_says_what_the_data_has_instead(nucleate, trained, data, arguments, says, tmp_path):
    into = tmp_path / "look"
    ran = nucleate("generator", "latent", trained[0], "--data", data, "--output", into, *arguments)
    assert ran.code == 2
    assert says in ran.err.replace("\n", " ")
    assert not into.exists()


def test_latent_of_crystals_without_properties_has_no_colours(nucleate, trained, tmp_path):
    bare = tuple(Entry(f"b{i}", tetragonal(2.6 + 0.1 * i, 2.8), "p") for i in range(4))
    Dataset("bare", bare).write(tmp_path / "bare.extxyz")
    command = ("generator", "latent", trained[0], "--data", tmp_path / "bare.extxyz", "--output", tmp_path / "look")
    ran = nucleate(*command)
    assert ran.code == 0, ran.err
    assert "no property that could colour the map" in ran.out
    assert "coloured by <b>nothing: the data has no property</b>" in (tmp_path / "look" / "index.html").read_text()
    assert "no properties, so leave --color out" in nucleate(*command, "--color", "formation_energy").err


def test_a_cut_state_is_named_and_another_copy_asked_for(nucleate, trained, tmp_path):
    path = trained[0] / "generator.json"
    path.write_text(path.read_text()[:100])
    ran = nucleate("generator", "sample", trained[0], *MG_O, "--output", tmp_path / "out")
    said = ran.err.replace("\n", " ")
    assert (ran.code, f"{path} is damaged: it is no whole JSON" in said, "take another copy" in said) == (2, True, True)
    assert "Error(" not in said


def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(nucleate, tmp_path):
    shutil.copytree(shipped_checkpoint(), tmp_path / "model")
    rewrite(tmp_path / "model", lambda name, tensor: tensor * torch.nan if name.startswith("geometry.") else tensor)
    ran = nucleate("generator", "sample", tmp_path / "model", *MG_O, "--output", tmp_path / "out")
    assert ran.code == 2
    assert re.search(r"weights.safetensors is damaged: tensor geometry\.\S+ holds", ran.err.replace("\n", " "))


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
    assert re.search(r"random +2 +50 ± 29", ran.out)
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
    elsewhere = nucleate(*command[:3], "--elements", "Mg,Al", *command[5:])
    assert elsewhere.code == 2
    assert "holds a comparison on another condition" in elsewhere.err
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
        (("sample", "mixture", *MG_O), "mixture needs the option members, which can be given only in campaign.yaml"),
        (("sample", "vae", *MG_O), "train one with `nucleate generator train vae --output my-vae`"),
        (("sample", "symmetric", "--elements", "Al,Mg"), "symmetric: no crystal of Al-Mg with 2 elements, at most 8"),
        (("train", "random"), "random is not trained here; these are: symmetric"),
        (("sample", "random", "--systems", "Mg-O,Al-O"), "--systems Mg-O --systems Al-O"),
        (("compare", "symmetric", "--elements", "Pu,O"), "Pu is in no training crystal"),
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
