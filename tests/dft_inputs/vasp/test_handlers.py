from __future__ import annotations

import os
import time

import pytest

from dft_inputs.vasp.handlers import (
    AllocationWalltimeHandler,
    EarlyDiagonalisationHandler,
    default_handlers,
    longest_loops,
)
from dft_inputs.walltime import DEADLINE

OUTCAR = """
      LOOP:  cpu time    9.8: real time    {scf:.4f}
     LOOP+:  cpu time   50.0: real time    {ionic:.4f}
      LOOP:  cpu time    1.2: real time    1.5000
"""


def handler(left, check_seconds=30.0):
    return AllocationWalltimeHandler(check_seconds, closing_seconds=60.0, ask=lambda: left)


@pytest.fixture
def run(tmp_path):
    """A run whose longest ionic step took 100 s, and whose longest electronic one took 10 s."""
    (tmp_path / "OUTCAR").write_text(OUTCAR.format(scf=10, ionic=100))
    return tmp_path


def test_how_long_steps_take(run, tmp_path):
    assert longest_loops(run / "OUTCAR") == (100.0, 10.0)
    assert longest_loops(tmp_path / "none") == (0.0, 0.0)


@pytest.mark.parametrize(
    ("left", "wanted"),
    [
        (None, None),  # no limit known
        (291.0, None),  # 60 to close, 30 until the next look, 200 for a step twice as long as the longest
        (289.0, "LSTOP"),
        (111.0, "LSTOP"),
        (109.0, "LABORT"),  # not even twice the longest electronic step
        (-5.0, "LABORT"),
    ],
)
def test_vasp_is_stopped_while_another_step_would_still_fit(run, left, wanted):
    ours = handler(left)
    assert ours.check(str(run)) == (wanted is not None)
    if wanted:
        ours.correct(str(run))
        assert (run / "STOPCAR").read_text() == f"{wanted} = .TRUE.\n"


def test_before_the_first_step_only_the_end_itself_counts(tmp_path):
    assert not handler(91.0).check(str(tmp_path))
    assert handler(89.0).check(str(tmp_path))


def test_the_time_left_is_read_when_it_is_asked(run, monkeypatch):
    ours = AllocationWalltimeHandler(30.0)
    before = dict(os.environ)
    assert not ours.check(str(run))
    monkeypatch.setenv(DEADLINE, str(time.time() + 1000))
    assert not ours.check(str(run))
    monkeypatch.setenv(DEADLINE, str(time.time() + 200))
    assert ours.check(str(run))
    assert str(time.time())[:6] not in str(ours.as_dict())
    assert set(os.environ) - set(before) == {DEADLINE}  # custodian's own leaves a start behind


def test_handlers_are_custodians_as_atomate2_has_them_and_new_every_time():
    from atomate2.vasp.run import DEFAULT_HANDLERS

    first, second = default_handlers(), default_handlers()
    assert [type(h) for h in first] == [
        AllocationWalltimeHandler,
        EarlyDiagonalisationHandler,
        *(type(h) for h in DEFAULT_HANDLERS),
    ]
    assert not {id(h) for h in first} & {id(h) for h in second}
