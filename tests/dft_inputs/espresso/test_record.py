from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dft_inputs.causes import DFT_CAUSES
from dft_inputs.espresso.density import density_of
from dft_inputs.espresso.handlers import default_handlers
from dft_inputs.espresso.handlers.mixing import accuracies, is_converging
from dft_inputs.espresso.job import reserve
from dft_inputs.espresso.record import Correction, RunRecord

if TYPE_CHECKING:
    from pathlib import Path

_VALUES = st.dictionaries(
    st.text(min_size=1, max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8)
)
_CORRECTIONS = st.builds(
    Correction,
    code=st.sampled_from(sorted(DFT_CAUSES)),
    handler=st.text(max_size=8),
    evidence=st.text(max_size=8),
    actions=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    before=_VALUES,
    after=_VALUES,
    comparable=st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        RunRecord,
        corrections=st.lists(_CORRECTIONS, max_size=3).map(tuple),
        pressure_tolerance_kbar=st.none() | st.floats(0, 10),
        pools=st.none() | st.integers(1, 9),
        returncode=st.none() | st.integers(-9, 255),
    )
)
def test_records_round_trip(tmp_path: Path, record: RunRecord):
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record
    assert record.comparable == all(one.comparable for one in record.corrections)


def test_what_is_not_known_is_not_written(tmp_path: Path):
    RunRecord().write(tmp_path)
    assert "returncode" not in json.loads((tmp_path / "nucleate.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_somebody_elses_file_is_no_record(tmp_path: Path, text: str):
    (tmp_path / "nucleate.json").write_text(text, encoding="utf-8")
    assert RunRecord.read(tmp_path) == RunRecord()


def _density_file(n_plane_waves: int, spins: int) -> bytes:
    records = [
        struct.pack("<3i", 0, n_plane_waves, spins),
        bytes(72),
        bytes(12 * n_plane_waves),
        *[bytes(16 * n_plane_waves)] * spins,
    ]
    return b"".join(struct.pack("<i", len(one)) + one + struct.pack("<i", len(one)) for one in records)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.floats(0.0, 1.0, exclude_max=True))
def test_a_density_counts_only_when_it_is_whole(tmp_path: Path, n_plane_waves: int, spins: int, part: float):
    data = _density_file(n_plane_waves, spins)
    (tmp_path / "charge-density.dat").write_bytes(data)
    whole = density_of(tmp_path)
    assert whole is not None
    assert (whole.n_plane_waves, whole.n_spins) == (n_plane_waves, spins)
    (tmp_path / "charge-density.dat").write_bytes(data[: int(part * len(data))])
    assert density_of(tmp_path) is None


def test_a_missing_density_is_none(tmp_path: Path):
    assert density_of(tmp_path) is None


@given(st.floats(1.0, 1e6), st.floats(0.0, 1e5))
def test_pw_x_always_gets_half_of_the_time_or_more(left: float, iteration: float):
    assert 0.0 < reserve(left, iteration) <= 0.5 * left


def test_every_handler_has_a_cause_of_its_own_and_a_place_in_the_order():
    handlers = default_handlers()
    codes = [one.code for one in handlers]
    assert len(set(codes)) == len(codes)
    assert all(DFT_CAUSES[code].recoverable for code in codes)
    assert [one.priority for one in handlers] == sorted(one.priority for one in handlers)


def test_a_cycle_on_its_way_is_told_from_one_that_is_stuck():
    line = "     estimated scf accuracy    <       {:.8f} Ry\n"
    falling = "Self-consistent Calculation\n" + "".join(line.format(10.0**-n) for n in range(8))
    stuck = "Self-consistent Calculation\n" + "".join(line.format(0.5) for _ in range(8))
    assert is_converging(accuracies(falling))
    assert not is_converging(accuracies(stuck))
    assert not is_converging(accuracies(falling + stuck))  # only the last cycle counts
