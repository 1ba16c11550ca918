"""Heads that Adam and AdamW trained: the recipe as torch runs it, its columns, and samples out of them."""

import pytest
import torch
from torch import nn
from torch.func import jvp
from torch.nn.functional import cross_entropy, gelu, one_hot

import reconlaw as rl
from reconlaw.networks import Adam
from reconlaw.networks.retrace.by_columns import Columns

N, D, P, K = 2, 5, 60, 6
BOX = rl.inputs.Box(0.0, 1.0)
RECIPE = Adam(1e-3, 20, weight_decay=0.1)


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


V, B = draw(P, D, seed=0), 0.5 * draw(P, seed=1)
X = torch.rand(N, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
W, Y = 0.1 * draw(K, P, seed=3), torch.tensor([0, 4])
START = BOX.retract(X + 0.2 * draw(N, D, seed=4))


def body(X):
    return gelu(X @ V.T.to(X) + B.to(X))


def trained(recipe, X=X, W=W, body=body):
    """The head as torch.optim trains it."""
    head = nn.Linear(P, K, bias=False, dtype=W.dtype)
    head.weight.data = W.clone()
    options = {"lr": recipe.lr, "betas": recipe.betas, "eps": recipe.eps, "weight_decay": recipe.weight_decay}
    optimiser = torch.optim.AdamW(head.parameters(), **options)
    for _ in range(recipe.steps):
        optimiser.zero_grad()
        cross_entropy(head(body(X).to(W)), Y).backward()
        optimiser.step()
    return head.weight.detach()


@pytest.mark.parametrize("recipe", [Adam(1e-2, 7), Adam(1e-2, 9, (0.5, 0.9), 1e-3, 0.3)])
def test_the_recipe_is_that_of_torch(recipe):
    after, E = recipe.train(body(X), one_hot(Y, K).double(), W)
    assert torch.allclose(after, trained(recipe), rtol=0, atol=1e-12)
    assert E.shape == (recipe.steps, N, K)
    assert torch.allclose(recipe.columns(E, body(X).T), (after - recipe.kept * W).T, rtol=0, atol=1e-12)


def test_a_column_tells_directions_and_no_lengths():
    E = RECIPE.train(body(X), one_hot(Y, K).double(), W)[1]
    phi = body(X).T
    assert torch.allclose(RECIPE.columns(E, 3 * phi), RECIPE.columns(E, phi), rtol=0, atol=1e-5)
    columns = Columns(RECIPE, RECIPE.columns(E, phi), None, None)
    found = columns.directions(E, torch.Generator().manual_seed(0))
    misfit = (RECIPE.columns(E, found) - columns.theta).norm(dim=1) / columns.sizes
    assert misfit.median() < 1e-6, misfit
    slopes = columns.slopes(E, found)
    for i in range(N):
        exact = jvp(lambda u: RECIPE.columns(E, u), (found,), (torch.eye(N).to(found)[i].expand(P, N),))[1]
        assert ((slopes[:, :, i] - exact).norm(dim=1) / exact.norm(dim=1).clamp_min(1e-9)).median() < 1e-4


def test_samples_come_out_of_adamw():
    found = rl.retrace_adam(trained(RECIPE), W, body, RECIPE, START, Y, inputs=BOX)
    assert found.status is rl.Status.RECOVERED and found.flags == (rl.Flag.RECOVERED,) * N, found
    assert float(rl.match(found.X, X).error.max()) < 1e-8 and found.mismatch < 1e-9
    assert found.road == "columns" and found.unknowns == N * D < found.equations


def test_a_feature_map_on_the_sphere():
    features = rl.RandomFeatures(D, P, "gelu", seed=0, dtype=torch.float64, device="cpu")
    samples = rl.inputs.Sphere().retract(X - 0.5)
    after = trained(RECIPE, samples, body=features)
    start = rl.inputs.Sphere().retract(samples + 0.2 * draw(N, D, seed=4))
    found = rl.retrace_adam(after, W, features, RECIPE, start, Y)
    assert found.status is rl.Status.RECOVERED and float(rl.match(found.X, samples).error.max()) < 1e-8, found


def test_features_that_forward_mode_does_not_take():
    found = rl.retrace_adam(trained(RECIPE), W, lambda X: body(X.detach()), RECIPE, START, Y, inputs=BOX)
    assert found.status is rl.Status.RECOVERED and float(rl.match(found.X, X).error.max()) < 1e-6, found


def test_a_head_that_was_trained_in_float32():
    found = rl.retrace_adam(trained(RECIPE, W=W.float()), W.float(), body, RECIPE, START, Y, inputs=BOX)
    assert found.status is rl.Status.RECOVERED and float(rl.match(found.X, X).error.max()) < 1e-4, found


@pytest.mark.parametrize(
    ("recipe", "y"), [(Adam(1e-3, 16, weight_decay=0.1), Y), (RECIPE, Y.flip(0)), (RECIPE, torch.tensor([1, 2]))]
)
def test_wrong_recipes_and_labels_are_told_by_the_mismatch(recipe, y):
    found = rl.retrace_adam(trained(RECIPE), W, body, recipe, START, y, inputs=BOX, max_rounds=5, max_steps=5)
    assert found.mismatch > 1e-3 and rl.Flag.RECOVERED not in found.flags, found
    assert found.steps <= 10


def test_ctrl_c_and_a_clock_end_it():
    calls = 0

    def interrupted(X):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return body(X)

    found = rl.retrace_adam(trained(RECIPE), W, interrupted, RECIPE, START, Y, inputs=BOX)
    assert found.status is rl.Status.INTERRUPTED and torch.isfinite(found.X).all(), found
    times = iter(range(10**6))
    found = rl.retrace_adam(
        trained(RECIPE), W, body, RECIPE, START, Y, inputs=BOX, max_seconds=3.0, clock=lambda: float(next(times))
    )
    assert found.status is rl.Status.BUDGET_SPENT and found.steps <= 3, found


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recipe": {"lr": 1e-3}}, "recipe is a dict"),
        ({"before": W[:, 1:]}, "before"),
        ({"before": trained(RECIPE)}, "after − before"),
        ({"features": lambda X: body(X)[:, 1:]}, "features"),
        ({"y": Y.double()}, "integer labels"),
        ({"y": torch.tensor([0, K])}, "integer labels"),
        ({"inputs": "box"}, "reconlaw.inputs"),
        ({"inputs": rl.inputs.Affine(draw(3, D, seed=5))}, "coordinates of its own"),
        ({"X": START[0]}, "X"),
        ({"max_rounds": 0}, "max_rounds"),
    ],
)
def test_arguments_that_are_wrong(wrong, says):
    given = {"after": trained(RECIPE), "before": W, "features": body, "recipe": RECIPE, "X": START, "y": Y}
    with pytest.raises((TypeError, ValueError), match=says):
        rl.retrace_adam(**given | {"inputs": BOX} | wrong)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"steps": 0}, {"betas": (1.0, 0.9)}, {"eps": -1.0}, {"weight_decay": -1.0}, {"lr": 20.0}]
)
def test_recipes_that_are_none(wrong):
    with pytest.raises((TypeError, ValueError)):
        Adam(**{"lr": 1e-3, "steps": 20, "weight_decay": 0.1} | wrong)
