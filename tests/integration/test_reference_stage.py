"""Round 1 completes the reference set of a chemistry that nobody has computed, and later campaigns find it."""

from __future__ import annotations

from workflows import ledger
from workflows.reference_store import campaign_reference, user_directory


def test_round_1_completes_what_is_missing_before_it_samples(small, tmp_path, monkeypatch):
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(tmp_path / "data"))  # the user's own sets, apart from other tests
    asked = {"systems": ["Be-O"], "max_atoms": 4}
    campaign = small(chemistry=asked, rounds=1, samples=4, control=0, budget={"verifications": 1})
    assert campaign.launched.missing_reference == ("Be", "Be-O")  # oxygen ships with the package

    campaign.run_until("sample")
    stages = [a["stage"] for a in campaign.store.attempts.find({}).sort("started_at", 1)]
    assert stages == ["reference", "reference", "reference", "sample"]
    document = ledger.campaign_document(campaign.database, "small")["reference"]
    assert document["missing"] == []
    assert document["n_entries"] > 2
    assert document["covers"]
    reference = campaign_reference(campaign.database, campaign.store.files, "small")
    assert {"BeO", "Be", "O2"} <= {entry.formula for entry in reference.entries(("Be", "O"))}
    assert list(user_directory().glob("*.json.gz"))

    again = small(name="later", chemistry=asked, rounds=1, samples=4, control=0)
    assert again.launched.missing_reference == ()
