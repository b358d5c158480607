"""The files under deploy/fireworks, read by FireWorks' own classes and used by its own commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from fireworks import FWorker, LaunchPad
from jobflow import Flow

from workflows.records import USER_INDICES
from workflows.runtime.firetask import to_workflow
from workflows.stages.dress import LIGHT, SAMPLING, block_of, dress

if TYPE_CHECKING:
    from workflows.runtime.store import Store

FILES = Path(__file__).parents[2] / "deploy" / "fireworks"
SUPPORT = Path(__file__).parents[1] / "support"
BIN = Path(sys.executable).parent
PATIENCE_S = 120.0


def test_the_launchpad_file_is_one():
    launchpad = LaunchPad.from_file(str(FILES / "my_launchpad.yaml"))
    assert launchpad.user_indices == list(USER_INDICES)
    assert launchpad.connection.options.retry_writes
    assert launchpad.name == "nucleate"
    launchpad.connection.close()


def test_each_kind_of_job_has_a_worker():
    found = {FWorker.from_file(str(path)).category for path in FILES.glob("my_fworker-*.yaml")}
    assert found == {SAMPLING, LIGHT, "cpu"}
    query = FWorker.from_file(str(FILES / "my_fworker-cpu.yaml")).query
    assert query["spec._category"] == "cpu"


def test_fireworks_takes_its_settings():
    known = "import json, fireworks.fw_config as c; print(json.dumps({k: getattr(c, k) for k in c.config_to_dict() if "
    known += "isinstance(getattr(c, k), (int, str, bool))}))"
    environment = {**os.environ, "FW_CONFIG_FILE": str(FILES / "FW_config.yaml")}
    done = subprocess.run([sys.executable, "-c", known], env=environment, capture_output=True, text=True, check=True)
    used = yaml.safe_load(done.stdout.splitlines()[-1])
    wanted = yaml.safe_load((FILES / "FW_config.yaml").read_text())
    assert {k: used[k] for k in wanted} == wanted


def at_home(path: Path, campaign: Path, **changes: object) -> Path:
    """Copy a file into a campaign's directory, with the lines changed that are marked so."""
    text = path.read_text().replace("/shared/campaigns/oxides", str(campaign))
    text = text.replace("/shared/nucleate/deploy/fireworks", str(FILES)).replace(
        "/shared/nucleate/.venv", str(BIN.parent)
    )
    document = yaml.safe_load(text) | changes
    copy = campaign / path.name
    copy.write_text(yaml.safe_dump(document))
    return copy


def script_of(campaign: Path, **changes: object) -> str:
    # A process of its own: to find the class FireWorks imports its own tests too, which pytest here would not have.
    ask = "import sys; from fireworks.utilities.fw_serializers import load_object_from_file as load; "
    ask += "print(load(sys.argv[1]).get_script_str(sys.argv[2]))"
    file = at_home(FILES / "my_qadapter.yaml", campaign, **changes)
    command = [sys.executable, "-c", ask, str(file), str(campaign)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_batch_script_has_what_was_asked_and_nothing_else(tmp_path):
    script = script_of(tmp_path, account="mat-42", gres="gpu:1")
    for line in ("--account=mat-42", "--gres=gpu:1", "--partition=cpu", "--time=01:00:00", "--mem=2000M", "--nodes=1"):
        assert f"#SBATCH {line}\n" in script
    assert "$$" not in script
    assert "--qos" not in script
    assert f"rlaunch -l {tmp_path}/my_launchpad.yaml" in script
    assert f"export JOBFLOW_CONFIG_FILE={tmp_path}/jobflow.yaml\n" in script
    checked = subprocess.run(["/bin/bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def campaign(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory as ``launch`` leaves it, with one job of ours for a cpu worker."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    from sample_jobs import leaf

    directory = tmp_path / "campaign"
    store.write_configs(directory)
    (directory / "notes").write_text("")
    job = leaf(41, str(directory / "notes"))
    dress(job, block_of("oxides", 1, "relax", "oxides-r01-0001"), "cpu")
    store.launchpad.add_wf(to_workflow(Flow([job])))
    for path in FILES.glob("my_fworker-*.yaml"):
        at_home(path, directory)
    return directory


def output_of(store: Store) -> object:
    found = store.database.outputs.find_one({}, {"output": 1})
    return found and found["output"]


def test_plain_rlaunch_runs_a_job_of_ours_of_its_own_category(store, campaign, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "JOBFLOW_CONFIG_FILE": str(campaign / "jobflow.yaml")}
    environment["FW_CONFIG_FILE"] = str(FILES / "FW_config.yaml")

    def rlaunch(kind: str) -> str:
        command = [BIN / "rlaunch", "-l", "my_launchpad.yaml", "-w", f"my_fworker-{kind}.yaml", "singleshot"]
        return subprocess.run(command, env=environment, cwd=campaign, capture_output=True, text=True, check=True).stdout

    rlaunch("gpu")
    assert output_of(store) is None
    rlaunch("cpu")
    assert output_of(store) == 41
    assert store.database.fireworks.find_one({})["state"] == "COMPLETED"


@pytest.mark.xdist_group("slurm")
def test_qlaunch_submits_it_to_slurm_and_it_runs_there(slurm, store, campaign, monkeypatch):
    pre = f"export PYTHONPATH={SUPPORT}\n" + yaml.safe_load((FILES / "my_qadapter.yaml").read_text())["pre_rocket"]
    pre = pre.replace("/shared/campaigns/oxides", str(campaign)).replace("/shared/nucleate/.venv", str(BIN.parent))
    at_home(FILES / "my_qadapter.yaml", campaign, queue="debug", mem="900M", pre_rocket=pre)
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "FW_CONFIG_FILE": str(FILES / "FW_config.yaml")}
    environment["PYTHONPATH"] = str(SUPPORT)  # --reserve loads the firework on the login node too
    command = [BIN / "qlaunch", "-l", "my_launchpad.yaml", "-w", "my_fworker-cpu.yaml", "-q", "my_qadapter.yaml"]
    done = subprocess.run(
        [*command, "--reserve", "singleshot"], env=environment, cwd=campaign, capture_output=True, text=True, check=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while output_of(store) is None:
        outputs = "\n".join(path.read_text() for path in campaign.glob("nucleate-*.*"))
        assert time.monotonic() < deadline, f"{done.stdout}\n{done.stderr}\n{outputs}"
        time.sleep(0.3)
    assert output_of(store) == 41
    launch = store.database.launches.find_one({})
    assert slurm.run("sacct", "-j", str(launch["state_history"][0]["reservation_id"]), "-X", "-n", "-o", "State") != ""
