"""Off the sphere: samples that slide along a segment, and domains that do not hold them, are not called recovered."""

import pytest
import torch
from helpers import windows
from torch import nn

import reconlaw as rl
from reconlaw.attack.certificate import certify
from reconlaw.attack.projection import Projection
from reconlaw.attack.result import Flag
from reconlaw.attack.run import Run
from reconlaw.attack.segments import segments
from reconlaw.attack.settled import settled
from reconlaw.attack.spliced import spliced
from reconlaw.attack.widened import outside
from reconlaw.inputs import Affine, Box, Free

BUDGET = {"max_seconds": None, "max_steps": 800}


def body(d, p, activation, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(d, p).double().requires_grad_(False)
    layer.weight.copy_(torch.randn(p, d, generator=generator, dtype=torch.float64) / d**0.5)
    layer.bias.copy_(torch.randn(p, generator=generator, dtype=torch.float64) / 2)
    return layer, rl.ModuleFeatures(nn.Sequential(layer, activation), (d,), device="cpu"), generator


def near_pair(seed, d=8, p=90, outputs=3, activation=None):
    """Two samples between which no neuron turns, a third far away, and the ends of the segment of the two."""
    layer, features, generator = body(d, p, activation or nn.ReLU(), seed)
    x, far = torch.rand(2, d, generator=generator, dtype=torch.float64)
    way = torch.randn(d, generator=generator, dtype=torch.float64)
    turns = -(layer(x[None])[0]) / (layer.weight @ (way / way.norm()))  # where each neuron turns, along the way
    low, high = float(turns[turns < 0].max()), float(turns[turns > 0].min())
    at = lambda share: x + (low + share * (high - low)) * way / way.norm()  # noqa: E731
    X = torch.stack([at(0.3), at(0.7), far])
    a = torch.randn(outputs, 3, generator=generator, dtype=torch.float64)
    return X, torch.stack([at(0.0), at(1.0)]), features, a @ features(X)


@pytest.mark.parametrize("seed", range(4))
def test_the_segment_of_two_samples_is_found_from_its_ends(seed):
    X, ends, features, theta = near_pair(seed)
    answer = torch.cat([ends, X[2:]])  # where a search arrives: it explains theta, and the Jacobian there is regular
    found = segments(features, theta, answer, certify(features, theta, answer, 100, Free()), Free())
    assert sorted(found) == [0, 1]
    for row in (0, 1):
        assert torch.cdist(found[row], ends).amin(1).max() < 1e-6 * (ends[1] - ends[0]).norm() + 1e-9
    inside = Box(answer.amin(0) - 1e-12, answer.amax(0) + 1e-12)
    bounded = segments(features, theta, answer, certify(features, theta, answer, 100, inside), inside)
    assert sorted(bounded) == [0, 1]


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh()], ids=["gelu", "tanh"])
def test_where_features_bend_no_sample_slides(activation):
    for seed in range(4):
        X, _, features, theta = near_pair(seed, activation=activation)
        assert segments(features, theta, X, certify(features, theta, X, 100, Free()), Free()) == {}


def test_held_samples_of_a_relu_body_do_not_slide():
    for seed in range(4):
        _, features, generator = body(6, 120, nn.ReLU(), seed)
        X = torch.rand(4, 6, generator=generator, dtype=torch.float64)
        theta = torch.randn(3, 4, generator=generator, dtype=torch.float64) @ features(X)
        assert segments(features, theta, X, certify(features, theta, X, 100, Free()), Free()) == {}


@pytest.mark.parametrize("seed", range(6))
def test_an_attack_reports_the_segment_and_claims_neither_sample(seed):
    X, ends, features, theta = near_pair(seed)
    result = rl.reconstruct(theta, features, 3, inputs=Free(), seed=seed, **BUDGET)
    if result.converged:
        off = (torch.cdist(result.X, X) / X.norm(dim=1)).amin(1)
        assert all(off[i] < 1e-2 for i, flag in enumerate(result.flags) if flag is Flag.RECOVERED)
        for row, found in (result.segments or {}).items():
            assert result.flags[row] is Flag.UNRESOLVED
            assert torch.cdist(found, ends).amin(1).max() < 1e-3


def pixels(n, d, generator):
    return (torch.rand(n, d, generator=generator, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)


def wrong_domain(kind, seed, n=2, d=6, p=40):
    """Samples that lie a little outside of a box, or beside a family."""
    _, features, generator = body(d, p, nn.GELU(), seed)
    if kind == "box":
        X, inputs = pixels(n, d, generator), Box(0.01, 0.99)
    else:
        basis, offset = torch.randn(4, d, generator=generator, dtype=torch.float64).split([3, 1])
        X = offset + torch.randn(n, 3, generator=generator, dtype=torch.float64) @ basis
        X, inputs = X + 0.02 * torch.randn(n, d, generator=generator, dtype=torch.float64), Affine(basis, offset[0])
    theta = torch.randn(2, n, generator=generator, dtype=torch.float64) @ features(X)
    return X, features, theta, inputs


# Without the question one sample or both of five of these were wrongly called recovered.
@pytest.mark.parametrize(("kind", "seeds"), [("box", range(20, 26)), ("family", (0, 3, 15, 20, 22, 25))])
def test_a_domain_without_the_samples_is_doubted(kind, seeds):
    """A generous tolerance takes what lies nearest for an answer; the freed samples are the data themselves."""
    doubted = 0
    for seed in seeds:
        X, features, theta, inputs = wrong_domain(kind, seed)
        result = rl.reconstruct(theta, features, 2, inputs=inputs, seed=seed, tol=1e-2, **BUDGET)
        off = (torch.cdist(result.X, X) / X.norm(dim=1)).amin(1)
        assert all(off[i] < 1e-2 for i, flag in enumerate(result.flags) if flag is Flag.RECOVERED)
        doubted += "inputs outside" in result.message
    assert doubted


def test_a_domain_that_holds_the_samples_is_not_doubted():
    for seed in range(8):
        _, features, generator = body(6, 120, nn.GELU(), seed)
        X = pixels(2, 6, generator)
        theta = torch.randn(2, 2, generator=generator, dtype=torch.float64) @ features(X)
        noise = torch.randn(2, 120, generator=generator, dtype=torch.float64)
        theta = theta + 1e-3 * theta.norm() / noise.norm() * noise
        inputs, run = Box(0.0, 1.0), Run(None, None, None, {}, max_steps=1000, samples=2)
        result = rl.reconstruct(theta, features, 2, inputs=inputs, seed=seed, tol=4e-6, **BUDGET)
        if (torch.cdist(result.X, X) / X.norm(dim=1)).amin(1).max() < 0.05:
            assert outside(features, theta, result.X, result.loss, 240 - 16, inputs, run).share < 0.1


# At the tolerance of float32 the search stops in a valley that bends, 4 % from the samples, whose tangent claims 0.1 %.
def test_an_answer_in_single_precision_goes_to_the_end_of_its_valley():
    called = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        layer = nn.Linear(6, 50).requires_grad_(False)
        layer.weight.copy_(torch.randn(50, 6, generator=generator) / 6**0.5)
        layer.bias.copy_(torch.randn(50, generator=generator) / 2)
        features = rl.ModuleFeatures(nn.Sequential(layer, nn.Softplus()), (6,), dtype=torch.float32, device="cpu")
        X = torch.rand(2, 6, generator=generator)
        X[1] = (X[0] + 0.03 * torch.randn(6, generator=generator)).clamp(0, 1)
        theta = torch.tensor([[0.5, 0.3]]) @ features(X)
        result = rl.reconstruct(theta, features, 2, inputs=Box(0.0, 1.0), seed=seed, **BUDGET)
        off = (torch.cdist(result.X, X) / X.norm(dim=1)).amin(1)
        assert all(off[i] < 1e-2 for i, flag in enumerate(result.flags) if flag is Flag.RECOVERED)
        called += result.converged
    assert called


def test_the_answer_is_settled_where_its_descent_ends():
    X, _, features, theta = near_pair(0, activation=nn.GELU())
    near = Projection(features, theta, X + 1e-4)
    run = Run(None, None, None, {}, max_steps=1000, samples=3)
    end = settled(features, theta, near, Free(), run)
    assert near.loss > 1e-20 > end.loss and (end.U - X).norm() < 1e-6 * X.norm()
    assert settled(features, theta, end, Free(), run).loss <= end.loss


# Before, rounding within a tolerance of 1e-4 was called exact for samples that lie on no grid.
def test_no_sample_off_its_grid_is_called_exact():
    for seed in range(6):
        _, features, generator = body(5, 80, nn.GELU(), seed)
        X = torch.rand(2, 5, generator=generator, dtype=torch.float64)
        theta = torch.randn(2, 2, generator=generator, dtype=torch.float64) @ features(X)
        result = rl.reconstruct(theta, features, 2, inputs=Box(0.0, 1.0, levels=256), seed=seed, tol=1e-4, **BUDGET)
        assert not result.exact.any()


def judged(kind, index):
    """Figures of a problem of the benchmark, as it was attacked at a budget of 800 steps."""
    import honesty_inputs

    return honesty_inputs.attacked(kind, index, 800)


# Each of these called one to three samples recovered that are off by 1 to 15 %.
@pytest.mark.parametrize(
    ("kind", "index"),
    [
        ("samples left out", 20),  # one for four: another explains 60 % of what is left, by chance 28 %
        ("samples left out", 168),  # one for three
        ("body in float32", 168),  # three ReLU samples that slide until neurons turn on
        ("uneven noise", 139),  # the same noise in all outputs of a neuron
        ("uneven noise", 251),  # an output that holds most of the noise
        ("several columns", 24),  # two that agree in the middle, each with the other's end
    ],
)
def test_what_was_once_wrongly_called_recovered(kind, index):
    found = judged(kind, index)
    assert found["fits"] and not found["samples_wrong"] and not found["sets_wrong"]


def test_a_sample_beside_its_grid_is_not_called_exact_under_noise_of_that_size():
    assert judged("grey levels", 76)["exact_wrong"] == 0
    assert judged("grey levels", 1)["exact"] == 4  # on their grid all four are


def test_samples_that_agree_between_two_parts_may_exchange_one():
    features, generator = windows(8, 40), torch.Generator().manual_seed(2)
    X = torch.rand(3, 8, generator=generator, dtype=torch.float64)
    exact = torch.zeros(3, dtype=torch.float64)
    assert not spliced(features, X, exact).any()
    X[1, 4] = X[0, 4]  # one number is narrower than what two windows share
    assert not spliced(features, X, exact).any()
    X[1, 3:5] = X[0, 3:5]
    assert spliced(features, X, exact).tolist() == [True, True, False]
    other = X.clone()
    other[0, 5:], other[1, 5:] = X[1, 5:], X[0, 5:]
    theta = torch.randn(4, 18, generator=generator, dtype=torch.float64) @ features.columns(features(X))
    assert Projection(features, theta, other).loss < 1e-25  # the rival fits as well
