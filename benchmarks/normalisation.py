"""Batch normalisation and dropout while a head is trained: what comes back, and what the attacker has to know.

python benchmarks/normalisation.py
"""

from __future__ import annotations

import common
import torch
from torch import nn

import reconlaw as rl

# How the head was trained, and what the attacker takes for the body's statistics.
NORM = {
    "evaluation": "body in evaluation mode while the head is trained",
    "training, published": "body in training mode; the published running statistics, as they stand",
    "training, corrected": "body in training mode; the batch's own statistics, from the running ones before and after",
    "mini-batches, published": "body in training mode, mini-batches of three; the published running statistics",
}
STEPS = 50
DROPOUT = {"rate": (0.1, 0.5, 0.8), "step": (0.5, 0.1, 0.02, 0.004)}  # share dropped; step size over the largest stable
TIME = 20  # steps times step size


def generator(s: dict) -> torch.Generator:
    """Of the cell's own: no stream of the package is seeded like this."""
    return torch.Generator().manual_seed(3_000_017 + s["seed"])


def body(d: int, p: int, draw: torch.Generator) -> nn.Sequential:
    """A layer, batch normalisation with statistics of public digits, GELU; random weights."""
    made = nn.Sequential(nn.Linear(d, p, bias=False), nn.BatchNorm1d(p), nn.GELU()).double()
    with torch.no_grad():
        made[0].weight.copy_(torch.randn(p, d, device="cpu", generator=draw, dtype=torch.float64) / d**0.5)
        made[1].weight.copy_(0.5 + torch.rand(p, device="cpu", generator=draw, dtype=torch.float64))
        made[1].bias.copy_(0.5 * torch.randn(p, device="cpu", generator=draw, dtype=torch.float64))
        public = rl.data.digits(200, classes=(0, 1, 2, 4, 5), seed=1).X
        for _ in range(100):
            made(public)
    return made.eval()


def normalised(s: dict, data):
    """The change of a head over a body with batch normalisation, and the features that the attacker takes."""
    X, y, n = data.X, data.y, s["n"]
    made = body(X.shape[1], s["p"], generator(s))
    norm, theta = made[1], torch.zeros(s["p"], dtype=torch.float64)
    before = norm.running_mean.clone(), norm.running_var.clone()
    size = n // 2 if s["case"].startswith("mini") else n  # of six
    made.train(s["case"] != "evaluation")
    with torch.no_grad():
        for t in range(STEPS):
            rows = torch.arange(t * size, (t + 1) * size) % n
            H = made(X[rows])
            theta += 0.5 / torch.linalg.eigvalsh(H @ H.T)[-1] * H.T @ (y[rows] - H @ theta)
        if s["case"] == "training, corrected":
            left = (1 - norm.momentum) ** STEPS
            norm.running_mean.copy_((norm.running_mean - left * before[0]) / (1 - left))
            norm.running_var.copy_((norm.running_var - left * before[1]) / (1 - left) * (n - 1) / n)
    return theta, rl.ModuleFeatures(made.eval(), (X.shape[1],), device=s["device"])


def dropped(s: dict, data):
    """The head of random features, trained by gradient descent with a fresh mask for every sample and step."""
    features = rl.RandomFeatures(data.X.shape[1], s["p"], "relu", seed=s["seed"], device=s["device"])
    Phi, y, draw = features(data.X).cpu(), data.y, generator(s)
    theta, rate = torch.zeros(s["p"], dtype=torch.float64), s["step"] / torch.linalg.eigvalsh(Phi @ Phi.T)[-1]
    for _ in range(round(TIME / s["step"])):
        kept = torch.rand(Phi.shape, device="cpu", generator=draw, dtype=torch.float64) >= s["rate"]
        H = Phi * kept / (1 - s["rate"])
        theta += rate * H.T @ (y - H @ theta)
    return theta, features


def work(s: dict) -> dict:
    data = rl.data.digits(s["n"], seed=s["seed"])
    theta, features = (dropped if s["case"] == "dropout" else normalised)(s, data)
    off = float(rl.projection_loss(data.X, features, theta))
    tol = {"tol": min(0.99, off)} if off > 1e-18 else {}
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"], **tol)
    report = rl.match(result.X, data.X)
    psnr = rl.psnr(data.to_images(result.X[report.order]), data.to_images(data.X))
    out = {"off_span": common.short(off**0.5), "median_psnr": common.short(torch.as_tensor(psnr).median())}
    if s["case"] == "dropout":
        Phi = features(data.X)
        a = torch.linalg.solve(Phi @ Phi.T, Phi @ theta.to(Phi))
        predicted = rl.Perturbation(features, data.X, a).expected(off**0.5 * float(theta.norm()))
        out["predicted_median"] = common.short(predicted.median())
    return common.scores(result, data.X) | out


def figures(results: list[dict], settings: dict) -> dict:
    what = NORM.get(settings["case"], "dropout before the head, random features")
    names = ("off_span", "median_error", "worst_error", "median_psnr", "predicted_median", "seconds")
    return {"what": what, **common.counts(results), **common.medians(results, names)}


def summarise(cells: list[dict]) -> list[dict]:
    names, order = ("case", "rate", "step", "n", "p", "max_steps"), [*NORM, "dropout"]
    return common.table(cells, names, figures, lambda r: (order.index(r["case"]), r["rate"], r["step"]))


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (2)")
    options.add_argument("--steps", type=int, help="a set (20,000)")
    args = common.parse(options)
    rates, steps = (DROPOUT["rate"][:1], DROPOUT["step"][:1]) if args.tiny else DROPOUT.values()
    cases = [
        {
            "case": case,
            "rate": 0.0,
            "step": 0.0,
            "n": 2 if args.tiny else 6 if case.startswith("mini") else 4,
            "max_steps": 20_000,
        }
        for case in (["training, corrected"] if args.tiny else NORM)
    ]
    cases += [
        {"case": "dropout", "rate": rate, "step": step, "n": 2 if args.tiny else 6, "max_steps": 20_000}
        for rate in rates
        for step in steps
    ]
    cells = []
    for seed in range(args.seeds or (1 if args.tiny else 2)):
        for case in cases:
            own = {"p": (5 if args.tiny else 10) * case["n"] * 64, "seed": seed}
            cells.append(case | own | ({"max_steps": args.steps or 300} if args.tiny or args.steps else {}))
    common.run("normalisation", args, cells, work, summarise)


if __name__ == "__main__":
    main()
