"""Whether an audit tells Adam's change of a head from that of gradient descent."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import reconlaw as rl
from reconlaw.auditing.checks import check_optimiser

BODIES = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}  # the last two have flat features
DIGITS = rl.data.digits(12, seed=0)


def heads(activation, optimiser, seed, n=4, outputs=3, width=256, steps=100, zero=True, **options):
    """State dicts of a model before and after its head is trained, and the model."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, width), BODIES[activation](), nn.Linear(width, outputs)).double()
    model[:2].requires_grad_(False)
    if zero:
        nn.init.zeros_(model[2].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    X, y = DIGITS.pixels[:n], torch.arange(n) % outputs
    made = optimiser([model[2].weight], **options)
    for _ in range(steps):
        made.zero_grad()
        cross_entropy(model(X), y).backward()
        made.step()
    return before, model.state_dict(), model


def said(activation, optimiser, seed, **options):
    before, after, model = heads(activation, optimiser, seed, **options)
    features = rl.ModuleFeatures(model[:2], 64, device="cpu")
    pair = SimpleNamespace(change=after["2.weight"] - before["2.weight"], features=features)
    return check_optimiser(pair)


@pytest.mark.parametrize("activation", BODIES)
@pytest.mark.parametrize("options", [{"steps": 1}, {"n": 1, "outputs": 2}, {"momentum": 0.9}, {"n": 12, "outputs": 10}])
def test_gradient_descent_is_never_taken_for_adam(activation, options):
    for seed in range(5):
        assert not said(activation, torch.optim.SGD, seed, lr=0.05, **options)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_is_seen_where_features_are_not_flat(activation, optimiser):
    for seed in range(5):
        (check,) = said(activation, optimiser, seed, lr=1e-3, steps=20)
        assert check.kind == "shut" and "Adam" in check.answer


def test_an_audit_says_so():
    checks = {}
    for optimiser, lr in ((torch.optim.SGD, 0.05), (torch.optim.Adam, 1e-3)):
        before, after, model = heads("gelu", optimiser, 0, steps=20)
        how = {"inputs": rl.inputs.Box(0.0, 1.0), "max_seconds": None, "max_steps": 20, "references": 1, "report": None}
        found = rl.audit(before, after, n=4, module=model, input_shape=64, **how)
        checks[lr] = [check.question for check in found.checks]
    question = "Does θ look like gradient descent?"
    assert question in checks[1e-3] and question not in checks[0.05]
