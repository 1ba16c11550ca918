"""Is an audit ever wrong of ordinary models? Four models, three ranges of pixels, six recipes, two bodies.

Six digits fine-tune a head of ten classes by 100 steps of cross-entropy in float32, over a body that is random or was
trained on a thousand digits first. Each pair is audited as its owner would, twice: "range", with what the model's
loader says of pixels, a box (or a sphere, where inputs were put on one); and "norm", with the median norm of the inputs
alone, which is right on a sphere and wrong elsewhere, so that it asks what an audit claims when it is told something
false. Counted against the truth, which the audit never sees:

- called: candidates called recovered; false: those of them off by 1e-2 or more of their length from every sample;
- returned: samples with a candidate within 0.1, where the verdict shows candidates ("recovered" or "close");
- whole: audits that call recovered all six samples, each right.

Budgets are in steps, so that every machine counts the same, rounding aside.

    python benchmarks/audits.py            an hour and a half on one core
"""

from __future__ import annotations

import copy

import common
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import reconlaw as rl

N, OUTPUTS, TRAINED_ON = 6, 10, 1000
RIGHT, NEAR = 1e-2, 0.1
STEPS = 3000
SGD = {"optimiser": "SGD", "lr": 0.05, "momentum": 0.9}
RECIPES: dict[str, dict] = {
    "sgd": SGD,
    "mini-batches": SGD | {"batch": 2},
    "decay": SGD | {"weight_decay": 5e-4},
    "adam": {"optimiser": "Adam", "lr": 1e-3},
    "adamw": {"optimiser": "AdamW", "lr": 1e-3},
    "all layers": SGD | {"lr": 1e-3, "all_layers": True},
}
INPUTS = ("raw", "standardised", "sphere")


class Model(nn.Module):
    def __init__(self, body: nn.Module, p: int):
        super().__init__()
        self.body, self.fc = body, nn.Linear(p, OUTPUTS)

    def forward(self, x):
        return self.fc(self.body(x))


def convolutional(activation: type[nn.Module], normed: bool = False) -> Model:
    layers: list[nn.Module] = []
    for given, made in ((1, 16), (16, 64)):
        layers += [nn.Conv2d(given, made, 3, padding=1), *([nn.BatchNorm2d(made)] if normed else []), activation()]
    return Model(nn.Sequential(*layers, nn.Flatten()), 64 * 64)


def perceptron() -> Model:
    return Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 2048), nn.ReLU()), 2048)


MODELS = {
    "cnn-relu": lambda: convolutional(nn.ReLU),
    "cnn-gelu": lambda: convolutional(nn.GELU),
    "cnn-bn": lambda: convolutional(nn.ReLU, normed=True),
    "mlp": perceptron,
}


def pictures(inputs: str) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
    """All digits (m, 1, 8, 8) as a model sees them, their classes, and the range of a pixel."""
    held = load_digits()
    X, y = torch.tensor(held.images[:, None] / 16, dtype=torch.float32), torch.tensor(held.target)
    if inputs == "sphere":
        X = 8 * X / X.flatten(1).norm(dim=1)[:, None, None, None]
    mean, std = (float(X.mean()), float(X.std())) if inputs == "standardised" else (0.0, 1.0)
    return (X - mean) / std, y, ((0 - mean) / std, (1 - mean) / std)


def fit(model, X, y, optimiser="SGD", steps=100, batch=None, all_layers=False, **options) -> None:
    chosen = model.parameters() if all_layers else model.fc.parameters()
    stepper = getattr(torch.optim, optimiser)(chosen, **options)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randperm(len(X), generator=draw)[: batch or len(X)]
        stepper.zero_grad()
        nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
        stepper.step()


def pair(s: dict) -> tuple[Model, Model, torch.Tensor, tuple[float, float]]:
    """The model before and after, the samples (n, 1, 8, 8), and the range of a pixel."""
    X, y, bounds = pictures(s["inputs"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = MODELS[s["model"]]()
    if s["pretrained"]:
        known = slice(0, TRAINED_ON)
        fit(model.train(), X[known], y[known], "Adam", 300, 64, True, lr=1e-3)
    before = model.eval()
    rows = np.random.default_rng(s["seed"]).choice(len(X), N, replace=False)
    after = copy.deepcopy(before)
    fit(after, X[rows], y[rows], **RECIPES[s["recipe"]])
    return before, after, X[rows], bounds


def judged(audit: rl.Audit, X: torch.Tensor) -> dict:
    """What was shown and called of one pair, against its samples X (n, d)."""
    shown = audit.candidates if audit.verdict in ("recovered", "close") else None
    far = torch.empty(0, len(X), dtype=torch.float64)
    if shown is not None:
        far = torch.cdist(shown.double().cpu(), X.double()) / X.double().norm(dim=1)
    called = far[audit.held] if len(far) else far
    worst = called.amin(1) if len(called) else torch.empty(0)
    nearest = far.amin(0) if len(far) else torch.full((len(X),), torch.inf)
    false = int((worst >= RIGHT).sum())
    return {
        "verdict": audit.verdict,
        "called": len(called),
        "false": false,
        "returned": int((nearest < NEAR).sum()),
        "whole": int(not false and len(called) > 0 and bool((called.amin(0) < RIGHT).all())),
        "errors": [common.short(error) for error in nearest],
        "worst_called": common.short(worst.max()) if len(worst) else None,
        "loss": None if audit.result is None else common.short(audit.result.loss),
        "moved": common.short(audit.moved),
        "steps": None if audit.result is None else common.short(audit.result.steps),
    }


def work(s: dict) -> dict:
    before, after, X, bounds = pair(s)
    told: dict = {"norm": float(X.flatten(1).norm(dim=1).median())}
    if s["told"] == "range" and s["inputs"] != "sphere":
        told = {"inputs": rl.inputs.Box(*bounds)}
    budget = {"max_seconds": None, "max_steps": s["steps"]}
    audit, seconds = common.measure(
        lambda _: rl.audit(before, after, input_shape=(1, 8, 8), n=N, references=1, report=None, **budget, **told)
    )
    return {**judged(audit, X.flatten(1)), "seconds": common.short(seconds)}


def figures(results: list[dict], _) -> dict:
    total = {name: sum(r[name] for r in results) for name in ("called", "false", "returned", "whole")}
    interval = {"false_interval": common.wilson(total["false"], total["called"])} if total["called"] else {}
    worst = max((r["worst_called"] for r in results if r["worst_called"] is not None), default=None)
    verdicts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in rl.auditing.outcome.EXIT}
    return {
        "audits": len(results),
        "samples": N * len(results),
        **total,
        **interval,
        "worst_called": worst,
        **{verdict: count for verdict, count in verdicts.items() if count},
        **common.medians(results, ("seconds",), "median_"),
    }


def summarise(cells: list[dict]) -> list[dict]:
    rows = common.table(cells, ("told", "recipe", "inputs"), figures)
    return [*rows, *({**row, "recipe": "all", "inputs": "all"} for row in common.table(cells, ("told",), figures))]


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=1, help="sets of samples of each pair (1)")
    options.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    options.add_argument("--steps", type=int, help=f"budget of an audit ({STEPS})")
    args = common.parse(options)
    bodies = {"pretrained": [False, True], "model": list(MODELS)}
    budget = {"steps": [args.steps or (60 if args.tiny else STEPS)], "seed": range(args.seeds)}
    cells = rl.grid(told=["range", "norm"], **budget, inputs=INPUTS, recipe=args.recipes, **bodies)
    cells = cells[:1] if args.tiny else cells
    same = [s for s in cells if s["told"] == "norm" and s["inputs"] == "sphere"]  # as its range
    common.run("audits", args, [s for s in cells if s not in same], work, summarise)


if __name__ == "__main__":
    main()
