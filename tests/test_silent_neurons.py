import copy
import dataclasses

import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw import Flag, Status
from reconlaw.attack.run import Run
from reconlaw.networks.first_layer.change import read_change
from reconlaw.networks.silent.decay import without_decay
from reconlaw.networks.silent.faces import Rows, Search
from reconlaw.sphere import to_sphere


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(*above, width=600, inputs=64, bias=True, seed=0):
    """A first layer with ReLU, and what stands above it."""
    torch.manual_seed(seed)
    above = above or (nn.Linear(width, 10),)
    return nn.Sequential(nn.Linear(inputs, width, bias=bias), nn.ReLU(), *above).double()


def trained(
    before, X, y, steps=200, batch=None, loss=nn.functional.cross_entropy, optimiser=torch.optim.SGD, **options
):
    """A copy after training, on mini-batches where ``batch`` is given."""
    after, order = copy.deepcopy(before), torch.Generator().manual_seed(9)
    stepper = optimiser(after.parameters(), **{"lr": 0.05, **options})
    for _ in range(steps):
        rows = torch.randperm(len(X), generator=order)[: batch or len(X)]
        stepper.zero_grad()
        loss(after(X[rows]), y[rows]).backward()
        stepper.step()
    return after


def digits(n=6, seed=0):
    data = rl.data.digits(n, classes=tuple(range(10)), seed=seed)
    return data.pixels, data.y.argmax(1)


def squares(out, y):
    return (out[:, 0] - y).square().mean()


def logistic(out, y):
    return nn.functional.softplus(-out[:, 0] * y).mean()


def checked(result, X, most):
    """Recovered, and rightly so: no error is above what is stated."""
    report = rl.match(result.X, X)
    assert result.status is Status.RECOVERED, result.message
    assert result.flags == (Flag.RECOVERED,) * len(X) and result.rank == len(X) and result.determined
    assert report.error.max() < most
    assert bool((report.error[report.order.argsort()] <= result.standard_errors.cpu()).all())
    return report


@pytest.mark.parametrize("seed", range(3))
def test_layers_above_mini_batches_and_momentum(seed):
    X, y = digits(8, seed)
    before = dense(nn.Linear(600, 50), nn.Tanh(), nn.Linear(50, 10), seed=seed)
    checked(rl.silent_neurons(before, trained(before, X, y, batch=4, momentum=0.9)), X, 1e-10)


@pytest.mark.parametrize("seed", range(2))
def test_a_margin_that_most_neurons_crossed_for(seed):
    X = rl.data.digits(6, classes=tuple(range(10)), seed=seed).X
    before = dense(nn.Linear(800, 1, bias=False), width=800, bias=False, seed=seed)
    for layer in (before[0], before[2]):
        layer.weight.data /= 3 * layer.weight.data.norm()
    y = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64)
    after = trained(before, X, y, 1000, loss=logistic, lr=0.03)
    assert (after[0].weight - before[0].weight).norm() > 2 * before[0].weight.norm()
    result = rl.silent_neurons(before, after, 6)
    checked(result, X, 1e-10)
    assert torch.allclose(result.X.norm(dim=1), torch.full((6,), 8.0).double())  # no bias tells no norms


def test_evidence_and_coefficients_are_those_of_the_samples():
    X, y = digits(6)
    before = dense()
    after = trained(before, X, y, momentum=0.9)
    result = rl.silent_neurons(before, after)
    order = checked(result, X, 1e-10).order
    change = after[0].weight - before[0].weight
    assert torch.allclose(result.coefficients.T @ result.X, change.detach(), atol=1e-12)
    awake = (X @ before[0].weight.T + before[0].bias > 0) & (X @ after[0].weight.T + after[0].bias > 0)
    assert not bool((result.silent[:, order] & awake.T).any())
    assert torch.equal(result.coefficients[order].abs() < 1e-12, result.silent[:, order].T)
    assert bool((result.one_sided > 0.9).all() and (result.complete > 0.5).all() and (result.bits > 32).all())
    assert result.loss < 1e-20


def test_the_last_bits_do_not_decide_which_sample_comes_first():
    before = dense()
    after = trained(before, *digits())
    whole = rl.silent_neurons(before, after)
    for seed in range(3):
        moved = copy.deepcopy(after)
        for tensor in moved.parameters():
            tensor.data *= 1 + 1e-14 * normal(*tensor.shape, seed=seed)
        torch.testing.assert_close(rl.silent_neurons(before, moved).X, whole.X, rtol=0, atol=1e-6)


def test_tensors_are_taken_for_networks():
    X, y = digits(5)
    before = dense()
    after = trained(before, X, y)
    tensors = [(net[0].weight.detach(), net[0].bias.detach()) for net in (before, after)]
    assert torch.equal(rl.silent_neurons(*tensors).X, rl.silent_neurons(before, after, layer="0").X)


def test_single_precision_is_allowed_for():
    X, y = digits(6)
    before = dense().float()
    result = rl.silent_neurons(before, trained(before, X.float(), y, momentum=0.9))
    checked(result, X, 1e-4)
    assert result.X.dtype == torch.float64 and float(result.standard_errors.max()) < 1e-3


def test_one_gradient_step_and_one_sample():
    for n in (1, 2, 6):
        X, y = digits(n, seed=3)
        before = dense()
        checked(rl.silent_neurons(before, trained(before, X, y, steps=1)), X, 1e-9)


def test_a_permutation_of_neurons_and_a_rotation_of_inputs_change_nothing():
    X, y = digits(5, 1)
    before = dense()
    after = trained(before, X, y)
    told = rl.silent_neurons(before, after).X
    turn, order = torch.linalg.qr(normal(64, 64, seed=5)).Q, torch.randperm(600)
    tensors = [(net[0].weight.detach()[order] @ turn, net[0].bias.detach()[order]) for net in (before, after)]
    assert rl.match(rl.silent_neurons(*tensors).X @ turn.T, told).error.max() < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_samples_that_depend_on_others_are_not_called_recovered(seed):
    X = normal(9, 6, seed=seed)
    X = X @ normal(6, 20, seed=10 + seed)  # nine samples of six dimensions
    before = dense(nn.Linear(800, 1), width=800, inputs=20, bias=False, seed=seed)
    after = trained(before, X, normal(9, seed=seed), 100, loss=squares, lr=1e-3)
    result = rl.silent_neurons(before, after)
    assert result.rank == 6 and result.status is not Status.RECOVERED
    assert all(flag is Flag.UNRESOLVED for flag in result.flags)
    assert rl.silent_neurons(before, after, 9).status is not Status.RECOVERED


@pytest.mark.parametrize("n, d, p, seed", [(5, 12, 377, 1311), (5, 9, 378, 1695)])
def test_rows_that_two_opposite_samples_share_in_one_step_are_not_taken_for_silent(n, d, p, seed):
    draws = torch.Generator().manual_seed(seed)
    torch.randint(80, 500, (1,), generator=draws)
    X = torch.randn(n, d, generator=draws).double()
    X[1] = -X[0] + 0.3 * torch.randn(d, generator=draws)
    before = dense(nn.Linear(p, 1), width=p, inputs=d, bias=False, seed=seed)
    y = torch.randn(n, 1, generator=draws).double()
    after = trained(before, X, y, 1, loss=nn.functional.mse_loss)
    result = rl.silent_neurons(before, after, max_steps=6000)
    scaled = X / X.norm(dim=1, keepdim=True) * d**0.5
    right = rl.match(result.X, scaled).error.max() < 1e-6 if len(result.X) == n else False
    assert right or all(flag is Flag.UNRESOLVED for flag in result.flags)


@pytest.mark.parametrize("bias", [True, False])
def test_weight_decay_is_taken_out(bias):
    X, y = digits(6)
    before = dense(bias=bias, seed=3)
    result = rl.silent_neurons(before, trained(before, X, y, 100, batch=3, momentum=0.9, weight_decay=1e-2))
    assert 0.5 < result.decay_factor < 0.99 and "weight decay left" in result.message
    checked(result, X if bias else to_sphere(X), 1e-9)


def in_two_groups(before, X, y, seed, steps=100, batch=3, rate=0.02, weights=None, biases=None):
    """A copy trained with options of the weights and others of the biases, on mini-batches with momentum."""
    after, order = copy.deepcopy(before), torch.Generator().manual_seed(seed)
    of = {dims: [p for p in after.parameters() if p.ndim == dims] for dims in (2, 1)}
    groups = [{"params": of[2]} | (weights or {}), {"params": of[1]} | (biases or {})]
    stepper = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    for _ in range(steps):
        rows = torch.randperm(len(X), generator=order)[:batch]
        stepper.zero_grad()
        nn.functional.cross_entropy(after(X[rows]), y[rows]).backward()
        stepper.step()
    return after


@pytest.mark.parametrize("seed", range(3))
def test_a_bias_that_decay_spared_leaves_all_but_the_lengths(seed):
    X, y = digits(5, seed)
    before = dense(seed=seed)
    result = rl.silent_neurons(before, in_two_groups(before, X, y, seed, weights={"weight_decay": 2e-2}))
    assert 0.5 < result.decay_factor < 0.9 and "a bias that weight decay spared tells no norms" in result.message
    assert not result.lengths
    checked(result, to_sphere(X), 1e-9)


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_a_bias_that_was_not_trained_leaves_all_but_the_lengths(decay):
    X, y = digits(5)
    before = dense()
    before[0].bias.requires_grad_(False)
    result = rl.silent_neurons(before, trained(before, X, y, weight_decay=decay))
    assert "a bias that was not trained tells no norms" in result.message and not result.lengths
    assert (result.decay_factor < 1) == (decay > 0)
    checked(result, to_sphere(X), 1e-9)


@pytest.mark.parametrize("rate", [0.5, 1.2, 2.0])
def test_a_bias_of_another_rate_is_set_aside_where_neurons_tell(rate):
    X, y = torch.rand(5, 12, generator=torch.Generator().manual_seed(3)).double(), torch.tensor([0, 1, 2, 0, 1])
    before = dense(nn.Linear(400, 3), width=400, inputs=12)
    after = in_two_groups(before, X, y, seed=4, steps=200, batch=2, rate=0.05, biases={"lr": 0.05 * rate})
    result = rl.silent_neurons(before, after)
    assert "a bias whose change does not fit that of the weights tells no norms" in result.message
    assert not result.lengths
    checked(result, to_sphere(X), 1e-9)


@pytest.mark.parametrize("zero, rate", [(False, 1.0), (True, 1.0), (True, 2.0), (False, 0.8), (False, 1.2)])
def test_lengths_that_rest_on_the_rate_of_biases_say_so(zero, rate):
    """Biases of twice the rate make Δb twice as large, and the samples read from it half as long."""
    X, y = digits(5)
    before = dense(width=1000)
    before[0].bias.data.mul_(0.0 if zero else 1.0)
    after = copy.deepcopy(before)
    rest = [p for name, p in after.named_parameters() if name != "0.bias"]
    stepper = torch.optim.SGD([{"params": rest}, {"params": [after[0].bias], "lr": 0.05 * rate}], lr=0.05)
    for _ in range(40):
        stepper.zero_grad()
        nn.functional.cross_entropy(after(X), y).backward()
        stepper.step()
    result = rl.silent_neurons(before, after)
    if not zero and rate != 1.0:  # some neurons stand on the wrong side of where the bias puts a sample
        assert result.assumed or not result.lengths
        return
    assert result.assumed == zero == ("rate of the weights" in result.message)
    checked(dataclasses.replace(result, X=result.X * rate), X, 1e-9)


def test_lengths_are_not_lost_where_samples_depend_on_each_other_and_the_bias_decayed_along():
    """Four samples of three dimensions: with the bias they are four again, which is no sign that it was spared."""
    X = normal(3, 64, seed=1)
    X = torch.cat([X, (X[0] + X[1] - 0.5 * X[2])[None]])
    before = dense(width=800, seed=2)
    after = trained(before, X, torch.arange(4), 60, lr=0.02, weight_decay=1e-2)
    result = rl.silent_neurons(before, after)
    assert result.decay_factor < 1 and result.lengths
    checked(result, X, 1e-8)


def test_decay_is_read_off_and_nothing_else_is_taken_for_it():
    W, x = normal(300, 40), normal(4, 40, seed=1)
    for kappa in (0.3, 1 - 1e-6, 1.2):
        after = kappa * W + normal(300, 4, seed=2) @ x
        made, factor = without_decay(read_change((W,), (after,), read_out=False))
        assert abs(factor - kappa) < 1e-12 * kappa and torch.linalg.matrix_rank(made.D, rtol=1e-9) == 4
    for after in (W + normal(300, 40, seed=3), 0.9 * W + normal(300, 25, seed=4) @ normal(25, 40, seed=5)):
        made, factor = without_decay(read_change((W,), (after,), read_out=False))
        assert factor == 1.0 and torch.equal(made.before, W)


def test_what_moves_weights_otherwise_is_not_recovered():
    X, y = digits(6)
    X = X.unflatten(1, (8, 8))[:, 2:7, 2:7].flatten(1)  # a search in few dimensions gives up sooner
    before = dense(inputs=25)
    for kind in (torch.optim.Adam, torch.optim.AdamW):
        options = {"optimiser": kind, "lr": 1e-3}
        result = rl.silent_neurons(before, trained(before, X, y, **options))
        assert result.status is not Status.RECOVERED and not any(flag is Flag.RECOVERED for flag in result.flags)


def test_a_sample_that_every_neuron_passed_is_not_recovered():
    W = normal(60, 8)
    result = rl.silent_neurons((W,), (W + normal(60, 1, seed=1) @ normal(1, 8, seed=2),))
    assert result.status is Status.STALLED and result.silent.sum() == 0, result.message
    assert result.bits.isfinite().all() and result.one_sided.isfinite().all()


def test_a_share_of_the_neurons_alone_is_not_enough():
    X, y = digits(8)
    before = dense(width=60, seed=2)
    before = dense(nn.Linear(60, 10), width=60, seed=2)
    result = rl.silent_neurons(before, trained(before, X, y))
    assert result.status is Status.STALLED and not result.converged
    assert all(flag is Flag.UNRESOLVED for flag in result.flags)


def test_budgets_end_the_search_and_say_so():
    X, y = digits(8)
    before = dense()
    after = trained(before, X, y)
    result = rl.silent_neurons(before, after, max_steps=1)
    assert result.steps <= 128 and result.status in (Status.BUDGET_SPENT, Status.RECOVERED)
    ticks = iter(range(1000))
    result = rl.silent_neurons(before, after, max_seconds=1, clock=lambda: float(next(ticks)))
    assert result.status is Status.BUDGET_SPENT and "hyperplanes found" in result.message
    again = [rl.silent_neurons(before, after, seed=4) for _ in range(2)]
    assert torch.equal(again[0].X, again[1].X) and again[0].steps == again[1].steps


def test_interruption_returns_what_there_is(monkeypatch):
    X, y = digits(8)
    before = dense()
    after = trained(before, X, y)

    def stop(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_moved", stop)
    monkeypatch.setattr(Search, "_keep", lambda *_: None)
    result = rl.silent_neurons(before, after)
    assert result.status is Status.INTERRUPTED and result.X.shape == (0, 64)


def test_families_of_hyperplanes_are_not_taken_for_one():
    """Rows of neurons to which two samples were silent, and one row more, single out a hyperplane that is neither's."""
    X = normal(6, 64, seed=1)
    mask = normal(400, 6, seed=2) > 0
    mask[:60, :2] = False
    beta = normal(400, 6, seed=3) * mask
    beta[60, :2] = torch.tensor([1.0, -2.0], dtype=torch.float64)
    W = normal(400, 64, seed=4)
    rows = Rows(read_change((W,), (W + beta @ X,), read_out=False), 6)
    search = Search(rows, Run(max_steps=1), torch.Generator())
    dual = torch.linalg.inv(X @ rows.basis.T)
    mixed = dual[:, 0] * 2 + dual[:, 1]
    held = rows.distances((mixed / mixed.norm())[:, None])[:, 0] < 8
    assert int(held.sum()) > 60 and not search._held_in_place(held)
    held = rows.distances((dual[:, 0] / dual[:, 0].norm())[:, None])[:, 0] < 8
    assert int(held.sum()) > 150 and search._held_in_place(held)


def test_bad_input_is_named():
    W, b = normal(50, 8), normal(50, seed=1)
    with pytest.raises(ValueError, match="same before and after"):
        rl.silent_neurons((W,), (W,))
    with pytest.raises(ValueError, match="pass one network's two states"):
        rl.silent_neurons((W,), (W[:40],))
    with pytest.raises(ValueError, match=r"is \[.*None.*\] before|before and"):
        rl.silent_neurons((W, b), (W + 1,))
    with pytest.raises(ValueError, match="expected \\(50,\\)"):
        rl.silent_neurons((W, b[:3]), (W + 1, b[:3]))
    with pytest.raises(TypeError, match="first layer"):
        rl.silent_neurons(W, W + 1)
    with pytest.raises(TypeError, match="both"):
        rl.silent_neurons(dense(), (W,))
    with pytest.raises(ValueError, match="NaN|finite"):
        rl.silent_neurons((W,), (W * float("nan"),))
    with pytest.raises(ValueError, match="layer= names"):
        rl.silent_neurons((W,), (W + 1,), layer="0")
    net = nn.Sequential(nn.Linear(8, 50), nn.Tanh(), nn.Linear(50, 1))
    with pytest.raises(ValueError, match="followed by '1', Tanh"):
        rl.silent_neurons(net, copy.deepcopy(net))
    with pytest.raises(ValueError, match="followed by nothing"):
        rl.silent_neurons(nn.Sequential(nn.Linear(8, 50)), nn.Sequential(nn.Linear(8, 50)))
    with pytest.raises(ValueError, match="max_steps"):
        rl.silent_neurons((W,), (W + 1,), max_steps=0)
    with pytest.raises(ValueError, match="n="):
        rl.silent_neurons((W,), (W + 1,), n=0)


def test_a_change_that_fills_the_space_is_not_determined():
    W = normal(200, 8)
    result = rl.silent_neurons((W,), (W + normal(200, 8, seed=1),))
    assert result.status is Status.NOT_DETERMINED and result.determined is False and result.X.shape == (0, 8)
    assert "not determined" in result.message
