"""Hard cases, reported whatever they give: what a plain sphere of samples spares the solver.

Each case departs from the control in one thing; see ``CASES``. The "marked" samples are those that the case makes hard.

    python benchmarks/hard_cases.py
"""

from __future__ import annotations

import math

import common
import torch

import reconlaw as rl

CASES = {
    "control": "samples uniform on the sphere",
    "near-duplicates": "two samples of cosine 0.95",
    "small coefficient": "one sample's coefficient 100 times smaller than the median",
    "n > d": "twice as many samples as dimensions",
    "unequal norms": "norms from half to twice √d; scored on directions",
    "noise 1e-3": "Gaussian noise of relative size 1e-3 added to θ; tol is its square",
    "noise 1e-2": "Gaussian noise of relative size 1e-2 added to θ; tol is its square",
    "noise 1e-2, tol unset": "the same, with nothing known of the noise",
    "float32": "features, θ and the arithmetic in float32",
}


def draws(s: dict, *shape) -> torch.Tensor:
    """Gaussian numbers of the case's own: no stream of the package is seeded like this."""
    generator = torch.Generator().manual_seed(1_000_003 + s["seed"])
    return torch.randn(*shape, device="cpu", generator=generator, dtype=torch.float64)


def samples(s: dict):
    """X, y, and the indices that the case makes hard."""
    data = rl.data.sphere(s["n"], s["d"], seed=s["seed"])
    X, y, marked = data.X, data.y, []
    if s["case"] == "near-duplicates":
        w = draws(s, s["d"])
        w -= X[0] * (w @ X[0]) / (X[0] @ X[0])
        X[1] = 0.95 * X[0] + math.sqrt(1 - 0.95**2) * w * (X[0].norm() / w.norm())
        marked = [0, 1]
    elif s["case"] == "unequal norms":
        X = X * torch.logspace(-1, 1, s["n"], base=2.0, dtype=X.dtype)[:, None]
    elif s["case"] == "small coefficient":
        marked = [0]
    return X, y, marked


def work(s: dict) -> dict:
    dtype = torch.float32 if s["case"] == "float32" else torch.float64
    features = rl.RandomFeatures(s["d"], s["p"], s["activation"], seed=s["seed"], dtype=dtype, device=s["device"])
    X, y, marked = samples(s)
    theta = features.fit(X, y)
    if s["case"] == "small coefficient":
        Phi = features(X)
        a = torch.linalg.solve(Phi @ Phi.T, Phi @ theta)
        a[0] = a[0].sign() * a.abs().median() / 100
        theta = a @ Phi  # the interpolator of the labels Φθ
    options = {}
    if s["case"].startswith("noise"):
        size = float(s["case"].removeprefix("noise ").split(",")[0])
        noise = draws(s, len(theta)).to(theta)
        theta = theta + size * theta.norm() * noise / noise.norm()
        options = {} if "unset" in s["case"] else {"tol": size**2}
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"], **options)
    if s["case"] == "unequal norms":
        X = X * (math.sqrt(s["d"]) / X.norm(dim=1, keepdim=True))
    error = rl.match(result.X, X).error
    hard = common.short(error[marked].max()) if marked else None
    return {**common.scores(result, X), "worst_marked_error": hard, "message": result.message}


def figures(results: list[dict], settings: dict) -> dict:
    names = ("worst_error", "worst_marked_error", "loss", "seconds")
    return {
        "what": CASES[settings["case"]],
        "sets": len(results),
        "sets_below_1e-6": common.whole(results, "below_1e-6"),
        "sets_below_1e-2": common.whole(results, "below_1e-2"),
        "samples": sum(r["samples"] for r in results),
        "samples_below_1e-2": sum(r["below_1e-2"] for r in results),
        "median_error": common.median(r["median_error"] for r in results),
        **common.medians(results, names, "median_"),
    }


def summarise(cells: list[dict]) -> list[dict]:
    names = ("case", "ratio", "d", "n", "activation", "max_steps")
    order = lambda row: (list(CASES).index(row["case"]), row["activation"], -row["ratio"])  # noqa: E731
    return common.table(cells, names, figures, order)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--ratios", nargs="+", type=float, default=[10, 3], metavar="P/DN")
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--steps", type=int, help="a set (10,000)")
    args = common.parse(options)
    if args.tiny:
        args.activations, args.ratios = args.activations[:1], args.ratios[:1]
    cells = []
    for seed in range(args.seeds or (1 if args.tiny else 5)):
        for case in args.cases:
            d, n = (15, 3) if args.tiny else (100, 20)
            if case == "n > d":
                d, n = (4, 8) if args.tiny else (20, 40)
            for ratio in args.ratios:
                for activation in args.activations:
                    cells.append(
                        {
                            **{"case": case, "activation": activation, "d": d, "n": n, "ratio": ratio},
                            **{"p": round(ratio * d * n), "seed": seed},
                            "max_steps": args.steps or (1_000 if args.tiny else 10_000),
                        }
                    )
    common.run("hard_cases", args, cells, work, summarise)


if __name__ == "__main__":
    main()
