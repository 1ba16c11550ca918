import copy

import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw import Flag, Status
from reconlaw.networks.first_layer.certificate import half_space_bits
from reconlaw.networks.first_layer.change import read_change
from reconlaw.networks.first_layer.fit import Problem, fit, unit
from reconlaw.networks.first_layer.masks import best_pair, climb, orthonormal


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lazy(X, p, seed=0):
    """A layer, its read-out, and its change where masks stay: row j is v_j Σ_i c_i 1[w_j·x_i > 0] x_i."""
    W, v, c = normal(p, X.shape[1], seed=10 + seed), normal(p, seed=20 + seed), normal(len(X), seed=30 + seed)
    return W, v, v[:, None] * (((W @ X.T > 0) * c) @ X)


def step(network, X, y, rate=0.1, loss=nn.functional.cross_entropy):
    """The network after one step of gradient descent."""
    after = copy.deepcopy(network)
    gradients = torch.autograd.grad(loss(after(X), y), list(after.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(after.parameters(), gradients, strict=True):
            parameter -= rate * gradient
    return after


def dense(d=64, width=400, outputs=10, seed=0, between=nn.ReLU):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(d, width), between(), nn.Linear(width, outputs)).double()


def digits(n=6, seed=0):
    data = rl.data.digits(n, classes=tuple(range(10)), seed=seed)
    return data, data.pixels, data.y.argmax(1)


def checked(result, X, most=1e-9):
    """Recovered, and rightly so: no error is above its standard error."""
    report = rl.match(result.X, X)
    assert result.status is Status.RECOVERED, result.message
    assert result.flags == (Flag.RECOVERED,) * len(X) and bool(result.certificate.holds.all())
    assert report.error.max() < most
    assert bool((report.error[report.order.argsort()] <= result.standard_errors.cpu()).all())
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [1, 2, 9])
def test_exactly_lazy_samples_come_back_exactly(n, seed):
    X = rl.data.digits(n, classes=tuple(range(10)), seed=seed).X
    W, v, D = lazy(X, 600, seed)
    result = checked(rl.first_layer((W, v), (W + D, v)), X)
    assert result.lazy and result.rank == n and result.determined
    assert torch.allclose(result.masks.sum(1).sort().values, (W @ X.T > 0).sum(1).sort().values)


def test_the_last_bits_do_not_decide_which_sample_comes_first():
    X = rl.data.digits(9, classes=tuple(range(10)), seed=0).X
    W, v, D = lazy(X, 600)
    whole = rl.first_layer((W, v), (W + D, v))
    for seed in range(3):
        moved = W + D * (1 + 1e-14 * normal(*D.shape, seed=seed))
        torch.testing.assert_close(rl.first_layer((W, v), (moved, v)).X, whole.X, rtol=0, atol=1e-6)


def test_forty_digits_and_their_coefficients():
    X = rl.data.digits(40, classes=tuple(range(10)), seed=0).X
    W, v, D = lazy(X, 2000)
    result = checked(rl.first_layer((W, v), (W + D, v)), X)
    order = rl.match(result.X, X).order
    assert torch.allclose(result.coefficients[order, 0], normal(40, seed=30), atol=1e-8)


def test_biases_give_norms_whatever_loss_and_network_stand_above():
    _, X, y = digits()
    deep = nn.Sequential(*dense(outputs=20), nn.Tanh(), nn.Linear(20, 10)).double()
    for network in (dense(), deep):
        checked(rl.first_layer(network, step(network, X, y)), X)


def test_single_precision_is_allowed_for():
    _, X, y = digits()
    network = dense().float()
    result = rl.first_layer(network, step(network, X.float(), y, rate=1.0))
    checked(result, X, 1e-4)
    assert result.X.dtype == torch.float64


@pytest.mark.parametrize("pool", [False, True])
def test_convolutions_give_their_patches(pool):
    _, X, y = digits(3)
    pictures = X.reshape(-1, 1, 8, 8)
    read = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(300, 10)] if pool else [nn.Flatten(), nn.Linear(1200, 10)]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 300, 7), nn.ReLU(), *read).double()
    patches = nn.functional.unfold(pictures, 7).transpose(1, 2).reshape(-1, 49)
    result = checked(rl.first_layer(network, step(network, pictures, y)), patches)
    assert sorted(result.position.tolist()) == ([0] * 12 if pool else [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])


@pytest.mark.parametrize("seed", [1, 2])
def test_both_layers_trained_to_the_end(seed, monkeypatch):
    X, y = rl.data.digits(6, seed=seed).X, normal(6, seed=seed)
    network = rl.networks.TwoLayer(64, 2000, seed=seed)
    after = rl.networks.train(network, X, y).network
    result = rl.first_layer(network, after)
    assert result.road == "silent neurons" and result.lazy is False and result.rank == 6
    assert result.status is Status.RECOVERED and result.certificate is None
    report = rl.match(result.X, X)
    assert report.error.max() < 1e-9
    assert bool((report.error[report.order.argsort()] <= result.standard_errors).all())
    # Its masks are those before training but for the neurons that were crossed, its edges the samples' directions.
    passed = network.body[0].weight.detach() @ X.T > 0
    assert (result.masks[:, report.order] == passed).double().mean(0).min() > 0.9
    cosine = torch.nn.functional.cosine_similarity(result.edges[report.order], X)
    assert torch.allclose(cosine.abs(), torch.ones(6).double())

    # Where those neurons tell nothing, the fit takes the movement of the read-out along.
    monkeypatch.setattr("reconlaw.networks.silent.faces.Search.search", lambda self: None)
    fitted = rl.first_layer(network, after)
    assert fitted.road == "read-out trained along" and fitted.silent is None
    assert bool(fitted.certificate.holds.all()) and fitted.status in (Status.RECOVERED, Status.IN_PART)
    report = rl.match(fitted.X, X)
    assert report.error.max() < 1e-2
    assert bool((report.error[report.order.argsort()] <= fitted.standard_errors).all())


def test_of_one_step_silent_neurons_tell_the_same_coefficients_and_edges():
    """The two roads agree where both hold: biases, ten outputs, and the positions of a convolution's patches."""
    _, X, y = digits(2)
    torch.manual_seed(0)
    pictures = X.reshape(-1, 1, 8, 8)
    patches = nn.Sequential(nn.Conv2d(1, 300, 7), nn.ReLU(), nn.Flatten(), nn.Linear(1200, 10)).double()
    for network, inputs in ((dense(), X), (patches, pictures)):
        after = step(network, inputs, y)
        box = rl.first_layer(network, after)
        told = rl.first_layer(network, after, lazy=False)
        assert (box.road, told.road) == ("masks frozen", "silent neurons") and told.status is Status.RECOVERED
        order = rl.match(told.X, box.X).order
        assert torch.allclose(told.coefficients[order], box.coefficients, atol=1e-9)
        assert torch.allclose(told.edges[order], box.edges, atol=1e-9)
        assert torch.equal(told.position[order], box.position) and torch.equal(told.masks[:, order], box.masks)


def test_permutations_rotations_and_signs_of_labels_change_nothing():
    X = rl.data.digits(5, seed=1).X
    W, v, D = lazy(X, 500)
    told = rl.first_layer((W, v), (W + D, v)).X
    turn = torch.linalg.qr(normal(64, 64, seed=5)).Q
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    for before, after, back in (
        ((W[order], v[order]), ((W + D)[order], v[order]), torch.eye(64).double()),
        ((W, -v), (W + D, -v), torch.eye(64).double()),
        ((W, v), (W - D, v), torch.eye(64).double()),
        ((W @ turn, v), ((W + D) @ turn, v), turn.T),
    ):
        assert rl.match(rl.first_layer(before, after).X @ back, told).error.max() < 1e-9


def test_same_seed_same_answer_and_steps():
    X = rl.data.digits(5, seed=1).X
    W, v, D = lazy(X, 500)
    one, two = (rl.first_layer((W, v), (W + D, v), seed=3) for _ in range(2))
    assert torch.equal(one.X, two.X) and one.steps == two.steps


def test_duplicates_count_once_and_a_wrong_n_is_said():
    _, X, y = digits()
    network = dense()
    twice = step(network, torch.cat([X, X[:1]]), torch.cat([y, y[:1]]))
    result = checked(rl.first_layer(network, twice, n=7), X)
    assert "not n=7" in result.message
    assert "not n=3" in checked(rl.first_layer(network, twice, n=3), X).message


def test_noise_is_borne_or_said():
    _, X, y = digits()
    network = dense()
    after = step(network, X, y)
    for size in (1e-6, 1e-4, 1e-2, 1.0):
        noisy = copy.deepcopy(after)
        with torch.no_grad():
            for k, (new, old) in enumerate(zip(noisy.parameters(), network.parameters(), strict=True)):
                new += size * (new - old).abs().mean() * normal(*new.shape, seed=40 + k)
        result = rl.first_layer(network, noisy, n=6)
        if result.status is Status.RECOVERED:
            checked(result, X, 1e-2)
        else:
            assert size > 1e-4 and Flag.RECOVERED not in result.flags


@pytest.mark.parametrize("between", [nn.GELU, nn.Tanh, nn.LeakyReLU, nn.Identity])
def test_what_is_no_relu_is_refused_or_never_called_recovered(between):
    _, X, y = digits()
    network = dense(between=between)
    after = step(network, X, y)
    with pytest.raises(ValueError, match="ReLU|0 ReLU"):
        rl.first_layer(network, after)
    tensors = [(net[0].weight, net[0].bias, net[2].weight) for net in (network, after)]
    result = rl.first_layer(*tensors)
    assert result.status is not Status.RECOVERED and Flag.RECOVERED not in result.flags


def test_a_function_that_is_merely_called_relu_is_none():
    def relu(z):
        return torch.where(z > 0, z, 0.3 * z)

    networks = [rl.networks.TwoLayer(6, 30, activation=relu, seed=seed) for seed in (0, 1)]
    for attack in (rl.first_layer, rl.silent_neurons):
        with pytest.raises(ValueError, match="ReLU"):
            attack(*networks)


def descended(network, X, y, optimiser, steps):
    after = copy.deepcopy(network)
    stepper = optimiser(after.parameters())
    for _ in range(steps):
        stepper.zero_grad()
        nn.functional.cross_entropy(after(X), y).backward()
        stepper.step()
    return after


@pytest.mark.parametrize("n", [None, 6])
def test_adam_is_never_called_recovered(n):
    _, X, y = digits()
    X = X.unflatten(1, (8, 8))[:, 2:7, 2:7].flatten(1)  # a search in few dimensions gives up sooner
    network = dense(d=25)
    after = descended(network, X, y, lambda parameters: torch.optim.Adam(parameters, lr=1e-2), 10)
    result = rl.first_layer(network, after, n=n)
    assert result.status is not Status.RECOVERED and Flag.RECOVERED not in result.flags


@pytest.mark.parametrize("n", [None, 6])
@pytest.mark.parametrize("decay", [5e-4, 1e-2])
def test_weight_decay_is_taken_out(decay, n):
    """The factor by which SGD with decay shrinks weights is (1 - rate·decay)^steps, for any loss."""
    for seed in range(3):
        _, X, y = digits(seed=seed)
        network, steps = dense(seed=seed), 50
        made = lambda parameters: torch.optim.SGD(parameters, lr=1e-2, weight_decay=decay)  # noqa: E731
        result = rl.first_layer(network, descended(network, X, y, made, steps), n=n, max_steps=100_000)
        report = rl.match(result.X, X)
        assert result.converged and result.flags == (Flag.RECOVERED,) * 6 and float(report.error.max()) < 1e-9
        assert bool((report.error[report.order.argsort()] <= result.standard_errors.cpu()).all())
        assert result.decay_factor == pytest.approx((1 - 1e-2 * decay) ** steps, abs=1e-9)
        assert "weight decay left" in result.message and result.road == "silent neurons"


def test_as_many_samples_as_dimensions_are_not_determined():
    X = normal(12, 8)
    W, v, D = lazy(X, 400)
    result = rl.first_layer((W, v), (W + D, v))
    assert result.status is Status.NOT_DETERMINED and result.determined is False and result.X.shape == (0, 8)
    assert "fills its 8 dimensions" in result.message and "0 samples" in repr(result)


@pytest.mark.parametrize("width", [8, 12, 20, 40])
def test_few_neurons_never_make_up_a_sample(width):
    for seed in range(5):
        X = normal(4, 10, seed=seed)
        W, v, D = lazy(X, width, seed)
        result = rl.first_layer((W, v), (W + D, v), seed=seed)
        errors = rl.match(X / X.norm(dim=1, keepdim=True) * 10**0.5, result.X).error if len(result.X) else []
        for flag, error in zip(result.flags, errors, strict=True):
            assert flag is not Flag.RECOVERED or error < 1e-6


def test_a_budget_of_steps_and_an_interruption_bring_back_what_there_is(monkeypatch):
    X = rl.data.digits(9, seed=0).X
    W, v, D = lazy(X, 600)
    result = rl.first_layer((W, v), (W + D, v), max_steps=1)
    assert result.status is Status.BUDGET_SPENT and result.X.shape == (0, 64)
    from reconlaw.networks.first_layer import search

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "climb", interrupted)
    assert rl.first_layer((W, v), (W + D, v)).status is Status.INTERRUPTED


def test_progress_goes_to_stderr(capsys):
    X = rl.data.digits(2, seed=0).X
    W, v, D = lazy(X, 300)
    rl.first_layer((W, v), (W + D, v), progress=True)
    out, err = capsys.readouterr()
    assert out == "" and "samples" in err


def test_bad_input_says_what_is_wrong():
    W, v = normal(20, 5), normal(20)
    network = dense(5, 20, 3)
    cases = [
        ((W, v), (W, v), ValueError, "moved nothing"),
        ((W, v), network, TypeError, "both"),
        ((W, v), (W[:10], v[:10]), ValueError, "two states"),
        ((W, v[:7]), (W, v[:7]), ValueError, "column for each neuron"),
        ((W, v, v), (W, v[:3], v), ValueError, "b has shape"),
        ((W * float("nan"), v), (W, v), ValueError, "NaN"),
        ((W, 0 * v), (W + 1, 0 * v), ValueError, "read-out is zero"),
        (W, W, TypeError, "pass a network"),
        ((W.long(), v), (W, v), TypeError, "dtype"),
        (nn.Sequential(nn.Linear(5, 3)), nn.Sequential(nn.Linear(5, 3)), ValueError, "followed by a linear layer"),
        (nn.ReLU(), nn.ReLU(), ValueError, "no linear layer"),
    ]
    for before, after, kind, words in cases:
        with pytest.raises(kind, match=words):
            rl.first_layer(before, after)
    for options, words in (
        ({"n": 0}, "n=0"),
        ({"lazy": 2}, "lazy=2"),
        ({"max_steps": 0}, "max_steps"),
        ({"layer": "none"}, "no layer 'none'"),
    ):
        with pytest.raises(ValueError, match=words):
            rl.first_layer(network, step(network, normal(2, 5), torch.tensor([0, 1])), **options)


def test_climbing_never_falls_and_a_true_mask_is_its_end():
    X = rl.data.digits(5, seed=0).X
    W, _, _ = lazy(X, 300)
    V = orthonormal(normal(300, 3, seed=4))
    masks, c = (W @ X.T > 0).double(), normal(3, 5, seed=6)
    D = (masks * (V @ c)) @ X
    A, C = orthonormal(torch.cat([V, D], 1)), orthonormal(W)
    truth = 2 * masks - 1
    S, found, F = climb(A, V, C, truth, share=0.0)
    assert torch.equal(S, truth) and torch.allclose(F, torch.ones(5).double())
    cosine = torch.nn.functional.cosine_similarity(found, c, dim=0).abs()
    assert torch.allclose(cosine, torch.ones(5).double())
    S = normal(300, 20, seed=7).sign()
    values = [best_pair(A, V, S)[2]]
    for _ in range(10):
        S = climb(A, V, C, S, share=0.0, iterations=1)[0]
        values.append(best_pair(A, V, S)[2])
        assert bool((values[-1] >= values[-2] - 1e-12).all())


def test_nested_masks_pass_the_arithmetic_and_fail_as_half_spaces():
    """Where all neurons that see x_1 see x_2, e_1 + e_2 and e_2 explain the change too, with two-valued masks."""
    X = torch.nn.functional.normalize(normal(2, 6, seed=1)) * 6**0.5
    W = normal(4000, 6, seed=2)
    W = W[(W @ X[0] <= 0) | (W @ X[1] > 0)]
    v = torch.ones(len(W), dtype=torch.float64)
    D = (W @ X.T > 0).double() @ X
    problem = Problem(read_change((W, v), (W + D, v)), 2, True)
    masks = (W @ X.T > 0).double()
    wrong = torch.stack([masks[:, 0], masks[:, 1] - masks[:, 0]], 1)
    edges = torch.stack([X[0] + X[1], X[1]]) @ problem.basis.T
    everywhere = torch.ones(len(W), dtype=torch.bool)
    position = torch.zeros(2, dtype=torch.long)
    made = fit(problem, unit(edges), position, wrong, everywhere)
    assert made.loss < 1e-20
    from reconlaw.networks.first_layer.certificate import certify

    certificate = certify(problem, unit(made.X), made, torch.zeros(2).double())
    assert bool((certificate.distance < 1e-9).all()) and not bool(certificate.holds.all())
    checked(rl.first_layer((W, v), (W + D, v)), X)


def test_bits_are_those_of_counted_half_spaces():
    """Of 6 points in the plane, 12 of 64 signings are half-spaces; of as many points as dimensions, all."""
    assert half_space_bits(6, 2) == pytest.approx(torch.log2(torch.tensor(64 / 12)).item())
    assert half_space_bits(5, 5) == 0 and half_space_bits(2000, 40) > 1000


def test_inputs_are_read_off_under_any_activation():
    _, X, y = digits(5)
    network = dense(between=nn.GELU)
    changes = [new - old for new, old in zip(step(network, X, y).parameters(), network.parameters(), strict=True)]
    span = rl.networks.read_off(changes[0], changes[1])
    assert span.n == 5 and span.directions.shape == (4, 64)
    away = X - span.point
    assert (away - away @ span.directions.T @ span.directions).abs().max() < 1e-10
    assert isinstance(span.inputs, rl.inputs.Affine) and span.inputs.k == 4
    assert rl.networks.read_off(changes[0]).directions.shape == (5, 64)


def test_one_input_is_read_off_exactly():
    _, X, y = digits(1)
    network = dense(between=nn.Tanh)
    changes = [new - old for new, old in zip(step(network, X, y).parameters(), network.parameters(), strict=True)]
    span = rl.networks.read_off(changes[0], changes[1])
    assert span.n == 1 and (span.point - X[0]).abs().max() < 1e-10 and span.directions.shape == (0, 64)
    with pytest.raises(ValueError, match="no family"):
        _ = span.inputs
    with pytest.raises(ValueError, match="fills the space"):
        rl.networks.read_off(normal(50, 10))
    with pytest.raises(ValueError, match="a number for each row"):
        rl.networks.read_off(changes[0], changes[1][:3])
