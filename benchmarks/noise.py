"""What training and storage do to a reconstruction: regularised training, noise in θ, weights of few bits.

    python benchmarks/noise.py
    python benchmarks/noise.py --data faces
    python benchmarks/noise.py --data cifar10 --cifar PATH

Beside each measured error stands the first-order prediction, from the Jacobian at the truth (not for CIFAR-10, where it
would be too large).
"""

from __future__ import annotations

import argparse
import functools
import math
from pathlib import Path

import common
import torch

import reconlaw as rl

SIZES = {"digits": (10, 6_400), "faces": (4, 10_000), "cifar10": (4, 40_000)}  # n, p
FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LEVELS = {
    "ridge": (1e-3, 1e-1, 1e1, 1e3),  # λ/p
    "label noise": (0.1, 1.0, 10.0),  # of the size of the labels
    "early stopping": (1, 10, 100),  # steps of gradient descent, at half the largest stable rate
    "noise": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),  # of the size of θ
    # Start of entries N(0, level²/p), both ends of training stored; level 0: θ itself is stored.
    "float16": (0.0, 0.01, 0.1, 1.0),
    "bfloat16": (0.0, 0.01, 0.1, 1.0),
    "int8": (0.0, 0.01, 0.1, 1.0),
}
FEWER = {"noise": LEVELS["noise"][2:8], "bfloat16": (0.0,), "int8": (0.0,), "ridge": (1e-1,)}


def draws(s: dict, *shape) -> torch.Tensor:
    """Gaussian numbers of the cell's own: no stream of the package is seeded like this."""
    return torch.randn(
        *shape, device="cpu", generator=torch.Generator().manual_seed(2_000_003 + s["seed"]), dtype=torch.float64
    )


@functools.lru_cache(maxsize=1)
def _problem(data, n, p, seed, device, root):
    dtype = torch.float32 if data == "cifar10" else torch.float64
    if data == "cifar10":
        samples = rl.data.cifar10(n=n, root=root, dtype=dtype)
    else:
        samples = rl.data.digits(n=n, seed=seed) if data == "digits" else rl.data.faces(n=n, seed=seed)
    features = rl.RandomFeatures(samples.X.shape[1], p, seed=seed, dtype=dtype, device=device)
    plain = None if data == "cifar10" else rl.Perturbation(features, samples.X, torch.ones(n))
    return samples, features, plain


def stored(theta: torch.Tensor, kind: str) -> torch.Tensor:
    """θ as it comes back from a file of that format; int8 with one scale, max |θ|/127."""
    if kind == "int8":
        scale = theta.abs().max() / 127
        return (theta / scale).round() * scale
    return theta.to(FORMATS[kind]).to(theta)


def trained(s, features, X, y):
    """What training adds, what of it the attacker gets, the model that is published, and the norm of its start."""
    what, level = s["what"], s["level"]
    if what == "ridge":
        theta = features.fit(X, y, ridge=level * features.p)
    elif what == "label noise":
        noise = draws(s, len(y)).to(y)
        theta = features.fit(X, y + level * noise * (y.norm() / noise.norm()))
    elif what == "early stopping":
        Phi = features(X)
        G, a = Phi @ Phi.T, torch.zeros(len(y)).to(Phi)
        rate = 1 / torch.linalg.eigvalsh(G)[-1]
        for _ in range(level):
            a += rate * (y.to(Phi) - G @ a)
        theta = a @ Phi
    elif what == "noise":
        theta, e = features.fit(X, y), draws(s, features.p)
        seen = theta + level * theta.norm() * (e / e.norm()).to(theta)
        return theta, seen, seen, 0.0
    elif level == 0:
        theta = features.fit(X, y)
        seen = stored(theta, what)
        return theta, seen, seen, 0.0
    else:
        start = (level / math.sqrt(features.p)) * draws(s, features.p).to(features.V)
        end = features.fit(X, y, theta0=start)
        published = stored(end, what)
        return end - start, published - stored(start, what), published, float(start.norm())
    return theta, theta, theta, 0.0


def work(s: dict) -> dict:
    data, features, plain = _problem(s["data"], s["n"], s["p"], s["seed"], s["device"], s["root"])
    theta, seen, published, start = trained(s, features, data.X, data.y)
    noise = float((seen - theta).norm())
    tol = {"tol": min(0.99, (noise / float(seen.norm())) ** 2)} if noise else {}
    result = common.attack(seen, features, s["n"], seed=s["seed"], max_steps=s["max_steps"], **tol)
    report = rl.match(result.X, data.X)
    images = data.to_images(data.X), data.to_images(result.X[report.order])
    fitted = features.predict(data.X, published).cpu() - data.y
    out = common.scores(result, data.X) | {
        "noise": common.short(noise / theta.norm()),
        "share": common.short(theta.norm() / start) if start else None,
        "label_error": common.short(fitted.norm() / data.y.norm()),
        "median_psnr": common.short(torch.as_tensor(rl.psnr(images[1], images[0])).median()),
    }
    if plain is not None and noise:
        Phi = features(data.X)
        a = torch.linalg.solve(Phi @ Phi.T, Phi @ theta).abs()
        predicted = plain.expected(noise) / a
        out |= {
            "predicted_median": common.short(predicted.median()),
            "predicted_worst": common.short(predicted.max()),
            "sigma_min": common.short(plain.sigma_min / math.sqrt(features.p)),
        }
    return out


def figures(results: list[dict], _) -> dict:
    names = ("noise", "share", "label_error", "median_error", "worst_error", "median_psnr", "seconds")
    return common.counts(results) | common.medians(results, (*names, "predicted_median", "predicted_worst"))


def summarise(cells: list[dict]) -> list[dict]:
    names = ("data", "what", "level", "n", "p", "max_steps")
    order = lambda r: (list(SIZES).index(r["data"]), list(LEVELS).index(r["what"]), r["level"])  # noqa: E731
    return common.table(cells, names, figures, order)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--data", choices=SIZES, default="digits")
    options.add_argument("--what", nargs="+", choices=LEVELS, metavar="WHAT")
    options.add_argument("--seeds", type=int, help="sets (2; cifar10 1)")
    options.add_argument("--steps", type=int, help="a set (10,000)")
    options.add_argument("--cifar", type=Path, help=argparse.SUPPRESS)
    args = common.parse(options)
    n, p = SIZES[args.data]
    levels = LEVELS if args.data == "digits" else FEWER
    if args.data == "cifar10":
        levels = {"noise": LEVELS["noise"][2:7]}
    if args.tiny:
        n, p = 2, round(5 * 2 * {"digits": 64, "faces": 625, "cifar10": 3072}[args.data])
        levels = {what: values[-1:] for what, values in levels.items()} | {"noise": (1e-3,)}
    seeds = args.seeds or (1 if args.tiny or args.data == "cifar10" else 2)
    budget = args.steps or (300 if args.tiny else 10_000)
    cells = [
        {"data": args.data, "n": n, "p": p, "seed": seed, "what": what, "level": level, "max_steps": budget}
        for seed in range(seeds)
        for what in args.what or levels
        for level in levels.get(what, ())
    ]
    common.run("noise", args, cells, common.Located(work, args.cifar), summarise)


if __name__ == "__main__":
    import noise  # by its name: what functools caches in a script cannot be sent to another process

    noise.main()
