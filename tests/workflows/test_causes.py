"""Causes: every code is in its band, and errors are named by what they are."""

from __future__ import annotations

import errno

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, ServerSelectionTimeoutError

from dft_inputs.causes import DFT_CAUSES, DftError
from workflows.causes import CAUSES, CausedError, cause_of


@pytest.mark.parametrize("info", CAUSES.values(), ids=lambda info: str(info.code))
def test_every_cause_says_how_it_is_recognised_and_what_a_rerun_changes(info):
    assert info.name == info.name.lower().replace(" ", "_")
    assert info.recognised_by
    assert bool(info.rerun_changes) == info.recoverable
    assert (info.retries > 0) == info.recoverable
    assert info.code // 100 in {1, 2, 3, 4, 5, 6, 9}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CausedError(501, "500 steps"), 501),
        (DftError(410, "100 iterations"), 410),
        (KeyboardInterrupt(), 105),
        (MemoryError(), 102),
        (ModuleNotFoundError("sevenn"), 204),
        (OSError(errno.ENOSPC, "No space left on device"), 202),
        (PermissionError(errno.EACCES, "Permission denied"), 206),
        (AutoReconnect("gone"), 205),
        (ServerSelectionTimeoutError("gone"), 205),
        (OperationFailure("out of disk space", code=14031), 202),
        (ValueError("something else"), 999),
    ],
)
def test_errors_are_named(error, code):
    found, evidence = cause_of(error)
    assert found == code
    assert evidence


def test_evidence_is_one_short_line():
    _, evidence = cause_of(ValueError("a\nb" * 1000))
    assert "\n" not in evidence
    assert len(evidence) <= 500


def test_no_cause_has_two_rows():
    from workflows.causes import _BEYOND_A_RUN

    assert not set(DFT_CAUSES) & {info.code for info in _BEYOND_A_RUN}
    assert len({info.name for info in CAUSES.values()}) == len(CAUSES)
