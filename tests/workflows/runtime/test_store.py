from __future__ import annotations

import pytest
from fireworks import Firework, Workflow
from fireworks.user_objects.firetasks.script_task import PyTask
from pymongo.errors import DuplicateKeyError

from workflows.runtime.store import open_store, open_store_from_files


def test_the_same_key_is_written_once(store):
    store.campaigns.insert_one({"name": "oxides"})
    with pytest.raises(DuplicateKeyError):
        store.campaigns.insert_one({"name": "oxides"})


def test_opening_again_keeps_what_is_there(store):
    added = store.launchpad.add_wf(Workflow([Firework(PyTask(func="math.sqrt", args=[4]))]))
    with open_store("embedded") as again:
        assert again.launchpad.get_fw_ids() == list(added.values())
        assert list(again.launchpad.add_wf(Workflow([Firework(PyTask(func="math.sqrt", args=[4]))])).values()) == [2]


def test_an_uri_profile_works_with_password(uri_profile, tmp_path):
    with open_store(uri_profile) as store:
        store.launchpad.add_wf(Workflow([Firework(PyTask(func="math.sqrt", args=[4]))]))
        store.write_configs(tmp_path)
    with open_store_from_files(tmp_path) as store:
        assert store.launchpad.get_fw_ids() == [1]
        sha = store.files.put_bytes(b"state")
        assert store.files.get_bytes(sha) == b"state"
