"""Real endings of real pw.x runs; words of pw.x and of schedulers that no small run can be made to say are marked."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pw_runs import ENDINGS, made_once

from dft_inputs.causes import DFT_CAUSES, DftError
from dft_inputs.diagnose import diagnose
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.errors import SUGGESTIONS
from dft_inputs.espresso.outputs import last_geometry, read_pw
from dft_inputs.files import NoRunError

pytestmark = pytest.mark.xdist_group("pw-runs")

SUCCESSES = [name for name, ending in ENDINGS.items() if ending.code == 0]


@pytest.fixture(scope="session")
def runs(tmp_path_factory, pw_x, family):
    """Give a function that makes a run once."""
    base = tmp_path_factory.getbasetemp() / "pw-runs"
    return lambda name: made_once(name, base, pw_x, family.directory)


def copy_of(run: Path, to: Path) -> Path:
    """Copy what pw.x left, without its scratch."""
    to.mkdir(parents=True)
    for path in run.iterdir():
        if path.is_file():
            shutil.copy(path, to / path.name)
    return to


@pytest.mark.parametrize("name", ENDINGS)
def test_each_real_ending_has_its_cause_and_its_evidence(name, runs):
    found = diagnose(runs(name))
    assert found.code == ENDINGS[name].code, found
    assert found.program == "espresso"
    assert found.evidence
    for item in found.evidence:
        assert (runs(name) / item.file).is_file()
        if item.line is not None:
            lines = (runs(name) / item.file).read_text(errors="replace").splitlines()
            assert item.text.split(": ")[-1].split()[-1] in " ".join(lines[item.line - 1 : item.line + 1])
    if found.code:
        assert found.suggestion == SUGGESTIONS[found.code]


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending.code])
def test_nothing_is_read_from_a_run_that_failed(name, runs):
    with pytest.raises(DftError) as caught:
        read_pw(runs(name))
    assert caught.value.code == ENDINGS[name].code


def test_a_run_that_was_restarted_into_the_same_file_is_judged_by_its_last_part(runs, tmp_path):
    text = (runs("restarted") / "pw.out").read_text()
    assert "Maximum CPU time exceeded" in text
    assert text.count("JOB DONE") == 2
    again = copy_of(runs("scf"), tmp_path / "again")
    good, bad = (runs(name).joinpath("pw.out").read_text() for name in ("scf", "too_few_bands"))
    (again / "pw.out").write_text(bad + good)
    assert diagnose_pw(again).code == 0
    (again / "pw.out").write_text(good + bad)
    found = diagnose_pw(again)
    assert found.code == 305
    assert found.evidence[0].line > len(good.splitlines())


def test_of_several_outputs_the_one_that_was_begun_last_counts(runs, tmp_path):
    run = copy_of(runs("too_few_bands"), tmp_path / "run")
    old = (run / "pw.out").read_text()
    day = re.search(r"starts on +(\S+) at", old).group(1)
    (run / "zzz.out").write_text(old)
    newer = (runs("scf") / "pw.out").read_text().replace(day, "31Dec2099")
    (run / "aaa.out").write_text(newer)
    assert diagnose_pw(run).code == 0


def test_an_old_crash_file_says_nothing_of_a_later_run(runs, tmp_path):
    run = copy_of(runs("scf"), tmp_path / "run")
    shutil.copy(runs("too_few_bands") / "CRASH", run)
    assert diagnose_pw(run).code == 0
    # killed after it had failed with that error before: the old CRASH is not the cause
    before = (runs("too_few_bands") / "pw.out").read_text()
    (run / "pw.out").write_text(before + (runs("scf") / "pw.out").read_text()[:3000])
    assert diagnose_pw(run).code == 106


def test_crash_file_alone_is_enough(runs, tmp_path):
    run = copy_of(runs("too_few_bands"), tmp_path / "run")
    (run / "pw.out").write_text((run / "pw.out").read_text().split(" %%%")[0])
    found = diagnose_pw(run)
    assert (found.code, found.evidence[0].file) == (305, "CRASH")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_output_cut_off_anywhere_is_no_success(data, runs):
    name = data.draw(st.sampled_from([*SUCCESSES, "wrong_and_happy"]))
    packed = data.draw(st.booleans())
    content = (runs(name) / "pw.out").read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    with TemporaryDirectory() as place:
        run = copy_of(runs(name), Path(place) / "run")
        (run / "pw.out").write_bytes(content[:cut])
        kept = content[:cut]
        if packed:
            (run / "pw.out").unlink()
            squeezed = gzip.compress(content)[:cut]
            kept = zlib.decompressobj(wbits=31).decompress(squeezed)
            (run / "pw.out.gz").write_bytes(squeezed)
        try:
            found = diagnose_pw(run, pressure_tolerance_kbar=10)
        except NoRunError:
            assert len(kept) < 40
            return
        last = kept[kept.rfind(b"Program PWSCF") :]
        # of two runs in one file, the first of "restarted" was stopped by its wall-time
        assert (found.code == 0) == (b"JOB DONE." in last and b"Maximum CPU time" not in last)
        if found.code:
            assert found.code in {101, 106}
        last_geometry(run)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_broken_in_a_directory_diagnosing_does_not_raise(data, runs):
    name = data.draw(st.sampled_from(sorted(ENDINGS)))
    with TemporaryDirectory() as place:
        run = copy_of(runs(name), Path(place) / "run")
        for path in sorted(run.iterdir()):
            content = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(0, 4))):
                at = data.draw(st.integers(0, len(content)))
                end = data.draw(st.integers(at, min(len(content), at + 400)))
                content[at:end] = data.draw(
                    st.sampled_from([b"", b"*" * 8, b"NaN", b"\0\0", b"\n\n", b"\xff\xfe", b"%%%"])
                )
            path.write_bytes(content)
        try:
            found = diagnose(run)
        except NoRunError:
            return
        assert found.code == 0 or found.code in DFT_CAUSES
        last_geometry(run)
        if found.code:
            with pytest.raises(DftError):
                read_pw(run)
        else:
            with suppress(DftError):  # a success whose geometry or numbers were broken
                read_pw(run)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_names_and_compression_do_not_matter(data, runs):
    name = data.draw(st.sampled_from(sorted(ENDINGS)))
    if name == "output_nowhere":
        return  # there is nothing to be found but an input and an empty file
    before = diagnose(runs(name))
    with TemporaryDirectory() as place:
        run = copy_of(runs(name), Path(place) / "run")
        names = {}
        for number, path in enumerate(sorted(run.iterdir())):
            pack = data.draw(st.sampled_from([None, gzip, bz2]))
            word = data.draw(st.text("abcXYZ.-_0", min_size=1, max_size=8))
            new = run / f"{word}{number}"
            content = path.read_bytes()
            path.unlink()
            new.write_bytes(pack.compress(content) if pack and content else content)
            names[path.name] = new.name
        after = diagnose(run)
        assert (after.code, after.suggestion) == (before.code, before.suggestion)
        assert [(e.file, e.line) for e in after.evidence] == [(names[e.file], e.line) for e in before.evidence]


def test_pressure_of_the_final_scf_and_who_says_what_is_tolerated(runs, tmp_path):
    run = copy_of(runs("wrong_and_happy"), tmp_path / "run")
    text = (run / "pw.out").read_text()
    assert "bfgs converged" in text
    assert "JOB DONE" in text
    found = diagnose_pw(run)
    assert found.code == 610
    assert "P=" in found.evidence[0].text
    assert found.evidence[0].line > text[: text.index("Final scf")].count("\n")
    assert diagnose_pw(run, pressure_tolerance_kbar=4).code == 0
    (run / "nucleate.json").write_text(json.dumps({"pressure_tolerance_kbar": 4}))
    assert diagnose_pw(run).code == 0
    assert diagnose_pw(run, pressure_tolerance_kbar=3).code == 610
    (run / "nucleate.json").unlink()
    # relaxed to another pressure than zero: that one counts
    (run / "pw.in").write_text((run / "pw.in").read_text().replace("&cell\n", "&cell\n press = 3.0\n"))
    assert diagnose_pw(run).code == 0


def test_a_cell_that_is_not_free_must_keep_the_pressure_that_it_relaxed_to(runs, tmp_path):
    run = copy_of(runs("wrong_and_happy"), tmp_path / "run")
    (run / "pw.in").write_text((run / "pw.in").read_text().replace("&cell\n", "&cell\n cell_dofree = 'xy'\n"))
    found = diagnose_pw(run)  # 0.48 at the end of the relaxation, 3.36 with its own plane waves
    assert found.code == 610
    assert "from 0.48 kbar" in found.evidence[1].text


@pytest.mark.parametrize(
    ("name", "before", "after", "code"),
    [
        ("scf", "     -16.73138302 Ry\n", "     ************ Ry\n", 611),
        ("scf", "     -16.73138302 Ry\n", "              NaN Ry\n", 602),
        ("scf", "force =     0.00000000", "force =            NaN", 602),
        ("scf", "(kbar)     P=      116.30", "(kbar)     P= ***********", 611),
        ("scf", "Forces acting on atoms", "Nothing", 0),
        ("scf", "     atom ", "     mota ", 611),
        ("scf", "Computing stress", "Computing", 0),
        ("scf", "total   stress", "total", 0),
        ("scf", "(kbar)     P=", "", 611),
        ("relax", "End final coordinates", "", 611),
        ("relax", "bfgs converged in", "", 611),
        ("nscf", "End of band structure calculation", "", 611),
    ],
)
def test_done_with_a_part_missing_is_no_success(name, before, after, code, runs, tmp_path):
    run = copy_of(runs(name), tmp_path / "run")
    text = (run / "pw.out").read_text()
    assert before in text
    (run / "pw.out").write_text(text.replace(before, after))
    assert diagnose_pw(run).code == code


def test_a_cell_relaxation_without_its_final_scf_is_no_success(runs, tmp_path):
    run = copy_of(runs("wrong_and_happy"), tmp_path / "run")
    text = (run / "pw.out").read_text()
    (run / "pw.out").write_text(
        text[: text.index("     Final scf")]
        + text[text.index("     Writing output data file ./out/pw.save/\n\n     init_run") :]
    )
    found = diagnose_pw(run)
    assert found.code == 611
    assert "final scf" in found.evidence[0].text


def test_minimiser_that_gave_up_and_calls_it_convergence(runs, tmp_path):
    run = runs("minimiser_gave_up")
    text = (run / "pw.out").read_text()
    assert "bfgs converged in" in text
    assert "End final coordinates" in text
    assert diagnose_pw(run).evidence[0].text == "history already reset at previous step: stopping"
    # where forces are below the threshold all the same, there is nothing to complain of
    shutil.copy(run / "pw.in", tmp_path)
    threshold = re.search("force convergence thresh.*", text).group()
    (tmp_path / "pw.out").write_text(text.replace(threshold, "force convergence thresh. =      1.0E-03"))
    assert diagnose_pw(tmp_path).code == 0


MADE_UP_BLOCKS = [
    ("c_bands", "too many bands are not converged", 401),
    (" cdiaghg", "problems computing cholesky", 401),
    ("cdiaghg", "S matrix not positive definite", 401),
    ("rdiaghg", "eigenvectors failed to converge", 401),
    ("ppcg", "zhegvd failed", 401),
    ("electrons", "charge is wrong", 411),
    ("broyden", "factorization", 411),
    ("scale_h", "Not enough space allocated for radial FFT: try restarting with a larger cell_factor.", 511),
    ("checkallsym", "not orthogonal operation", 511),
    ("divide_et_impera", "some nodes have no k-points", 209),
    ("setup", "too few spin dw bands", 305),
    ("write_rhog", "error writing file ./out/pw.save/charge-density", 202),
    ("davcio", 'error while writing from file "./out/pw.wfc1"', 202),
    ("davcio", 'error while reading from file "./out/pw.wfc1"', 211),
    ("set_dft_from_name", "conflicting values for igcx", 207),
    ("allocate_fft", "cannot allocate memory", 102),
    ("somewhere", "words that nobody knows", 210),
]


@pytest.mark.parametrize(("routine", "message", "code"), MADE_UP_BLOCKS)
def test_error_blocks_that_no_small_run_prints(routine, message, code, runs, tmp_path):
    """Made from the words of pw.x's own sources, in the form of its real blocks."""
    run = copy_of(runs("scf"), tmp_path / "run")
    text = (run / "pw.out").read_text()
    line = " " + "%" * 78 + "\n"
    block = f"\n{line}     Error in routine {routine} (1):\n     {message}\n{line}\n     stopping ...\n"
    (run / "pw.out").write_text(text[: text.index("     iteration #  2")] + block)
    found = diagnose_pw(run)
    assert found.code == code
    assert message in found.evidence[0].text


MADE_UP_LOGS = [
    ("slurmstepd: error: *** JOB 71 ON c1 CANCELLED AT 2026-11-24T10:00:00 DUE TO TIME LIMIT ***", 101),
    ("slurmstepd: error: *** STEP 71.0 ON c1 CANCELLED AT 2026-11-24T10:00:00 ***", 105),
    ("slurmstepd: error: *** JOB 71 ON c1 CANCELLED AT 2026-11-24T10:00:00 DUE TO PREEMPTION ***", 106),
    (
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=71.batch. Some of your processes may have died",
        102,
    ),
    ("=>> PBS: job killed: walltime 3608 exceeded limit 3600", 101),
    ("terminate called after throwing an instance of 'std::bad_alloc'", 102),
    ("Error allocating 1073741824 bytes\nError termination. Backtrace:", 102),
    ("forrtl: No space left on device", 202),
    ("mpirun noticed that process rank 0 with PID 1 on node c1 exited on signal 9 (Killed).", 106),
    ("mpirun noticed that process rank 0 with PID 1 on node c1 exited on signal 11 (Segmentation fault).", 210),
    ("Program received signal SIGSEGV: Segmentation fault - invalid memory reference.", 210),
    ("MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD", 210),
    ("pw.x: error while loading shared libraries: libmkl_core.so.2: cannot open shared object file", 203),
    ("There are not enough slots available in the system to satisfy the 64 slots", 209),
]


@pytest.mark.parametrize(("words", "code"), MADE_UP_LOGS)
@pytest.mark.parametrize("cut", [0, 5000])
def test_logs_explain_what_the_output_does_not(words, code, cut, runs, tmp_path):
    """Words as schedulers and run-time libraries print them; none of them runs here."""
    run = copy_of(runs("scf"), tmp_path / "run")
    (run / "pw.out").write_text((run / "pw.out").read_text()[:cut])
    (run / "pw.err").unlink()
    (run / "some.log").write_text(f"Loading modules\n{words}\n")
    found = diagnose_pw(run)
    assert found.code == code
    assert (found.evidence[0].file, found.evidence[0].line) == ("some.log", 2)


@pytest.mark.parametrize(("words", "code"), MADE_UP_LOGS)
def test_a_schedulers_log_may_be_the_output_itself(words, code, runs, tmp_path):
    text = (runs("scf") / "pw.out").read_text()[:5000]
    (tmp_path / "slurm-71.out").write_text(f"Loading modules\n{text}\n{words}\n")
    found = diagnose_pw(tmp_path)
    assert found.code == code
    assert found.evidence[0].line == text.count("\n") + 3


def test_a_long_log_has_its_word_at_its_end(runs, tmp_path):
    run = copy_of(runs("killed"), tmp_path / "run")
    (run / "slurm-71.out").write_text("chatter of a module\n" * 300_000 + MADE_UP_LOGS[0][0] + "\n")
    found = diagnose_pw(run)
    assert (found.code, found.evidence[0].line) == (101, 300_001)


def test_a_scheduler_comes_before_an_old_crash_file(runs, tmp_path):
    run = copy_of(runs("killed"), tmp_path / "run")
    shutil.copy(runs("too_few_bands") / "CRASH", run)
    assert diagnose_pw(run).code == 305  # nobody says otherwise
    (run / "slurm-71.out").write_text(MADE_UP_LOGS[0][0])
    assert diagnose_pw(run).code == 101


def test_binary_files_are_no_logs(runs, tmp_path):
    run = copy_of(runs("killed"), tmp_path / "run")
    (run / "pw.wfc1").write_bytes(b"\0\1\2\3" * 500 + b"Killed" + b"\0" * 2000)
    assert diagnose_pw(run).evidence[0].file == "pw.out"


def test_logs_of_a_run_that_succeeded_do_not_matter(runs, tmp_path):
    run = copy_of(runs("scf"), tmp_path / "run")
    (run / "slurm-1.out").write_text(MADE_UP_LOGS[0][0])
    assert diagnose_pw(run).code == 0


def test_scripts_and_records_that_quote_messages_are_no_logs(runs, tmp_path):
    run = copy_of(runs("killed"), tmp_path / "run")
    (run / "submit.sh").write_text("#!/bin/bash\n# oom-kill, DUE TO TIME LIMIT\n")
    (run / "custodian.json").write_text('[{"errors": ["No space left on device"]}]')
    assert diagnose_pw(run).code == 106


def test_our_own_record_says_what_stopped_a_run(runs, tmp_path):
    run = copy_of(runs("killed"), tmp_path / "run")
    (run / "nucleate.json").write_text(json.dumps({"returncode": -15, "stopped": "walltime"}))
    assert diagnose_pw(run).code == 101
    (run / "nucleate.json").write_text(json.dumps({"returncode": -9, "out_of_memory": True}))
    (run / "slurm-1.out").write_text("Killed\n")  # the shell does not know for what
    assert diagnose_pw(run).code == 102
    (run / "nucleate.json").write_text("not json")
    (run / "slurm-1.out").unlink()
    assert diagnose_pw(run).code == 106


def test_a_directory_without_a_run_is_told_apart(runs, tmp_path):
    with pytest.raises(NoRunError, match="no such directory"):
        diagnose(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("# What pw.x printed when it was Killed\n")
    for name in ("empty", "notes"):
        with pytest.raises(NoRunError, match="nothing"):
            diagnose(tmp_path / name)
    (tmp_path / "input").mkdir()
    shutil.copy(runs("scf") / "pw.in", tmp_path / "input")
    with pytest.raises(NoRunError, match="nothing that a run has written"):
        diagnose(tmp_path / "input")
    with pytest.raises(NoRunError, match="is a file"):
        diagnose(tmp_path / "input" / "pw.in")


def test_every_cause_that_can_be_named_has_a_row_and_a_suggestion():
    from dft_inputs.espresso.errors import ERROR_RULES
    from dft_inputs.logs import LOG_RULES
    from dft_inputs.vasp.errors import ERROR_RULES as VASP_RULES
    from dft_inputs.vasp.errors import SUGGESTIONS as VASP_SUGGESTIONS

    for rules, suggestions in ((ERROR_RULES, SUGGESTIONS), (LOG_RULES, SUGGESTIONS)):
        for rule in rules:
            assert rule.code in DFT_CAUSES
            assert suggestions[rule.code]
    for rule in (*VASP_RULES, *LOG_RULES):
        assert rule.code in DFT_CAUSES
        assert VASP_SUGGESTIONS.get(rule.code) or getattr(rule, "suggestion", "")
