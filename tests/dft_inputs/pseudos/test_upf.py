from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dft_inputs.pseudos.manifest import shipped_manifests
from dft_inputs.pseudos.upf import MAX_BYTES, UpfError, functional_name, parse_header, read_header

# In the form that Quantum ESPRESSO writes with write_upf_v1: what SSSP's GBRV files look like.
VERSION_1 = b"""<PP_INFO>
Generated using Vanderbilt code, version   7  3  6
</PP_INFO>
<PP_HEADER>
   0                   Version Number
  Al                   Element
   US                  Ultrasoft pseudopotential
    T                  Nonlinear Core Correction
 SLA  PW   PBE  PBE     PBE  Exchange-Correlation functional
    3.00000000000      Z valence
   -5.34170000000      Total energy
    29.0     145.0     Suggested cutoff for wfc and rho
    2                  Max angular momentum component
  825                  Number of points in mesh
    2    6             Number of Wavefunctions, Number of Projectors
 Wavefunctions         nl  l   occ
                       3S  0  2.00
                       3P  1  1.00
</PP_HEADER>
<PP_RHOATOM>
  0.00000000000E+00  1.00000000000E-05
</PP_RHOATOM>
"""


def test_every_file_of_the_family_is_what_the_manifest_says(family):
    manifest = shipped_manifests()[family.name]
    assert len(manifest.files) == 72
    for element, entry in manifest.files.items():
        header = read_header(family.directory / entry.file)
        assert (header.element, header.functional, header.relativistic) == (element, "PBE", "scalar")
        assert header.z_valence == entry.z_valence
        assert header.n_projectors == entry.n_projectors
        assert header.pseudo_type == "NC"
        # ONCVPSP writes the end of its radial grid there: no recommendation
        assert header.wfc_cutoff_ry is None
        assert header.rho_cutoff_ry is None


def test_version_1_is_read():
    header = parse_header(VERSION_1)
    assert (header.element, header.functional, header.pseudo_type) == ("Al", "PBE", "US")
    assert (header.z_valence, header.n_projectors, header.n_wavefunctions) == (3.0, 6, 2)
    assert (header.wfc_cutoff_ry, header.rho_cutoff_ry) == (29.0, 145.0)
    assert header.core_correction


def test_version_1_with_spin_orbit_is_fully_relativistic():
    assert parse_header(VERSION_1).relativistic == "scalar"
    assert parse_header(VERSION_1 + b"<PP_ADDINFO>\n</PP_ADDINFO>\n").relativistic == "full"


def test_signs_inside_attributes_are_no_end_of_the_header(upf):
    assert parse_header(upf("Si", comment="3s2 -> 3p2 /> '")).n_projectors == 6


@pytest.mark.parametrize("missing", [b"</PP_RHOATOM>\n", b"1.00000000000E-05\n</PP_RHOATOM>\n"])
def test_version_1_cut_short_is_refused(missing):
    with pytest.raises(UpfError, match="cut short"):
        parse_header(VERSION_1.removesuffix(missing))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_real_file_cut_anywhere_is_refused(family, data):
    content = family.files["Al"].path.read_bytes().rstrip()
    kept = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(UpfError):
        parse_header(content[:kept])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"<PP_HEADER ", b"<PP_HEADER>", b'<PP_HEADER element="Si"/>']))
def test_what_is_no_upf_is_refused_and_nothing_else_happens(junk, start):
    with pytest.raises(UpfError):
        parse_header(start + junk + b"\n")


@settings(max_examples=100, deadline=None)
@given(
    element=st.sampled_from(["H", "Si", "Mg", "Xe", "Lu"]),
    z_valence=st.floats(0.01, 99, allow_nan=False).map(lambda value: round(value, 2)),
    functional=st.sampled_from(["PBE", "PBEsol", "LDA", "SCAN"]),
    projectors=st.integers(0, 30),
)
def test_a_header_is_read_as_it_was_written(upf, element, z_valence, functional, projectors):
    content = upf(element, functional=functional, z_valence=z_valence, number_of_proj=str(projectors))
    header = parse_header(content)
    assert (header.element, header.functional, header.n_projectors) == (element, functional, projectors)
    assert header.z_valence == pytest.approx(z_valence)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("PBE", "PBE"),
        (" SLA  PW   PBX  PBC", "PBE"),
        ("SLA PW PBE PBE", "PBE"),
        ("sla+pw+pbx+pbc", "PBE"),
        ("SLA PW PSX PSC", "PBEsol"),
        ("SLA PZ NOGX NOGC", "LDA"),
        ("SLA PW B88 P86", "SLA PW B88 P86"),
    ],
)
def test_functionals_have_one_name(words, name):
    assert functional_name(words) == name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"element": "Silicon"}, "names no element"),
        ({"element": ""}, "no element"),
        ({"z_valence": "many"}, "'many' for z_valence"),
        ({"z_valence": "-4"}, "-4.0 valence electrons"),
        ({"z_valence": "nan"}, "nan valence electrons"),
        ({"functional": " "}, "no functional"),
    ],
)
def test_a_header_that_says_nonsense_is_refused(upf, changes, says):
    element = changes.pop("element", "Si")
    content = upf(element).replace(b'z_valence="    4.00"', f'z_valence="{changes.pop("z_valence", "4")}"'.encode())
    if "functional" in changes:
        content = content.replace(b'functional="PBE"', b'functional=" "')
    with pytest.raises(UpfError, match=says):
        parse_header(content)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "Si.upf"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UpfError, match="more than 64 MB"):
        read_header(path)
