"""One run: undisturbed, or with a fault at a random moment; and what has to be true of it afterwards."""

from __future__ import annotations

import contextlib
import random
import shutil
import statistics
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.faults.campaign import SIZES, differences, facts, put_up
from benchmarks.faults.scene import Conditions, Scene
from benchmarks.faults.watch import LIMIT_S
from dft_inputs.espresso.record import FILE, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.faults.campaign import Kind, Size
    from benchmarks.faults.slurm import Slurm
    from benchmarks.faults.strikes import Fault, Struck
    from dft_inputs.espresso.record import Correction

PATIENCE_S = 900.0
"""A run that has not ended by then is taken to hang."""

_TICK_S = 1.0


@dataclass
class Outcome:
    """What a run has shown.

    Parameters
    ----------
    fault, kind : str
    number, seed : int
    struck : str
        What was done.
    seconds : float
        From ``submit`` to the last job's end.
    longer_s : float
        Than the undisturbed run.
    causes : list of str
        ``attempt: code name`` of those that the fault ended.
    falsehoods : list of dict
        What the database said and was not so, and for how long; the longest first.
    truth_max_s, truth_median_s : float
        Of those; 0 if there were none.
    reruns : int
    problems : list of str
        What should not be; empty if all is well.
    notes : list of str
    """

    fault: str
    kind: str
    number: int
    seed: int
    struck: str = ""
    seconds: float = 0.0
    longer_s: float = 0.0
    causes: list[str] = field(default_factory=list)
    falsehoods: list[dict[str, Any]] = field(default_factory=list)
    truth_max_s: float = 0.0
    truth_median_s: float = 0.0
    reruns: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give it for its file."""
        return asdict(self)


def size_of(kind: Kind, conditions: Conditions) -> Size:
    """Give how much there is to do."""
    return SIZES[conditions.size][kind]


def undisturbed(slurm: Slurm, kind: Kind, conditions: Conditions, place: Path) -> dict[str, Any]:
    """Run a campaign that nobody disturbs.

    Raises
    ------
    RuntimeError
        If it does not end as it should.
    """
    size = size_of(kind, conditions)
    with _scene(slurm, kind, size, Conditions(), random.Random(0)) as scene:
        begun = time.monotonic()
        scene.submit()
        seconds = _watch_to_the_end(scene, begun) - begun
        found = facts(scene.truth.database)
        wrong = [f.what for f in scene.truth.all() if f.seconds > LIMIT_S]
        failed = [c for c, v in found["verdicts"].items() if not v["verified"]]
        if scene.left() or failed or wrong or len(found["verdicts"]) != size.candidates:
            _keep(scene, place / f"undisturbed-{kind}")
            raise RuntimeError(
                f"the undisturbed run is disturbed: {scene.left()} jobs left, no verdict: {failed}, false: {wrong}"
            )
    return {"seconds": round(seconds, 1), "facts": found}


def disturbed(
    slurm: Slurm, fault: Fault, kind: Kind, number: int, seed: int, calm: dict[str, Any], place: Path
) -> Outcome:
    """Run a campaign, let a fault strike, wait for its end, and compare."""
    outcome = Outcome(fault.name, kind, number, seed)
    chance = random.Random(f"{seed}-{fault.name}-{kind}-{number}")
    size = size_of(kind, fault.conditions)
    with _scene(slurm, kind, size, fault.conditions, chance) as scene:
        try:
            _play(scene, fault, outcome, calm)
        except Exception as error:  # noqa: BLE001 - one run that goes wrong is a row of the table, not its end
            outcome.problems.append(f"{type(error).__name__}: {error}"[:2000])
            outcome.notes.append(traceback.format_exc()[-2000:])
        if outcome.problems:
            _keep(scene, place / f"{fault.name}-{kind}-{number:02d}")
    return outcome


@contextlib.contextmanager
def _scene(slurm: Slurm, kind: Kind, size: Size, conditions: Conditions, chance: random.Random) -> Iterator[Scene]:
    directory = Path(tempfile.mkdtemp(prefix="nucleate-fault-"))
    scene = Scene(directory, slurm, conditions, chance, lambda s: put_up(s.campaign, kind, size, s.wishes))
    try:
        with scene.up():
            yield scene
    finally:
        slurm.start()  # whatever the fault has left down
        shutil.rmtree(directory, ignore_errors=True)


def _play(scene: Scene, fault: Fault, outcome: Outcome, calm: dict[str, Any]) -> None:
    begun = time.monotonic()
    scene.submit()
    scene.wait_for_victims()
    # a random moment while tasks run: by what is done, since no two runs are equally fast
    due = scene.chance.uniform(0.0, 0.5) * len(calm["facts"]["verdicts"])
    pause = scene.chance.uniform(0.0, 3.0)
    while scene.relaxed() < due and time.monotonic() - begun < PATIENCE_S:
        scene.truth.look()
        time.sleep(_TICK_S / 2)
    time.sleep(pause)
    struck = fault.strike(scene)
    moment = time.monotonic()
    outcome.struck = f"{struck.what}, {moment - begun:.0f} s after submit"
    over = _watch_to_the_end(scene, begun, struck=struck, moment=moment)
    over = _rerun(scene, fault, outcome, begun) or over
    outcome.seconds = round(over - begun, 1)
    outcome.longer_s = round(outcome.seconds - calm["seconds"], 1)
    _check(scene, fault, struck, outcome, calm)


def _watch_to_the_end(scene: Scene, begun: float, *, struck: Struck | None = None, moment: float = 0.0) -> float:
    """Look each second until nothing is left to do; mend what the fault broke when its time has come.

    Returns
    -------
    float
        When the last job had ended, by the monotonic clock.
    """
    heal = struck.heal if struck else None
    over: float | None = None
    while time.monotonic() - begun < PATIENCE_S:
        tick = time.monotonic()
        if struck and heal and tick - moment >= struck.after_s:
            heal()
            heal = None
        if scene.truth.look():
            over = None if scene.is_busy() else (over or tick)
            # a submit that has ended by itself waits for somebody
            if not heal and (over or not scene.submit_lives()):
                return over or tick
        time.sleep(max(0.0, _TICK_S - (time.monotonic() - tick)))
    return time.monotonic()


def _rerun(scene: Scene, fault: Fault, outcome: Outcome, begun: float) -> float | None:
    """Re-run what a fault has made fail, by its cause, as somebody would; give when the last job had ended."""
    over = None
    for _ in range(3):
        failed = scene.truth.database.fireworks.count_documents({"state": "FIZZLED"})
        if not fault.rerun or not (failed or scene.left()):
            break
        for code in sorted(fault.codes):
            said = scene.nucleate("rerun", "--cause", str(code), "--yes")
            outcome.notes.append(said[-1500:])
        outcome.reruns += 1
        if not scene.submit_lives():
            scene.submit("--retry")
        over = _watch_to_the_end(scene, begun)
    return over


def _check(scene: Scene, fault: Fault, struck: Struck, outcome: Outcome, calm: dict[str, Any]) -> None:
    """Compare a run that has ended with the undisturbed one, and its records with what was done to it."""
    database = scene.truth.database
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end and scene.truth.look() and scene.truth.lasting():
        time.sleep(_TICK_S)
    problems = outcome.problems
    if left := scene.left():
        problems.append(f"{left} jobs are not done after {outcome.seconds:.0f} s")
    problems += differences(calm["facts"], facts(database))
    attempts = {a["attempt"]: a for a in database.attempts.find({"launch_id": {"$ne": None}}, {"_id": 0})}
    for name in struck.attempts:
        found = attempts[name]
        cause = found["cause"] or {}
        if found["state"] == "completed":
            mended = _mended(Path(found["directory"]))
            outcome.causes += [f"{name}: went on by itself, {one.code} {one.evidence}" for one in mended]
            if not mended:
                outcome.notes.append(f"{name} had ended just before, or went on")
            continue
        outcome.causes.append(f"{name}: {found['state']}, {cause.get('code')} {cause.get('name')}")
        if cause.get("code") not in fault.codes:
            wanted = ", ".join(map(str, sorted(fault.codes)))
            problems.append(
                f"{name} is {found['state']} for {cause.get('code')}, not {wanted}: {cause.get('evidence')}"
            )
    for name, found in sorted(attempts.items()):
        if name not in struck.attempts and found["state"] in {"lost", "failed"}:
            cause = found["cause"] or {}
            outcome.causes.append(f"{name}: {found['state']}, {cause.get('code')} {cause.get('name')}")
            allowed = fault.codes | {205} if not fault.spares else frozenset()
            if cause.get("code") not in allowed:
                problems.append(f"{name} is {found['state']}: {cause.get('code')} {cause.get('evidence')}")
    done = [a["fw_id"] for a in attempts.values() if a["state"] == "completed"]
    twice = sorted({fw_id for fw_id in done if done.count(fw_id) > 1})
    reruns = {fw["fw_id"] for fw in database.fireworks.find({"name": {"$regex": "judge"}}, {"fw_id": 1})}
    if doubled := [fw_id for fw_id in twice if not (outcome.reruns and fw_id in reruns)]:
        problems.append(f"fireworks {doubled} were completed twice")
    kept = {launch["launch_id"] for launch in database.launches.find({}, {"launch_id": 1})}
    if gone := sorted(scene.truth.launches - kept):
        problems.append(f"launches {gone} are gone")
    false = scene.truth.all()
    outcome.falsehoods = [asdict(f) for f in false[:20]]
    seconds = [f.seconds for f in false]
    outcome.truth_max_s = max(seconds, default=0.0)
    outcome.truth_median_s = statistics.median(seconds) if seconds else 0.0
    problems += [f"for {f.seconds:.0f} s: {f.what}" for f in false if f.seconds > LIMIT_S]


def _mended(directory: Path) -> list[Correction]:
    """Give what pw.x runs of a launch directory have recovered from without a re-run."""
    return [one for file in sorted(directory.rglob(FILE)) for one in RunRecord.read(file.parent).corrections]


def _keep(scene: Scene, place: Path) -> None:
    """Keep logs of a run that went wrong."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for pattern in ("*.log", "*.yaml", "campaign/logs", "campaign/pilots", "database/server.log"):
        for path in scene.directory.glob(pattern):
            target = place / path.name
            with contextlib.suppress(OSError):
                shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
    with contextlib.suppress(Exception):
        (place / "database.txt").write_text(
            "\n".join(
                str(document)
                for name in ("pilots", "attempts", "launches")
                for document in scene.truth.database[name].find({}, {"last_geometry": 0, "action": 0, "_id": 0})
            )
        )
    with contextlib.suppress(Exception):
        (place / "sacct.txt").write_text(
            scene.slurm.run(
                "sacct", "-D", "-S", "now-1hour", "-o", "JobID%20,JobName%40,State%20,ExitCode,NodeList,Elapsed"
            )
        )
    with contextlib.suppress(OSError):
        shutil.copy(scene.slurm.directory / "log" / "slurmctld.log", place)
