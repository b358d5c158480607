"""The flow is a bijection whose Jacobian is what autograd says, and its density integrates to one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.latent.flow import CouplingFlow
from generators.latent.splines import parameters_of, spline


def disturbed(size, context, seed, strength=0.3, **options):
    torch.manual_seed(seed)
    flow = CouplingFlow(size, context, width=16, **options)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(strength * torch.randn_like(parameter))
    return flow


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_a_spline_is_monotonic_and_its_inverse_undoes_it(seed, bins):
    generator = torch.Generator().manual_seed(seed)
    raw = 2 * torch.randn(1, parameters_of(bins), generator=generator).double().expand(201, -1)
    x = torch.linspace(-7, 7, 201).double()
    y, slope = spline(x, raw)
    assert (y.diff() > 0).all()
    back, opposite = spline(y, raw, inverse=True)
    assert (back - x).abs().max() < 1e-8
    assert (slope + opposite).abs().max() < 1e-6


def test_raw_zeros_give_the_identity():
    x = torch.linspace(-6, 6, 50)
    y, slope = spline(x, torch.zeros(50, parameters_of(5)))
    assert torch.allclose(x, y, atol=1e-5)
    assert torch.allclose(slope, torch.zeros(50), atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_the_inverse_undoes_the_flow(seed):
    flow = disturbed(7, 3, seed, strength=0.1)
    x, context = 2 * torch.randn(40, 7), torch.randn(40, 3)
    present = torch.rand(40, 7) > 0.3
    x = torch.where(present, x, 0.0)
    with torch.no_grad():
        z, _ = flow(x, context, present)
        assert (flow.inverse(z, context, present) - x).abs().max() < 1e-4


def test_the_log_determinant_is_that_of_autograds_jacobian():
    flow = disturbed(6, 2, 3).double()
    context = torch.randn(1, 2).double()
    present = torch.tensor([[True, True, False, True, True, False]])
    for _ in range(5):
        x = torch.where(present, 1.5 * torch.randn(1, 6).double(), 0.0)
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None], context, present)[0][0], x[0])
        where = present[0]
        wanted = torch.linalg.slogdet(jacobian[where][:, where])[1]
        assert float(flow(x, context, present)[1][0].detach()) == pytest.approx(float(wanted), abs=1e-8)


def test_the_density_integrates_to_one():
    flow = disturbed(2, 1, 5, strength=0.2, layers=4)
    line = torch.linspace(-9, 9, 361)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        log_p = flow.log_likelihood(grid, torch.ones(len(grid), 1), torch.ones(len(grid), 2, dtype=torch.bool))
    assert float(log_p.exp().sum()) * 0.05**2 == pytest.approx(1.0, abs=5e-3)


def test_absent_entries_have_no_part_in_the_density():
    flow = disturbed(5, 1, 2)
    present = torch.tensor([[True, False, True, False, True]])
    x = torch.where(present, torch.randn(1, 5), 0.0)
    z, _ = flow(x, torch.ones(1, 1), present)
    assert not z[~present].any()


def test_a_crystal_comes_back_from_its_latent_vector(flow, corner):
    structures = [e.structure for e in corner.entries[:20]]
    content, frame = _shown(flow, structures)
    decoded = flow.network.decode(flow.network.encode(content, frame), frame)
    assert (decoded.element.argmax(dim=-1) == content.element)[frame.present].all()
    off = decoded.free - content.free
    assert (off - off.round()).abs()[frame.is_free].max() < 1e-3
    assert torch.allclose(decoded.expansion, content.expansion, atol=1e-3)


def test_the_jacobian_of_the_logit_is_counted(flow, corner):
    content, frame = _shown(flow, [e.structure for e in corner.entries[:40]])
    k = int(frame.is_free.flatten(1).sum(dim=1).argmax())
    content, frame = content.rows(torch.tensor([k])), frame.rows(torch.tensor([k]))
    free = frame.is_free.flatten()

    def line(values):
        moved = torch.zeros(24).index_copy(0, free.nonzero()[:, 0], values).view(1, 8, 3)
        x, _ = flow.network.to_vector(content._replace(free=moved), frame)
        return x[0, 48:72][free]

    values = content.free.flatten()[free].clamp(0.01, 0.45)
    wanted = torch.linalg.slogdet(torch.autograd.functional.jacobian(line, values))[1]
    moved = torch.zeros(24).index_copy(0, free.nonzero()[:, 0], values).view(1, 8, 3)
    _, found = flow.network.to_vector(content._replace(free=moved), frame)
    assert float(found) == pytest.approx(float(wanted), abs=1e-3)


def test_training_crystals_are_likelier_than_scrambled_ones(flow, corner):
    structures = [e.structure for e in corner.entries[:60]]
    content, frame = _shown(flow, structures)
    noise = torch.zeros(len(structures), flow.network.latent_size)
    real = flow.network.log_likelihood(content, frame, noise).mean()
    order = torch.randperm(len(structures), generator=torch.Generator().manual_seed(0))
    scrambled = flow.network.log_likelihood(content._replace(expansion=content.expansion[order] + 3), frame, noise)
    assert float(real) > float(scrambled.mean()) + 1
    assert flow.log_likelihood(structures[:3]).shape == (3,)


def _shown(model, structures):
    from generators.symmetric.assignments import row_of
    from generators.symmetric.wyckoff import describe

    descriptions = [describe(s) for s in structures]
    return model.space.content(descriptions), model.space.frame([row_of(d).skeleton for d in descriptions])
