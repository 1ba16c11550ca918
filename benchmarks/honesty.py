"""How often is "recovered" wrong? Small problems, drawn so as to make it so.

Each cell attacks a number of problems of one kind and counts, against the truth that the attack never sees: samples
called recovered, those of them that are no sample of the data (relative error 1e-2 or more), sets whose every sample
is called recovered, and sets that came back right without being called so. Kinds:

- "kinked": ReLU and |z| at p/dn from 1 to 1.6, where the Jacobian of an answer can be singular;
- "at the count": every activation, from as many equations as unknowns on, where rivals fit exactly;
- "all sorts": one to three outputs, either precision, θ of any scale, every method; samples that coincide, nearly
  coincide or are opposite, coefficients too small to see, polynomials;
- "n wrong": n one too small or too large, within a tolerance that both meet;
- "noise": θ with noise of relative size 1e-5 to 1e-1, the tolerance at its size;
- "not of samples": θ that no samples made, at and above the count.

Budgets are in steps, so that every machine counts the same, rounding aside.

    python benchmarks/honesty.py
"""

from __future__ import annotations

import common
import torch

import reconlaw as rl
from reconlaw._random import seeded_generator

OTHERS = {
    "z²": lambda z: z * z,
    "z² + z": lambda z: z * z + z,
    "z³": lambda z: z**3,
    "z³ + z²": lambda z: z**3 + z * z,
    "leaky": lambda z: torch.where(z > 0, z, 0.1 * z),
}
FOUND = ("recovered", "recovered up to sign")
STEPS = 2000
A_CELL = 20


class Draw:
    """Random choices of one problem."""

    def __init__(self, kind: str, index: int):
        self.generator = seeded_generator(f"honesty: {kind}", index)

    def whole(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def real(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand(1, generator=self.generator, dtype=torch.float64))

    def of(self, choices):
        return choices[self.whole(0, len(choices) - 1)]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def samples(self, n: int, d: int) -> torch.Tensor:
        return on_sphere(self.normal(n, d))

    def coefficients(self, outputs: int, n: int) -> torch.Tensor:
        """None of them small."""
        a = self.normal(outputs, n)
        return a.sign() * (0.3 + a.abs())


def on_sphere(X: torch.Tensor) -> torch.Tensor:
    return X * (X.shape[1] ** 0.5 / X.norm(dim=1, keepdim=True))


def features_of(d: int, p: int, activation: str, index: int, dtype=torch.float64) -> rl.RandomFeatures:
    return rl.RandomFeatures(d, p, OTHERS.get(activation, activation), seed=index, dtype=dtype, device="cpu")


def kinked(draw: Draw, index: int):
    n, d = draw.whole(2, 7), draw.whole(5, 16)
    features = features_of(d, max(n * d, round(draw.real(1, 1.6) * n * d)), draw.of(["relu", "relu", "abs"]), index)
    X = draw.samples(n, d)
    return X, features, draw.coefficients(1, n) @ features(X), {"n": n}


def at_the_count(draw: Draw, index: int):
    n, d, outputs = draw.whole(1, 4), draw.whole(2, 12), draw.whole(1, 2)
    rows = min(n, outputs)
    p = -(-n * (d - 1 + rows) // rows) + draw.whole(0, max(1, n * d // rows))
    features = features_of(d, max(p, n + 1), draw.of([*rl.ACTIVATIONS, *OTHERS]), index)
    X = draw.samples(n, d)
    return X, features, draw.coefficients(outputs, n) @ features(X), {"n": n}


def all_sorts(draw: Draw, index: int):
    n, d, outputs = draw.whole(1, 8), draw.whole(3, 30), draw.whole(1, 3)
    activation = draw.of(list(rl.ACTIVATIONS)) if draw.real() < 0.85 else draw.of(list(OTHERS))
    p = max(n + 1, round((0.6 + 5.4 * draw.real() ** 2) * d * n / draw.of([1, 1, outputs])))
    dtype = draw.of([torch.float64] * 4 + [torch.float32])
    method = draw.of(["varpro"] * 7 + ["sparse"] * 2 + ["sgd"])
    kind = draw.of(["plain", "plain", "near", "twice", "opposite", "small"])
    X, a, apart = draw.samples(n, d), draw.normal(outputs, n), 10 ** draw.real(-10, -1)
    if n > 1 and kind == "near":
        X[1] = X[0] + apart * X[1]
    if n > 1 and kind == "twice":
        X[1] = X[0]
    if n > 1 and kind == "opposite":
        X[1] = draw.of([0, 1]) * apart * X[1] - X[0]
    if kind == "small":
        a[:, 0] *= 10 ** draw.real(-12, 0)
    X = on_sphere(X)
    features = features_of(d, p, activation, index, dtype)
    theta = a.to(dtype) @ features(X.to(dtype))
    theta *= 10 ** draw.real(-8, 8) / float(theta.abs().max())
    return X, features, theta, {"n": None if method == "sparse" else n, "method": method}


def n_wrong(draw: Draw, index: int):
    n, d = draw.whole(2, 5), draw.whole(5, 16)
    features = features_of(d, round(draw.real(2, 8) * n * d), draw.of(list(rl.ACTIVATIONS)), index)
    X, a = draw.samples(n, d), draw.coefficients(1, n)
    a[:, 0] *= 10 ** draw.real(-4, -0.5)
    X[0] = X[1] + draw.real(0.1, 3) * X[0]
    X = on_sphere(X)
    more = draw.of([-1, 1])
    theta = a @ features(X)
    alone = float((theta - a[:, 1:] @ features(X[1:])).norm() / theta.norm())
    return X, features, theta, {"n": n + more, "tol": alone**2 if more < 0 else 1e-20}


def noise(draw: Draw, index: int):
    n, d = draw.whole(2, 6), draw.whole(5, 16)
    features = features_of(d, round(draw.real(1.3, 8) * n * d), draw.of(list(rl.ACTIVATIONS)), index)
    X, size = draw.samples(n, d), 10 ** draw.real(-5, -1)
    theta, xi = draw.coefficients(1, n) @ features(X), draw.normal(1, features.p)
    return X, features, theta + size * theta.norm() / xi.norm() * xi, {"n": n, "tol": 2 * size**2}


def not_of_samples(draw: Draw, index: int):
    n, d, outputs = draw.whole(1, 4), draw.whole(2, 8), draw.whole(1, 2)
    rows = min(n, outputs)
    p = -(-n * (d - 1 + rows) // rows) + draw.whole(0, 2)
    features = features_of(d, max(p, n + 1), draw.of(list(rl.ACTIVATIONS)), index)
    return draw.samples(1, d)[:0], features, draw.normal(outputs, features.p), {"n": n}


KINDS = {
    "kinked": kinked,
    "at the count": at_the_count,
    "all sorts": all_sorts,
    "n wrong": n_wrong,
    "noise": noise,
    "not of samples": not_of_samples,
}


def judged(result, X: torch.Tensor) -> dict:
    """What was claimed of one problem, and what of it is wrong."""
    called = [flag.value in FOUND for flag in result.flags]
    norms = X.norm(dim=1).clamp_min(1e-300)
    found = result.X.double().cpu()
    distance = torch.cdist(found, X) / norms
    if result.sign_identifiable is False:
        distance = torch.minimum(distance, torch.cdist(found, -X) / norms)
    off = distance.amin(1) if len(X) else torch.full((len(called),), float("inf"))
    there = bool(len(X)) and bool((distance.amin(0) < 1e-2).all())  # every sample of the data came back
    claimed = result.status.value == "recovered"
    wrong = sum(yes and not float(error) < 1e-2 for yes, error in zip(called, off, strict=True))
    return {
        "fits": int(result.converged),
        "samples_called": sum(called),
        "samples_wrong": wrong,
        "sets_called": int(claimed),
        "sets_wrong": int(claimed and (wrong > 0 or len(X) == len(called) and not there)),
        "sets_right": int(there and result.converged),
        "right_not_called": int(there and result.converged and not claimed),
    }


def numbers(s: dict) -> range:
    """Those of a cell's problems: A_CELL from its first on, or fewer where the run is tiny."""
    return range(s["first"], s["first"] + s.get("problems", A_CELL))


def work(s: dict) -> dict:
    total: dict[str, int] = {"problems": 0, "errors": 0}
    for index in numbers(s):
        X, features, theta, options = KINDS[s["kind"]](Draw(s["kind"], index), index)
        total["problems"] += 1
        try:
            result = common.attack(theta, features, seed=index, max_steps=s["steps"], **options)
        except (rl.StepError, ValueError):  # one that the attack documents: dependent features, θ of another φ
            total["errors"] += 1
            continue
        for name, value in judged(result, X).items():
            total[name] = total.get(name, 0) + value
    return total


def totals(cells: list[dict], kinds) -> list[dict]:
    """Counts of each kind, and of all together."""
    rows = []
    groups = [([cell for cell in cells if cell["settings"]["kind"] == kind], kind) for kind in kinds]
    for members, kind in [*groups, (cells, "all")]:
        names = {name for cell in members for name in cell["result"]} - {"wrong"}  # which are indices
        total = {name: sum(cell["result"].get(name, 0) for cell in members) for name in sorted(names)}
        for what in ("samples", "sets"):
            if total.get(f"{what}_called"):
                total[f"{what}_wrong_interval"] = common.wilson(total[f"{what}_wrong"], total[f"{what}_called"])
        if members:
            rows.append({"kind": kind, **total})
    return rows


def summarise(cells: list[dict]) -> list[dict]:
    return totals(cells, KINDS)


def run(name: str, doc: str, kinds, work, summarise, problems: int, budget: int, tiny: int) -> None:
    """The command line of a benchmark of so many problems of each kind, with a budget in steps, or a tiny one."""
    options = common.parser(doc)
    options.add_argument("--kinds", nargs="+", default=list(kinds), choices=list(kinds))
    options.add_argument("--problems", type=int, default=problems, help=f"of each kind ({problems})")
    options.add_argument("--steps", type=int, help=f"budget of a problem ({budget})")
    args = common.parse(options)
    steps = args.steps or (tiny if args.tiny else budget)
    firsts = range(0, A_CELL if args.tiny else args.problems, A_CELL)
    few = {"problems": 3} if args.tiny else {}
    cells = [{"kind": kind, "first": first, "steps": steps} | few for first in firsts for kind in args.kinds]
    common.run(name, args, cells, work, summarise)


def main() -> None:
    run("honesty", __doc__, KINDS, work, summarise, 160, STEPS, 50)


if __name__ == "__main__":
    main()
