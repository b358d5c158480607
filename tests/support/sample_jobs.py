"""Small tasks and jobs for tests of the runtime, importable by worker processes through PYTHONPATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bson import json_util
from fireworks import FiretaskBase, Firework, FWAction, Workflow, explicit_serialize
from fireworks.features.dupefinder import DupeFinderBase
from jobflow import Flow, Response, job


def note(path: str, line: str) -> None:
    """Append a line in one write, so that processes can share the file."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


@explicit_serialize
class Act(FiretaskBase):
    """Note that it ran, then do what its parameters say."""

    required_params = ("tag", "notes")

    def run_task(self, fw_spec):
        note(self["notes"], f"{self['tag']} {sorted(k for k in fw_spec if k.startswith('from_'))}")
        tag, notes = self["tag"], self["notes"]
        if self.get("fail"):
            raise ValueError("told to fail")
        time.sleep(self.get("seconds", 0))
        detours = [chain([f"{tag}-detour1", f"{tag}-detour2"], notes)] if self.get("detour") else []
        additions = [chain([f"{tag}-addition"], notes)] if self.get("addition") else []
        return FWAction(update_spec={f"from_{tag}": 1}, detours=detours, additions=additions)


class DescribedError(ValueError):
    """Says more of itself than its message."""

    def to_dict(self) -> dict[str, int]:
        return {"answer": 42}


@explicit_serialize
class Give(FiretaskBase):
    """Give the action that its parameters describe, or none at all, or nonsense; or fail."""

    def run_task(self, fw_spec):  # noqa: ARG002
        if self.get("fail"):
            raise DescribedError(self["fail"])
        if self.get("show"):  # what the database holds while it runs
            names = ("fireworks", "launches", "workflows")
            documents = {name: list(self.launchpad.db[name].find().sort("_id")) for name in names}
            Path(self["show"]).write_text(json_util.dumps(documents))
        if self.get("file"):
            FWAction(**self["file"]).to_file("FWAction.json")
        if "nonsense" in self:
            return self["nonsense"]
        if self.get("append_to"):
            new = {"workflow": chain(["new1", "new2"], self["notes"]), "detour": True, "parents": self["append_to"]}
            return FWAction(append_wfs=[new])
        return FWAction(**self["action"]) if "action" in self else None


@explicit_serialize
class SameSpec(DupeFinderBase):
    """Take fireworks for the same whose specs say so."""

    def verify(self, spec1, spec2):
        return spec1["same"] == spec2["same"]

    def query(self, spec):
        return {"launches": {"$ne": []}, "spec.same": spec["same"]}


def silent(tag: str) -> Firework:
    return Firework([Give()], name=tag)


def act(tag: str, notes: str, parents=None, spec=None, **params) -> Firework:
    return Firework([Act(tag=tag, notes=notes, **params)], name=tag, parents=parents, spec=spec)


def chain(tags: list[str], notes: str) -> Workflow:
    fireworks: list[Firework] = []
    for tag in tags:
        fireworks.append(act(tag, notes, parents=fireworks[-1:]))
    return Workflow(fireworks)


@explicit_serialize
class Occupy(FiretaskBase):
    """Take its time, and note when, where and with how many threads; a child process says what it was bound to."""

    required_params = ("tag", "notes", "seconds")

    def run_task(self, fw_spec):  # noqa: ARG002 - FireWorks' signature
        begun = time.time()
        ask = "import os; print(sorted(os.sched_getaffinity(0)))"
        told = subprocess.run([sys.executable, "-S", "-c", ask], capture_output=True, text=True, check=True)
        time.sleep(max(0.0, self["seconds"] - (time.time() - begun)))
        names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NUCLEATE_DEADLINE")
        seen = {name: os.environ.get(name) for name in names}
        cores = json.loads(told.stdout)
        note(
            self["notes"],
            json.dumps({"tag": self["tag"], "begun": begun, "ended": time.time(), "cores": cores, **seen}),
        )
        return FWAction()


@job
def miss_a_module(notes: str) -> None:
    """Fail as something of this node's fails."""
    note(notes, "missed")
    raise ImportError("no module of that name on this node")


@job
def leaf(value: int, notes: str, seconds: float = 0.0) -> int:
    note(notes, f"leaf {value}")
    time.sleep(seconds)
    return value


@job
def collect(values: list[int], notes: str) -> int:
    note(notes, f"collect {values}")
    return sum(values)


@job
def plan(n: int, notes: str, seconds: float = 0.0) -> Response:
    """Replace itself by n leaves and their sum."""
    note(notes, f"plan {n}")
    leaves = [leaf(i, notes, seconds) for i in range(n)]
    for i, one in enumerate(leaves):
        one.name = f"leaf {i}"
    total = collect([one.output for one in leaves], notes)
    total.name = "collect of plan"
    return Response(replace=Flow([*leaves, total], output=total.output))


@job
def spawn_and_wait(notes: str, seconds: float, session: bool = False) -> int:
    """Start a process, as DFT jobs do (those in a session of its own), and wait for it."""
    command = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
    process = subprocess.Popen(command, start_new_session=session)
    note(notes, f"spawned {process.pid} by {os.getpid()}")
    return process.wait()


@job
def eat(notes: str, megabytes: int, child: bool) -> None:
    """Take memory, oneself or by a child as DFT jobs do, until the kernel objects."""
    note(notes, "eating")
    if child:
        subprocess.run([sys.executable, "-c", f"b'x' * ({megabytes} << 20)"], check=True)
    else:
        bytearray(b"x" * (megabytes << 20))
