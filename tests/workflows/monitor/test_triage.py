"""Failures by cause: roots only, once each, with an example that leads to the evidence."""

import json

from workflows.monitor.selector import Selector, parse_causes
from workflows.monitor.triage import failures


def groups(scene, **parts):
    return {group.code: group for group in failures(scene.database, Selector(scene.name, **parts))}


def test_only_the_root_of_a_failing_chain_counts(scene):
    scene.attempt(1, "relax", "c1", state="failed", cause=501, evidence="300 steps")
    scene.attempt(1, "phonon", "c1", state="failed", cause=901)
    scene.attempt(1, "judge", "c1", state="completed")
    scene.verdict(1, "c1", cause=501)
    found = groups(scene)
    assert list(found) == [501]
    assert (found[501].count, found[501].stages) == (1, {"relax": 1})
    assert found[501].example.directory == "/launches/1"
    assert found[501].recoverable
    assert "more steps" in found[501].rerun_changes


def test_a_failure_that_was_run_again_and_worked_is_history(scene):
    job = scene.attempt(1, "relax", "c1", state="failed", cause=102)
    scene.attempt(1, "relax", "c1", state="completed", fw_id=job)
    scene.verdict(1, "c1")
    assert groups(scene) == {}


def test_candidates_that_are_not_judged_yet_and_jobs_of_the_round_count_too(scene):
    scene.attempt(1, "screen", state="failed", cause=202, evidence="No space left on device")
    scene.attempt(1, "relax", "c1", state="failed", cause=601)
    scene.verdict(1, "c2", cause=601)
    found = groups(scene)
    assert found[202].example.candidate is None
    assert found[202].example.evidence == "No space left on device"
    assert found[601].candidates == ("c1", "c2")
    assert not found[601].recoverable


def test_a_verified_candidate_whose_phonons_failed_carries_that_cause(scene):
    scene.attempt(1, "phonon", "c1", state="failed", cause=604)
    scene.verdict(1, "c1", cause=604, stage="phonon", verified=True)
    assert groups(scene)[604].example.verified


def test_the_most_frequent_come_first_and_the_selector_narrows(scene):
    for index in range(3):
        scene.verdict(1 + index % 2, f"c{index}", cause=501)
    scene.verdict(2, "c9", cause=602, stage="phonon")
    assert [g.code for g in failures(scene.database, Selector(scene.name))] == [501, 602]
    assert {code: g.count for code, g in groups(scene, rounds=(2,)).items()} == {501: 1, 602: 1}
    assert list(groups(scene, causes=parse_causes(["6xx"]))) == [602]
    assert list(groups(scene, stages=("phonon",))) == [602]
    assert groups(scene, candidates=("c1",))[501].candidates == ("c1",)


def test_reruns_that_a_bad_node_burnt_do_not_count(scene):
    job = scene.attempt(1, "relax", "c1", state="failed", cause=501)
    for burnt in (False, True):
        scene.rerun(1, "relax", "c1", cause=501, fw_id=job)
        scene.attempt(1, "relax", "c1", state="failed", cause=501, fw_id=job, set_aside=burnt)
    scene.attempt(1, "relax", "c2", state="failed", cause=501)
    assert (groups(scene)[501].count, groups(scene)[501].retried) == (2, 1)


def test_another_campaigns_failures_are_its_own(scene):
    scene.verdict(1, "c1", cause=501)
    scene.name = "nitrides"
    scene.verdict(1, "n1", cause=602)
    assert list(groups(scene)) == [602]


def test_it_is_json(scene):
    scene.verdict(1, "c1", cause=501)
    assert json.loads(json.dumps([g.as_dict() for g in groups(scene).values()]))[0]["example"]["evidence"] == "judged"
