"""Bodies that moved while the head was trained: what errors an audit states, and batch norm in training mode."""

import copy
import math

import precision as small_heads
import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw.auditing.simulation import calibrated

N, SIDE = 4, 6


def test_an_error_grows_with_the_root_of_the_loss_and_a_wrong_set_of_like_loss_stays_wrong():
    """Errors ε at losses ε² are read as that, from nine heads; of losses far above nothing is taken over."""
    right = tuple((loss, math.sqrt(loss)) for loss in torch.logspace(-7, -5, 9).tolist())
    far = tuple((0.1, 100.0) for _ in range(20))
    losses = torch.tensor([1e-6, 4e-6], dtype=torch.float64)
    said = calibrated(losses, right + far)
    assert 1e-3 <= float(said[0]) < 3e-3 and float(said[1] / said[0]) == pytest.approx(2)
    wrong = tuple((2e-6, 1.0) for _ in range(3))
    assert bool((calibrated(losses, right + wrong) > 0.1).all())
    assert bool(calibrated(losses, ()).isnan().all())


def test_errors_of_moved_bodies_are_as_stated():
    """Five heads whose bodies moved by two or three percent: shown, unconfirmed, and mostly within their errors."""
    made = [
        small_heads.work({"training": "moved body", "kind": "real", "rate": 0.002, "steps": 2000, "seed": seed})
        for seed in range(5)
    ]
    assert all(one["verdict"] == "close" and one["shown"] == small_heads.N and not one["called"] for one in made)
    over = [error / stated for one in made for error, stated in zip(one["errors"], one["stated"], strict=True)]
    assert sum(ratio <= 1 for ratio in over) >= 0.6 * len(over) and max(over) < 3 and min(over) > 0.05


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU(), nn.Flatten()]
        self.body, self.fc = nn.Sequential(*layers), nn.Linear(16 * SIDE**2, 6)

    def forward(self, x):
        return self.fc(self.body(x))


def tuned(seed, batch=N):
    """A model before and after its head was trained with batch norm in training mode, and the samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 + seed)
        model = Normed().train()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(50):
            model.body(torch.randn(64, 1, SIDE, SIDE, generator=draw))
    X, y, before = torch.randn(N, 1, SIDE, SIDE, generator=draw), torch.arange(N), copy.deepcopy(model).eval()
    optimiser = torch.optim.SGD(model.fc.parameters(), lr=0.05, momentum=0.9)
    for _ in range(100):
        rows = torch.randperm(N, generator=draw)[:batch]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
        optimiser.step()
    return before, model.eval(), X.flatten(1)


def nearest(done, X):
    return (torch.cdist(done.candidates.cpu().float(), X) / X.norm(dim=1)).amin(0)


def audited(seed, batch=N):
    before, after, X = tuned(seed, batch)
    options = {"input_shape": (1, SIDE, SIDE), "n": N, "report": None, "references": 1}
    return rl.audit(before, after, max_seconds=None, max_steps=10_000, **options), X


def test_batch_norm_in_training_mode_leaves_its_samples_close():
    """All samples in one batch: the running statistics end at what it was normalised by, a factor N/(N − 1) aside."""
    far = []
    for seed in range(5):
        done, X = audited(seed)
        assert done.verdict == "close" and not done.held.any() and done.moved > 0.05
        assert "batch norm ran in training mode" in done.summary
        far.append(nearest(done, X))
    assert (torch.stack(far) < 0.01).double().mean() >= 0.75


def test_mini_batches_under_batch_norm_are_never_called_recovered():
    done, _ = audited(0, batch=2)
    assert done.verdict in ("close", "inconclusive") and not done.held.any()
    assert any("running statistics alone" in check.answer for check in done.checks)
