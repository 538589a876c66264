"""Identities of the flow: paths, time laws, integration, guidance."""

import math
from typing import get_args

import pytest
import torch

from unify.flow import (
    SOLVERS,
    LinearPath,
    LogitNormalTime,
    ShiftedTime,
    SinCosPath,
    Solver,
    UniformTime,
    XPrediction,
    data_from_velocity,
    guide,
    integrate,
    interpolate,
    shift_time,
    time_grid,
)

PATHS = [LinearPath(), SinCosPath()]
LAWS = [
    UniformTime(),
    LogitNormalTime(),
    LogitNormalTime(-0.9, 0.8),
    ShiftedTime(UniformTime(), 1024, 256),
    ShiftedTime(LogitNormalTime(0.3), 64, 256),
]


def pair(rows=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 2, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", PATHS)
def test_path_starts_at_the_source_and_ends_at_the_data(path, dtype):
    x0, x1 = (x.to(dtype) for x in pair())
    assert torch.equal(path.at(x0, x1, torch.zeros(3, dtype=dtype))[0], x0)
    assert torch.equal(path.at(x0, x1, torch.ones(3, dtype=dtype))[0], x1)


@pytest.mark.parametrize("path", PATHS)
def test_velocity_is_the_derivative_of_the_path(path):
    x0, x1 = pair()
    t = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    ahead, behind = (path.at(x0, x1, t + d)[0] for d in (1e-6, -1e-6))
    torch.testing.assert_close((ahead - behind) / 2e-6, path.at(x0, x1, t)[1])


@pytest.mark.parametrize("path", PATHS)
def test_velocity_is_the_gradient_of_the_path(path):
    x0, x1 = pair()
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    point = torch.func.jvp(lambda t: path.at(x0, x1, t)[0], (t,), (torch.ones_like(t),))
    torch.testing.assert_close(point[1], path.at(x0, x1, t)[1])


def test_the_linear_path_is_the_straight_one():
    x0, x1 = pair()
    t = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    for ours, straight in zip(LinearPath().at(x0, x1, t), interpolate(x0, x1, t), strict=True):
        assert torch.equal(ours, straight)


def test_the_sine_cosine_path_keeps_unit_variance_and_goes_at_its_speed():
    """A quarter circle: (2/pi)^2 |v|^2 + |x|^2 = |x0|^2 + |x1|^2."""
    x0, x1 = pair(200)
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        x, v = SinCosPath().at(x0, x1, torch.full((200,), t, dtype=torch.float64))
        assert x.std().item() == pytest.approx(1, abs=0.05)
        both = x0.square() + x1.square()
        torch.testing.assert_close(v.square() / (math.pi / 2) ** 2 + x.square(), both)


def test_data_and_velocity_convert_both_ways():
    x0, x1 = pair()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    xt, v = interpolate(x0, x1, t)
    torch.testing.assert_close(data_from_velocity(v, xt, t), x1)
    torch.testing.assert_close(XPrediction(floor=1e-3).velocity(x1, xt, t), v)


@pytest.mark.parametrize("law", LAWS)
def test_quantile_and_cdf_are_inverse_and_monotone(law):
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    t = law.quantile(u)
    torch.testing.assert_close(law.cdf(t), u)
    assert (t.diff() > 0).all()


def test_logit_normal_matches_its_definition():
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = torch.logit(LogitNormalTime(-0.9, 0.7).quantile(u))
    assert z.mean().item() == pytest.approx(-0.9, abs=1e-3)
    assert z.std().item() == pytest.approx(0.7, abs=1e-3)
    centred = LogitNormalTime().quantile(u)
    assert (centred < 0.5).double().mean().item() == pytest.approx(0.5, abs=1e-4)


def test_logit_normal_density_vanishes_at_both_ends():
    t = torch.tensor([0.0, 1e-4, 0.5, 1 - 1e-4, 1.0], dtype=torch.float64)
    share = LogitNormalTime().cdf(t).diff()
    assert share[0] < 1e-4 * 1e-10
    assert share[-1] < 1e-4 * 1e-10


@pytest.mark.parametrize("law", LAWS)
def test_bounded_law_is_the_law_given_the_bound(law):
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    bounded = law.above(u, 0.5)
    assert bounded.min() >= 0.5
    free = law.quantile(u)
    torch.testing.assert_close(bounded.mean(), free[free >= 0.5].mean(), atol=1e-3, rtol=0)


def test_uniform_zero_and_almost_one_stay_inside():
    t = LogitNormalTime().quantile(torch.tensor([0.0, 1 - 2**-24]))
    assert ((t > 0) & (t < 1)).all()


def test_shift_is_a_group_that_fixes_both_ends():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(shift_time(t, 1.0), t)
    torch.testing.assert_close(shift_time(shift_time(t, 3.0), 2.0), shift_time(t, 6.0))
    torch.testing.assert_close(shift_time(shift_time(t, 3.0), 1 / 3), t)
    assert shift_time(t, 3.0)[[0, -1]].tolist() == [0, 1]
    assert (shift_time(t, 3.0)[1:-1] < t[1:-1]).all()  # towards the source
    assert (shift_time(t, 3.0).diff() > 0).all()


@pytest.mark.parametrize("solver", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_constant_velocity_lands_on_the_data_with_any_grid(solver, steps, shift):
    x0, x1 = pair()
    end = integrate(lambda x, t: x1 - x0, x0, steps, shift, solver)
    torch.testing.assert_close(end, x1)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_error_falls_with_the_order_of_the_solver(solver, order):
    """dx/dt = x has x(1) = e x(0); a t-dependent grid error would spoil the order."""
    x0 = torch.ones(1, 1, dtype=torch.float64)
    errors = [
        abs(integrate(lambda x, t: x * t[:, None] * 2, x0, n, 1.0, solver).item() - math.e)
        for n in (16, 32)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("solver", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_backwards_from_the_data_is_the_source(solver, shift):
    x0, x1 = pair()
    back = integrate(lambda x, t: x1 - x0, x1, 5, shift, solver, reverse=True)
    torch.testing.assert_close(back, x0)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_inversion_error_falls_at_least_with_the_order_of_the_solver(solver, order):
    """There and back along a smooth field; the errors of an even order cancel once more."""

    def field(x, t):
        return torch.sin(x + t[:, None]) + x.roll(1, 1) * t[:, None]

    x0 = torch.tensor([[0.3, -1.0, 0.7]], dtype=torch.float64)
    errors = []
    for n in (16, 32):
        x1 = integrate(field, x0, n, 1.0, solver)
        back = integrate(field, x1, n, 1.0, solver, reverse=True)
        errors.append((back - x0).abs().max().item())
    wanted = order if order % 2 else order + 1
    assert math.log2(errors[0] / errors[1]) == pytest.approx(wanted, abs=0.3)


def test_a_time_dependent_oracle_shows_that_grid_and_dt_agree():
    """v = 2t (x1 - x0) lands on x1; the left end of each step makes Euler fall short by 1/N."""
    x0, x1 = pair()
    for n in (4, 8, 64):
        end = integrate(lambda x, t: 2 * t[:, None, None, None] * (x1 - x0), x0, n)
        torch.testing.assert_close(end, x0 + (1 - 1 / n) * (x1 - x0))


def test_backwards_takes_the_slope_at_the_data_end():
    seen = []
    integrate(lambda x, t: seen.append(t[0].item()) or x * 0, torch.zeros(1, 1), 4, reverse=True)
    assert seen == [1, 0.75, 0.5, 0.25]


def test_euler_takes_the_slope_at_the_left_end():
    seen = []
    integrate(lambda x, t: seen.append(t[0].item()) or x * 0, torch.zeros(1, 1), 4)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_grid_has_both_ends():
    assert time_grid(5, 3.0)[[0, -1]].tolist() == [0, 1]


def test_guidance_identities():
    u, c, d = pair()[0]
    torch.testing.assert_close(guide([u, c], [1.0]), c)
    assert torch.equal(guide([u, c], [0.0]), u)
    torch.testing.assert_close(guide([u, c], [3.0]), u + 3 * (c - u))
    torch.testing.assert_close(guide([u, c, d], [2.0, 4.0]), u + 2 * (c - u) + 4 * (d - c))
    assert guide([c], []) is c


def test_unknown_solver_and_no_steps_are_named():
    assert get_args(Solver) == tuple(SOLVERS)
    with pytest.raises(ValueError, match="choose one of euler, heun, rk4"):
        integrate(lambda x, t: x, torch.zeros(1, 1), 2, solver="midpoint")
    with pytest.raises(ValueError, match="at least 1"):
        time_grid(0)


def test_times_of_latents_of_more_numbers_are_nearer_the_source_and_of_as_many_the_same():
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    law = LogitNormalTime(-0.2)
    assert torch.equal(ShiftedTime(law, 256, 256).quantile(u), law.quantile(u))
    four = ShiftedTime(law, 4096, 256).quantile(u)  # (4096 / 256)^.5
    torch.testing.assert_close(four, shift_time(law.quantile(u), 4.0))
    assert (four < law.quantile(u)).all()
    # the shift of a sampler's grid is the same function
    torch.testing.assert_close(
        ShiftedTime(UniformTime(), 4096, 256).quantile(u), time_grid(100, 4.0)[1:-1]
    )
    twice = ShiftedTime(ShiftedTime(law, 1024, 256), 1024, 256)
    torch.testing.assert_close(twice.quantile(u), four)
    # a shifted normal of the log odds is another normal of them
    moved = LogitNormalTime(-0.2 - math.log(4.0))
    torch.testing.assert_close(moved.quantile(u), four)
