"""What defences cost in accuracy and gain against reconstruction: two digits, a linear head on random ReLU features.

Every cell trains on n digits, 3 against 8, attacks θ with the parity lift, and tests on others of the two kinds. For
defences that add noise the accuracy is a mean over twenty draws, the attack sees one, and its tolerance is the noise.
``local_error`` is what a search that starts at the truth would be off by, to first order in the noise.

    python benchmarks/defences.py
"""

from __future__ import annotations

import math

import common
import torch
from scipy.optimize import brentq

import reconlaw as rl

DEFENCES = {
    "none": [0],
    "noise": [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],  # σ√p
    "ridge and noise": [1, 8, 50, 200, 1000, 10000],  # ε
    "noisy descent": [1, 8, 50, 200, 1000, 10000],  # ε
    "ridge": [0.01, 0.1, 1, 10],  # λ/p
    "fewer parameters": [0.25, 0.5, 0.75, 1, 2, 5],  # p/dn
    "more samples": [20, 40],  # n, p unchanged
}
CLASSES = (3, 8)
DELTA = 1e-5
RIDGE = 1.0  # λ/p below the noise
STEPS = 10
DRAWS = 20


def mu_of(epsilon: float) -> float:
    """μ of the Gaussian privacy that gives ε at δ = 1e-5."""
    return brentq(lambda mu: rl.privacy.gaussian_epsilon(mu, DELTA) - epsilon, 0.01, 1000)


def load(n: int, seed: int):
    """Training digits, and others of the two classes (of 340 in all)."""
    data = rl.data.digits(n, classes=CLASSES, seed=seed)
    every = rl.data.digits(340, classes=CLASSES, seed=seed)
    new = (torch.cdist(every.X, data.X) > 1e-6).all(1)
    return data, every.X[new], every.y[new]


def release(s: dict, features, X, y, draw: int):
    """θ as it is published, θ without its noise, μ (None: no guarantee), and the noise's root mean square."""
    p, kind, level = features.p, s["defence"], s["level"]
    xi = rl.privacy.noise(p, 100 * s["seed"] + draw).to(features.V)
    if kind == "noisy descent":
        mu, clip, rate = mu_of(level), math.sqrt(p / 2), 2 / (len(X) * p)
        multiplier = 2 * math.sqrt(STEPS) / mu
        train = (features(X), y, clip), (STEPS, rate, 100 * s["seed"] + draw)
        theta, clean = (rl.privacy.noisy_descent(*train[0], m, *train[1])[0] for m in (multiplier, 0))
        return theta, clean, mu, rate * multiplier * clip * math.sqrt(STEPS)  # off the span; along it, less
    ridge = RIDGE * p if kind == "ridge and noise" else level * p if kind == "ridge" else 0.0
    clean, mu, size = features.fit(X, y, ridge=ridge), None, 0.0
    if kind == "noise":
        size = level / math.sqrt(p)
    if kind == "ridge and noise":
        radius = float(torch.linalg.matrix_norm(features.V, 2)) * math.sqrt(features.d)  # of any sample's features
        mu = mu_of(level)
        size = rl.privacy.ridge_sensitivity(len(X), ridge, radius) / mu
    return clean + size * xi, clean, mu, size


def local_error(features, X, theta, size: float) -> float | None:
    """Median over the samples of the least-squares error, relative, to first order in noise of this size a coordinate.

    The derivative of Φ(X)ᵀa along orthonormal tangent directions in units of √d; a by least squares.
    """
    n, d = X.shape
    if size == 0 or features.p < n * d:
        return None
    Phi = features(X)
    a = torch.linalg.lstsq(Phi.T, theta[:, None]).solution[:, 0]
    slopes = (X @ features.V.T > 0).to(X)
    blocks = []
    for i in range(n):
        tangent = torch.linalg.svd(X[i : i + 1]).Vh[1:].T
        blocks.append(a[i] * slopes[i][:, None] * (math.sqrt(d) * features.V @ tangent))
    J = torch.cat([*blocks, Phi.T], 1)
    variance = torch.linalg.inv(J.T @ J).diagonal()[: n * (d - 1)].reshape(n, d - 1).sum(1)
    return common.short(size * variance.sqrt().median())


def work(s: dict) -> dict:
    data, test_X, test_y = load(s["n"], s["seed"])
    features = rl.RandomFeatures(s["d"], s["p"], "relu", seed=s["seed"], device=s["device"])
    X, y = data.X.to(features.device), data.y.to(features.device)
    draws = DRAWS if "nois" in s["defence"] else 1
    releases = (release(s, features, X, y, draw) for draw in range(draws))
    theta, clean, mu, size = next(releases)
    published = [theta, *(other[0] for other in releases)]
    right = [(features.predict(test_X, one).cpu() * test_y > 0).double().mean() for one in published]
    off = float(rl.projection_loss(X, features, theta))
    options = {"tol": off} if size else {}
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"], **options)
    errors = rl.match(result.X, X).error_up_to_sign
    return {
        "accuracy": common.short(sum(right) / draws),
        "error": common.short(errors.median()),
        "within_0.1": int((errors < 0.1).sum()),
        "below_1e-2": int((errors < 1e-2).sum()),
        "samples": s["n"],
        "epsilon": common.short(rl.privacy.gaussian_epsilon(mu, DELTA)) if mu else None,
        "relative_noise": common.short(size * math.sqrt(s["p"]) / float(clean.norm())),
        "local_error": local_error(features, X, clean, size),
        "seconds": common.short(result.seconds),
    }


def figures(results: list[dict], _) -> dict:
    samples = sum(r["samples"] for r in results)
    shares = {name: common.short(sum(r[name] for r in results) / samples) for name in ("within_0.1", "below_1e-2")}
    names = ("accuracy", "error", "epsilon", "relative_noise", "local_error", "seconds")
    return {"sets": len(results), **common.medians(results, names), **shares}


def summarise(cells: list[dict]) -> list[dict]:
    names = ("defence", "level", "d", "n", "p", "max_steps")
    return common.table(cells, names, figures, lambda row: (list(DEFENCES).index(row["defence"]), row["level"]))


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--defences", nargs="+", choices=DEFENCES, default=list(DEFENCES), metavar="DEFENCE")
    options.add_argument("--seeds", type=int, help="sets (4)")
    options.add_argument("--steps", type=int, help="an attack (6,000)")
    args = common.parse(options)
    cells, d = [], 64
    for seed in range(args.seeds or (1 if args.tiny else 4)):
        for defence in args.defences:
            for level in DEFENCES[defence][: 1 if args.tiny else None]:
                n = level if defence == "more samples" else 2 if args.tiny else 10
                p = round(level * d * n) if defence == "fewer parameters" else 10 * d * (2 if args.tiny else 10)
                cells.append(
                    {
                        **{"defence": defence, "level": level, "d": d, "n": n, "p": p, "seed": seed},
                        "max_steps": args.steps or (300 if args.tiny else 6_000),
                    }
                )
    common.run("defences", args, cells, work, summarise)


if __name__ == "__main__":
    main()
