import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import reconlaw as rl
from reconlaw._precision import full_precision
from reconlaw.attack import tools
from reconlaw.attack.projection import Projection
from reconlaw.attack.run import Run
from reconlaw.attack.search import Search
from reconlaw.sphere import to_sphere

MIXED = ["relu", "relu+tanh", "gelu", "softplus", "silu"]
PURE = ["tanh", "erf", "abs"]


def check(result, case, tol=1e-6):
    report = rl.match(result.X, case.X)
    assert result.converged and result.determined and result.message.startswith("recovered")
    if case.features.activation.parity == "mixed":
        assert result.sign_identifiable is True
        assert report.error.max() < tol
    else:
        assert result.sign_identifiable is False
        assert report.error_up_to_sign.max() < tol
    return report


# --- what comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["spectral", "random"])
@pytest.mark.parametrize("n", [4, 6])
@pytest.mark.parametrize("name", MIXED + PURE)
def test_samples_come_back(problem, name, n, start):
    case = problem(d=20, n=n, p=10 * 20 * n, activation=name)
    result = rl.reconstruct(case.theta, case.features, n, seed=1, max_seconds=None, start=start)
    check(result, case, 1e-8)
    assert result.loss < 1e-24


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", ["relu", "relu+tanh", "tanh", "abs"])
def test_one_and_two_samples(problem, name, n):
    case = problem(d=20, n=n, p=400, activation=name)
    check(rl.reconstruct(case.theta, case.features, n, max_seconds=None), case)


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_three_outputs(problem, name):
    case = problem(d=20, n=5, p=500, activation=name, outputs=3)
    result = rl.reconstruct(case.theta, case.features, 5, max_seconds=None)
    check(result, case)
    assert result.coefficients.shape == (5, 3)
    # K outputs give K times the equations: p below dn is enough.
    case = problem(d=20, n=5, p=95, activation=name, seed=1, outputs=3)
    check(rl.reconstruct(case.theta, case.features, 5, max_seconds=None), case)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_single_precision(problem, name):
    case = problem(d=20, n=5, p=1000, activation=name, dtype=torch.float32)
    result = rl.reconstruct(case.theta, case.features, 5, max_seconds=None)
    check(result, case, 1e-4)
    assert result.X.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_around_the_call_changes_nothing(problem, dtype):
    case = problem(dtype=dtype)
    found = rl.reconstruct(case.theta, case.features, 5, max_seconds=None, max_steps=200)
    with torch.autocast("cpu", torch.bfloat16):
        again = rl.reconstruct(case.theta, case.features, 5, max_seconds=None, max_steps=200)
        assert (torch.ones(2, 2) @ torch.ones(2)).dtype == torch.bfloat16
    assert torch.equal(found.X, again.X) and (found.loss, found.steps) == (again.loss, again.steps)
    with full_precision(), torch.autocast("cpu", torch.bfloat16):  # a function that asks for it has it
        assert (torch.ones(2, 2) @ torch.ones(2)).dtype == torch.bfloat16


def test_of_several_threads_the_last_out_puts_the_precision_back():
    before, entered, out = torch.get_float32_matmul_precision(), threading.Event(), threading.Event()

    @full_precision()
    def other():
        entered.set()
        assert out.wait(600)
        return torch.get_float32_matmul_precision()

    try:
        torch.set_float32_matmul_precision("high")
        with ThreadPoolExecutor(1) as pool:
            with full_precision():
                late = pool.submit(other)
                assert entered.wait(600)
            out.set()
            assert late.result(600) == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_a_thread_comes_and_goes_has_the_precision_as_it_was_set():
    before, out = torch.get_float32_matmul_precision(), threading.Event()

    def come_and_go():
        while not out.is_set():
            with full_precision():
                pass

    def as_set():
        outside = torch.get_float32_matmul_precision()
        with full_precision():
            return (outside, torch.get_float32_matmul_precision()) == ("high", "highest")

    try:
        torch.set_float32_matmul_precision("high")
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(come_and_go)
            ends = []
            try:
                while len(ends) < 100 and ends.count(7) == len(ends):
                    child = os.fork()
                    if not child:
                        signal.alarm(60)  # for what would wait forever
                        os._exit(7 if as_set() else 8)
                    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            finally:
                out.set()  # else leaving the pool would wait for the thread
            other.result(600)
        assert ends == [7] * 100 and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_where_float32_stalls_float64_goes_on(problem, monkeypatch, name):
    """On a device that rounds float32 further: here V, to half."""
    case, descend, floors = problem(activation=name), tools.descend, []
    rounded = case.features.coarse()
    rounded.V.copy_(rounded.V.half())

    def watched(features, *given, **options):
        end = descend(features, *given, **options)
        if features is rounded:
            floors.append(end.point.loss)
        return end

    monkeypatch.setattr(tools, "descend", watched)
    monkeypatch.setattr(rl.RandomFeatures, "coarse", lambda _: rounded)
    check(rl.reconstruct(case.theta, case.features, 5, max_seconds=None, max_steps=2_000), case)
    assert tools.COARSE_LOSS < min(floors) < tools._COARSE_FLOOR


@pytest.mark.parametrize("scale", [1.0, 2.0**-660])
@pytest.mark.parametrize("inputs", [None, rl.inputs.Free()])
def test_theta_tells_what_rounding_leaves_of_it(problem, inputs, scale):
    """A change of single precision, in features of double, ends at the floor of its rounding, whatever its size."""
    case = problem(d=6, n=2, p=60)
    result = rl.reconstruct(case.theta.float().double() * scale, case.features, 2, inputs=inputs, max_seconds=None)
    check(result, case, 1e-5)
    assert result.loss > 1e-20


def test_labels_theta0_and_form_of_theta_do_not_matter(problem):
    case = problem()
    theta0 = torch.randn(1000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    moved = case.features.fit(case.X, case.y, theta0=theta0) - theta0
    for theta in (
        moved,
        case.theta[None],
        case.theta.numpy(),
        case.theta.tolist(),
        case.theta.clone().requires_grad_(),
    ):
        result = rl.reconstruct(theta, case.features, 5, max_seconds=None)
        check(result, case)
        assert not result.X.requires_grad


def test_the_result_says_what_it_is(problem):
    case = problem()
    result = rl.reconstruct(case.theta, case.features, 5, max_seconds=None)
    Phi = case.features(result.X)
    torch.testing.assert_close(result.coefficients @ Phi, case.theta, rtol=0, atol=1e-10)
    assert abs(float(rl.projection_loss(result.X, case.features, case.theta)) - result.loss) < 1e-24
    torch.testing.assert_close(result.X.norm(dim=1), torch.full((5,), 20**0.5, dtype=torch.float64))
    times, losses, steps = zip(*result.history, strict=True)
    assert list(times) == sorted(times) and list(losses) == sorted(losses, reverse=True)
    assert 0 < times[0] and times[-1] <= result.seconds and result.method == "varpro"
    assert "5 samples of dimension 20" in repr(result) and len(repr(result)) < 200
    assert result != rl.reconstruct(case.theta, case.features, 5, max_seconds=None)  # and comparing does not raise


def test_theta_and_features_are_not_written_to(problem):
    case = problem()
    theta, V = case.theta.clone(), case.features.V.clone()
    rl.reconstruct(case.theta, case.features, 5, max_seconds=None)
    rl.reconstruct(case.theta, case.features, 5, method="sgd", max_steps=20)
    assert torch.equal(case.theta, theta) and torch.equal(case.features.V, V)


def test_a_seed_fixes_the_answer_and_another_changes_the_way(problem):
    case = problem()
    one, same, other = (rl.reconstruct(case.theta, case.features, 5, seed=s, start="random") for s in (1, 1, 2))
    assert torch.equal(one.X, same.X) and [h[1] for h in one.history] == [h[1] for h in same.history]
    assert one.history[0][1] != other.history[0][1]
    check(other, case)


def test_the_start_has_no_knowledge_of_the_data(problem, monkeypatch):
    """Equal seeds for data, features and attack: the attack's first atoms are none of the samples."""
    starts = []

    def stop_at_once(self, U, loss, note=""):
        starts.append(U.clone())
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "record", stop_at_once)
    for seed in range(5):
        case = problem(d=30, n=8, p=3000, seed=seed)
        with pytest.raises(KeyboardInterrupt):
            rl.reconstruct(case.theta, case.features, 8, method="sgd", seed=seed)
        report = rl.match(starts[-1], case.X)
        assert report.error_up_to_sign.min() > 0.3
    assert len({float(U.sum()) for U in starts}) == 5


# --- where it cannot work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_below_the_law_it_says_so(problem, name, share):
    case = problem(d=20, n=5, p=int(share * 100), activation=name)
    result = rl.reconstruct(case.theta, case.features, 5, max_seconds=None)
    assert not result.determined and result.message.startswith(f"not determined: {case.features.p} equations for 100")
    assert result.sign_identifiable is (False if name == "tanh" else None)
    assert rl.match(result.X, case.X).recovered_up_to_sign().sum() < 5


@pytest.mark.parametrize("K", [3, 10])
def test_more_outputs_than_samples_are_no_more_equations(problem, monkeypatch, K):
    respawns = []
    monkeypatch.setattr(Search, "respawn", lambda self, point, extra: respawns.append(extra) or point)
    case = problem(d=20, n=2, p=12, activation="relu+tanh", outputs=K)
    result = rl.reconstruct(case.theta, case.features, 2, max_seconds=None)
    assert not result.determined and "24 equations for 42 unknowns" in result.message
    # Nor are outputs that say the same.
    case = problem(d=20, n=5, p=95)
    result = rl.reconstruct(case.theta * torch.arange(1, K + 1).double()[:, None], case.features, 5, max_seconds=None)
    assert not result.determined and "95 equations for 100 unknowns" in result.message
    # And the search knows it, and ends after one descent, as for the one output that they repeat.
    assert respawns == []


@pytest.mark.parametrize("seed", range(4))
def test_a_light_atom_stays_where_atoms_are_more_than_dimensions(monkeypatch, near, seed):
    """Pairs of more than d atoms of ReLU are dependent, and float32 takes a light atom for one that is not needed."""
    n = d = 10
    features = rl.RandomFeatures(d, 400, "relu", seed=seed, device="cpu")
    X = rl.data.sphere(n, d, seed=seed).X
    a = torch.randn(n, generator=torch.Generator().manual_seed(50 + seed), dtype=torch.float64).sign()
    a[0] = 2e-4
    search = Search(features, (a @ features(X))[None], n, Run(), seed=0, start="random", tol=1e-20)
    wide = near(torch.cat([X, rl.data.sphere(3, d, seed=100 + seed).X]), 1e-4)
    ends = [Projection(search.coarse[0], search.coarse[1], wide.float(), True)]
    monkeypatch.setattr(search, "descend", lambda U, *_, **__: ends.pop() if ends else SimpleNamespace(U=U, loss=0.0))
    assert torch.allclose(search.respawn(ends[0], 3).U.double(), wide[:n], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["relu", "relu+tanh"])
def test_a_sample_that_two_atoms_share_costs_no_light_one(monkeypatch, problem, name):
    """Each of the two costs more than the light atom does, whose place one of them must leave."""
    case = problem(d=20, n=6, p=480, activation=name)
    features, X = case.features, case.X
    theta = torch.tensor([[1, -1, 1, -1, 1, 1e-3]], dtype=torch.float64) @ features(X)
    apart = 2e-2 * rl.data.sphere(1, 20, seed=7).X
    start = to_sphere(torch.cat([X[:1] + apart, X[1:]]))
    search = Search(features, theta, 6, Run(), seed=0, start="random", tol=1e-20)
    monkeypatch.setattr(search, "directions", lambda *_: to_sphere(X[:1] - apart))
    end = search.respawn(Projection(features, theta, start, True), 1)
    assert end.loss < 1e-20
    assert rl.match(end.U, X).recovered_up_to_sign(1e-6).all()


def test_more_samples_than_dimensions_are_a_search_like_others(problem):
    """The odd part of ReLU is linear, so 200 columns have rank 120, in float32 to within the rounding of the sum."""
    case = problem(d=20, n=100, p=4000, activation="relu")
    result = rl.reconstruct(case.theta, case.features, 100, max_seconds=None, max_steps=20)
    assert not result.converged and result.loss < 0.5 and len(result.X) == 100


@pytest.mark.parametrize(("phi", "most"), [(torch.square, 1), (lambda z: z + z * z, 2)])
def test_a_quadratic_activation_does_not_determine_its_samples(problem, phi, most):
    few, many = problem(d=6, n=most, p=300, activation=phi), problem(d=6, n=most + 2, p=300, activation=phi)
    found = rl.reconstruct(few.theta, few.features, most, max_seconds=None)
    assert found.determined and rl.match(found.X, few.X).recovered_up_to_sign(1e-6).all()
    lost = rl.reconstruct(many.theta, many.features, most + 2, max_seconds=None)
    assert lost.converged and not rl.match(lost.X, many.X).recovered_up_to_sign().all()
    assert not lost.determined and "polynomial of degree 2" in lost.message
    # Several outputs are several quadratic forms, which are diagonal in the samples alone.
    case = problem(d=6, n=3, p=300, activation=torch.square, outputs=3)
    check(rl.reconstruct(case.theta, case.features, 3, max_seconds=None), case)


@pytest.mark.parametrize("method", ["varpro", "sparse"])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float64, 1e-200), (torch.float64, 1e200), (torch.float32, 1e-30), (torch.float32, 1e25)],
)
def test_theta_of_any_size_is_reconstructed(problem, dtype, scale, method):
    case = problem(d=10, n=3, p=200, dtype=dtype)
    theta, options = case.theta * scale, {"n": None if method == "sparse" else 3, "method": method, "max_seconds": None}
    result = rl.reconstruct(theta, case.features, **options)
    check(result, case, 1e-5)
    assert 0 < result.loss
    torch.testing.assert_close(result.coefficients / scale @ case.features(result.X), case.theta, rtol=1e-3, atol=1e-6)
    if method == "sparse":
        plain = rl.reconstruct(case.theta, case.features, **options)
        assert result.path[0]["lambda"] / plain.path[0]["lambda"] == pytest.approx(scale, rel=1e-3)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_noise_in_theta_leaves_its_size_as_the_floor(problem, name):
    case = problem(activation=name)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    noise *= 1e-3 * case.theta.norm() / noise.norm()
    result = rl.reconstruct(case.theta + noise, case.features, 5, max_seconds=None)
    assert not result.converged and 1e-8 < result.loss < 1e-6 and "raise tol" in result.message
    assert rl.match(result.X, case.X).error_up_to_sign.max() < 0.05
    again = rl.reconstruct(case.theta + noise, case.features, 5, max_seconds=None, tol=1e-6)
    assert again.converged


def test_fewer_atoms_than_samples_do_not_converge(problem):
    case = problem()
    result = rl.reconstruct(case.theta, case.features, 4, max_seconds=None)
    assert not result.converged and result.loss > 1e-4


def test_an_atom_more_than_samples_still_fits(problem):
    case = problem()
    result = rl.reconstruct(case.theta, case.features, 6, max_seconds=None)
    assert result.converged and rl.match(result.X, case.X).error.max() < 1e-6


def test_theta_that_is_no_fit_is_not_explained(problem):
    features = problem().features
    theta = torch.randn(1000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = rl.reconstruct(theta, features, 3, max_seconds=None, max_steps=1000)
    assert not result.converged and result.loss > 0.3 and result.sign_identifiable is None


@pytest.mark.parametrize("method", ["varpro", "sgd"])
@pytest.mark.parametrize("budget", [0.5, 40.0])
def test_the_budget_is_kept(problem, method, budget):
    case = problem(d=30, n=8, p=1000)
    generator = torch.Generator().manual_seed(5)
    theta = torch.randn(1000, generator=generator, dtype=torch.float64)  # no fit: every restart ends elsewhere
    ticks = itertools.count()
    result = rl.reconstruct(theta, case.features, 8, method=method, max_seconds=budget, clock=lambda: next(ticks) / 100)
    assert result.message.startswith("budget spent") and result.loss < 1
    assert budget <= result.seconds < budget + 3  # looks at the clock since: a step, and the polish at the end


def test_the_floor_that_noise_makes_is_recognised(problem):
    """Independent roads that end at one loss stop the search before its budget."""
    case = problem(d=20, n=4, p=1000)
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    noise *= 1e-3 * case.theta.norm() / noise.norm()
    result = rl.reconstruct(case.theta + noise, case.features, 4, max_seconds=None)
    assert result.message.startswith("stalled")
    assert 0.5e-6 < result.loss < 1e-6  # (1 − nd/p) of the noise
    assert int(rl.match(result.X, case.X).recovered().sum()) >= 3  # the lightest sample drowns in the noise


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_tiny_dimensions_do_not_break(problem, d, name):
    case = problem(d=d, n=1, p=30, activation=name)
    result = rl.reconstruct(case.theta, case.features, 1, max_seconds=None)
    assert torch.isfinite(result.X).all() and result.converged


# --- interruption and progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["varpro", "sgd"])
def test_ctrl_c_gives_the_best_so_far(problem, monkeypatch, method):
    case, calls, record = problem(), [], Run.record

    def record_then_interrupt(self, U, loss, note=""):
        record(self, U, loss, note)
        calls.append(loss)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(Run, "record", record_then_interrupt)
    options = {"start": "random"} if method == "varpro" else {}
    result = rl.reconstruct(case.theta, case.features, 5, method=method, seed=1, **options)
    assert result.message.startswith("interrupted") and not result.converged
    assert result.history[-1][1] == min(calls) and result.X.shape == (5, 20) and 0 < result.loss < 1


@pytest.mark.parametrize("method", ["varpro", "sgd"])
def test_ctrl_c_before_there_is_anything_is_ctrl_c(problem, monkeypatch, method):
    case = problem()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "record", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rl.reconstruct(case.theta, case.features, 5, method=method)


@pytest.mark.parametrize("method", ["varpro", "sgd"])
def test_progress_goes_to_stderr_and_only_on_request(problem, capfd, method):
    case = problem()
    rl.reconstruct(case.theta, case.features, 5, method=method, max_steps=40)
    assert capfd.readouterr() == ("", "")
    rl.reconstruct(case.theta, case.features, 5, method=method, max_steps=40, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "loss" in err


# --- bad arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"theta": torch.zeros(200)}, ValueError, "theta is zero"),
        ({"theta": torch.full((200,), torch.nan)}, ValueError, "theta holds 200 NaN"),
        ({"theta": torch.ones(199)}, ValueError, r"theta has shape \(199,\)"),
        ({"theta": torch.ones(200, 2)}, ValueError, r"theta has shape \(200, 2\)"),
        ({"theta": torch.ones(0, 200)}, ValueError, "theta"),
        ({"theta": "abc"}, TypeError, "str"),
        ({"theta": None}, TypeError, "object"),
        ({"n": 0}, ValueError, "n=0 must be a whole number"),
        ({"n": -3}, ValueError, "n=-3"),
        ({"n": 2.0}, ValueError, "n=2.0"),
        ({"n": None}, ValueError, "needs n, the number of training samples"),
        ({"n": True}, ValueError, "n=True"),
        ({"n": 201}, ValueError, "n=201 exceeds p=200"),
        ({"method": "adam"}, ValueError, "method='adam' is unknown; use one of 'varpro', 'sgd'"),
        ({"method": None}, ValueError, "method=None"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.5}, ValueError, "seed=1.5"),
        ({"max_seconds": 0}, ValueError, "max_seconds=0"),
        ({"max_seconds": -1}, ValueError, "max_seconds=-1"),
        ({"max_seconds": torch.nan}, ValueError, "max_seconds=nan"),
        ({"max_seconds": "long"}, ValueError, "max_seconds='long'"),
        ({"max_steps": -1}, ValueError, "max_steps=-1"),
        ({"max_steps": 2.5}, ValueError, "max_steps=2.5"),
        ({"tol": 0}, ValueError, "tol=0"),
        ({"tol": -1e-9}, ValueError, "tol=-1e-09"),
        ({"tol": torch.nan}, ValueError, "tol=nan"),
        ({"start": "truth"}, ValueError, "start='truth'.*'spectral' or 'random'"),
        ({"learning_rate": 1.0}, TypeError, "'learning_rate' is no option of method='varpro'; it has start"),
        ({"method": "sgd", "start": "random"}, TypeError, "'start' is no option of method='sgd'; it has learning_rate"),
        ({"X": torch.ones(3, 6)}, TypeError, "'X' is no option"),
        ({"features": torch.ones(200)}, TypeError, "features is a Tensor; pass theta first"),
        ({"features": None}, TypeError, "features is a NoneType"),
        ({"features": torch.nn.Linear(6, 200)}, TypeError, r"pass reconlaw\.ModuleFeatures\(module, input_shape\)"),
    ],
)
def test_bad_arguments(problem, arguments, error, message):
    case = problem(d=6, n=3, p=200)
    with pytest.raises(error, match=message):
        rl.reconstruct(**({"theta": case.theta, "features": case.features, "n": 3} | arguments))


def test_numpy_count_is_a_count(problem):
    case = problem(d=6, n=3, p=200)
    check(rl.reconstruct(case.theta, case.features, np.int64(3), seed=np.int64(0), max_seconds=None), case)


# --- the size that must be shown -----------------------------------------------------------------------------------


@pytest.mark.slow(reason="whole searches at the paper's size, d = 100 and n = 20")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ratio", [10, 3])
@pytest.mark.parametrize("name", ["relu", "relu+tanh"])
def test_whole_sets_at_the_papers_size(problem, name, ratio, seed):
    case = problem(d=100, n=20, p=ratio * 2000, activation=name, seed=seed)
    result = rl.reconstruct(case.theta, case.features, 20, seed=seed, start="random", max_seconds=None)
    check(result, case)


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_a_descent_that_takes_no_step_still_gives_a_result(seed):
    features = rl.RandomFeatures(2, 3, "relu", seed=seed, device="cpu")
    theta = features.fit(rl.data.sphere(2, 2, seed=seed).X, torch.tensor([1.0, -1.0]))
    result = rl.reconstruct(theta, features, 2, seed=seed, max_seconds=None)
    assert result.X.shape == (2, 2) and not result.determined
