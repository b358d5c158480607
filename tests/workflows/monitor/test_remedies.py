"""What each cause asks of real Makers: the overrides of the plan, and that the Makers take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jobflow import Flow
from pymatgen.core import Lattice, Structure

from dft_inputs.espresso.protocols import load_protocol
from workflows.causes import CAUSES
from workflows.engines.eos import MlipBulkModulusMaker
from workflows.engines.eos_flow import measure_volumes
from workflows.engines.espresso.makers import PwIonsMaker, PwRelaxMaker
from workflows.engines.mlip_makers import relax_maker
from workflows.engines.phonon_flow import phonon_supercell
from workflows.engines.vasp_makers import VaspMaker
from workflows.engines.vasp_protocols import PROTOCOLS
from workflows.monitor.rerun.plan import plan_rerun
from workflows.monitor.selector import Selector
from workflows.records import Attempt, Cause, now
from workflows.runtime.firetask import changed_maker, to_workflow
from workflows.stages.dress import block_of, dress

FAST = load_protocol("fast")
CELL = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
BETA = {"electrons.mixing_beta": 0.4}
PW = PwRelaxMaker(pw=BETA)
IONS = PwIonsMaker(name="tight relax", fmax_ev_per_angstrom=0.002)
VASP = VaspMaker(input_set_generator=PROTOCOLS["fast"].relax.make(), incar={"NSW": 50, "NELM": 60})
FIELD = relax_maker("7net-0", 0.02, 80)
LEFT_OVER = "largest force 0.02 eV/Å was left over"
OUTSIDE = "minimum at 61.20 Å³, outside the sampled 70.00 to 79.00 Å³"


@dataclass
class Case:
    """A job that failed, and what its re-run is to be asked."""

    code: int
    job: Any
    overrides: dict[str, Any]
    words: str
    stage: str = "relax"
    evidence: str = "seen"
    geometry: bool = False
    tries: int = 0
    earlier: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    starts: str | None = None
    """``there``: with all that the failed attempt left; ``geometry``: from that alone; ``None``: from the beginning."""


def pw(*, restart=False, **tags):
    maker = {"maker": {"pw": {**BETA, **{name.replace("__", "."): value for name, value in tags.items()}}}}
    return maker | ({"restart": True} if restart else {})


def incar(*, restart=False, **tags):
    maker = {"maker": {"incar": {"NSW": 50, "NELM": 60, **tags}}}
    return maker | ({"restart": True} if restart else {})


def made(maker):
    return maker.make(CELL)


def volumes():
    return measure_volumes(CELL, IONS, 0.06, 7, "pw.x")


CASES = [
    # too little of something
    Case(501, made(PW), pw(control__nstep=2 * FAST.max_ionic_steps), "from the beginning"),
    Case(501, made(VASP), incar(NSW=100, restart=True), "NSW 100 instead of 50", geometry=True, starts="there"),
    Case(501, made(FIELD), {"maker": {"steps": 160}}, "160 steps instead of 80"),
    Case(304, made(PW), {}, "2 GB instead of 1", resources={"memory_gb": 2.0}),
    # what was left over where phonons begin
    Case(502, made(IONS), {"maker": {"fmax_ev_per_angstrom": 0.001}}, "below 0.001", "phonon", LEFT_OVER),
    Case(502, made(FIELD), {"maker": {"relax_kwargs": {"fmax": 0.01}}}, "below 0.01", "phonon", LEFT_OVER),
    Case(502, made(FIELD), {"maker": {"steps": 160}}, "160 steps", "phonon", "largest force 0.1 eV/Å after 80 steps"),
    Case(502, made(VASP), incar(NSW=100), "NSW 100 instead of 50", "phonon"),
    # electrons
    Case(401, made(PW), pw(electrons__diagonalization="cg", electrons__startingwfc="atomic+random"), "with cg"),
    Case(401, made(PW), pw(electrons__diagonalization="paro", electrons__startingwfc="atomic+random"), "paro", tries=1),
    Case(401, made(VASP), incar(ALGO="All"), "ALGO All"),
    Case(401, made(VASP), incar(ALGO="Normal"), "ALGO Normal", tries=1),
    Case(
        410,
        made(PW),
        pw(electrons__mixing_beta=0.2, electrons__electron_maxstep=2 * FAST.scf_max_steps),
        "mixing_beta 0.2 instead of 0.4",
    ),
    Case(
        410,  # what helped before is kept, and more is asked of what was in force
        made(PW),
        pw(electrons__mixing_beta=0.05, electrons__electron_maxstep=200, system__nosym=True),
        "mixing_beta 0.05 instead of 0.1",
        earlier=pw(electrons__mixing_beta=0.1, electrons__electron_maxstep=100, system__nosym=True),
    ),
    Case(410, made(VASP), incar(ALGO="All", NELM=120), "NELM 120"),
    Case(411, made(PW), pw(electrons__mixing_mode="local-TF", electrons__mixing_beta=0.2), "local-TF"),
    Case(411, made(VASP), incar(ALGO="All"), "mixes nothing"),
    # symmetry
    Case(307, made(PW), pw(system__nosym=True, system__noinv=True), "no symmetry"),
    Case(307, made(VASP), incar(SYMPREC=1e-6), "SYMPREC"),
    Case(307, made(VASP), incar(ISYM=0), "ISYM 0", tries=1),
    # ions
    Case(510, made(PW), {"restart": True}, "a fresh minimiser", geometry=True, starts="geometry"),
    Case(
        510,
        made(PW),
        pw(ions__trust_radius_ini=0.1, ions__trust_radius_max=0.2, restart=True),
        "shorter steps",
        geometry=True,
        tries=1,
        starts="geometry",
    ),
    Case(510, made(VASP), incar(IBRION=1, POTIM=0.3), "IBRION 1", tries=1),
    Case(511, made(PW), {"restart": True}, "from the last geometry", geometry=True, starts="geometry"),
    # what decides which children there are
    Case(603, made(MlipBulkModulusMaker()), {"maker": {"volume_strain": 0.09}}, "±9 %", "properties", OUTSIDE),
    Case(
        603,
        made(MlipBulkModulusMaker()),
        {"maker": {"volume_strain": 0.036}},
        "±3.6 %",
        "properties",
        "no smooth curve",
    ),
    Case(
        603,
        volumes(),
        {"kwargs": {"volume_strain": 0.09}},
        "±9 %",
        "properties",
        OUTSIDE,
    ),
    Case(
        603,
        volumes(),
        {"kwargs": {"volume_strain": 0.135}},
        "±13.5 % instead of 9 %",
        "properties",
        OUTSIDE,
        tries=1,
        earlier={"kwargs": {"volume_strain": 0.09}},
    ),
    Case(
        604,
        phonon_supercell(CELL, 8.0, 64, 200, 0.01),
        {"kwargs": {"min_length": 10.0, "max_atoms": 128}},
        "at least 10 Å instead of 8 Å",
        "phonon",
    ),
    # what an earlier re-run asked made the energy another one
    Case(607, made(VASP), {}, "the protocol's own settings", earlier=incar(ALGO="Damped", LREAL=False)),
    Case(
        607,
        made(VASP),
        {"restart": True},
        "from the last geometry",
        geometry=True,
        earlier=incar(LREAL=False),
        starts="geometry",
    ),
    # somebody had to mend something
    Case(606, made(FIELD), {}, "what was missing must be there now"),
    Case(103, made(PW), {}, "nothing"),
]


def attempts_of(number, case, fw_id, job):
    """What is on record: the re-runs so far, and the last launch."""
    cause = Cause(code=case.code, name=CAUSES[case.code].name, evidence=case.evidence, stage=case.stage)
    mine = {"campaign": "c", "round": 1, "candidate": name_of(number), "stage": case.stage, "job_uuid": job.uuid}
    for n in range(case.tries):
        yield Attempt(attempt=f"p{number}-{n}", state="begun", planned_at=now(), cause=cause, fw_id=fw_id, **mine)
    yield Attempt(
        attempt=f"a{number}",
        state="failed",
        fw_id=fw_id,
        launch_id=fw_id,
        directory=f"/launches/{number}",
        cause=cause,
        overrides=case.earlier,
        last_geometry=CELL.as_dict() if case.geometry else None,
        **mine,
    )


def name_of(number):
    return f"c-r01-{number:04d}"


def test_each_cause_asks_what_it_should_of_real_makers(store):
    # One round for all of them: it is the database that takes time.
    for number, case in enumerate(CASES):
        dress(case.job, block_of("c", 1, case.stage, name_of(number), "any"), "cpu")
    store.launchpad.add_wf(to_workflow(Flow([case.job for case in CASES]), name="c/r01"))
    database = store.database
    stored = {fw["spec"]["_tasks"][0]["job"]["uuid"]: fw for fw in database.fireworks.find()}
    records = []
    for number, case in enumerate(CASES):
        records += attempts_of(number, case, stored[case.job.uuid]["fw_id"], case.job)
    database.attempts.insert_many([record.model_dump() for record in records])
    database.fireworks.update_many({}, {"$set": {"state": "FIZZLED"}})

    plan = plan_rerun(database, Selector("c"), over_budget=True)  # 304 is unlikely to be helped, and then needs that
    assert plan.skipped == []
    items = {item.candidate: item for item in plan.items}
    for number, case in enumerate(CASES):
        item, what = items[name_of(number)], f"{number}: {case.code} of {case.job.name}"
        assert item.overrides == case.overrides, what
        assert case.words in item.words, what
        assert {key: value for key, value in item.resources.items() if key != "resumable"} == case.resources, what
        assert item.tries == case.tries, what
        assert bool(item.start) == (case.starts is not None), what
        assert item.start.get("directory") == (f"/launches/{number}" if case.starts == "there" else None), what
        asked = item.overrides.get("maker", {})
        if asked:
            maker = changed_maker(case.job.maker, asked)  # a name that it does not have would be passed over
            assert {name: getattr(maker, name) for name in asked} == asked, what
