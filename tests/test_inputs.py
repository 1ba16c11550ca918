"""Where samples live: boxes, free space, families and decoders, and the attack in each of them."""

import copy

import pytest
import torch
from helpers import draws, layer
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import reconlaw as rl
from reconlaw.attack.bounded import BoundedStep, solve_bounded
from reconlaw.attack.projection import Projection
from reconlaw.attack.subspace import floor_of, quantum, rounding_loss, subspace
from reconlaw.inputs import Affine, Box, Decoder, Free, Sphere, pixels


def solved(features, X, inputs, outputs=1, seed=3, **options):
    y = torch.randn(len(X), outputs, generator=draws(9), dtype=torch.float64)
    return rl.reconstruct(features.fit(X, y), features, len(X), seed=seed, inputs=inputs, **options)


DOMAINS = {
    "sphere": Sphere(),
    "free": Free(),
    "box": Box(0.0, 1.0),
    "uneven box": Box(torch.linspace(-1, 0, 6), torch.linspace(0.5, 2, 6)),
    "known coordinate": Box(torch.zeros(6), torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])),
    "affine": Affine(torch.randn(3, 6, generator=draws(), dtype=torch.float64)),
    "decoder": Decoder(nn.Sequential(nn.Linear(3, 6), nn.Tanh()), 3),
    "boxed decoder": Decoder(nn.Linear(3, 6), (3,), Box(-1.0, 1.0)),
}


@pytest.mark.parametrize("inputs", DOMAINS.values(), ids=DOMAINS)
def test_every_domain_keeps_the_contract(inputs):
    """Starts lie in the domain, retraction keeps what lies in it, and a tangent step leaves it to second order."""
    inputs.check(6)
    k = inputs.coordinates(6)
    U = inputs.starts(5, k, draws())
    assert U.shape == (5, k) and U.dtype == torch.float64 and not torch.equal(U[0], U[1])
    torch.testing.assert_close(inputs.retract(U), U)
    torch.testing.assert_close(inputs.starts(5, k, draws()), U, rtol=0, atol=0)
    delta = inputs.tangent(U, torch.randn(5, k, generator=draws(1), dtype=torch.float64))
    torch.testing.assert_close(inputs.tangent(U, delta), delta)
    low, high = inputs.bounds(U) or (torch.tensor(-torch.inf), torch.tensor(torch.inf))
    far = inputs.retract(U + 100 * delta)
    assert ((far >= low) & (far <= high)).all()
    assert inputs.active(far).any() == isinstance(inputs, Box) or isinstance(inputs, Decoder)
    assert 0 < inputs.unknowns(6) <= k
    towards = inputs.towards(torch.randn(2, k, generator=draws(2), dtype=torch.float64))
    torch.testing.assert_close(inputs.retract(towards), towards)
    decoder = inputs.decoder(6)
    if decoder is not None:
        assert decoder.double()(U).shape == (5, 6)


def test_unknown_numbers_of_a_sample():
    assert [DOMAINS[name].unknowns(6) for name in DOMAINS] == [5, 6, 6, 6, 5, 3, 3, 3]


def test_pixels_are_standardised_channel_by_channel():
    box = pixels((3, 2, 2), mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.1), levels=256)
    low, high = box.bounds(torch.zeros(1, 12, dtype=torch.float64))
    expected = torch.tensor([-1.0, -1.6, -3.0], dtype=torch.float64).repeat_interleave(4)
    torch.testing.assert_close(low, expected)
    torch.testing.assert_close(high, torch.tensor([1.0, 2.4, 7.0], dtype=torch.float64).repeat_interleave(4))
    assert box.levels == 256 and pixels((4, 4), high=255.0).high.max() == 255


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Box(1.0, 0.0), "low = 1 is above high = 0"),
        (lambda: Box(torch.tensor([0.0, 2.0]), 1.0), "first of them 1"),
        (lambda: Box(torch.zeros(3), torch.ones(2)), "3 coordinates and high 2"),
        (lambda: Box(0.0, 0.0), "nothing is left to find"),
        (lambda: Box(0.0, 1.0, levels=1), "levels"),
        (lambda: Box(float("nan"), 1.0), "NaN"),
        (lambda: Box(0.0, torch.ones(3)).check(4), "3 coordinates; inputs of these features have 4"),
        (lambda: pixels((3, 8, 8), mean=(0.5, 0.5)), "mean has 2 numbers.*3 channels"),
        (lambda: pixels((8, 8), std=(1.0, 1.0)), "std has 2 numbers"),
        (lambda: pixels((8, 8), std=0.0), "std"),
        (lambda: pixels(64), "no picture"),
        (lambda: pixels((8, 8), low=1.0, high=0.0), "below high"),
        (lambda: Sphere(0.0), "radius"),
        (lambda: Free(scale=-1), "scale"),
        (lambda: Affine(torch.ones(2, 6)), "dependent"),
        (lambda: Affine(torch.eye(3), torch.zeros(2)), "offset has shape"),
        (lambda: Affine(torch.eye(3)).check(4), "3 columns; inputs of these features have 4"),
        (lambda: Decoder(nn.Linear(3, 6), 4), "latent_shape fit its first layer"),
        (lambda: Decoder(nn.Linear(3, 6), 3).check(7), "6 numbers; inputs of these features have 7"),
        (lambda: Decoder(nn.Linear(3, 6), 3, Box(0.0, torch.ones(2))), "2 coordinates"),
    ],
)
def test_what_does_not_fit_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("inputs", ["box", (0, 1), Box])
def test_other_things_are_no_inputs(inputs):
    features = layer()
    with pytest.raises(TypeError, match="inputs is a"):
        rl.reconstruct(torch.ones(80), features, 2, inputs=inputs)


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_bounded_steps_fall_and_keep_the_bounds(seed, m):
    """Never above the value at 0, inside the bounds, and the exact minimum where no bound is met."""
    A = torch.randn(m, m, generator=draws(seed), dtype=torch.float64)
    H, g = A @ A.T + 0.1 * torch.eye(m), torch.randn(m, generator=draws(seed + 1), dtype=torch.float64)
    high = torch.rand(m, generator=draws(seed + 2), dtype=torch.float64)
    low = -torch.rand(m, generator=draws(seed + 3), dtype=torch.float64) * (torch.arange(m) % 2)
    delta = solve_bounded(H, g, low, high)
    assert ((delta >= low) & (delta <= high)).all()
    free = solve_bounded(H, g, torch.full_like(g, -1e9), torch.full_like(g, 1e9))
    torch.testing.assert_close(H @ free, g)
    fixed_none = solve_bounded(H, -g.abs(), torch.zeros(m), high)
    assert not fixed_none.any()  # every coordinate is on its bound, and pushed outward


@pytest.mark.parametrize(("lifted", "outputs"), [(False, 1), (False, 3), (True, 1), (True, 3)])
def test_the_matrix_of_a_step_is_that_of_the_jacobian(lifted, outputs):
    """H = JᵀP⊥J with J by jvp, column by column."""
    features, inputs = layer(), Box(-2.0, 2.0)
    U = inputs.starts(2, 6, draws())
    theta = torch.randn(outputs, 80, generator=draws(1), dtype=torch.float64)
    point = Projection(features, theta, U, lifted)
    step = BoundedStep(point, inputs)
    columns = []
    for e in torch.eye(12, dtype=torch.float64):
        columns.append(point.project_out(point.lift.jvp(e.reshape(2, 6)).clone()).reshape(-1))
    J = torch.stack(columns)
    torch.testing.assert_close(step.H, J @ J.T, rtol=1e-4, atol=1e-6 * float(step.H.abs().max()))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("inputs", [Free(), Box(0.0, 1.0)], ids=["free", "box"])
def test_samples_off_the_sphere_come_back(inputs, outputs):
    features = layer(p=120)
    X = torch.rand(3, 6, generator=draws(4), dtype=torch.float64)
    X[X < 0.4] = 0.0
    result = solved(features, X, inputs, outputs)
    assert result.converged and result.determined
    assert rl.match(result.X, X).error.max() < 1e-6
    if isinstance(inputs, Box):
        found = rl.match(result.X, X)
        assert result.at_bounds.shape == (3, 6) and int(result.at_bounds.sum()) == int((X == 0).sum())
        assert found.error.max() < 1e-6 and float(result.X.min()) >= 0
    else:
        assert result.at_bounds is None
    assert result.latent is None


def test_a_family_needs_fewer_equations_than_numbers():
    """p = 30 < dn = 40: undetermined on the sphere, determined in the family, and found."""
    features = layer(d=20, p=30)
    basis = torch.randn(3, 20, generator=draws(5), dtype=torch.float64) / 2
    offset = torch.rand(20, generator=draws(6), dtype=torch.float64)
    Z = torch.randn(2, 3, generator=draws(7), dtype=torch.float64)
    X = offset + Z @ basis
    result = solved(features, X, Affine(basis, offset))
    assert result.determined and result.converged and rl.match(result.X, X).error.max() < 1e-6
    torch.testing.assert_close(offset + result.latent @ basis, result.X)
    assert not solved(features, X, Free(), max_seconds=None, max_steps=1_000).determined


def test_inputs_of_a_decoder():
    features = layer(d=12, p=60)
    decoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 12)).double().requires_grad_(False)
    for i, weight in enumerate(decoder.parameters()):
        weight.copy_(torch.randn(weight.shape, generator=draws(i), dtype=torch.float64))
    before = copy.deepcopy(decoder.state_dict())
    Z = torch.randn(2, 3, generator=draws(7), dtype=torch.float64)
    X = decoder(Z)
    result = solved(features, X, Decoder(decoder, 3))
    assert result.converged and rl.match(result.X, X).error.max() < 1e-6
    torch.testing.assert_close(decoder(result.latent), result.X)
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


def test_another_radius():
    features = layer(p=120)
    X = torch.randn(2, 6, generator=draws(4), dtype=torch.float64)
    X = 1.5 * X / X.norm(dim=1, keepdim=True)
    result = solved(features, X, Sphere(1.5))
    torch.testing.assert_close(result.X.norm(dim=1), torch.full((2,), 1.5, dtype=torch.float64))
    assert result.converged and rl.match(result.X, X).error.max() < 1e-6


def test_the_sphere_named_is_the_sphere_by_default(problem):
    made = problem(d=10, n=3, p=200)
    first = rl.reconstruct(made.theta, made.features, 3, seed=1)
    again = rl.reconstruct(made.theta, made.features, 3, seed=1, inputs=Sphere())
    assert torch.equal(first.X, again.X) and first.loss == again.loss


def test_samples_outside_the_box_are_not_explained():
    features = layer(p=120)
    X = 1.0 + torch.rand(2, 6, generator=draws(4), dtype=torch.float64)
    result = solved(features, X, Box(0.0, 1.0), max_seconds=None, max_steps=3_000)
    assert not result.converged and "outside Box(0, 1)" in result.message


def test_norms_of_a_homogeneous_map_are_not_identifiable():
    features = rl.RandomFeatures(6, 200, "relu", device="cpu")
    X = torch.rand(3, 6, generator=draws(4), dtype=torch.float64)
    result = solved(features, X, Box(0.0, 1.0))
    assert "no norm can be told" in result.message
    torch.testing.assert_close(result.X.norm(dim=1), torch.full((3,), 6**0.5, dtype=torch.float64))
    assert rl.match(result.X, X * (6**0.5 / X.norm(dim=1, keepdim=True))).error.max() < 1e-6


def test_pixels_of_eight_bits_come_back_exact():
    """Noise moves the continuous answer off; rounded it is exact to the last bit, and known to be."""
    features = layer(p=400)
    X = torch.randint(0, 256, (3, 6), generator=draws(4)).double() / 255
    theta = features.fit(X, torch.randn(3, 2, generator=draws(9), dtype=torch.float64))
    noise = 1e-6 * theta.std() * torch.randn(theta.shape, generator=draws(5), dtype=torch.float64)
    options = {"inputs": Box(0.0, 1.0, levels=256), "tol": 1e-11}
    result = rl.reconstruct(theta + noise, features, 3, **options)
    plain = rl.reconstruct(theta + noise, features, 3, inputs=Box(0.0, 1.0), tol=1e-11)
    assert plain.exact is None and 1e-9 < float(rl.match(plain.X, X).error.max()) < 1e-3
    assert result.exact.all() and float(rl.match(result.X, X).error.max()) < 1e-15


@pytest.mark.parametrize("size", [1e-2, 3e-2])
def test_a_grid_finer_than_the_noise_makes_nothing_exact(size):
    features = layer(p=400)
    X = torch.randint(0, 256, (3, 6), generator=draws(4)).double() / 255
    theta = features.fit(X, torch.randn(3, 2, generator=draws(9), dtype=torch.float64))
    noise = size * theta.std() * torch.randn(theta.shape, generator=draws(5), dtype=torch.float64)
    result = rl.reconstruct(theta + noise, features, 3, inputs=Box(0.0, 1.0, levels=256), tol=4 * size**2)
    off = (result.X[rl.match(result.X, X).order] - X).abs().amax(1) > 1e-9
    assert off.any() and not (result.exact[rl.match(result.X, X).order] & off).any()


def test_samples_between_the_levels_are_left_where_they_are():
    features = layer(p=200)
    X = torch.rand(2, 6, generator=draws(4), dtype=torch.float64)
    result = solved(features, X, Box(0.0, 1.0, levels=256))
    assert not result.exact.any() and float(rl.match(result.X, X).error.max()) < 1e-6


def test_whitening_weighs_what_stands_above_the_floor():
    Q = torch.linalg.qr(torch.randn(500, 4, generator=draws(), dtype=torch.float64)).Q.T
    sizes = torch.tensor([1.0, 1e-2, 1e-4, 1e-9], dtype=torch.float64)
    noise = 1e-7 * torch.randn(4, 500, generator=draws(1), dtype=torch.float64)
    theta = sizes[:, None] * Q + noise
    space = subspace(theta, 3)
    assert space.rank == 3 and len(space.s) == 3
    assert space.weights[:2].tolist() == [1.0, 1.0] and 0.1 < space.weights[2] <= 1
    assert floor_of(theta, 3) == pytest.approx(float(torch.linalg.svdvals(theta)[3]))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 40.0])
def test_the_rounding_of_storage_is_read_off(scale):
    """θ = after − before of float32 numbers, held in float64: its spacing is that of the parameters, not of θ."""
    before = scale * torch.randn(3, 400, generator=draws(2))
    after = before + 1e-3 * scale * torch.randn(3, 400, generator=draws(3))
    theta = after.double() - before.double()
    ulp = torch.finfo(torch.float32).eps * scale * 0.3
    assert 0.1 * ulp < quantum(theta) < 10 * ulp
    assert quantum(torch.randn(3, 400, generator=draws(4), dtype=torch.float64)) < 1e-14


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_tolerance_leaves_room_for_a_body_that_computes_in_single_precision(scale):
    """Features rounded to float32 leave a loss that the weights' own rounding does not explain where θ is large."""
    features, X = layer(d=20, p=2000), torch.rand(6, 20, generator=draws(4), dtype=torch.float64)
    y = 50 * scale * torch.randn(6, 10, generator=draws(9), dtype=torch.float64)
    rounded = features(X).float().double()
    before = scale * torch.randn(10, 2000, generator=draws(2)) / 2000**0.5
    theta = before + torch.linalg.lstsq(rounded, y).solution.T.float() - before
    left = Projection(features, theta.double(), X).loss
    assert 0 < left < rounding_loss(theta.double()) < 1e-9
    exact = torch.linalg.lstsq(features(X), y).solution.T
    assert Projection(features, exact, X).loss < rounding_loss(exact) < 1e-20


def test_one_direction_of_theta_does_not_hide_the_others():
    """Singular values over four decades: θ as it is sees one of the samples, its row space all of them."""
    features = layer(p=150)
    X = torch.rand(4, 6, generator=draws(4), dtype=torch.float64)
    A = torch.linalg.qr(torch.randn(4, 4, generator=draws(8), dtype=torch.float64)).Q
    theta = (A * torch.tensor([1.0, 1e-2, 1e-3, 1e-4])) @ A.T @ features(X)
    for seed in range(3):
        result = rl.reconstruct(theta, features, 4, inputs=Box(0.0, 1.0), seed=seed)
        assert result.converged and rl.match(result.X, X).error.max() < 1e-6
        assert result.loss < 1e-20  # of θ itself


@pytest.mark.parametrize(("least", "told"), [(1e-3, False), (1e-9, True)])
def test_rows_below_the_noise_are_named(least, told):
    """The fourth row of θ is above the noise, or below: what did not come back may lie in what was not searched."""
    features = layer(p=150)
    X = torch.rand(4, 6, generator=draws(4), dtype=torch.float64)
    A = torch.linalg.qr(torch.randn(4, 4, generator=draws(8), dtype=torch.float64)).Q
    theta = (A * torch.tensor([1.0, 1e-1, 1e-2, least])) @ A.T @ features(X)
    theta += 1e-8 * theta.std() * torch.randn(theta.shape, generator=draws(5), dtype=torch.float64)
    options = {"inputs": Box(0.0, 1.0), "tol": 1e-14, "max_seconds": None, "max_steps": 5}
    result = rl.reconstruct(theta, features, 4, **options)
    assert result.status.value == "budget spent"
    assert ("only 3 of 4 independent rows of theta stand above its noise" in result.message) == told


def test_sgd_stays_in_its_box():
    features = layer(p=60)
    X = torch.rand(2, 6, generator=draws(4), dtype=torch.float64)
    result = solved(features, X, Box(0.0, 1.0), method="sgd", learning_rate=0.5, max_steps=200)
    assert float(result.X.min()) >= 0 and float(result.X.max()) <= 1 and result.loss < 0.5


def test_a_method_that_cannot_says_so():
    with pytest.raises(ValueError, match="sgd"):
        rl.reconstruct(torch.ones(80), layer(), 2, method="sgd", inputs=Free())
