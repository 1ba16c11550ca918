"""How often is "recovered" wrong off the sphere? Small problems in boxes, free space and families, drawn to make it so.

As honesty.py, with pixels, biases and one to four outputs. Each cell attacks a number of problems of one kind:

- "right": the attacker knows the domain, n and the body, at 1 to 4 equations an unknown;
- "wrong n": one sample too few or too many, or a sample too faint to count;
- "wrong box": too small, shifted, or of pixels standardised by another mean and deviation;
- "wrong body": another seed, another activation, or weights off by a thousandth to a tenth;
- "outside the family": samples that lie near the affine family, and not in it;
- "single precision": heads trained by cross-entropy in float32, where the last samples lie near the floor;
- and the eight of honesty_kinds.py: near samples of piecewise linear bodies, decoders, several columns a sample, grey
  levels, samples left out within the tolerance, bodies in float32, uneven noise, and the span.

"exact_wrong" counts pictures that are called exact on their grid and are not. In the kinds that are wrong by a model's
weights or a box nothing that fits may be called recovered unless it is a sample. Budgets are in steps, so that every
machine counts the same, rounding aside.

    python benchmarks/honesty_inputs.py
"""

from __future__ import annotations

import common
import honesty
import honesty_kinds
import torch
from honesty import Draw, judged
from honesty_problems import ACTIVATIONS, Problem, body, features_of, pixels
from inputs import cross_entropy
from torch import nn

import reconlaw as rl

STEPS = 1500


def right(draw: Draw):
    made = Problem(draw)
    return made.X, made.features, made.theta, {"n": made.n, "inputs": made.inputs}


def wrong_n(draw: Draw):
    made = Problem(draw, 1.5, 6.0)
    how = draw.of(["few", "many", "faint"]) if made.n > 1 else "many"
    options = {"n": made.n + {"few": -1, "many": 1, "faint": 0}[how], "inputs": made.inputs}
    if how != "many":
        made.a[:, 0] *= 10 ** draw.real(-6, -0.5)
        alone = made.a[:, 1:] @ made.features(made.X[1:])
        options["tol"] = max(1e-20, draw.real(0.5, 4) * float((made.theta - alone).norm() / made.theta.norm()) ** 2)
    return made.X, made.features, made.theta, options


def wrong_box(draw: Draw):
    made = Problem(draw, 1.2, 4.0)
    X = pixels(draw, made.n, made.d)
    how, off = draw.of(["small", "shifted", "mean", "std"]), draw.real(0.01, 0.4)
    low, high = {"small": (off / 2, 1 - off / 2), "shifted": (off, 1 + off), "mean": (-off, 1 - off)}.get(
        how, (0.0, 1 / (1 + off))
    )
    theta = made.a @ made.features(X)
    tol = draw.of([1e-20, 1e-8, 1e-4])
    return X, made.features, theta, {"n": made.n, "inputs": rl.inputs.Box(low, high), "tol": tol}


def wrong_body(draw: Draw):
    made = Problem(draw, 1.0, 4.0)
    how, layer = draw.of(["another", "activation", "near"]), made.body[0]
    known = body(draw, made.d, layer.out_features, made.activation)
    if how != "another":
        off = draw.real(-3, -1)
        known[0].weight.copy_(layer.weight + (10**off * known[0].weight if how == "near" else 0))
        known[0].bias.copy_(layer.bias)
    if how == "activation":
        known[1] = ACTIVATIONS[draw.of([name for name in ACTIVATIONS if name != made.activation])]()
    options = {"n": made.n, "inputs": made.inputs, "tol": draw.of([1e-20, 1e-8, 1e-4])}
    return made.X, features_of(known, made.d), made.theta, options


def outside(draw: Draw):
    made = Problem(draw, 1.2, 4.0)
    k = max(2, made.d // 2)
    basis, offset = draw.normal(k, made.d), draw.normal(made.d)
    off = 10 ** draw.real(-4, -0.3)
    X = offset + draw.normal(made.n, k) @ basis + off * draw.normal(made.n, made.d)
    tol = draw.of([1e-20, off**2, 1e-4])
    theta = made.a @ made.features(X)
    return X, made.features, theta, {"n": made.n, "inputs": rl.inputs.Affine(basis, offset), "tol": tol}


def single(draw: Draw):
    n, d, outputs, p = draw.whole(2, 5), draw.whole(6, 12), draw.whole(3, 8), draw.whole(60, 200)
    made = body(draw, d, p, draw.of(["gelu", "relu"]))
    X = pixels(draw, n, d)
    if draw.real() < 0.5:  # two of one class that are nearly one
        X[1] = (X[0] + 10 ** draw.real(-3, -0.5) * draw.normal(d)).clamp(0, 1)
    X, single = X.float(), made.float()
    y = torch.arange(n) % draw.whole(2, outputs)
    head, F = nn.Linear(p, outputs), single(X)
    with torch.no_grad():
        head.weight.copy_(draw.normal(outputs, p).float() * 10 ** draw.real(-1.5, 0) / p**0.5)
    before = head.weight.detach().clone()
    rate = 10 ** draw.real(-2.5, -0.5)
    sgd = lambda parameters: torch.optim.SGD(parameters, rate, momentum=0.9)  # noqa: E731
    cross_entropy(head.parameters(), lambda rows: head(F[rows]), y, sgd, draw.whole(5, 200))
    theta = head.weight.detach().double() - before.double()
    where = draw.of([rl.inputs.Box(0.0, 1.0), rl.inputs.Free()])
    return X.double(), features_of(made.double(), d), theta, {"n": n, "inputs": where}


KINDS = {
    "right": right,
    "wrong n": wrong_n,
    "wrong box": wrong_box,
    "wrong body": wrong_body,
    "outside the family": outside,
    "single precision": single,
    **honesty_kinds.KINDS,
}


def attacked(kind: str, index: int, steps: int) -> dict:
    """One problem: what was claimed of it, and what of it is wrong."""
    X, features, theta, options = KINDS[kind](Draw(honesty_kinds.STREAMS.get(kind, kind), index))
    try:
        result = common.attack(theta, features, seed=index, max_steps=steps, **options)
    except (rl.StepError, ValueError, RuntimeError):  # one that the attack documents: no sample of the span was found
        return {"errors": 1}
    if result.exact is None:
        return judged(result, X)
    off = torch.cdist(result.X, X).amin(1) > 1e-9
    return judged(result, X) | {"exact": int(result.exact.sum()), "exact_wrong": int((result.exact & off).sum())}


def work(s: dict) -> dict:
    total: dict = {"problems": 0, "errors": 0, "wrong": []}
    for index in honesty.numbers(s):
        total["problems"] += 1
        found = attacked(s["kind"], index, s["steps"])
        for name, value in found.items():
            total[name] = total.get(name, 0) + value
        if any(found.get(name) for name in ("samples_wrong", "sets_wrong", "exact_wrong")):
            total["wrong"].append(index)
    return total


def summarise(cells: list[dict]) -> list[dict]:
    return honesty.totals(cells, KINDS)


def main() -> None:
    honesty.run("honesty_inputs", __doc__, KINDS, work, summarise, 180, STEPS, 20)


if __name__ == "__main__":
    main()
