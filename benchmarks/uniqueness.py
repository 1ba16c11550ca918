"""How many exact solutions a small problem has, at p = dn − 1, dn and dn + 1, and with a family for the samples.

Every cell draws samples, normal coefficients and V, and looks from many starts for all (X̂, β) with Φ(X̂)ᵀβ = θ. Below
the count there is a continuum, and every start ends at a solution of its own. The family is a closed curve on the
sphere, known to the attacker: one unknown a sample in the place of d − 1.
"""

from __future__ import annotations

import math

import common
import torch

import reconlaw as rl
from reconlaw.attack.solutions import all_solutions

ACTIVATIONS = ("gelu", "softplus", "relu+tanh", "tanh")
SIZES = ((1, 2), (1, 3), (2, 2), (2, 3))  # n, d
FAMILY = (2, 8)
STARTS = 100


def curve(d: int):
    """t (…, 1) → points (…, d) of a closed curve on the sphere of radius √d, and derivatives; the same for everyone."""
    draw = torch.randn(d, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frame, k = math.sqrt(d / 3) * torch.linalg.qr(draw).Q, torch.arange(1.0, 4.0, dtype=torch.float64)

    def family(t):
        cos, sin = (k * t).cos(), (k * t).sin()
        return torch.cat([cos, sin], -1) @ frame.T, (torch.cat([-k * sin, k * cos], -1) @ frame.T)[..., None]

    return family


def draw(s: dict):
    """X, the feature map and θ; coefficients of modulus at least ½."""
    n, d = s["n"], s["d"]
    generator = torch.Generator().manual_seed(s["seed"])
    if s["family"]:
        t = 2 * math.pi * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        X = curve(d)(t)[0]
    else:
        X = rl.data.sphere(n=n, d=d, seed=s["seed"]).X
    a = torch.randn(n, generator=generator, dtype=torch.float64)
    a = a + 0.5 * a.sign()
    features = rl.RandomFeatures(d, s["p"], s["activation"], seed=s["seed"], device="cpu")
    return X, features, features(X).T @ a


def work(s: dict) -> dict:
    X, features, theta = draw(s)
    known = {"family": curve(s["d"]), "k": 1} if s["family"] else {}
    found = all_solutions(theta, features, s["n"], STARTS, seed=s["seed"], **known)
    worst = [rl.match(points, X) for points, *_ in found]
    signless = features.activation.parity != "mixed"
    errors = [float((m.error_up_to_sign if signless else m.error).max()) for m in worst]
    return {
        "solutions": len(found),
        "starts_arrived": sum(times for *_, times in found),
        "truth": sum(error < 1e-4 for error in errors),
        "others": sum(error >= 1e-4 for error in errors),
    }


def figures(results: list[dict], _) -> dict:
    return {
        "draws": len(results),
        "solutions": [r["solutions"] for r in results],
        "truth": sum(r["truth"] for r in results),
        "draws_with_others": sum(r["others"] > 0 for r in results),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("family", "activation", "n", "d", "excess", "p"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="draws (6)")
    args = common.parse(options)
    cells = []
    kinds = [(False, n, d, n * d) for n, d in SIZES] + [(True, *FAMILY, 2 * FAMILY[0])]
    for family, n, d, unknowns in kinds[: 2 if args.tiny else None]:
        for activation in ACTIVATIONS[: 1 if args.tiny else None]:
            for excess in (-1, 0, 1):
                for seed in range(args.seeds or (1 if args.tiny else 6)):
                    given = {"family": family, "activation": activation, "n": n, "d": d}
                    cells.append(given | {"excess": excess, "p": unknowns + excess, "seed": seed})
    common.run("uniqueness", args, cells, work, summarise)


if __name__ == "__main__":
    main()
