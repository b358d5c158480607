"""The commands on a launched campaign, with results as the stages would have left them."""

import json
import shutil

import pytest
from pymatgen.core import Lattice, Structure

from generators.symmetric.generator import shipped_checkpoint
from workflows.generator_states import load_state
from workflows.records import Attempt, Cause, PhononResult, PropertyResult, Verdict, now

SPEC = """\
# my own words
name: oxides
chemistry: {systems: [Mg-O], max_elements: 2}
targets: {bulk_modulus: {min: 100, unit: GPa}}
samples: 4
rounds: 1
"""
MGO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def verdict(index, **more):
    return Verdict(
        **{
            "candidate": f"oxides-r01-000{index}",
            "campaign": "oxides",
            "round": 1,
            "formula": "MgO",
            "structure": MGO.as_dict(),
            "energy_ev_per_atom": -5.9,
            "energy_above_hull_ev_per_atom": 0.01 * index,
            "phonon": PhononResult(judgement="stable", min_thz=1.0),
            "properties": {"bulk_modulus": PropertyResult(value=150.0 + index, unit="GPa")},
            "verified": True,
            "stable": True,
            "hit": True,
            "engine": "mlip",
            "protocol": "fast",
        }
        | more
    ).model_dump()


@pytest.fixture
def campaign(nucleate, store, tmp_path):
    path = tmp_path / "oxides.yaml"
    path.write_text(SPEC)
    ran = nucleate("launch", path)
    assert ran.code == 0, ran.err
    assert "next: nucleate work -C" in ran.out
    cause = Cause(code=501, name="ionic_steps_exhausted", evidence="300 steps", stage="relax")
    failed = verdict(3, verified=False, stable=False, hit=False, cause=cause, structure=None)
    store.database.verdicts.insert_many([verdict(1), verdict(2), failed])
    return tmp_path / "oxides"


def test_launched_watched_and_taken_home(nucleate, campaign, store, monkeypatch):
    # One launch serves all of this: it is what takes time.
    assert (campaign / "campaign.yaml").read_text() == SPEC
    assert sorted(path.name for path in campaign.iterdir()) == ["campaign.yaml", "jobflow.yaml", "my_launchpad.yaml"]
    assert (campaign / "my_launchpad.yaml").stat().st_mode & 0o077 == 0

    ran = nucleate("status", "-C", campaign)
    assert ran.code == 0
    assert "waiting: no worker is on it" in ran.out
    assert "nucleate submit -C" in ran.out
    assert "sample" in ran.out
    assert nucleate("status", "--campaign", "oxides").out == ran.out
    told = json.loads(nucleate("status", "-C", campaign, "--json").out)
    assert (told["campaign"], told["state"], told["totals"]["hits"]) == ("oxides", "idle", 2)

    ran = nucleate("failures", "-C", campaign)
    assert "501 ionic_steps_exhausted" in ran.out
    assert "300 steps" in ran.out
    (group,) = json.loads(nucleate("failures", "-C", campaign, "--json").out)
    assert group["candidates"] == ["oxides-r01-0003"]
    assert nucleate("failures", "-C", campaign, "--cause", "6xx").out == "Nothing failed.\n"

    ran = nucleate("report", "-C", campaign, "-o", "out")
    assert ran.code == 0, ran.err
    assert (campaign.parent / "home/out/index.html").is_file()
    assert len(list((campaign.parent / "home/out/hits").iterdir())) == 2
    assert json.loads(nucleate("report", "-C", campaign, "-o", "out", "--json").out)["campaign"] == "oxides"

    for form, target in (("cif", "oxides-hits"), ("extxyz", "oxides-hits.extxyz"), ("json", "oxides-hits.json")):
        ran = nucleate("export", "-C", campaign, "--format", form)
        assert ran.out == f"wrote 2 crystals to {target}\n"
    query = '{"bulk_modulus": {"$gt": 151.5}}'
    told = json.loads(
        nucleate("export", "-C", campaign, "-f", "json", "-o", "one.json", "--query", query, "--json").out
    )
    assert told["candidates"] == ["oxides-r01-0002"]
    ran = nucleate("export", "-C", campaign, "--query", '{"bulk_modulus": {"$gt": 1000}}')
    assert (ran.code, "nothing was written" in ran.err) == (2, True)

    ran = nucleate("reconcile", "-C", campaign, "--dry-run")
    assert (ran.code, ran.out) == (0, "nothing to mend\n")

    screen = store.database.fireworks.find_one({"spec.nucleate.stage": "screen"})
    store.database.fireworks.update_one({"fw_id": screen["fw_id"]}, {"$set": {"state": "FIZZLED"}})
    attempt = Attempt(
        attempt="fw1-l1",
        campaign="oxides",
        round=1,
        candidate=None,
        stage="screen",
        fw_id=screen["fw_id"],
        launch_id=1,
        state="failed",
        started_at=now(),
        cause=Cause(code=202, name="disk_full", evidence="No space left on device"),
    )
    store.database.attempts.insert_one(attempt.model_dump())
    with monkeypatch.context() as meanwhile:
        meanwhile.chdir(campaign)
        ran = nucleate("status")
    assert (ran.code, "nucleate rerun --round 1 --stage screen --yes" in ran.out) == (1, True)
    assert "202 disk_full" in nucleate("failures", "-C", campaign).out


def test_check_says_what_a_campaign_will_do(nucleate, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(SPEC + "budget: {verifications: 50}\n")
    ran = nucleate("check", path)
    assert ran.code == 0
    assert "1 round of 4 samples, up to 4 verified in each" in ran.out
    assert "bulk modulus at least 100 GPa" in ran.out
    assert "warning: line 7: budget.verifications = 50" in ran.out
    told = json.loads(nucleate("check", path, "--json").out)
    assert (told["ok"], told["problems"][0]["line"]) == (True, 7)

    path.write_text(SPEC.replace("rounds: 1", "rounds: 0"))
    ran = nucleate("check", path, "--json")
    errors = [problem["key"] for problem in json.loads(ran.out)["problems"] if problem["level"] == "error"]
    assert (ran.code, errors) == (2, ["rounds"])


def test_reference_show_and_server_status(nucleate):
    told = json.loads(nucleate("reference", "show", "Zr-Te", "--json").out)
    assert told["missing"] == ["Te", "Zr", "Te-Zr"]
    assert told["key"].startswith("mlip:")
    ran = nucleate("reference", "show", "Zr-Tee")
    assert (ran.code, "no element" in ran.err) == (2, True)
    ran = nucleate("reference", "show", "--engine", "nope")
    assert (ran.code, "unknown engine" in ran.err) == (2, True)
    assert set(json.loads(nucleate("server", "status", "--json").out)) >= {"running", "port", "label"}


def test_a_launched_copy_tells_where_its_known_crystals_are(nucleate, store, tmp_path):
    MGO.to(str(tmp_path / "mine.cif"), fmt="cif")
    path = tmp_path / "oxides.yaml"
    path.write_text(SPEC + "known: [mine.cif]\n")
    assert nucleate("launch", path).code == 0
    assert store.database.campaigns.find_one({"name": "oxides"})["known"]["n"] == 1
    copy = (tmp_path / "oxides" / "campaign.yaml").read_text()
    assert copy.startswith(f"# A copy of {path}")
    assert copy.endswith(path.read_text())
    assert "nothing to do" in nucleate("launch", path).out


def test_paths_in_options_of_generators_start_at_the_campaigns_file(nucleate, store, tmp_path):
    shutil.copytree(shipped_checkpoint(), tmp_path / "models" / "mine")
    path = tmp_path / "oxides.yaml"
    mix = "generator: [{{name: symmetric, options: {{checkpoint: {}}}}}, {{name: folder, options: {{path: ours}}}}]\n"
    path.write_text(SPEC + mix.format("models/gone"))
    gone = nucleate("check", path)  # the working directory is another one
    assert gone.code == 2
    assert f"{tmp_path / 'models' / 'gone'} is no checkpoint: there is no such folder" in gone.err.replace("\n", " ")
    path.write_text(SPEC + mix.format("models/mine"))
    assert nucleate("check", path).code == 0
    ran = nucleate("launch", path)
    assert ran.code == 0, ran.err
    stored = store.database.campaigns.find_one({"name": "oxides"})
    assert load_state(store.files, stored["initial_state"]).members[1].path == str(tmp_path / "ours")
    assert stored["spec"]["generator"][0]["options"] == {"checkpoint": "models/mine"}  # the same wherever it lies
    assert (tmp_path / "oxides" / "campaign.yaml").read_text().startswith(f"# A copy of {path}")
    assert "nothing to do" in nucleate("launch", path).out
