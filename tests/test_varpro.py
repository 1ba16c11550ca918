import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reconlaw as rl
from reconlaw.attack import varpro
from reconlaw.attack.projection import Projection
from reconlaw.attack.varpro import descend
from reconlaw.features.gram import SpanError
from reconlaw.inputs import Sphere
from reconlaw.sphere import to_sphere


def start(n, d, seed=5):
    return to_sphere(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@settings(max_examples=20)
@given(scale=st.floats(1e-100, 1e100), d=st.integers(1, 30))
def test_rows_on_the_sphere_keep_their_direction(scale, d):
    U = start(4, d)
    out = to_sphere(scale * U)
    torch.testing.assert_close(out, U, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(out.norm(dim=1), torch.full((4,), math.sqrt(d), dtype=torch.float64))


def test_a_zero_row_gives_no_nan():
    assert not to_sphere(torch.zeros(2, 3)).any()


@pytest.mark.parametrize("lifted", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_losses_fall_and_atoms_stay_on_the_sphere(problem, name, outputs, lifted):
    case = problem(activation=name, outputs=outputs)
    losses, norms = [], []

    def on_step(point):
        losses.append(point.loss)
        norms.append(point.U.norm(dim=1))

    U = start(5, 20)
    before = U.clone()
    end = descend(case.features, case.theta, U, lifted, target=1e-28, on_step=on_step)
    losses = [Projection(case.features, case.theta, U, lifted).loss, *losses]
    assert len(losses) > 5
    assert all(b < a for a, b in zip(losses, losses[1:], strict=False))
    assert end.point.loss == losses[-1]
    torch.testing.assert_close(torch.stack(norms), torch.full((len(norms), 5), math.sqrt(20), dtype=torch.float64))
    assert torch.equal(U, before)


smooth = pytest.mark.parametrize(("name", "lifted"), [("gelu", True), ("gelu", False), ("tanh", False)])


@pytest.mark.parametrize("outputs", [1, 3])
@smooth
def test_an_exact_step_squares_the_error(problem, near, name, lifted, outputs):
    case = problem(activation=name, outputs=outputs)
    after = []
    for size in (1e-2, 1e-3, 1e-4):
        point = Projection(case.features, case.theta, near(case.X, size), lifted)
        delta, _ = varpro._Step(point).solve(1e-14, 1e-13, 2000)
        after.append(math.sqrt(Projection(case.features, case.theta, to_sphere(point.U + delta), lifted).loss))
    assert 50 < after[0] / after[1] < 200 and 50 < after[1] / after[2] < 200


@pytest.mark.parametrize("outputs", [1, 3])
@smooth
def test_a_descent_ends_superlinearly(problem, near, monkeypatch, name, lifted, outputs):
    monkeypatch.setattr(varpro, "_FIRST_DAMPING", 1e-6)
    case = problem(activation=name, outputs=outputs)
    losses = []

    def on_step(point):
        losses.append(point.loss)

    end = descend(case.features, case.theta, near(case.X, 1e-2), lifted, target=1e-27, on_step=on_step)
    assert end.reason == "converged" and len(losses) <= 10
    orders = [math.log(c / b) / math.log(b / a) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    assert max(orders[1:-1]) > 1.2  # linear convergence would have 1


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ["relu", "gelu", "relu+tanh"])
def test_steps_solved_in_float32_lead_to_the_end_of_float64(problem, near, name, outputs):
    """Refinement: each solve takes a thousandth off at the least, and what it leaves is known in float64."""
    case, losses = problem(activation=name, outputs=outputs), []
    coarse, U = (case.features.coarse(), case.theta.float()), near(case.X, 1e-5)
    made = descend(case.features, case.theta, U, False, 1e-27, on_step=lambda p: losses.append(p.loss), coarse=coarse)
    assert made.reason == "converged" and made.point.U.dtype == torch.float64 and len(losses) <= 5
    assert float((made.point.U - case.X).norm() / case.X.norm()) < 1e-12
    alone = descend(*coarse, U.float(), False, 1e-27)
    assert alone.point.loss > 1e-16  # what float32 by itself comes to

    model, norm = varpro._coarse_model(Projection(case.features, case.theta, U), coarse)
    expected = varpro._Step(Projection(case.features, case.theta, U)).gradient
    torch.testing.assert_close(norm * model.gradient.double(), expected, rtol=0, atol=1e-6 * float(norm))
    assert float(norm) == pytest.approx(float(expected.norm()))


def test_gradient_of_a_step_is_that_of_the_loss(problem):
    case = problem(activation="gelu", outputs=2)
    U = start(5, 20)
    point = Projection(case.features, case.theta, U)
    full = point.gradient()
    half = varpro._Step(Projection(case.features, case.theta, U)).gradient * (-2 / point.scale)
    torch.testing.assert_close(half, Sphere().tangent(U, full), rtol=1e-10, atol=1e-14)
    assert (half * U).sum(1).abs().max() < 1e-12


@pytest.mark.parametrize("lifted", [True, False])
def test_kaufman_derivative_of_the_residual(problem, near, lifted):
    """δr = −P⊥Jδ up to a term of the size of r: exact where r = 0."""
    case = problem(activation="gelu", outputs=2)
    point = Projection(case.features, case.theta, case.X, lifted)
    point.lift.linearise(point.alpha)
    delta, h = start(5, 20, seed=8), 1e-6
    plus, minus = (Projection(case.features, case.theta, case.X + s * h * delta, lifted) for s in (1, -1))
    numeric = (plus.residual - minus.residual) / (2 * h)
    kaufman = -point.project_out(point.lift.jvp(delta))
    torch.testing.assert_close(numeric, kaufman, rtol=0, atol=1e-6 * float(kaufman.norm()))


@pytest.mark.parametrize("mu", [1e-6, 1e-2, 10.0])
def test_step_solves_the_damped_equations_and_promises_what_it_says(problem, mu):
    case = problem(d=6, n=3, p=200, activation="gelu")
    U = start(3, 6)
    point = Projection(case.features, case.theta[None], U)
    model = varpro._Step(point)
    delta, promised = model.solve(mu, 1e-12, 500)

    J = torch.stack([point.lift.jvp(e.reshape(3, 6))[0] for e in torch.eye(18, dtype=torch.float64)], 1)  # (p, nd)
    Q = torch.linalg.qr(point.lift.columns.T).Q
    PJ, r = J - Q @ (Q.T @ J), point.residual[0]
    damping = mu * model.K.diagonal().repeat_interleave(6)
    outward = torch.block_diag(*(row[:, None] for row in U))  # (nd, n)
    N = torch.linalg.qr(outward, mode="complete").Q[:, 3:]  # tangent directions
    A = N.T @ (PJ.T @ PJ + torch.diag(damping)) @ N
    expected = N @ torch.linalg.solve(A, N.T @ (J.T @ r))
    torch.testing.assert_close(delta.flatten(), expected, rtol=1e-7, atol=1e-9 * float(expected.norm()))
    fall = (r.square().sum() - (r - PJ @ expected).square().sum()) / point.scale
    torch.testing.assert_close(promised / point.scale, fall, rtol=1e-9, atol=0)


def test_what_ends_a_descent(problem, near):
    case = problem(activation="gelu", outputs=1)
    features, theta, U = case.features, case.theta, start(5, 20)
    assert descend(features, theta, case.X, False, target=1e-20).reason == "converged"
    assert descend(features, theta, U, False, max_steps=2).reason == "steps"
    assert descend(features, theta, U, False, on_step=lambda point: True).reason == "stopped"
    assert descend(features, theta, U, False, patience=(2, 1e-9)).reason == "stalled"
    floor = descend(features, theta, near(case.X, 1e-3), False, target=0.0)
    assert floor.reason == "stalled" and floor.point.loss < 1e-26


def test_max_steps_counts_accepted_steps(problem):
    case, steps = problem(outputs=1), []
    descend(case.features, case.theta, start(5, 20), max_steps=3, on_step=steps.append)
    assert len(steps) == 3


def test_a_start_that_spans_nothing_is_a_span_error():
    features = rl.RandomFeatures(20, 40, "gelu", device="cpu")
    theta = torch.ones(1, 40, dtype=torch.float64)
    for U in (torch.zeros(3, 20, dtype=torch.float64), start(3, 20) * torch.nan):
        with pytest.raises(SpanError):
            descend(features, theta, U)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e-3])
def test_atoms_that_nearly_coincide_do_not_break_a_descent(problem, dtype, gap):
    case = problem(dtype=dtype, outputs=1)
    U = start(5, 20).to(dtype)
    U[1] = U[0] + gap
    U = to_sphere(U)
    before = Projection(case.features, case.theta, U, True).loss
    end = descend(case.features, case.theta, U, True, max_steps=20)
    assert torch.isfinite(end.point.U).all() and end.point.loss <= before


def test_one_column_an_atom_is_trapped_by_signs_and_two_are_not(problem):
    """The point of the lift: from a wrong sign the plain loss has a minimum, the lifted one is already at zero."""
    case = problem(outputs=1)
    flipped = case.X.clone()
    flipped[0] = -flipped[0]
    plain = descend(case.features, case.theta, flipped, False, target=1e-20)
    assert plain.reason == "stalled" and plain.point.loss > 1e-4
    lifted = descend(case.features, case.theta, flipped, True, target=1e-20)
    assert lifted.reason == "converged" and torch.equal(lifted.point.U, flipped)
