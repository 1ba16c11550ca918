"""Where message passing finds fixed numbers of samples: state evolution beside runs at d = 100 to 2,000.

Samples on the sphere, n = 1, 2, 3, with given coefficients of unlike or of equal size. Kinds of cells:

    threshold   by state evolution, d → ∞: the least p/dn from which all n are found from nothing, to 0.01
    prediction  by state evolution: the squared cosines at a ratio
    joint       message passing with the joint posterior, told the coefficients: squared cosines of a run
    scalar      the package's own, n posteriors of one variable, not told them: the same, after the best matching
    search      the package's whole search in 4,000 steps, at d = 100

State evolution has 500 rounds, message passing 200. An hour of one core or two.
"""

from __future__ import annotations

import common
import torch
from scipy.optimize import linear_sum_assignment

import reconlaw as rl
from reconlaw.attack.joint_passing import pass_messages, state_evolution
from reconlaw.attack.joint_posterior import INVERSES, JointPosterior
from reconlaw.attack.message_passing import MessagePassing

COEFFICIENTS = {"unlike": (1.0, 0.7, -0.85), "equal": (1.0, 1.0, -1.0)}
RUNS = ("joint", "scalar", "search")
SCALAR_RATIOS = [1.05, 1.2, 1.5, 3.0]
RATIOS = [0.8, 0.95, 1.05, 1.1, 1.2, 1.5]
FINE = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5]
BEYOND = [1.8, 1.95, 2.05, 2.2]  # for one sample: ReLU's jump is at 2
DRAWS = {100: 8, 200: 8, 500: 4, 1000: 2, 2000: 2}  # of each dimension
ROUNDS, ITERATIONS, STEPS, NEURONS = 500, 200, 4_000, 1024
FOUND = 0.999  # squared cosine; ReLU comes near 1 without a jump
EQUAL_AT = 200  # the dimension at which coefficients of equal size are run


def posterior(s: dict) -> JointPosterior:
    # Runs average over thousands of neurons, whose grids are shifted at random: a coarser one serves.
    coarse = 7 if s["kind"] == "joint" and s["n"] == 3 else None
    return JointPosterior(s["activation"], COEFFICIENTS[s["coefficients"]][: s["n"]], coarse)


def overlaps(s: dict, ratio: float) -> list[float]:
    Q = state_evolution(posterior(s), ratio * s["n"], rounds=ROUNDS, neurons=NEURONS, tol=1e-5)
    return [round(float(q), 5) for q in Q.diagonal()]


def threshold(s: dict) -> dict:
    """Bisection, between a ratio at which nothing is found whole and one at which all is."""
    low, high = ends = 0.8, 2.4 if s["n"] == 1 else 1.6
    while high - low > s["resolution"]:
        middle = (low + high) / 2
        low, high = (low, middle) if min(overlaps(s, middle)) > FOUND else (middle, high)
    # An end that was never tried says nothing.
    return {"above": round(low, 4) if low > ends[0] else None, "at_most": round(high, 4) if high < ends[1] else None}


def cosines(x, X) -> list[float]:
    """Squared cosine of each sample with its estimate, after the best matching."""
    squares = (torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(X).T).square().cpu()
    rows = linear_sum_assignment(-squares.numpy().T)[1]
    return [round(float(squares[row, k]), 5) for k, row in enumerate(rows)]


def work(s: dict) -> dict:
    if s["kind"] == "threshold":
        return threshold(s)
    if s["kind"] == "prediction":
        return {"cosines": overlaps(s, s["ratio"])}
    n, d, seed = s["n"], s["d"], s["seed"]
    X = rl.data.sphere(n=n, d=d, seed=seed).X
    features = rl.RandomFeatures(d, s["p"], s["activation"], seed=seed, device=s["device"])
    X, a = X.to(features.V), torch.tensor(COEFFICIENTS[s["coefficients"]][:n]).to(features.V)
    theta = a @ features(X)
    if s["kind"] == "joint":
        x, _ = pass_messages(theta, features, posterior(s), iterations=ITERATIONS, seed=seed)
        return {"cosines": cosines(x, X)}
    if s["kind"] == "scalar":
        generator = torch.Generator().manual_seed(seed)
        start = 0.1 * torch.randn(n, d, generator=generator, dtype=torch.float64).to(X)
        x, *_ = MessagePassing(features, theta[None]).run(start, torch.full((n,), 0.99).to(X), ITERATIONS)
    else:
        x = rl.reconstruct(theta, features, n, seed=seed, max_steps=STEPS, max_seconds=None).X.to(X)
    return {"cosines": cosines(x, X)}


def figures(results: list[dict], s: dict) -> dict:
    if s["kind"] == "threshold":
        return results[0]
    least = [min(r["cosines"]) for r in results]
    found = sum(value > FOUND for value in least)
    columns = zip(*(r["cosines"] for r in results), strict=True)
    said = {"median_cosines": [common.median(column) for column in columns], "least": sorted(least)}
    if s["kind"] == "prediction":
        return said
    return {"runs": len(results), "found": found, "interval": common.wilson(found, len(results))} | said


def summarise(cells: list[dict]) -> list[dict]:
    names = {"threshold": (), "prediction": ("ratio",)}
    rows = []
    for kind in ("threshold", "prediction", *RUNS):
        of_kind = [cell for cell in cells if cell["settings"]["kind"] == kind]
        by = ("kind", "coefficients", "activation", "n", *names.get(kind, ("d", "ratio", "p")))
        rows += common.table(of_kind, by, figures)
    return rows


def grid(args) -> list[dict]:
    cells = []
    for coefficients in args.coefficients:
        for n in args.samples:
            if coefficients == "equal" and n == 1:
                continue
            beyond = BEYOND * (n == 1 and not args.tiny)
            for activation in args.activations:
                one = {"coefficients": coefficients, "n": n, "activation": activation}
                if "threshold" in args.kinds:
                    cells.append({"kind": "threshold", **one, "resolution": args.resolution})
                if "prediction" in args.kinds and coefficients == "unlike":
                    cells += [{"kind": "prediction", **one, "ratio": ratio} for ratio in args.fine + beyond]
                for kind in [kind for kind in RUNS if kind in args.kinds]:
                    ratios = args.scalar_ratios if kind == "scalar" else args.ratios + beyond
                    for d in run_at(kind, coefficients) & set(args.dimensions):
                        for ratio in ratios:
                            at = {"d": d, "ratio": ratio, "p": round(ratio * d * n)}
                            draws = range(DRAWS[d])[: args.seeds]
                            cells += [{"kind": kind, **one, **at, "seed": seed} for seed in draws]
    # Those that take longest are not to be the last.
    first = {"threshold": 0, "prediction": 1}
    names = ("kind", "activation", "ratio", "seed")
    return sorted(
        cells,
        key=lambda s: (first.get(s["kind"], 2), s.get("d", 0), -s["n"], *(str(s.get(name)) for name in names)),
    )


def run_at(kind: str, coefficients: str) -> set[int]:
    """The dimensions of the runs of a kind."""
    if coefficients == "equal":
        return {EQUAL_AT} if kind == "joint" else set()
    return {100} if kind == "search" else set(DRAWS)


def main() -> None:
    kinds = ("threshold", "prediction", *RUNS)
    options = common.parser(__doc__)
    options.set_defaults(threads=1)  # small tensors: beside other work a second thread makes a run ten times as long
    options.add_argument("--kinds", nargs="+", choices=kinds)
    options.add_argument("--samples", nargs="+", type=int, choices=(1, 2, 3), metavar="N")
    options.add_argument("--coefficients", nargs="+", choices=tuple(COEFFICIENTS))
    options.add_argument("--activations", nargs="+", choices=tuple(INVERSES))
    options.add_argument("--dimensions", nargs="+", type=int, choices=tuple(DRAWS), metavar="D")
    options.add_argument("--ratios", nargs="+", type=float, metavar="P/DN", help="of the runs")
    options.add_argument("--scalar-ratios", nargs="+", type=float, metavar="P/DN", help="of the runs of the package's")
    options.add_argument("--fine", nargs="+", type=float, metavar="P/DN", help="of the predictions")
    options.add_argument("--resolution", type=float, help="of the thresholds (0.01)")
    options.add_argument("--seeds", type=int, help="draws at most (8 at d = 100 and 200, 4 at 500, 2 beyond)")
    args = common.parse(options)
    defaults = {"kinds": kinds, "samples": [1, 2, 3], "activations": list(INVERSES), "dimensions": list(DRAWS)}
    defaults |= {"coefficients": list(COEFFICIENTS)}
    defaults |= {"ratios": RATIOS, "scalar_ratios": SCALAR_RATIOS, "fine": FINE, "resolution": 0.01}
    if args.tiny:
        defaults |= {"samples": [1], "activations": ["abs"], "dimensions": [100], "seeds": 1}
        defaults |= {"ratios": [1.5], "scalar_ratios": [1.5], "fine": [1.5], "resolution": 1.0}
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    common.run("state_evolution", args, grid(args), work, summarise)


if __name__ == "__main__":
    main()
