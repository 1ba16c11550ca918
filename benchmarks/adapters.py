"""The change, whatever holds it: weight decay, low-rank adapters, layers in the middle, deletions, tabular records.

"decay": heads of K = 10 on MLP and CNN bodies trained on other digits, fine-tuned on n = 6 raw digits by momentum SGD
with weight decay; attacked as it is, and with the old rows beside (``rl.apart``). "lora": a low-rank adapter of rank r
on the second layer of an MLP, B from zero. "conv": the last convolution of a CNN, of four positions, trained together
with the head above it. "deletion": one gradient step away from one sample, and a least-squares head with and without
one sample, the others known. "tabular": ten records of scikit-learn's breast-cancer data behind a new head of two
classes or of a regression, on a body trained on others; "digits" is the fewest correct digits of any raw value.

Budgets are steps, and a set is whole where every sample's signed relative error is below 1e-2.

    python benchmarks/adapters.py
"""

from __future__ import annotations

import math

import common
import inputs
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

import reconlaw as rl
from reconlaw._random import seeded_generator
from reconlaw.attack.subspace import rounding_loss

BOX = rl.inputs.Box(0.0, 1.0)


def epochs(parameters, loss, count, generator, passes=15, batch=50):
    """Train on ``count`` others by Adam."""
    adam = torch.optim.Adam(parameters, 1e-3)
    for _ in range(passes):
        for rows in torch.randperm(count, generator=generator).split(batch):
            adam.zero_grad()
            loss(rows).backward()
            adam.step()


def descend(parameters, loss, s, rate=0.05):
    """Fine-tune by full batches of momentum SGD."""
    sgd = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=s.get("decay", 0.0))
    for _ in range(s["steps"]):
        sgd.zero_grad()
        loss().backward()
        sgd.step()


def pretrained(s):
    """A model of digits, layers in a sequence, trained on others in float32 and cast; the samples and their labels."""
    torch.manual_seed(s["seed"])
    width = s["width"]
    if s["body"] == "mlp":
        parts = [nn.Linear(inputs.D, 256), nn.GELU(), nn.Linear(256, width), nn.GELU()]
    else:
        parts = [nn.Unflatten(1, (1, inputs.SIDE, inputs.SIDE)), nn.Conv2d(1, 16, 3, padding=1), nn.GELU()]
        parts += [nn.Conv2d(16, width // 16, 3, stride=2, padding=1), nn.GELU(), nn.Flatten()]
    model = nn.Sequential(*parts, nn.Linear(width, 10))
    X, y = (part[: inputs.OTHERS] for part in inputs.digits())
    X = X.float()
    generator = seeded_generator("benchmark", s["seed"])
    epochs(model.parameters(), lambda rows: cross_entropy(model(X[rows]), y[rows]), len(X), generator)
    X, y = inputs.pick(s["n"], s["seed"])
    dtype = getattr(torch, s["dtype"])
    return model.to(dtype), X.to(dtype), y


def decay(s):
    model, X, y = pretrained(s)
    body, head = model[:-1].requires_grad_(False), model[-1]
    before, F = head.weight.detach().clone(), body(X)
    descend(head.parameters(), lambda: cross_entropy(head(F), y), s)
    theta = head.weight.detach().double() - before.double()
    features = rl.ModuleFeatures(body.double(), (inputs.D,), device=s["device"])
    tol = None if s["dtype"] == "float64" else max(1e-20, rounding_loss(theta))
    if s["beside"]:
        features = rl.apart(features, before.double())
    return theta, features, X.double(), {"inputs": BOX, "tol": tol}


class LoRA(nn.Module):
    """W x + (α/r) B A x, B from zero."""

    def __init__(self, layer, rank):
        super().__init__()
        self.layer, self.scale = layer, 16 / rank
        self.A = nn.Parameter(torch.empty(rank, layer.in_features, dtype=layer.weight.dtype))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank, dtype=layer.weight.dtype))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, h):
        return self.layer(h) + self.scale * (h @ self.A.T) @ self.B.T


def lora(s):
    torch.manual_seed(s["seed"])
    w = s["width"]
    model = nn.Sequential(nn.Linear(inputs.D, w), nn.GELU(), nn.Linear(w, 256), nn.GELU(), nn.Linear(256, 10)).double()
    features = rl.below(model, "2", (inputs.D,), device=s["device"])
    X, y = inputs.pick(s["n"], s["seed"])
    model.requires_grad_(False)
    model[2] = LoRA(model[2], s["rank"])
    before = model[2].A.detach().clone()
    descend([model[2].A, model[2].B], lambda: cross_entropy(model(X), y), s, 0.02)
    return model[2].A.detach() - before, features, X, {"inputs": BOX}


def conv(s):
    torch.manual_seed(s["seed"])
    w = s["width"]
    model = nn.Sequential(
        *(nn.Unflatten(1, (1, inputs.SIDE, inputs.SIDE)), nn.Conv2d(1, w // 2, 3, padding=1), nn.GELU()),
        *(nn.Conv2d(w // 2, w, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(w, w, 3, stride=2, padding=1), nn.GELU()),
        *(nn.Flatten(), nn.Linear(4 * w, 10)),
    ).double()
    X, y = inputs.pick(s["n"], s["seed"])
    before = model[5].weight.detach().clone()
    descend([*model[5].parameters(), *model[8].parameters()], lambda: cross_entropy(model(X), y), s)
    return model[5].weight.detach() - before, rl.below(model, "5", (inputs.D,), device=s["device"]), X, {"inputs": BOX}


def deletion(s):
    model, X, y = pretrained(s)
    body, head = model[:-1].requires_grad_(False), model[-1]
    features = rl.ModuleFeatures(body, (inputs.D,), device=s["device"])
    if s["how"] == "one step":
        loss = cross_entropy(head(body(X[:1])), y[:1])
        theta = 0.01 * torch.autograd.grad(loss, head.weight)[0]
    else:
        targets = one_hot(y, 10).double()
        theta = features.fit(X, targets) - features.fit(X[1:], targets[1:])
        features = rl.apart(features, features(X[1:]))
    return theta, features, X[:1], {"inputs": BOX}


def records(s):
    """Breast-cancer records: raw values, standardised by 400 others, labels; the body's others and the ten attacked."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    raw, y = torch.tensor(data.data), torch.tensor(data.target)
    order = torch.randperm(len(raw), generator=seeded_generator("benchmark", s["seed"]))
    others, rows = order[:400], order[400 : 400 + s["n"]]
    mean, std = raw[others].mean(0), raw[others].std(0)
    return raw, y, mean, std, others, rows


def tabular(s):
    raw, y, mean, std, others, rows = records(s)
    Z = (raw - mean) / std
    torch.manual_seed(s["seed"])
    d, w = raw.shape[1], s["width"]
    body = nn.Sequential(nn.Linear(d, 128), nn.GELU(), nn.Linear(128, w), nn.GELU()).double()
    classes = s["task"] == "classes"
    head = nn.Linear(w, 2 if classes else 1).double()

    def loss(rows):  # the mean area is what the regression is of
        out = head(body(Z[rows]))
        return cross_entropy(out, y[rows]) if classes else (out[:, 0] - Z[rows, 3]).square().mean()

    generator = seeded_generator("benchmark", 100 + s["seed"])
    parameters = [*body.parameters(), *head.parameters()]
    epochs(parameters, lambda picked: loss(others[picked]), len(others), generator, 20, 40)
    head.reset_parameters()
    body.requires_grad_(False)
    before = head.weight.detach().clone()
    rate = 0.05 if classes else 0.5 / float(body(Z[rows]).square().sum(1).mean())
    descend(head.parameters(), lambda: loss(rows), s, rate)
    features = rl.ModuleFeatures(body, (d,), device=s["device"])
    return head.weight.detach() - before, features, Z[rows], {"inputs": rl.inputs.Free()}


CASES = {"decay": decay, "lora": lora, "conv": conv, "deletion": deletion, "tabular": tabular}


def work(s: dict) -> dict:
    theta, features, X, options = CASES[s["what"]](s)
    options |= {"seed": s["seed"], "max_seconds": None, "max_steps": s["max_steps"]}
    result = common.attack(theta, features, len(X), **options)
    report = rl.match(result.X, X)
    held = torch.tensor([flag is rl.Flag.RECOVERED for flag in result.flags])[report.order]
    found = {
        "rank": int(torch.linalg.matrix_rank(features.check_theta(theta))),
        "features": features.p,
        "columns": features.positions,
        "steps": common.short(result.steps),
        "status": result.status.value,
        "held": int(held.sum()),
        "held_wrong": int((held & ~report.recovered()).sum()),
    }
    if s["what"] == "tabular":
        raw, _, mean, std, _, rows = records(s)
        off = (result.X[report.order].cpu() * std + mean - raw[rows]).abs() / raw[rows].abs().clamp_min(1e-3)
        found["digits"] = int(-math.log10(max(float(off.max()), 1e-16)))
    return common.scores(result, X) | found


SETTINGS = ("what", "body", "dtype", "decay", "beside", "rank", "how", "task", "n", "max_steps")


def summarise(cells: list[dict]) -> list[dict]:
    for cell in cells:
        cell["settings"] = dict.fromkeys(SETTINGS) | cell["settings"]
    rows = []
    for settings, members in common.groups(cells, SETTINGS):
        results = [cell["result"] for cell in members]
        rows.append(
            {name: value for name, value in settings.items() if value is not None}
            | common.counts(results)
            | {
                "whole": sum(r["below_1e-2"] == r["samples"] for r in results),
                "held_wrong": sum(r["held_wrong"] for r in results),
                "worst_error": max((r["worst_error"] for r in results if r["worst_error"] is not None), default=None),
                "median_steps": common.median(r["steps"] for r in results),
                "least_digits": min((r["digits"] for r in results if "digits" in r), default=None),
            }
        )
    return rows


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets a row (5)")
    options.add_argument("--steps", type=int, help="budget of a set (20000)")
    options.add_argument("--what", nargs="+", choices=CASES, help="which of them (all)")
    args = common.parse(options)
    budget = args.steps or (300 if args.tiny else 20_000)
    wide = 64 if args.tiny else 512
    digits = {"n": 2 if args.tiny else 6, "steps": 20 if args.tiny else 200, "dtype": "float64"}
    rows = [
        {"what": "decay", "body": "mlp", "decay": rate, "beside": beside, "width": wide, **digits}
        for rate in (5e-4, 1e-2)
        for beside in (True, False)
    ]
    rows += [{"what": "lora", "rank": r, "width": wide, **digits} for r in (8, 4)]
    rows += [
        {"what": "tabular", "task": task, "width": 256 if args.tiny else 2048, "n": 2 if args.tiny else 10}
        | {"steps": 300, "dtype": "float64"}
        for task in ("classes", "regression")
    ]
    rows += [{"what": "conv", "width": 16 if args.tiny else 64, **digits}]
    for how in ("one step", "least squares"):
        rows += [{"what": "deletion", "how": how, "body": "mlp", "width": wide, **digits}]
    if not args.tiny:
        rows += [{**rows[k], "body": "cnn"} for k in (0, 2)] + [{**rows[k], "dtype": "float32"} for k in (0, 2)]
    for row in rows:  # without the old rows nothing is found, however long it is looked for
        row["max_steps"] = min(budget, 2000) if row.get("beside") is False else budget
    cells = [
        row | {"seed": seed}
        for seed in range(args.seeds or (1 if args.tiny else 5))
        for row in rows
        if args.what is None or row["what"] in args.what
    ]
    common.run("adapters", args, cells, work, summarise)


if __name__ == "__main__":
    main()
