"""A model of one's own in a second environment: its stream survives whatever happens to its runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from itertools import islice
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outside_fixtures import SALTS, is_alive, same, wait_for

from generators.adapters.process import EnvironmentProblem
from generators.adapters.script import OutsideModel
from generators.base import Condition, Generator, derive_seed
from generators.crystals.validity import check_structure
from generators.registry import load_generator, make_generator

COMMAND = ["model", "{output}", "{n}", "{seed}"]


def stream(generator, n, seed=1, start=0, condition=SALTS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(generator.sample(n, condition, seed, start))


def test_the_stream_is_whole_valid_and_of_the_second_environment(tiny):
    samples = stream(tiny.generator(), 10)
    assert [s.index for s in samples] == list(range(10))
    assert [s.seed for s in samples] == [derive_seed(1, i) for i in range(10)]
    for sample in samples:
        assert not check_structure(sample.structure, SALTS.max_atoms)
        assert SALTS.allows(sample.structure.symbol_set)
        assert (sample.info["model"], sample.info["model_version"]) == ("tiny", "0.1")
    runs = tiny.runs()
    assert [(r["n"], r["start"], r["seed"]) for r in runs] == [(4, 4 * b, derive_seed(1, b)) for b in range(3)]
    assert {r["python"] for r in runs} == {tiny.python}
    assert runs[0]["condition"]["chemical_systems"] == [list(s) for s in SALTS.chemical_systems]
    assert len({s.structure.composition.reduced_formula for s in samples}) > 2


def test_the_seed_decides(tiny, undisturbed):
    assert all(map(same, stream(tiny.generator(), 4), undisturbed))
    other = stream(tiny.generator(), 4, seed=2)
    assert not any(a.structure == b.structure for a, b in zip(other, undisturbed, strict=False))


def test_a_stream_can_begin_anywhere(tiny, tmp_path, undisturbed):
    whole = undisturbed[:10]
    generator = tiny.generator(cache=str(tmp_path / "cache"))
    assert all(map(same, stream(generator, 10, start=7), whole[7:]))  # inside a batch, the first never run
    assert {r["start"] for r in tiny.runs()} == {4, 8}
    stream(generator, 10)

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, 10), st.integers(0, 10))
    def begins_anywhere(n, start):
        assert all(map(same, stream(generator, n, start=start), whole[start:n]))
        assert len(stream(generator, n, start=start)) == max(0, n - start)

    begins_anywhere()


def test_samples_come_while_the_model_works(tiny, tmp_path):
    gate = tmp_path / "gate"
    generator = tiny.generator(more=["--parts", "2", "--gate", str(gate)], batch=6)
    samples = generator.sample(6, SALTS, 1)
    early = list(islice(samples, 2))  # would wait for ever if a batch counted only when its run has ended
    assert is_alive(tiny.runs()[0]["pid"])
    gate.touch()
    assert all(map(same, [*early, *samples], stream(generator, 6)))


def test_closing_the_stream_ends_the_model(tiny, tmp_path):
    samples = tiny.generator(more=["--parts", "1", "--gate", str(tmp_path / "never")]).sample(4, SALTS, 1)
    next(samples)
    pid = tiny.runs()[0]["pid"]
    assert is_alive(pid)
    samples.close()
    assert not is_alive(pid)
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(
    "fault", ["killed", "exit", "garbage", "half", "stray", "cut", "nothing"], ids=lambda fault: fault
)
def test_a_run_that_fails_once_leaves_no_trace(fault, tiny, undisturbed):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        disturbed = list(tiny.generator(["none", fault]).sample(6, SALTS, 1))
    assert all(map(same, disturbed, undisturbed[:6]))
    seeds = [r["seed"] for r in tiny.runs()]
    assert seeds == [derive_seed(1, 0), derive_seed(1, 1), derive_seed(1, 1)]  # once more with the same seed


@pytest.mark.parametrize("fault", ["killed", "half"])
def test_a_run_that_fails_twice_is_made_up_for(fault, tiny, undisturbed):
    with pytest.warns(UserWarning, match=r"script: batch 1: 1 runs lost, each tried 2 times: "):
        disturbed = list(tiny.generator(["none", fault, fault]).sample(12, SALTS, 1))
    assert [s.index for s in disturbed] == list(range(12))
    for batch, before in enumerate([undisturbed[:4], undisturbed[4:8], undisturbed[8:]]):
        after = disturbed[4 * batch : 4 * batch + 4]
        assert all(map(same, before, after)) == (batch != 1)
        assert {s.info["run"] for s in after} == {int(batch == 1)}
    assert tiny.runs()[3]["seed"] == derive_seed(1, 1, 1)


def test_a_model_that_hangs_is_ended_with_all_its_children_and_costs_one_batch(tiny):
    generator = tiny.generator(["none", "deaf", "hang"], timeout_s=2.5)
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="wrote nothing for 2.5 s"):
        samples = list(generator.sample(12, SALTS, 1))
    assert time.monotonic() - begin > 5
    assert [s.info["run"] for s in samples] == [0] * 4 + [1] * 4 + [0] * 4
    assert not any(is_alive(run["pid"]) for run in tiny.runs())
    assert not is_alive(tiny.grandchild())


def test_what_was_finished_before_a_run_failed_counts(tiny, undisturbed):
    with pytest.warns(UserWarning, match="exit code 3"):
        samples = list(tiny.generator(["exit", "exit"], more=["--parts", "2"]).sample(4, SALTS, 1))
    assert [s.info["run"] for s in samples] == [0, 0, 1, 1]
    assert all(a.structure == b.structure for a, b in zip(samples[:2], undisturbed, strict=False))
    assert tiny.runs()[2]["n"] == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("outside", "outside the chemical systems"), ("invalid", "no crystal"), ("unreadable", "unreadable")],
)
def test_a_crystal_that_does_not_fit_is_counted_and_replaced(fault, kind, tiny):
    with pytest.warns(UserWarning, match=f"batch 0: 1 crystals passed over: 1 {kind}"):
        samples = list(tiny.generator([fault]).sample(4, SALTS, 1))
    assert [(s.info["run"], s.info["place"]) for s in samples] == [(0, 1), (0, 2), (0, 3), (1, 0)]
    assert samples[0].info["passed_over"] == 1
    assert tiny.runs()[1]["n"] == 2  # one is missing, and a quarter of them do not fit


def test_too_few_and_too_many_crystals(tiny):
    samples = stream(tiny.generator(["short", "none", "surplus"]), 8)
    assert [(s.info["run"], s.info["place"]) for s in samples] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        *((0, i) for i in range(4)),
    ]


def test_a_model_that_ends_with_an_error_after_its_last_crystal_is_believed(tiny, undisturbed):
    assert all(map(same, stream(tiny.generator(["late"]), 4), undisturbed))
    assert len(tiny.runs()) == 1


def test_a_condition_that_the_model_misses_ends_with_the_numbers(tiny):
    said = (
        r"3 runs \(option tries\) filled 0 of the 1 places of batch 0; 3 outside the chemical systems \(such as FeO\)"
    )
    with pytest.raises(RuntimeError, match=said):
        stream(tiny.generator(["outside"] * 3, tries=3, batch=1), 1)


def test_too_many_failures_in_a_row_end_the_stream_and_tell_no_secrets(tiny, monkeypatch):
    monkeypatch.setenv("MODEL_TOKEN", "tok-3f9a1c")
    generator = tiny.generator(["none"] + ["exit"] * 8, environment=["MODEL_TOKEN"], max_failures=2)
    samples = generator.sample(12, SALTS, 1)
    assert len(list(islice(samples, 4))) == 4  # what was good stays
    with pytest.raises(RuntimeError, match="2 runs in a row were lost") as caught:
        next(samples)
    message = str(caught.value)
    assert "CUDA out of memory; token *** at mongodb://u:***@db/x" in message
    assert "3f9a1c" not in message
    assert "hunter2" not in message
    assert len(tiny.runs()) == 5


def test_the_model_sees_a_handful_of_variables(tiny, monkeypatch):
    monkeypatch.setenv("NUCLEATE_STORE_PASSWORD", "hunter2")
    monkeypatch.setenv("MONGODB_URI", "mongodb://u:hunter2@db/x")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("HF_HOME", "/models")
    stream(tiny.generator(environment=["HF_HOME"]), 1)
    seen = tiny.runs()[0]["environment"]
    assert set(seen) <= {"PATH", "HOME", "LANG", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_HOME", "LC_CTYPE"}
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["HF_HOME"]) == ("1", "/models")
    assert seen["PATH"].split(":")[0] == str(Path(tiny.python).parent)
    assert "hunter2" not in json.dumps(tiny.runs())


def test_no_shell_reads_the_command(tiny, tmp_path):
    nasty = f"; touch {tmp_path}/pwned $(touch {tmp_path}/pwned) *"
    stream(tiny.generator(more=["--gate", nasty]), 1)
    assert not (tmp_path / "pwned").exists()


def test_finished_runs_are_not_run_again(tiny, tmp_path):
    cache = {"cache": str(tmp_path / "cache")}
    first = stream(tiny.generator(["none", "killed", "killed", "outside"], **cache), 8)
    assert len(tiny.runs()) == 5
    again = stream(OutsideModel(**tiny.generator(**cache).options()), 8)
    assert len(tiny.runs()) == 5  # the lost run, too, is remembered: its batch would have other crystals else
    assert all(map(same, first, again))
    stream(tiny.generator(**cache), 9, start=8)
    assert len(tiny.runs()) == 6
    stream(tiny.generator(**cache), 4, seed=2)
    stream(tiny.generator(**cache), 4, condition=Condition((("Mg", "O"),)))
    stream(tiny.generator(more=["--parts", "2"], **cache), 4)
    assert len(tiny.runs()) == 9  # another seed, condition or command is another stream
    assert not list((tmp_path / "cache").glob("*/work-*"))


def test_another_model_in_the_same_file_is_another_stream(tiny, tmp_path):
    cache = {"cache": str(tmp_path / "cache")}
    stream(tiny.generator(**cache), 4)
    with (tiny.folder / "tiny_model.py").open("a") as stream_:
        stream_.write("# changed\n")
    stream(tiny.generator(**cache), 4)
    assert len(tiny.runs()) == 2


@pytest.mark.parametrize("damage", ["record", "crystals", "gone"])
def test_a_kept_run_that_is_damaged_is_run_again(damage, tiny, tmp_path):
    generator = tiny.generator(cache=str(tmp_path / "cache"))
    first = stream(generator, 4)
    (kept,) = (tmp_path / "cache").glob("*/batch-00000-run-00")
    target = kept / {"record": "run.json", "crystals": "out/batch-00000.extxyz", "gone": "out/manifest.jsonl"}[damage]
    target.unlink() if damage == "gone" else target.write_bytes(target.read_bytes()[:-20])
    assert all(map(same, stream(generator, 4), first))
    assert len(tiny.runs()) == 2


DRIVER = """
import json, sys
from generators.adapters.script import OutsideModel
from generators.base import Condition
condition = Condition((("Br", "Cl", "Cs", "F", "K", "Li", "Na"), ("Mg", "O")), max_elements=2, max_atoms=4)
for sample in OutsideModel(**json.loads(sys.argv[1])).sample(8, condition, 1):
    print(sample.index, flush=True)
"""


def test_if_we_are_killed_the_model_dies_and_the_next_run_goes_on(tiny, tmp_path, undisturbed):
    generator = tiny.generator(["none", "hang"], cache=str(tmp_path / "cache"))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, json.dumps(generator.options())], stdout=subprocess.PIPE)
    wait_for(lambda: len(tiny.runs()) == 2 and (Path(os.environ["HOME"]) / "grandchild").exists(), 60)
    driver.send_signal(signal.SIGKILL)
    out, _ = driver.communicate()
    assert out.split() == [b"0", b"1", b"2", b"3"]
    wait_for(lambda: not is_alive(tiny.runs()[1]["pid"]) and not is_alive(tiny.grandchild()))
    assert list((tmp_path / "cache").glob("*/work-*"))
    resumed = stream(generator, 8, start=4)
    assert [r["start"] for r in tiny.runs()] == [0, 4, 4]
    assert not list((tmp_path / "cache").glob("*/work-*"))
    assert all(map(same, resumed, undisturbed[4:]))


def test_a_module_that_is_missing_is_named_before_anything_runs(tiny):
    generator = tiny.generator(needs=["json", "torch_geometric", "numpy"])
    with pytest.raises(EnvironmentProblem, match="has no module torch_geometric, numpy; install it there") as caught:
        stream(generator, 1)
    assert tiny.python in str(caught.value)
    assert tiny.runs() == []


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            {"python": "/no/such/bin/python"},
            r"/no/such/bin/python \(option python\) is not there; give the path of bin",
        ),
        ({"python": "no-such-python"}, r"no-such-python \(option python\) is not there"),
        ({"python": __file__}, "is not executable"),
        ({"python": "/bin/false"}, r"/bin/false \(option python\) is no Python that works"),
        ({"command": ["{python}", "/no/model.py", *COMMAND[1:]]}, r"/no/model.py \(option command\) is not there"),
        ({"command": ["/no/model", *COMMAND[1:]]}, r"/no/model \(option command\) is not there"),
        ({"environment": ["NO_SUCH_VARIABLE"]}, "NO_SUCH_VARIABLE, which the option environment names, is not set"),
    ],
)
def test_an_environment_that_will_not_do_is_refused(options, wanted, tiny):
    with pytest.raises(EnvironmentProblem, match=wanted):
        stream(OutsideModel(**{**tiny.generator().options(), **options}), 1)
    assert tiny.runs() == []


def test_a_program_without_python_will_do(tmp_path):
    program = tmp_path / "model.sh"
    program.write_text("#!/bin/sh\necho nothing good comes >&2; exit 5\n")
    program.chmod(0o755)
    generator = OutsideModel([str(program), *COMMAND[1:]], max_failures=1)
    with pytest.raises(RuntimeError, match=r"(?s)ended with exit code 5.*nothing good comes"):
        stream(generator, 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("command", "python model.py"), ("command", []), ("command", [1]), ("command", ["model"]),
        ("command", [*COMMAND, "{colour}"]), ("command", ["{python}", *COMMAND]), ("python", 3), ("python", ""),
        ("batch", 0), ("batch", 2.5), ("batch", True), ("batch", "4"), ("timeout_s", 0), ("timeout_s", "1 h"),
        ("timeout_s", float("nan")), ("needs", "torch"), ("needs", ["import os"]), ("needs", ["numpy"]),
        ("environment", ["A=1"]), ("environment", "HOME"), ("cache", 7), ("max_failures", -1), ("tries", None),
        ("grace_s", -1),
    ],
)  # fmt: skip
def test_an_option_of_a_wrong_type_is_named(option, value):
    with pytest.raises(ValueError, match=f"script: the option {option}"):
        OutsideModel(**{"command": COMMAND, option: value})


def test_paths_are_taken_from_where_the_generator_is_made(tmp_path, monkeypatch):
    (tmp_path / "model.py").touch()
    monkeypatch.chdir(tmp_path)
    generator = OutsideModel(["{python}", "model.py", *COMMAND[1:]], python="venv/bin/python", cache="runs")
    monkeypatch.chdir("/")
    assert generator.command[1] == str(tmp_path / "model.py")
    assert generator.python == str(tmp_path / "venv/bin/python")
    assert generator.running.cache == str(tmp_path / "runs")


def test_it_is_saved_and_learns_nothing(tiny, tmp_path):
    generator = tiny.generator(needs=["json"], cache=str(tmp_path / "cache"))
    generator.save(tmp_path / "state")
    loaded = load_generator(tmp_path / "state")
    assert loaded == generator == generator.update([])
    assert loaded is not generator
    assert loaded.version == generator.update([]).version
    assert isinstance(generator, Generator)
    assert make_generator("script", **generator.options()) == generator
    assert tiny.generator(batch=5) != generator
    assert generator.fit([]).metrics == {"trained": 0.0}
