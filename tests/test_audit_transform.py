"""What stands between a model's inputs and its first trained layer, in an audit: told apart, undone, or said."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import reconlaw as rl
from reconlaw.auditing.change import HeadChange
from reconlaw.auditing.first_layer import find_first_layer

N, WIDTH = 5, 300


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x).flatten(1)


def in_channels(x):
    mean, size = (torch.tensor(v).to(x)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    return (x.repeat(1, 3, 1, 1) - mean) / size


PICTURE = (1, 4, 6)
UNDONE = {
    "normalised": ((24,), [Of(lambda x: (x - 0.4) / 0.25)]),
    "another order": ((3, 2, 4), [Of(lambda x: x.permute(0, 2, 3, 1))]),
    "grey in channels": (PICTURE, [Of(in_channels)]),
    "enlarged": (PICTURE, [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Flatten()]),
    "repeated": (PICTURE, [nn.Upsample(scale_factor=2), nn.Flatten()]),
    "padded": (PICTURE, [nn.ZeroPad2d(1), nn.Flatten()]),
    "a linear layer": ((24,), [nn.Linear(24, 30)]),
}
IN_THE_WAY = {
    "fewer numbers": ((24,), [nn.Linear(24, 12)], "maps 24 numbers to 12"),
    "cut": ((1, 6, 6), [Of(lambda x: x[..., 1:-1, 1:-1].repeat(1, 3, 1, 1))], "leaves numbers of them out"),
    "centred": ((24,), [Of(lambda x: x - x.mean(1, keepdim=True))], "loses a part of them"),
    "clipped": ((24,), [Of(lambda x: x.clamp(-20, 20))], "no affine map"),
    "convolved": ((1, 6, 6), [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()], "no affine map"),
}


def tuned(shape, below, bias=True, steps=60, from_below=False, draw=torch.rand):
    """A model before and after what stands above ``below`` was trained, and the inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        below, X = nn.Sequential(*copy.deepcopy(below)), draw(N, *shape)
        m = below(X).shape[1]
        before = nn.Sequential(
            *below, nn.Linear(m, WIDTH, bias), nn.ReLU(), nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 4)
        )
        after = copy.deepcopy(before)
        stepper = torch.optim.SGD(after[0 if from_below else len(below) :].parameters(), lr=0.05, momentum=0.9)
        for _ in range(steps):
            stepper.zero_grad()
            functional.cross_entropy(after(X), torch.arange(N) % 4).backward()
            stepper.step()
    return before, after, X, str(len(below))


def found(before, after, shape, norm=None):
    states = (before.state_dict(), after.state_dict())
    return find_first_layer(HeadChange(*states, before, str(len(before) - 1), shape, norm, "cpu"), before, states)


def audit(before, after, shape, **options):
    options = {"max_seconds": None, "max_steps": 1_000, "report": None, "references": 1, "n": N} | options
    return rl.audit(before, after, head=str(len(before) - 1), input_shape=shape, **options)


def answer(done, question):
    (check,) = (check for check in done.checks if check.question == question)
    return check.answer


@pytest.mark.parametrize("norm", [None, 3.0])
@pytest.mark.parametrize("case", UNDONE)
def test_affine_maps_are_undone(case, norm):
    """And by how much an error is amplified is the largest singular value of the pseudoinverse."""
    shape, below = UNDONE[case]
    before, after, X, at = tuned(shape, below, steps=1)
    first = found(before, after, shape, norm)
    T, part = first.transform, before[: int(at)].double()
    assert first.name == at and first.gated and not T.why and not T.nothing and T.width == before[int(at)].in_features
    H = part(X.double())
    assert torch.allclose(T.back(H), X.double().flatten(1), rtol=0, atol=1e-9)
    A = torch.autograd.functional.jacobian(part, X[:1].double()).reshape(H.shape[1], -1)
    assert T.amplifies == pytest.approx(1 / float(torch.linalg.svdvals(A)[-1]), rel=1e-6)
    assert T.linear is not bool(part(0 * X.double()).any())


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_is_said(case):
    shape, below, why = IN_THE_WAY[case]
    before, after, _, at = tuned(shape, below, steps=1)
    first = found(before, after, shape)
    assert first.name == at and why in first.transform.why
    (check,) = first.seen()
    assert (
        why in check.answer
        and f"What is read off '{at}' are inputs of that layer, and not of the model" in check.answer
    )


def test_a_layer_above_what_was_trained_is_none():
    shape, below = UNDONE["a linear layer"]
    before, after, *_ = tuned(shape, below, steps=1, from_below=True)
    first = found(before, after, shape)
    assert first.name == "0" and first.transform.nothing and first.seen() == ()


def test_a_first_convolution_is_said_not_to_be_read():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
        after = copy.deepcopy(before)
        with torch.no_grad():
            after[0].weight += 1.0
            after[3].weight += 0.1
    done = audit(before, after, (1, 6, 6))
    said = answer(done, "Does the first layer hold inputs?")
    assert "'0' is a convolution" in said and "a patch has 9 numbers" in said and "not looked for" in said


def test_a_head_alone_is_no_first_layer_on_a_body():
    shape, below, _ = IN_THE_WAY["convolved"]
    before = nn.Sequential(*below, nn.Linear(64, 4))
    after = copy.deepcopy(before)
    with torch.no_grad():
        after[-1].weight += 0.1
    assert found(before, after, shape) is None


@pytest.mark.parametrize("case", ["normalised", "enlarged"])
def test_inputs_come_back_as_the_model_sees_them(case):
    shape, below = UNDONE[case]
    before, after, X, at = tuned(shape, below)
    other = torch.rand(60, *shape, generator=torch.Generator().manual_seed(1))
    done = audit(before, after, shape, candidates=torch.cat([other, X]))
    X = X.flatten(1).double()
    far = torch.cdist(done.X.cpu(), X) / X.norm(dim=1)
    assert (done.verdict, done.first_layer, len(done.X)) == ("recovered", at, N) and float(far.amin(0).max()) < 1e-4
    for error, finding in zip(far.amin(1).tolist(), done.findings, strict=True):
        assert error <= finding.standard_error < 1e-3
    assert "What was read are inputs of that layer" in done.summary and "as the model sees them" in done.summary
    assert "scaled and shifted" in done.summary or case != "normalised"
    assert done.pool.named.tolist() == [False] * 60 + [True] * N


def test_without_lengths_a_shift_is_in_the_way():
    before, after, _, at = tuned(*UNDONE["normalised"], bias=False)
    done = audit(before, after, (24,))
    assert done.verdict == "inconclusive" and done.X is None and done.first_layer is None
    assert f"tell apart all 5 that '{at}' was given" in done.summary and "without a bias their lengths" in done.summary


def test_what_a_layer_on_a_frozen_body_saw_is_told_and_a_pool_is_named():
    shape, below = (1, 6, 6), [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten()]
    before, after, X, at = tuned(shape, below, draw=torch.randn)
    done = audit(before, after, shape)
    assert done.verdict == "inconclusive" and done.X is None
    assert f"tell apart all 5 that '{at}' was given, each of them 64 numbers" in done.summary
    assert "These are inputs of that layer, and not of the model" in done.summary
    assert "Not the input itself" in answer(done, "What does the first trained layer see of an input?")
    other = torch.randn(60, *shape, generator=torch.Generator().manual_seed(1))
    done = audit(before, after, shape, candidates=torch.cat([other, X]))
    assert done.verdict == "recovered" and done.pool.named.tolist() == [False] * 60 + [True] * N
