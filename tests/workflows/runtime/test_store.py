from __future__ import annotations

import json
import os
import secrets
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fireworks import Firework, Workflow
from fireworks.user_objects.firetasks.script_task import PyTask
from pymongo.errors import DuplicateKeyError

from workflows import records
from workflows.runtime.settings import StoreError, load_settings
from workflows.runtime.store import open_store, open_store_from_files

ROOT = Path(__file__).parents[3]


def work():
    return Workflow([Firework(PyTask(func="math.sqrt", args=[4]), spec={"nucleate": {"campaign": "oxides"}})])


def test_every_key_is_written_once(store):
    for collection, keys in records.UNIQUE_KEYS.items():
        for key in keys:
            store.database[collection].insert_one(dict.fromkeys(key, "x"))
            with pytest.raises(DuplicateKeyError):
                store.database[collection].insert_one(dict.fromkeys(key, "x"))


def test_all_indexes_are_there(store):
    for keys in (records.UNIQUE_KEYS, records.QUERY_KEYS):
        for collection, wanted in keys.items():
            found = {tuple(k for k, _ in i["key"]) for i in store.database[collection].index_information().values()}
            assert set(wanted) <= found
    fireworks = {i["key"][0][0] for i in store.launchpad.fireworks.index_information().values()}
    assert set(records.USER_INDICES) <= fireworks


def test_opening_again_keeps_what_is_there(store):
    added = store.launchpad.add_wf(work())
    with open_store("embedded") as again:
        assert again.launchpad.get_fw_ids() == list(added.values()) == [1]
        assert list(again.launchpad.add_wf(work()).values()) == [2]


def test_config_files_are_private_and_work_for_the_incumbents_own_tools(store, tmp_path):
    store.launchpad.add_wf(work())
    store.jobstore.update({"uuid": "u", "index": 1, "output": 42})
    store.write_configs(tmp_path)
    for name in ("my_launchpad.yaml", "jobflow.yaml"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert {p.name for p in tmp_path.iterdir()} == {"my_launchpad.yaml", "jobflow.yaml"}
    lpad = [Path(sys.executable).with_name("lpad"), "-l", tmp_path / "my_launchpad.yaml"]
    query = json.dumps({"spec.nucleate.campaign": "oxides"})
    listed = subprocess.run([*lpad, "get_fws", "-q", query, "-d", "ids"], capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == "1"
    code = (
        "from jobflow import SETTINGS; s = SETTINGS.JOB_STORE; s.connect(); print(s.get_output('u'), "
        "type(s.additional_stores['data']).__name__)"
    )
    environment = {**os.environ, "JOBFLOW_CONFIG_FILE": str(tmp_path / "jobflow.yaml")}
    loaded = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["42", "GridFSStore"]


def test_workers_open_what_the_files_name(store, tmp_path, monkeypatch):
    store.launchpad.add_wf(work())
    store.write_configs(tmp_path)
    # A worker has the files, not the launching command's environment.
    monkeypatch.setenv("NUCLEATE_EMBEDDED_DATABASE", "another")
    with open_store_from_files(tmp_path) as opened:
        assert opened.profile == "embedded"
        assert opened.database.name == store.database.name
        assert opened.launchpad.get_fw_ids() == [1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.chmod(0o644), "open to others; run: chmod 600"),
        (lambda p: p.write_text("[nonsense"), "corrupt"),
        (lambda p: p.write_text("host: localhost\n"), "corrupt"),
        (lambda p: p.unlink(), "does not exist"),
    ],
)
def test_spoilt_files_are_one_clear_message(store, tmp_path, spoil, says):
    store.write_configs(tmp_path)
    spoil(tmp_path / "my_launchpad.yaml")
    with pytest.raises(StoreError, match=says):
        open_store_from_files(tmp_path)


def test_files_that_can_not_be_written_leave_nothing_behind(store, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        store.write_configs(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_an_output_of_more_than_16_mb_fits(store):
    big = secrets.token_hex(10_000_000)
    store.jobstore.update({"uuid": "u", "index": 1, "output": {"data": big}}, save={"data": "data"})
    assert store.jobstore.query_one({"uuid": "u"})["output"]["data"]["blob_uuid"]
    assert store.jobstore.get_output("u", load=True)["data"] == big


def test_a_generator_state_goes_through_the_store(store, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "weights.safetensors").write_bytes(os.urandom(18_000_000))
    (state / "config.json").write_text("{}")
    sha256 = store.files.put_directory(state)
    assert store.files.put_directory(state) == sha256
    store.files.get_directory(sha256, tmp_path / "back")
    assert (tmp_path / "back" / "weights.safetensors").read_bytes() == (state / "weights.safetensors").read_bytes()
    # Stored once, and no job's removal takes it along.
    assert store.database["outputs_blobs.files"].count_documents({}) == 1


def test_an_uri_profile_works_through_and_through(uri_profile, tmp_path):
    with open_store(uri_profile) as store:
        store.launchpad.add_wf(work())
        store.write_configs(tmp_path)
        sha256 = store.files.put_bytes(b"state")
    with open_store_from_files(tmp_path) as store:
        assert store.launchpad.get_fw_ids() == [1]
        assert store.files.get_bytes(sha256) == b"state"
        store.jobstore.update({"uuid": "u", "index": 1, "output": 42})
        assert store.jobstore.get_output("u") == 42
    lpad = [Path(sys.executable).with_name("lpad"), "-l", tmp_path / "my_launchpad.yaml", "get_fws", "-d", "count"]
    assert subprocess.run(lpad, capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_credentials_may_stand_in_the_uri_or_in_a_file(daemon, tmp_path, monkeypatch):
    password = tmp_path / "password"
    password.write_text(daemon.password)
    password.chmod(0o600)
    with_credentials = daemon.uri.replace("://", f"://{daemon.username}:{daemon.password}@")
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "stores": {
                    "in-uri": {"uri": with_credentials, "database": "test_uri"},
                    "in-file": {
                        "uri": daemon.uri,
                        "database": "test_uri",
                        "username": daemon.username,
                        "password_file": str(password),
                    },
                }
            }
        )
    )
    monkeypatch.setenv("NUCLEATE_CONFIG", str(config))
    for name in ("in-uri", "in-file"):
        with open_store(name) as store:
            store.rounds.delete_many({})
            store.rounds.insert_one({"campaign": name, "round": 1})
            assert store.rounds.count_documents({}) == 1
            shown = [repr(store), str(store), repr(store.address), repr(store.launchpad), repr(store.jobstore)]
            shown += [store.jobstore.name, store.jobstore.docs_store.name, repr(store.launchpad.connection)]
            assert not [s for s in shown if daemon.password in s]


def test_a_wrong_password_is_one_clear_message_without_it(uri_profile, daemon, monkeypatch):
    monkeypatch.setenv("CLUSTER_PASSWORD", "s3cret")
    with pytest.raises(StoreError) as refused:
        open_store(uri_profile)
    assert f"refused user {daemon.username}" in refused.value.message
    assert "s3cret" not in refused.value.message
    assert refused.value.__suppress_context__
    monkeypatch.delenv("CLUSTER_PASSWORD")
    with pytest.raises(StoreError, match="CLUSTER_PASSWORD"):
        open_store(uri_profile)


def test_a_store_that_is_down_is_one_clear_message(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "config.yaml").write_text(f"stores: {{down: {{uri: 'mongodb://ada:s3cret@127.0.0.1:{port}/'}}}}")
    monkeypatch.setenv("NUCLEATE_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("NUCLEATE_STORE_TIMEOUT_SECONDS", "0.5")
    with pytest.raises(StoreError, match=f"'down' at mongodb://127.0.0.1:{port}/ can't be reached") as refused:
        open_store("down")
    assert "s3cret" not in str(refused.value)
    with pytest.raises(StoreError, match="known: down, embedded"):
        open_store("up", load_settings())


def test_no_credential_gets_into_the_database(store, tmp_path, monkeypatch):
    from jobflow import Flow, job
    from jobflow.managers.fireworks import flow_to_workflow

    store.write_configs(tmp_path)
    store.launchpad.add_wf(flow_to_workflow(Flow([job(abs)(-1)])))
    worker = [Path(sys.executable).with_name("rlaunch"), "-s", "-l", tmp_path / "my_launchpad.yaml", "singleshot"]
    environment = {**os.environ, "JOBFLOW_CONFIG_FILE": str(tmp_path / "jobflow.yaml")}
    subprocess.run(worker, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert [d["output"] for d in store.jobstore.query({})] == [1]
    password = store.address.password.get_secret_value()
    for name in store.database.list_collection_names():
        for document in store.database[name].find():
            assert password not in str(document), name


def test_nothing_is_lost_or_doubled_while_the_server_is_killed():
    script = [sys.executable, ROOT / "benchmarks" / "store_durability.py"]
    options = ["--processes", "3", "--adds", "20", "--jobs", "24", "--kills", "2"]
    ran = subprocess.run([*script, *options], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("killed 2 times") == 2, ran.stdout
    assert "nothing lost, nothing doubled" in ran.stdout
