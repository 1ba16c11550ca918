"""What is left of the attack where the attacker knows only a part: of θ, of V, of the start, or of n.

Each case asks one question at d = 50, n = 10, see ``CASES``. The level is what the case varies: the share of known
coordinates in units of dn, outputs known, the size of an error, or how far n is off. ``predicted`` is the median over
the samples of the first-order error that the difference from θ makes, J⁺e, computed from the truth.

    python benchmarks/partial.py
"""

from __future__ import annotations

import math

import common
import torch

import reconlaw as rl
from reconlaw.features.select import known
from reconlaw.networks import LayerFeatures
from reconlaw.perturbation import Perturbation

SIZES = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
BOTH = ["relu", "relu+tanh"]
RELU = BOTH[:1]
# case: what it is, its levels, p/dn, activations, sets, steps a set
CASES = {
    "count": ("n is wrong by the level", [-3, -2, -1, 0, 1, 2, 3], [3], BOTH, 3, 4_000),
    "blurred": ("V is known up to relative noise", SIZES, [2, 5, 20], RELU, 3, 6_000),
    "start": ("the start, N(0, level²/p) an entry, is unknown", [1e-4, *SIZES[::2], 1], [2, 5, 20], RELU, 3, 4_000),
    "random": ("a random choice of coordinates is known", [0.8, 1.25, 1.5, 2, 3, 5], [5], BOTH, 3, 25_000),
    "zeros": (
        "the largest weights are known, the others taken for zero",
        [1.25, 1.5, 2, 3, 4, 4.5],
        [5],
        RELU,
        3,
        4_000,
    ),
    "largest": ("the largest weights are known", [1.25, 1.5, 2, 3], [5], RELU, 3, 15_000),
    "smallest": ("the smallest weights are known", [1.5, 2, 3, 4], [5], RELU, 3, 15_000),
    "rows": ("some of six outputs are known", [1, 2, 3, 4, 5, 6], [0.75], RELU, 3, 15_000),
}
OUTPUTS = 6


def draws(s: dict, *shape) -> torch.Tensor:
    """Gaussian numbers of the case's own: no stream of the package is seeded like this."""
    generator = torch.Generator().manual_seed(2_000_003 + s["seed"])
    return torch.randn(*shape, device="cpu", generator=generator, dtype=torch.float64)


def part(s: dict, theta: torch.Tensor) -> torch.Tensor:
    """The coordinates that are known."""
    count = round(s["level"] * s["d"] * s["n"])
    order = draws(s, len(theta)) if s["case"] == "random" else -theta.abs()
    return order.argsort(descending=s["case"] == "smallest")[:count]


def work(s: dict) -> dict:
    d, n, case, level = s["d"], s["n"], s["case"], s["level"]
    features = rl.RandomFeatures(d, s["p"], s["activation"], seed=s["seed"], device=s["device"])
    X, y = (data := rl.data.sphere(n, d, seed=s["seed"])).X, data.y
    theta = exact = features.fit(X, y)
    seen = features
    if case in ("random", "largest", "smallest"):
        index = part(s, theta)
        theta, seen = theta[index], known(features, index)
        exact = theta
    elif case == "zeros":
        theta = torch.zeros_like(exact).index_copy(0, index := part(s, exact), exact[index])
    elif case == "rows":
        theta = exact = features.fit(X, draws(s, n, OUTPUTS))[: int(level)]
    elif case == "blurred":
        seen = LayerFeatures(
            features.V.cpu() + level / math.sqrt(d) * draws(s, s["p"], d), s["activation"], device=s["device"]
        )
    elif case == "start":
        theta = features.fit(X, y, theta0=level / math.sqrt(s["p"]) * draws(s, s["p"]))
    coefficients = torch.linalg.lstsq(features(X).T, features.fit(X, y)[:, None]).solution[:, 0]
    e = theta - (coefficients @ seen(X) if case == "blurred" else exact)
    noise, options, extra = float(e.norm() / theta.norm()), {}, {}
    if case in ("zeros", "blurred", "start"):
        options = {"tol": min(1.0, noise**2)}
        moved, _ = Perturbation(seen, X, coefficients).displacement(e)
        extra = {"noise": common.short(noise), "predicted": common.short(moved.norm(dim=1).median() / math.sqrt(d))}
    guess = n + level if case == "count" else n
    result = common.attack(theta, seen, guess, seed=s["seed"], max_steps=s["max_steps"], **options)
    if case == "count":
        size = result.coefficients.abs()
        extra = {"needless": int((size < 1e-6 * size.max()).sum())}
    return {**common.scores(result, X), **extra, "equations": theta.numel()}


def figures(results: list[dict], settings: dict) -> dict:
    exact = common.whole(results, "below_1e-6")
    shown = common.medians(results, ("noise", "predicted", "needless"))
    return {
        "what": CASES[settings["case"]][0],
        "sets": len(results),
        "recovered": exact,
        "interval": common.wilson(exact, len(results)),
        "samples": sum(r["samples"] for r in results),
        "samples_below_1e-2": sum(r["below_1e-2"] for r in results),
        "median_error": common.median(r["median_error"] for r in results),
        **common.medians(results, ("loss", "seconds"), "median_"),
        **{name: value for name, value in shown.items() if value is not None},
    }


def summarise(cells: list[dict]) -> list[dict]:
    names = ("case", "ratio", "activation", "level", "d", "n", "max_steps")
    order = lambda r: (list(CASES).index(r["case"]), r["activation"], r["ratio"], r["level"])  # noqa: E731
    return common.table(cells, names, figures, order)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    options.add_argument("--seeds", type=int, help="sets (3)")
    options.add_argument("--steps", type=int, help="a set (each case its own)")
    args = common.parse(options)
    d, n = (12, 4) if args.tiny else (50, 10)
    cells = []
    for case in args.cases:
        _, levels, ratios, activations, seeds, budget = CASES[case]
        if args.tiny:
            levels, ratios, activations, seeds, budget = levels[-2:], ratios[-1:], activations[:1], 1, 300
        cells += [
            {
                **{"case": case, "activation": activation, "d": d, "n": n, "ratio": ratio, "p": round(ratio * d * n)},
                **{"level": level, "seed": seed, "max_steps": args.steps or budget},
            }
            for seed in range(args.seeds or seeds)
            for ratio in ratios
            for level in levels
            for activation in activations
        ]
    common.run("partial", args, cells, work, summarise)


if __name__ == "__main__":
    main()
