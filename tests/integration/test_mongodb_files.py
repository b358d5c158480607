"""The files under deploy/mongodb, as far as they can be shown without Docker: what is hardened, what scripts do."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FILES = Path(__file__).parents[2] / "deploy" / "mongodb"
NODE, SHELLCHECK = shutil.which("node"), shutil.which("shellcheck")


def compose() -> dict:
    return yaml.safe_load((FILES / "compose.yaml").read_text())


def test_the_server_is_hardened_and_on_loopback_unless_told_otherwise():
    server = compose()["services"]["mongodb"]
    assert server["ports"] == ["${LISTEN:-127.0.0.1}:27017:27017"]
    assert server["read_only"] is True
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert server["cap_drop"] == ["ALL"]
    assert server["user"].partition(":")[0] not in {"0", "root"}
    assert "privileged" not in server
    assert {"mem_limit", "pids_limit", "cpus"} <= server.keys()
    words = server["command"].split()
    assert "--auth" in words
    assert words[words.index("--keyFile") + 1] == "/run/secrets/keyfile"
    assert words[words.index("--replSet") + 1] == "nucleate"


def test_every_file_and_secret_that_compose_names_is_there_or_made(tmp_path):
    document = compose()
    server = document["services"]["mongodb"]
    for volume in server["volumes"]:
        source = volume.partition(":")[0]
        assert source in document["volumes"] or source == "./tls" or (FILES / source).is_file(), volume
    made = tmp_path / "secrets"
    done = subprocess.run([FILES / "secrets.sh", made], capture_output=True, text=True, check=True)
    assert {path.name for path in made.iterdir()} == set(document["secrets"]) == set(server["secrets"])
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o400}
    assert made.stat().st_mode & 0o777 == 0o700
    assert len((made / "keyfile").read_text()) <= 1024
    passwords = {path.name: path.read_text() for path in made.iterdir()}
    assert len(set(passwords.values())) == len(passwords)
    assert not any(password in done.stdout + done.stderr for password in passwords.values())
    subprocess.run([FILES / "secrets.sh", made], capture_output=True, check=True)
    assert {path.name: path.read_text() for path in made.iterdir()} == passwords  # never made anew


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not there")
def test_shellcheck_has_nothing_to_say():
    done = subprocess.run([SHELLCHECK, *FILES.glob("*.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


STAND_IN = """
const [setup, known] = [process.argv[2], JSON.parse(process.argv[3])];
const calls = [];
const base = (name) => ({
  getSiblingDB: base, getRole: () => known || null, getUser: () => known || null,
  createRole: (r) => calls.push(["createRole", name, r.role, r]),
  updateRole: (role, r) => calls.push(["updateRole", name, role, r]),
  createUser: (u) => calls.push(["createUser", name, u.user, u]),
  updateUser: (user, u) => calls.push(["updateUser", name, user, u]),
});
const load = (path) => path;
require("fs").readFileSync_ = require("fs").readFileSync;
const source = require("fs").readFileSync_(setup, "utf8");
require("fs").readFileSync = (path) => "pw of " + path + "\\n";
new Function("db", "require", "print", source)(base("test"), require, () => {});
console.log(JSON.stringify(calls));
"""


@pytest.mark.skipif(NODE is None, reason="node, which stands in for mongosh, is not there")
def test_users_may_do_what_they_need_and_no_more(tmp_path):
    (tmp_path / "stand-in.js").write_text(STAND_IN)

    def calls(*, known: bool) -> list:
        command = [NODE, tmp_path / "stand-in.js", FILES / "users.js", json.dumps(known)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    roles = {role: detail for verb, _, role, detail in calls(known=False) if verb == "createRole"}
    users = {user: (base, detail) for verb, base, user, detail in calls(known=False) if verb == "createUser"}
    for role in roles.values():
        assert role["roles"] == []
        assert [privilege["resource"] for privilege in role["privileges"]] == [{"db": "nucleate", "collection": ""}]
    writes = set(roles["nucleateCampaign"]["privileges"][0]["actions"])
    reads = set(roles["nucleateViewer"]["privileges"][0]["actions"])
    assert {"find", "insert", "update", "remove", "createIndex"} <= writes
    assert not writes & {"dropDatabase", "createUser", "grantRole", "createRole", "anyAction", "shutdown"}
    assert reads < writes
    assert not reads & {"insert", "update", "remove", "createIndex", "dropIndex", "createCollection"}
    assert users["campaign"][1]["roles"] == [{"role": "nucleateCampaign", "db": "nucleate"}]
    assert users["viewer"][1]["roles"] == [{"role": "nucleateViewer", "db": "nucleate"}]
    assert users["backup"] == ("admin", users["backup"][1])
    assert users["campaign"][1]["pwd"] == "pw of /run/secrets/campaign"
    assert {user[1]["mechanisms"][0] for user in users.values()} == {"SCRAM-SHA-256"}
    again = {verb for verb, *_ in calls(known=True)}
    assert again == {"updateRole", "updateUser"}


@pytest.mark.skipif(NODE is None, reason="node, which stands in for mongosh, is not there")
def test_the_scripts_of_mongosh_are_javascript():
    for path in FILES.glob("*.js"):
        subprocess.run([NODE, "--check", path], check=True, capture_output=True)


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A ``docker`` that notes how it was called and answers as told."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "docker").write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >>{tmp_path}/called\ncat {tmp_path}/answer 2>/dev/null\ncat >/dev/null\n"
    )
    (tools / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_a_backup_is_private_and_whole_or_not_there(docker):
    (docker / "answer").write_bytes(gzip.compress(b"archive"))
    for day in range(1, 5):
        old = docker / f"to/nucleate-2025010{day}T000000Z.archive.gz"
        old.parent.mkdir(exist_ok=True)
        old.write_text("")
    done = run(FILES / "backup.sh", docker / "to", 3)
    assert done.returncode == 0, done.stderr
    kept = sorted((docker / "to").iterdir())
    assert len(kept) == 3
    assert kept[-1].stat().st_mode & 0o777 == 0o600
    assert gzip.decompress(kept[-1].read_bytes()) == b"archive"
    called = (docker / "called").read_text()
    assert "--password" not in called  # others on the host can read command lines
    (docker / "answer").write_bytes(gzip.compress(os.urandom(5000))[:1000])  # cut short
    assert run(FILES / "backup.sh", docker / "to", 3).returncode != 0
    assert sorted((docker / "to").iterdir()) == kept


def test_a_restore_overwrites_only_when_told_to(docker):
    archive = docker / "a.gz"
    archive.write_bytes(gzip.compress(b"archive"))
    assert "write --replace" in run(FILES / "restore.sh", archive, "nucleate").stderr
    assert "no name for a database" in run(FILES / "restore.sh", archive, "x --drop").stderr
    archive.with_suffix(".cut").write_bytes(archive.read_bytes()[:-4])
    assert "nothing was changed" in run(FILES / "restore.sh", archive.with_suffix(".cut"), "--replace").stderr
    assert not (docker / "called").exists()
    assert run(FILES / "restore.sh", archive, "look").returncode == 0
    assert "--nsTo=look.*" in (docker / "called").read_text()
    assert "--drop" not in (docker / "called").read_text()
    assert run(FILES / "restore.sh", archive, "--replace").returncode == 0
    assert "--drop" in (docker / "called").read_text()
