"""Kill `nucleate work` with SIGKILL at random moments, start it again, and compare with an undisturbed campaign.

The same spec runs twice, in two databases of one embedded server: once undisturbed, once killed ``--kills`` times (the
command alone, or its worker processes with it). Both must end with the same ids, flags, causes,
rounds and fireworks, with energies within 1 meV/atom, nothing twice and no job in a false state.

    python benchmarks/kills.py --kills 20 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import yaml

from workflows.runtime import embedded
from workflows.runtime.store import open_store

NUCLEATE = str(Path(sys.executable).parent / "nucleate")
ENERGY_TOLERANCE_EV_PER_ATOM = 1e-3


def spec(samples: int, verifications: int) -> dict[str, Any]:
    """Give a small campaign in which every stage occurs."""
    return {
        "name": "kills",
        "chemistry": {"systems": ["Mg-O", "Al-N"], "max_atoms": 6},
        "targets": {
            "energy_above_hull": {"max": 0.2, "unit": "eV/atom"},
            "phonons": "stable",
            "bulk_modulus": {"min": 100, "unit": "GPa"},
        },
        "samples": samples,
        "control": 4,
        "batch": 4,
        "rounds": 2,
        "budget": {"verifications": verifications},
        "seed": 11,
    }


def nucleate(*arguments: str, directory: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command of ours in a process group of its own."""
    with (directory / "nucleate.log").open("ab") as log:
        return subprocess.Popen([NUCLEATE, *arguments], stdout=log, stderr=log, start_new_session=True, **options)


def finish(*arguments: str, directory: Path) -> None:
    """Run a command of ours to its end."""
    code = nucleate(*arguments, directory=directory).wait()
    if code != 0:
        tail = (directory / "nucleate.log").read_text()[-3000:]
        raise SystemExit(f"nucleate {' '.join(arguments)} ended with {code}:\n{tail}")


def facts(database: Any) -> dict[str, Any]:
    """Gather what must not differ, energies apart."""
    candidates = {
        c["candidate"]: (
            c["formula"],
            c["seed"],
            bool((c["screen"] or {}).get("passed")),
            bool((c["select"] or {}).get("novel")),
            bool((c["select"] or {}).get("selected")),
        )
        for c in database.candidates.find({})
    }
    verdicts = {
        v["candidate"]: (
            v["verified"],
            v["stable"],
            v["hit"],
            v["late"],
            v["counted_in"],
            v["phonon"]["judgement"],
            sorted(v["properties"]),
            (v["cause"] or {}).get("code"),
        )
        for v in database.verdicts.find({})
    }
    fireworks = Counter(
        (f["name"], f["state"], f["spec"]["nucleate"]["stage"])
        for f in database.fireworks.find({}, {"name": 1, "state": 1, "spec.nucleate": 1})
    )
    rounds = {r["round"]: (r["state"], r["summary"]) for r in database.rounds.find({})}
    return {"candidates": candidates, "verdicts": verdicts, "fireworks": fireworks, "rounds": rounds}


def energies(database: Any) -> dict[str, float]:
    """Gather verified energies, eV/atom."""
    return {v["candidate"]: v["energy_ev_per_atom"] for v in database.verdicts.find({"verified": True})}


def false_states(database: Any) -> list[str]:
    """List jobs and attempts whose state can't be true once all workers have ended."""
    wrong = [
        f"{f['name']} is {f['state']}"
        for f in database.fireworks.find({"state": {"$in": ["RUNNING", "RESERVED", "READY", "WAITING"]}})
    ]
    wrong += [f"attempt {a['attempt']} is running" for a in database.attempts.find({"state": "running"})]
    wrong += [f"workflow {w['name']} is locked" for w in database.workflows.find({"locked": {"$exists": True}})]
    return wrong


def killed_run(directory: Path, kills: int, seconds: float, chance: random.Random, processes: int) -> int:
    """Run the campaign with kills spread over its length; return how many struck a command that was running."""
    struck = 0
    for k in range(kills):
        process = nucleate("work", "-C", str(directory), "--processes", str(processes), directory=directory)
        # a start costs some seconds of imports: long enough pauses let kills strike every stage
        pause = chance.uniform(0.2, 0.3 * seconds)
        everything = chance.random() < 0.6
        try:
            process.wait(timeout=pause)
        except subprocess.TimeoutExpired:
            workers = psutil.Process(process.pid).children(recursive=True) if everything else []
            process.kill()
            for worker in workers:  # they lead sessions of their own, so the group would not reach them
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            process.wait()
            struck += 1
            print(
                f"  kill {k + 1}/{kills} after {pause:.1f} s, {'command and workers' if everything else 'command'}",
                flush=True,
            )
    finish("work", "-C", str(directory), "--processes", str(processes), directory=directory)
    return struck


def main() -> int:
    """Run both campaigns and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--samples", type=int, default=24, help="a round")
    parser.add_argument("--verifications", type=int, default=6, help="a round")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="nucleate-kills-") as place:
        os.environ["NUCLEATE_DATA_DIR"] = place
        found: dict[str, Any] = {}
        seconds = 0.0
        try:
            for name in ("undisturbed", "killed"):
                os.environ["NUCLEATE_EMBEDDED_DATABASE"] = name
                directory = Path(place) / name
                directory.mkdir()
                file = directory / "campaign.yaml"
                file.write_text(yaml.safe_dump(spec(options.samples, options.verifications)))
                finish("launch", str(file), directory=directory)
                begin = time.monotonic()
                if name == "undisturbed":
                    arguments = ("work", "-C", str(directory), "--processes", str(options.processes))
                    finish(*arguments, directory=directory)
                    seconds = time.monotonic() - begin
                else:
                    struck = killed_run(directory, options.kills, seconds, chance, options.processes)
                print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
                with open_store("embedded") as store:
                    found[name] = {
                        "facts": facts(store.database),
                        "energies": energies(store.database),
                        "false": false_states(store.database),
                        "lost": store.database.attempts.count_documents({"state": "lost"}),
                    }
        finally:
            embedded.stop(Path(place))
    return compare(found, struck)


def compare(found: dict[str, Any], struck: int) -> int:
    """Print what differs; 0 if nothing does."""
    calm, killed = found["undisturbed"], found["killed"]
    problems = list(killed["false"])
    for kind in calm["facts"]:
        if calm["facts"][kind] != killed["facts"][kind]:
            one, two = calm["facts"][kind], killed["facts"][kind]
            differing = {key for key in {*one, *two} if one.get(key) != two.get(key)}
            problems += [f"{kind} {key}: {one.get(key)} undisturbed, {two.get(key)} killed" for key in differing]
    gaps = [abs(calm["energies"][k] - killed["energies"][k]) for k in calm["energies"].keys() & killed["energies"]]
    largest = max(gaps, default=0.0)
    if largest > ENERGY_TOLERANCE_EV_PER_ATOM:
        problems.append(f"energies differ by up to {1000 * largest:.3f} meV/atom")
    counts = {kind: len(value) for kind, value in calm["facts"].items()}
    print(f"{struck} kills struck, {killed['lost']} attempts lost to them; compared: {json.dumps(counts)}")
    print(f"largest energy difference {1000 * largest:.4f} meV/atom over {len(gaps)} verified candidates")
    print(
        "\n".join(problems)
        if problems
        else "same ids, flags, causes, rounds and fireworks; nothing twice, no false state"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
