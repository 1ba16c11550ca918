"""A whole audit ends within its budget, by a clock that counts what is computed instead of what the machine takes."""

from collections import OrderedDict

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import reconlaw as rl

BILLION = 1e9


class Work(TorchDispatchMode):
    """Billions of operations so far: products and decompositions as textbooks count them, all else by its numbers."""

    def __init__(self):
        super().__init__()
        self.done = 0.0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        counted = flop_registry.get(function._overloadpacket)
        if counted is not None:
            self.done += counted(*args, **(kwargs or {}), out_val=out)
            return out
        parts = [*args, *(out if isinstance(out, tuple | list) else [out])]
        tensors = [one for one in parts if isinstance(one, torch.Tensor)]
        most = max((one.numel() for one in tensors), default=0)
        if "linalg" in function.name() and tensors and tensors[0].ndim > 1:
            most *= min(tensors[0].shape[-2:]) * (1 / 3 if "cholesky" in function.name() else 4)
        self.done += most
        return out

    def __call__(self):
        return self.done / BILLION


def test_a_whole_audit_with_sixty_samples_ends_within_its_budget():
    """n = 60 is given for 6: rank, moments, metric, references and control are inside the budget, too.

    One step of 60 samples is about 2.5 billion operations here, and is not cut in two.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        X, y = torch.randn(6, 16), torch.arange(6)
        model = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Linear(16, 1024), nn.GELU()), fc=nn.Linear(1024, 10)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.fc.parameters(), lr=0.05)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), y).backward()
        optimiser.step()
    for budget in (20.0, 60.0):
        options = {"max_seconds": budget, "report": None, "inputs": rl.inputs.Free()}
        with Work() as clock:
            done = rl.audit(before, model, input_shape=16, n=60, clock=clock, **options)
        assert done.result is not None and done.references and 0.3 * budget < clock() < 1.2 * budget, clock()
