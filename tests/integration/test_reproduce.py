"""Any crystal of a report can be made again from what its provenance names."""

from __future__ import annotations

import json

import pytest

from workflows.cli.main import run


@pytest.fixture
def finished(small):
    campaign = small(
        chemistry={"systems": ["Mg-O"], "max_atoms": 6}, rounds=1, samples=6, control=0, budget={"verifications": 1}
    )
    campaign.run()
    return campaign


def test_a_verified_crystal_is_reproduced_by_its_command(finished, capsys):
    (verdict,) = finished.database.verdicts.find({"verified": True})
    words = verdict["provenance"]["reproduce"].split()
    assert words[:2] == ["nucleate", "reproduce"]
    capsys.readouterr()
    assert run([*words[1:], "-C", str(finished.directory), "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in steps] == ["sample", "prerelax", "relax"]
    assert all(step["same"] for step in steps)


def test_a_changed_record_is_told_from_the_crystal_made_again(finished, capsys):
    (verdict,) = finished.database.verdicts.find({"verified": True})
    finished.database.candidates.update_one({"candidate": verdict["candidate"]}, {"$inc": {"seed": 1}})
    assert run(["reproduce", verdict["candidate"], "-C", str(finished.directory)]) == 1
    assert "DIFFERENT" in capsys.readouterr().out


def test_an_unknown_candidate_is_refused(finished, capsys):
    assert run(["reproduce", "small-r09-0001", "-C", str(finished.directory)]) == 2
    assert "small-r09-0001" in capsys.readouterr().err
