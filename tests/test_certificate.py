"""What is called recovered is a sample of the data, and what θ does not hold is called by its name."""

import sys

import pytest
import torch

import reconlaw as rl
from reconlaw.attack import certificate, examine, normal
from reconlaw.attack.certificate import certify
from reconlaw.attack.count import count, independent_rows
from reconlaw.attack.projection import least_squares
from reconlaw.attack.result import Flag, Status
from reconlaw.attack.run import Run
from reconlaw.attack.varpro import descend
from reconlaw.features.budget import look

RECONSTRUCT = sys.modules["reconlaw.attack.reconstruct"]
FOUND = (Flag.RECOVERED, Flag.UP_TO_SIGN)
BUDGET = {"max_seconds": None, "max_steps": 800}  # of work, the same on every machine


def drawn(n, d, p, activation, seed, outputs=1):
    """Samples on the sphere, features, and coefficients of which none is small."""
    generator = torch.Generator().manual_seed(seed)
    X = rl.data.sphere(n, d, seed=seed).X
    a = torch.randn(outputs, n, generator=generator, dtype=torch.float64)
    return X, rl.RandomFeatures(d, p, activation, seed=seed, device="cpu"), a.sign() * (0.3 + a.abs())


def claims(result, X, tolerance=1e-2):
    """How many samples are called recovered; each must be one of the data."""
    distance = torch.cdist(result.X.double(), X)
    if result.sign_identifiable is False:
        distance = torch.minimum(distance, torch.cdist(result.X.double(), -X))
    nearest = distance.amin(1) / X.shape[1] ** 0.5
    if result.standard_errors is not None:
        allowed = 10 * result.standard_errors
        assert all(nearest[i] <= allowed[i] for i, flag in enumerate(result.flags) if flag is Flag.ROUGH)
    called = [flag in FOUND for flag in result.flags]
    assert len(called) == len(result.X)
    assert all(float(error) < tolerance for error, yes in zip(nearest, called, strict=True) if yes), result.flags
    assert (result.status is Status.RECOVERED) == (bool(called) and all(called))
    return sum(called)


# --- no wrong sample is called recovered ----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "abs"])
def test_near_the_count_of_a_kinked_activation(activation):
    """ReLU and |z| at p/dn of 1 to 1.5, and 4: of the sets that fit θ some are not the data; none is called so."""
    fits = called = 0
    for seed in range(6):
        n, d = 2 + seed % 2, 5 + seed % 6
        X, features, a = drawn(n, d, round((1, 1.1, 1.2, 1.3, 1.5, 4)[seed] * n * d), activation, 40 + seed)
        result = rl.reconstruct(a @ features(X), features, n, **BUDGET)
        fits, called = fits + result.converged, called + claims(result, X) / n
    assert fits >= called >= 1  # not in vain: at 4 it is found


@pytest.mark.parametrize("activation", ["gelu", "tanh", "softplus", lambda z: z**3, "relu"])
def test_as_many_equations_as_unknowns(activation):
    """Then rivals fit as well as the data; only what every road ends at is called recovered."""
    for seed in range(6):
        n, d, K = 1 + seed % 3, 2 + seed % 4, 1 + seed % 2
        R = min(n, K)
        p = max(n + 1, -(-(n * (d - 1) + n * R) // R))
        X, features, a = drawn(n, d, p, activation, 70 + seed, K)
        claims(rl.reconstruct(a @ features(X), features, n, **BUDGET), X)


def test_a_theta_that_no_sample_made_is_not_called_recovered():
    features = rl.RandomFeatures(2, 2, "gelu", seed=3, device="cpu")
    theta = torch.randn(2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result = rl.reconstruct(theta, features, 1, **BUDGET)
    assert result.converged and result.status is Status.AMBIGUOUS and result.determined is None
    assert result.flags == (Flag.AMBIGUOUS,) and "other sets may" in result.message


def test_one_relu_sample_is_held_by_its_active_neurons():
    """12 equations for 8 unknowns by count, but fewer than 8 neurons are active: a segment of samples fits."""
    for seed in range(20):
        X, features, a = drawn(1, 8, 12, "relu", seed)
        active = int((features(X) > 0).sum())
        result = rl.reconstruct(a @ features(X), features, 1, **BUDGET)
        assert claims(result, X) == (result.converged and active > 8) and count(features, 1, 1).enough
        if active < 8 and result.converged:
            assert result.determined is False and result.status is Status.NOT_DETERMINED


def test_quadratic_forms_hold_fewer_equations():
    """z², two outputs, d = 5: two forms of 15 numbers each, not 120, for 48 unknowns."""
    X, features, a = drawn(8, 5, 60, torch.square, 1, 2)
    assert (count(features, 8, 2).equations, count(features, 8, 2).unknowns) == (30, 48)
    result = rl.reconstruct(a @ features(X), features, 8, **BUDGET)
    assert result.determined is False and "30 equations for 48 unknowns" in result.message
    assert claims(result, X) == 0


@pytest.mark.parametrize(("phi", "span"), [(lambda z: z**3 + z, 20), (lambda z: z**3 + z**2, 30), (torch.tanh, 200)])
def test_the_span_of_a_polynomial(phi, span):
    """On the sphere in R⁴: C(6, 3) cubic and C(5, 2) quadratic forms; and the rank of the features is that."""
    features = rl.RandomFeatures(4, 200, phi, seed=0, device="cpu")
    assert features.rank(1000) == span
    s = torch.linalg.svdvals(features(rl.data.sphere(300, 4, seed=0).X))
    assert int((s > 1e-9 * s[0]).sum()) == span or span == 200


# --- duplicates, spare rows, what θ does not show ---------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh"])
@pytest.mark.parametrize("kind", ["twice", "too many", "near", "opposite"])
def test_rows_that_theta_does_not_need_are_marked(activation, kind):
    """With n one too large, or two samples that coincide, or nearly, or up to a sign that φ does not see."""
    X, features, a = drawn(3, 14, 300, activation, 5)
    n = 3
    if kind == "too many":
        n = 4
    elif kind == "twice":
        X[1] = X[0]
    elif kind == "opposite":
        X[1] = -X[0]
    else:
        X[1] = X[0] + 1e-7 * X[1]
        X[1] *= 14**0.5 / X[1].norm()
    result = rl.reconstruct(a @ features(X), features, n, max_seconds=None, max_steps=5000)
    assert result.converged
    found = claims(result, X)
    if kind == "opposite" and activation != "tanh":  # x and −x are two samples
        assert found == 3 and result.determined is True
        return
    assert result.status is Status.IN_PART and result.determined is False
    assert result.message.startswith("recovered in part")
    if kind == "opposite":
        assert Flag.NOT_APART in result.flags or Flag.SPARE in result.flags
        return
    # Two ReLU samples within the reach of one linear piece could stand behind one row: that far it is known.
    rough = result.flags.count(Flag.ROUGH)
    assert found + rough == len(X) - (kind != "too many") and (activation == "relu" or not rough)
    (row,) = (i for i, flag in enumerate(result.flags) if flag in (Flag.SPARE, Flag.DUPLICATE, Flag.BELOW))
    assert result.standard_errors[row] == float("inf") and float(result.coefficients[row].abs()) == 0


@pytest.mark.parametrize("share", [1e-6, 1e-9, 1e-12])
def test_a_sample_below_the_tolerance_is_no_recovered_one(share):
    X, features, a = drawn(3, 10, 200, "gelu", 2)
    a[0, 1] *= share
    result = rl.reconstruct(a @ features(X), features, 3, tol=1e-14, **BUDGET)
    assert result.converged and claims(result, X) >= 2


def test_a_torn_relu_sample_is_made_one():
    X, features, a = drawn(2, 6, 60, "relu", 8)
    theta = a @ features(X)
    # Two atoms close to the first sample, between which no neuron changes sides.
    move = 1e-4 * torch.linalg.qr(X[0][:, None], mode="complete").Q[:, 1]
    U = torch.cat([torch.stack([X[0] + move, X[0] - move]), X[1:]])
    U *= 6**0.5 / U.norm(dim=1, keepdim=True)
    assert bool(((features(U[:2]) > 0) == (features(X[:1]) > 0)).all())
    point = least_squares(features, theta, U)
    assert point.loss < 1e-20
    done = examine.examine(features, theta, point, 1e-20, Run(), 0)
    kept = [i for i, flag in enumerate(done.flags) if flag not in (Flag.SPARE, Flag.DUPLICATE)]
    assert len(kept) == 2 and done.determined is False
    assert float(torch.cdist(done.X[kept], X).amin(1).max()) < 1e-6


# --- the certificate itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_standard_errors_are_those_of_the_perturbation_theory(activation):
    """(tr (𝒥ᵀ𝒥)⁻¹)^{1/2}, by the dense road exactly, by the matrix-free one in the mean over random signs."""
    X, features, a = drawn(5, 20, 400, activation, 1)
    theta, noise = a @ features(X), 1e-4
    xi = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta = theta + noise * xi / xi.norm()
    spare = 400 - 100
    dense = certificate._dense(features, theta, X, spare)
    free = certificate._matrix_free(features, theta, X, spare)
    # The residual at X has lost what the coefficients could fit of ξ, 5 of 400 numbers.
    expected = rl.Perturbation(features, X, a[0]).expected(noise) * (400 / spare) ** 0.5
    short = rl.Perturbation(features, X, a[0]).displacement(noise * xi / xi.norm())[0].norm(dim=1) / 20**0.5
    torch.testing.assert_close(dense.errors, (expected**2 + short**2).sqrt(), rtol=0.02, atol=0)
    torch.testing.assert_close(free.errors, dense.errors, rtol=0.3, atol=0)
    torch.testing.assert_close(free.costs, dense.costs, rtol=1e-6, atol=0)
    assert not dense.loose.any() and not free.loose.any() and not dense.unchecked.any()


def test_both_roads_see_what_is_loose():
    X, features, a = drawn(4, 20, 400, "gelu", 3)
    X[1] = X[0]
    theta = a @ features(X)
    for road in (certificate._dense, certificate._matrix_free):
        made = road(features, theta, X, 300)
        assert made.loose.tolist() == [True, True, False, False] and made.errors[:2].isinf().all()
    # ReLU, one sample short of active neurons.
    X, features, a = drawn(1, 8, 12, "relu", next(s for s in range(50) if _active(s) < 8))
    for road in (certificate._dense, certificate._matrix_free):
        assert road(features, a @ features(X), X, 4).loose.all()


def _active(seed):
    X, features, _ = drawn(1, 8, 12, "relu", seed)
    return int((features(X) > 0).sum())


def test_a_number_that_nothing_else_checks():
    """At p equal to the count every leverage is 1; one number more, and none is."""
    for p, own in ((12, True), (13, False)):
        X, features, a = drawn(3, 4, p, "gelu", 6)
        made = certify(features, a @ features(X), X, p - 12)
        assert made.unchecked.all() if own else not made.unchecked.any()
        assert made.smallest > 1e-6


@pytest.mark.parametrize(("n", "d", "outputs"), [(5, 20, 1), (4, 20, 3), (8, 30, 1)])
@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_both_roads_claim_the_same(activation, n, d, outputs):
    """From the count upwards: what the dense road accuses, the matrix-free one accuses, and it accuses no other."""
    accused = 0
    for ratio in (1.0, 1.05, 1.2, 1.6, 4.0):
        unknowns = n * (d - 1) + n * outputs
        p = round(ratio * unknowns / outputs)
        X, features, a = drawn(n, d, p, activation, 6, outputs)
        theta, spare = a @ features(X), outputs * p - unknowns
        dense, free = (road(features, theta, X, spare) for road in (certificate._dense, certificate._matrix_free))
        assert bool(dense.loose.any()) == bool(free.loose.any())
        assert bool((dense.loose | dense.unchecked).any()) == bool((free.loose | free.unchecked).any())
        accused += bool((dense.loose | dense.unchecked).any())
    assert 1 <= accused <= 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_loose_look_at_leverages_clears_none_that_is_one(dtype):
    """Six neurons see the first sample of R⁶ alone, and none can be spared; thirty see the second, and each can."""
    X, features, a = drawn(2, 6, 400, "relu", 3)
    Z = X @ features.V.T
    one, other = ((Z[i] > 0) & (Z[1 - i] < 0) for i in (0, 1))
    features = features.select(torch.cat([one.nonzero()[:6, 0], other.nonzero()[:30, 0]])).to(dtype)
    theta, X = a.to(dtype) @ features(X), X.to(dtype)
    made = normal.Normal(features, theta, X, rl.inputs.Sphere())
    generator = torch.Generator().manual_seed(0)
    bs = [made.step.within(torch.randn(2, 6, generator=generator, dtype=torch.float64).to(dtype)) for _ in range(4)]
    probe = made.probe(generator)
    made.solve_each(bs, [probe])
    assert probe.off <= made.fine(probe) * 1.5  # other Ritz values may come in after it is done
    checked = made.checked(generator, probe)
    assert made.well and checked.tolist() == [[False] * 6 + [True] * 30]
    assert made.any_unchecked(generator, checked) and not made.any_unchecked(generator, torch.ones_like(checked))
    dense = certificate._dense(features.to(torch.float64), theta.double(), X.double(), 24)
    assert dense.unchecked.tolist() == [True, False] and not dense.loose.any()


def test_a_probe_that_is_not_worth_it_ends_and_one_that_fails_says_nothing(monkeypatch):
    """Neither makes the solutions beside it unsure, and no number is called checked by it."""
    X, features, a = drawn(5, 20, 400, "gelu", 3)
    theta, generator = a @ features(X), torch.Generator().manual_seed(0)
    made = normal.Normal(features, theta, X, rl.inputs.Sphere())
    b = made.step.within(torch.randn(5, 20, generator=generator, dtype=torch.float64))
    probe = made.probe(generator)
    probe.size = 10**12
    with rl.features.passes.counted(rl.features.passes.Passes()) as spent:
        made.solve_each([b], [probe])
    alone = normal.Normal(features, theta, X, rl.inputs.Sphere())
    with rl.features.passes.counted(rl.features.passes.Passes()) as spent_alone:
        alone.solve_each([b])
    assert made.told and spent.made <= 2.5 * spent_alone.made  # ended with the other
    assert not made.checked(generator, probe).any()

    monkeypatch.setattr(normal, "_ITERATIONS", 6)
    made = normal.Normal(features, theta, X, rl.inputs.Sphere())
    probe = made.probe(generator)
    made.solve_each([b], [probe], tolerance=0.5)
    assert made.told and not probe.told
    assert not made.checked(generator, probe).any()


@pytest.mark.parametrize("shape", [(40, 100), (1, 3), (30, 30), (12, 5), (0, 4)])
def test_singular_values_by_eigenvalues_are_those_of_the_svd(shape):
    M = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for least in (1.0, 1e-3, 1e-9):
        M = torch.cat([M[:1] * least, M[1:]])
        U, S, V = certificate._singular(M)
        torch.testing.assert_close(S, torch.linalg.svdvals(M), rtol=1e-6, atol=1e-14)
        torch.testing.assert_close((U * S) @ V, M, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(V @ V.T, torch.eye(len(V), dtype=M.dtype), rtol=0, atol=1e-7)


@pytest.mark.parametrize("least", [1.0, 0.05, 0.02, 0.005, 1e-6])
def test_what_is_seen_by_a_cholesky_factor_is_what_an_svd_says(least):
    """The factor stands where the least singular value is above a hundredth of the largest, and nowhere else."""
    generator = torch.Generator().manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(150, 150, generator=generator).double()).Q for _ in range(2))
    values = torch.logspace(0, torch.tensor(least).log10(), 60, dtype=torch.float64)
    values[:30] = values[:1]  # a largest one that is many times there
    M = (left[:60, :60] @ torch.linalg.inv(left[:60, :60]) * values) @ right[:60]
    made, s = certificate._seen(M, 1e-9), torch.linalg.svdvals(M)
    by_factor = made.V is None
    assert not by_factor or s[-1] > certificate._WEAK * s[0]
    assert by_factor == (least >= 0.02) and (made.weakest is None) == by_factor
    assert not made.unseen.any()
    inverse = torch.linalg.pinv(M)
    torch.testing.assert_close(made.B @ made.rows(), inverse.T, rtol=1e-7, atol=1e-9 / least)
    torch.testing.assert_close(made.rows() @ made.rows().T, torch.eye(60, dtype=torch.float64), rtol=0, atol=1e-8)
    r = torch.randn(150, generator=generator).double()
    torch.testing.assert_close(made.B @ made.along(r), inverse.T @ r, rtol=1e-7, atol=1e-8 / least)
    assert made.smallest == (certificate._WEAK if by_factor else pytest.approx(float(s[-1] / s[0]), rel=1e-6))


@pytest.mark.parametrize("own", [0, 1, 5])
def test_numbers_that_no_other_checks_are_all_found_by_a_look_at_signs(own):
    """Columns of M that alone meet a direction have leverage 1; the looks leave these, and few others, to be asked."""
    generator = torch.Generator().manual_seed(4)
    M = torch.randn(40, 300, generator=generator, dtype=torch.float64)
    M[:own], M[:, :own] = 0, 0
    M[range(own), range(own)] = 10.0
    Q = torch.linalg.qr(torch.randn(300, 3, generator=generator).double()).Q.T
    Q[:, :own] = 0
    Q = torch.linalg.qr(Q.T).Q.T
    M = M - (M @ Q.T) @ Q
    made, hat = certificate._seen(M, 1e-9), torch.linalg.pinv(M) @ M + Q.T @ Q
    expected = hat.diagonal() > 1 - certificate._OWN
    assert made.V is None and int(expected.sum()) == own
    found = certificate._own(made, Q, 1)
    torch.testing.assert_close(found, made.rows(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu", "relu+tanh"])
@pytest.mark.parametrize("ratio", [1.3, 3.0])
def test_the_factor_and_singular_values_certify_the_same(activation, ratio, monkeypatch):
    X, features, a = drawn(5, 20, round(ratio * 100), activation, 2)
    theta = a @ features(X)
    theta = theta + 1e-6 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    asked, well = [], certificate._well_seen
    monkeypatch.setattr(certificate, "_well_seen", lambda G: asked.append(well(G)) or asked[-1])
    made = certify(features, theta, X, features.p - 100)
    monkeypatch.setattr(certificate, "_well_seen", lambda G: None)
    reference = certify(features, theta, X, features.p - 100)
    assert asked[0] is not None and reference.smallest > certificate._WEAK and reference.weakest is None
    for name in ("errors", "most", "costs", "weights"):
        torch.testing.assert_close(getattr(made, name), getattr(reference, name), rtol=1e-8, atol=0)
    for name in ("loose", "unchecked"):
        assert torch.equal(getattr(made, name), getattr(reference, name)), name
    assert (made.speaking, made.noise) == (reference.speaking, pytest.approx(reference.noise))


@pytest.mark.parametrize(("n", "outputs"), [(5, 1), (2, 3), (1, 4)])
def test_solutions_made_together_are_those_of_each_alone(n, outputs):
    """Of one that is zero and one that is done at once too; with more outputs than columns, one by one."""
    X, features, a = drawn(n, 20, 200, "relu+tanh", 6, outputs)
    theta, generator = a @ features(X), torch.Generator().manual_seed(1)
    together, alone, other = (normal.Normal(features, theta, X, rl.inputs.Sphere()) for _ in range(3))
    bs = [together.step.within(torch.randn(n, 20, generator=generator, dtype=torch.float64)) for _ in range(6)]
    bs[2:4] = [torch.zeros_like(X), other._times(other.solve_each(bs[:1], tolerance=1e-12)[0][None])[0] * 1e-9]
    with rl.features.passes.counted(rl.features.passes.Passes()) as spent:
        found = together.solve_each(bs, tolerance=1e-6)
    with rl.features.passes.counted(rl.features.passes.Passes()) as one_by_one:
        expected = [alone.solve_each([b], tolerance=1e-6)[0] for b in bs]
    assert abs(spent.made - one_by_one.made) <= 2 * n * len(bs) and not found[2].any()  # an iteration of rounding
    for z, by_itself in zip(found, expected, strict=True):
        torch.testing.assert_close(z, by_itself, rtol=1e-5, atol=1e-5 * float(by_itself.abs().max()))
    assert together.told and together.highest == pytest.approx(alone.highest, rel=1e-3)


def test_where_conjugate_gradients_do_not_tell_nothing_is_claimed(monkeypatch):
    X, features, a = drawn(5, 20, 150, "gelu", 6)
    monkeypatch.setattr(certificate, "_DENSE_COST_NEAR", 0)
    monkeypatch.setattr(certificate, "_DENSE_COST", 0)
    assert not certify(features, a @ features(X), X, 50).unchecked.any()
    monkeypatch.setattr(normal, "_ITERATIONS", 3)
    assert certify(features, a @ features(X), X, 50).unchecked.all()


def test_independent_rows_keep_span_and_fit():
    generator = torch.Generator().manual_seed(0)
    theta = (
        torch.randn(6, 2, generator=generator, dtype=torch.float64) @ torch.randn(2, 50, generator=generator).double()
    )
    rows, turn = independent_rows(theta)
    assert rows.shape == (2, 50) and turn.shape == (6, 2)
    torch.testing.assert_close(turn @ rows, theta)
    assert len(independent_rows(theta, rounding=1e3)[0]) == 0


# --- statuses and interruptions -------------------------------------------------------------------------------------


def test_every_ending_has_a_status():
    X, features, a = drawn(2, 8, 120, "relu", 0)
    theta = a @ features(X)
    done = rl.reconstruct(theta, features, 2, **BUDGET)
    assert done.status is Status.RECOVERED and done.determined is True and done.message.startswith("recovered: loss")
    assert done.flags == (Flag.RECOVERED,) * 2 and float(done.standard_errors.max()) < 1e-10
    spent = rl.reconstruct(theta, features, 2, max_seconds=None, max_steps=1)
    assert spent.status is Status.BUDGET_SPENT and set(spent.flags) == {Flag.UNRESOLVED}
    assert spent.standard_errors is None and spent.determined is True
    few = rl.RandomFeatures(8, 10, "relu", seed=0, device="cpu")
    below = rl.reconstruct(a @ few(X), few, 2, **BUDGET)
    assert below.status is Status.NOT_DETERMINED and below.determined is False


def test_an_interruption_of_the_certificate_claims_nothing(monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    X, features, a = drawn(2, 8, 120, "relu", 0)
    monkeypatch.setattr(RECONSTRUCT, "examine", interrupted)
    done = rl.reconstruct(a @ features(X), features, 2, **BUDGET)
    assert done.converged and done.status is Status.INTERRUPTED and done.determined is None
    assert set(done.flags) == {Flag.UNRESOLVED} and done.message.startswith("interrupted")


@pytest.mark.parametrize(("seconds", "status"), [(1, Status.RECOVERED), (100, Status.AMBIGUOUS)])
def test_a_certificate_has_what_is_left_of_the_time_and_little_more(monkeypatch, seconds, status):
    now = [0.0]

    def slow(*args, **options):
        now[0] += seconds
        look()
        return certify(*args, **options)

    X, features, a = drawn(2, 8, 120, "relu", 0)
    monkeypatch.setattr(examine, "certify", slow)
    done = rl.reconstruct(a @ features(X), features, 2, max_seconds=10, clock=lambda: now[0])
    assert done.status is status and ("the time was over" in done.message) == (status is Status.AMBIGUOUS)


def test_a_certificate_that_fails_claims_nothing(monkeypatch):
    def failing(*args, **options):
        raise rl.StepError("no memory")

    X, features, a = drawn(2, 8, 120, "relu", 0)
    monkeypatch.setattr(examine, "certify", failing)
    done = rl.reconstruct(a @ features(X), features, 2, **BUDGET)
    assert done.status is Status.AMBIGUOUS and done.determined is None and "no memory" in done.message


# Noise that is the same in all outputs counts once, not three times; that of one output alone lies in a third of θ.
@pytest.mark.parametrize("how", ["even", "rows", "same"])
def test_standard_errors_hold_under_uneven_noise(how):
    d, p, n, R = 6, 40, 2, 3
    shares = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: B023, E731
        layer = torch.nn.Linear(d, p).double().requires_grad_(False)
        layer.weight.copy_(normal(p, d) / d**0.5)
        layer.bias.copy_(normal(p) / 2)
        features = rl.ModuleFeatures(torch.nn.Sequential(layer, torch.nn.GELU()), (d,), device="cpu")
        X, noise = torch.rand(n, d, generator=generator, dtype=torch.float64), normal(R, p)
        theta = normal(R, n) @ features(X)
        if how == "rows":
            noise *= torch.tensor([[1.0], [0.1], [0.01]], dtype=torch.float64)
        if how == "same":
            noise = normal(R, 1) * noise[:1]
        theta = theta + 1e-5 * theta.norm() / noise.norm() * noise
        found = descend(features, theta, X, False, 0.0, 60, patience=(6, 0.7), inputs=rl.inputs.Free()).point
        made = certify(features, theta, found.U, R * p - n * (d + R), rl.inputs.Free())
        shares.append((found.U - X).norm(dim=1) / X.norm(dim=1) / made.errors)
        assert bool((made.errors <= 2 * made.most).all())
    shares = torch.cat(shares)
    assert 0.3 < float(shares.square().mean().sqrt()) < 1.05 and float(shares.max()) < 3
