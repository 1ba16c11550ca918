"""Heads trained below dropout in training mode: candidates are shown where what is left looks like its noise."""

import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw.auditing.report import render

D, N, OUTPUTS, WIDTH = 6, 2, 4, 300


class Head(nn.Module):
    def __init__(self, rate=0.2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, WIDTH), nn.GELU(), nn.Dropout(rate))
        self.fc = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        return self.fc(self.body(x))


def trained(n, seed=0):
    """States before and after a head learned n samples with dropout, and the samples."""
    draw = torch.Generator().manual_seed(40 + seed)
    X, y = torch.randn(n, D, generator=draw), torch.arange(n) % OUTPUTS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Head()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        stepper = torch.optim.SGD(model.fc.parameters(), lr=0.05, momentum=0.9)
        for _ in range(60):
            stepper.zero_grad()
            nn.functional.cross_entropy(model(X), y).backward()
            stepper.step()
    return before, model.state_dict(), X


def audited(n, change=lambda W: W):
    before, after, X = trained(n)
    after = after | {"fc.weight": before["fc.weight"] + change(after["fc.weight"] - before["fc.weight"])}
    budget = {"max_seconds": None, "max_steps": 150}
    made = rl.audit(before, after, module=Head(), input_shape=(D,), n=N, report=None, references=1, **budget)
    return made, (torch.cdist(made.candidates.cpu().float(), X) / X.norm(dim=1)).amin(1)


def test_samples_under_the_noise_of_dropout_are_shown_with_errors_of_the_right_size():
    made, errors = audited(N)
    assert made.verdict == "close" and made.X is None and not made.held.any()
    stated = torch.tensor([finding.standard_error for finding in made.findings])
    assert 0.3 < float((errors / stated).mean()) < 2 and float(errors.max()) < 0.25
    assert made.dropped.share < 1.5 * sum(made.dropped.simulated) / 10 < min(made.dropped.wrong)
    assert "the noise of dropout in training mode (the body holds Dropout)" in made.summary
    assert all("the noise of dropout" in finding.against[0] for finding in made.findings)
    text = render(made)
    assert "not confirmed, off by about" in text and "heads which the audit made of them with dropout" in text


def test_what_more_samples_leave_than_n_is_no_noise_of_dropout():
    made, _ = audited(2 * N)
    assert made.verdict == "inconclusive" and made.dropped.share > 2 * max(made.dropped.simulated)
    assert "does not explain what is left, or not alone" in made.summary


def test_a_residual_that_is_noise_to_every_input_shows_nothing():
    """With its columns in another order the change has nothing to do with features, and looks like noise to all."""
    made, _ = audited(N, lambda W: W[:, torch.randperm(WIDTH, generator=torch.Generator().manual_seed(1))])
    assert made.dropped.share < made.dropped.most and not made.dropped.fits and made.verdict == "inconclusive"
    assert "looks like the noise of dropout" not in made.summary


@pytest.mark.parametrize("body", [nn.Sequential(nn.Linear(D, WIDTH), nn.GELU()), nn.Sequential(nn.Linear(D, WIDTH))])
def test_without_dropout_nothing_is_said_of_it(body):
    model = Head()
    model.body = body
    state = model.state_dict()
    draw = torch.Generator().manual_seed(3)
    after = state | {"fc.weight": state["fc.weight"] + torch.randn(OUTPUTS, WIDTH, generator=draw)}
    budget = {"max_seconds": None, "max_steps": 20}
    made = rl.audit(state, after, module=model, input_shape=(D,), n=1, report=None, references=1, **budget)
    assert made.dropped is None and "dropout in training mode" not in made.summary
