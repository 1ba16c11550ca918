"""Samples off the change of a ReLU network's first layer (rl.first_layer): exactly lazy, one step, and really trained.

- lazy: rows of the change are v_j Σ_i c_i 1[w_j·x_i > 0] x_i with Gaussian c and v; digits, faces, Gaussian samples.
- step: one step of cross-entropy on ten outputs and biases, raw digits, PyTorch's initialisation.
- trained: both layers of a two-layer network on squares to a loss of 1e-6; no recipe is given to the attack.

"claimed" counts samples flagged "recovered", "wrong" those of them that are off by more than 1e-2: it must be zero.
"certified" counts the edges that the certificate of the box holds for, "by_silence" the sets that silent neurons gave.

    python benchmarks/first_layer.py
"""

from __future__ import annotations

import copy

import common
import torch
from torch import nn

import reconlaw as rl
from reconlaw._random import seeded_generator


def drawn(*shape, seed, device):
    generator = seeded_generator("benchmark", seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


def data(kind: str, n: int, seed: int) -> rl.data.Dataset:
    if kind == "digits":
        return rl.data.digits(n, classes=tuple(range(10)), seed=seed)
    return rl.data.faces(n, seed=seed) if kind == "faces" else rl.data.sphere(n, 100, seed=seed)


def lazy(s: dict):
    X = data(s["data"], s["n"], s["seed"]).X.to(s["device"])
    p, d = s["width"], X.shape[1]
    W, v, c = (
        drawn(*shape, seed=100 * s["seed"] + k, device=s["device"]) for k, shape in enumerate([(p, d), (p,), (s["n"],)])
    )
    W = W / d**0.5
    return X, (W, v), (W + v[:, None] * (((W @ X.T > 0) * c) @ X), v)


def step(s: dict):
    made = data(s["data"], s["n"], s["seed"])
    X, y = made.pixels.to(s["device"]), made.y.argmax(1).to(s["device"])
    torch.manual_seed(s["seed"])
    before = nn.Sequential(nn.Linear(X.shape[1], s["width"]), nn.ReLU(), nn.Linear(s["width"], 10)).double()
    before = before.to(s["device"])
    after = copy.deepcopy(before)
    nn.functional.cross_entropy(after(X), y).backward()
    torch.optim.SGD(after.parameters(), lr=0.1).step()
    return X, before, after


def trained(s: dict):
    X = data(s["data"], s["n"], s["seed"]).X.to(s["device"])
    before = rl.networks.TwoLayer(X.shape[1], s["width"], seed=s["seed"]).to(s["device"])
    y = drawn(s["n"], seed=s["seed"], device=s["device"])
    return X, before, rl.networks.train(before, X, y).network


CASES = {"lazy": lazy, "step": step, "trained": trained}


def work(s: dict) -> dict:
    X, before, after = CASES[s["case"]](s)
    options = {"seed": s["seed"], "max_steps": s["max_steps"]}
    result, _ = common.measure(lambda clock: rl.first_layer(before, after, clock=clock, **options), s["device"])
    report = rl.match(result.X, X)
    error = report.error[report.order.argsort()][-len(result.X) :] if len(result.X) else report.error[:0]
    claimed = torch.tensor([flag is rl.Flag.RECOVERED for flag in result.flags], dtype=torch.bool)
    certificate = result.certificate
    return {
        **common.scores(result, X),
        "claimed": int(claimed.sum()),
        "wrong": int((error[claimed] > 1e-2).sum()),
        "distance": None if certificate is None else common.short(certificate.distance.max()),
        "certified": 0 if certificate is None else int(certificate.holds.sum()),
        "road": result.road,
        "status": result.status.value,
    }


def figures(results: list[dict], _) -> dict:
    totals = {name: sum(r[name] for r in results) for name in ("certified", "claimed", "wrong")}
    worst = max((r["worst_error"] for r in results if r["worst_error"] is not None), default=None)
    whole = {
        "sets_below_1e-2": common.whole(results, "below_1e-2"),
        "by_silence": sum(r["road"] == "silent neurons" for r in results),
    }
    return (
        common.counts(results)
        | totals
        | whole
        | {"worst_error": worst}
        | common.medians(results, ("seconds",), "median_")
    )


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("case", "data", "n", "width", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which trainings (all)")
    options.add_argument("--steps", type=int, help="a set (1,000,000)")
    args = common.parse(options)
    problems = [
        ("lazy", "digits", 10, 1000),
        ("lazy", "digits", 40, 2000),
        ("lazy", "faces", 100, 2000),
        ("lazy", "sphere", 20, 2000),
        ("lazy", "sphere", 40, 2000),
        ("step", "digits", 20, 500),
        ("step", "digits", 40, 2000),
        ("trained", "digits", 5, 2000),
        ("trained", "digits", 10, 4000),
        ("trained", "digits", 20, 4000),
    ]
    if args.tiny:
        problems = [("lazy", "digits", 4, 300), ("step", "digits", 4, 300), ("trained", "digits", 2, 400)]
    names = ("case", "data", "n", "width")
    cells = [
        dict(zip(names, problem, strict=True)) | {"seed": seed, "max_steps": args.steps or 1_000_000}
        for seed in range(args.seeds or (1 if args.tiny else 5))
        for problem in problems
        if problem[0] in args.cases
    ]
    common.run("first_layer", args, cells, work, summarise)


if __name__ == "__main__":
    main()
