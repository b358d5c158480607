import json
import math

from workflows.report.collect import collect
from workflows.report.json_report import report_json

ROUND = {
    "number", "sampled", "valid", "unique", "novel", "selected", "verified", "stable", "hits", "failures", "control",
}  # fmt: skip
VERDICT = {
    "candidate", "round", "formula", "spacegroup", "energy_above_hull", "reference_set", "phonon_min_thz",
    "phonon_judgement", "properties", "stable", "hit", "cause", "engine", "protocol", "provenance",
}  # fmt: skip
PROVENANCE = {
    "generator", "generator_version", "generator_state", "seed", "engine", "protocol", "settings_sha256", "software",
    "parent_jobs", "reproduce", "reference_sha256", "spec_sha256", "launches",
}  # fmt: skip


def refuse(constant):
    raise AssertionError(constant)


def test_keys_are_the_promised_ones_and_numbers_those_of_the_database(database):
    report = json.loads(report_json(collect(database, "light")), parse_constant=refuse)
    assert {"campaign", "spec", "rounds", "verdicts"} <= set(report)
    assert report["campaign"] == "light"
    assert report["spec"]["targets"]["bulk_modulus"] == {"min": 150, "max": None, "unit": "GPa"}
    assert all(set(r) >= ROUND for r in report["rounds"])
    assert all(set(v) >= VERDICT for v in report["verdicts"])
    first, second = report["rounds"]
    assert [first[k] for k in ("sampled", "verified", "stable", "hits", "failures")] == [12, 7, 4, 3, 1]
    assert first["control"] is None
    assert second["control"]["sampled"] == 4
    by_id = {v["candidate"]: v for v in report["verdicts"]}
    stored = database["verdicts"].find_one({"candidate": "light-r01-0001"})
    found = by_id["light-r01-0001"]
    assert found["energy_above_hull"] == stored["energy_above_hull_ev_per_atom"] == 0.0121
    assert found["properties"]["bulk_modulus"]["value"] == 193.75
    assert found["properties"]["bulk_modulus"]["unit"] == "GPa"
    assert (found["stable"], found["hit"], found["phonon_judgement"], found["cause"]) == (True, True, "stable", None)
    assert by_id["light-r01-0007"]["cause"]["code"] == 501
    assert set(found["provenance"]) >= PROVENANCE
    assert found["provenance"]["launches"][0]["fw_id"] == 41


def test_what_is_not_a_number_becomes_null(database):
    database["verdicts"].update_one(
        {"candidate": "light-r01-0001"},
        {"$set": {"phonon.min_thz": math.nan, "properties.bulk_modulus.value": math.inf}},
    )
    report = json.loads(report_json(collect(database, "light")), parse_constant=refuse)
    found = next(v for v in report["verdicts"] if v["candidate"] == "light-r01-0001")
    assert found["phonon_min_thz"] is None
    assert found["properties"]["bulk_modulus"]["value"] is None
