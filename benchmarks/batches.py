"""Samples out of a head whose body normalised its mini-batches while the head was trained, the recipe known.

Six digits, a linear layer with batch normalisation in training mode and GELU (the body of ``normalisation.py``), a head
of one output trained on squares from zero: 25 epochs of two batches of three, in an order that the attacker knows, as
it does the labels. It sees the head and the running statistics before and after: the statistics and the order leave
ten unknown numbers, a rotation in the hull of the inputs (rl.networks.TurnedHull), and the head tells these
(rl.retrace), from random starts.

"claimed" counts samples flagged "recovered", "wrong" those of them that are off by more than 1e-2: it must be zero.

    python benchmarks/batches.py
"""

from __future__ import annotations

import common
import torch
from normalisation import body, generator

import reconlaw as rl

EPOCHS, SIZE, GUESS = 25, 3, 0.7  # GUESS: where the search for an unknown rate starts, relative to it
KNOWN = ("rate known", "rate unknown")


def recipe(made, order, y):
    """train(X, rate) → head, running mean and running variance; the network as it was stays as it is.

    The head is a sum of features seen in each batch, so that descent needs their Gram matrix alone.
    """
    norm, W = made[1], made[0].weight.detach()
    kept = 1 - norm.momentum
    sets, which = torch.unique(order.sort(1).values, dim=0, return_inverse=True)
    share = torch.zeros(len(sets), dtype=W.dtype)
    share.index_add_(0, which, norm.momentum * kept ** torch.arange(len(order) - 1, -1, -1, dtype=W.dtype))
    seen = (which[:, None] == torch.arange(len(sets))).to(W).repeat_interleave(sets.shape[1], 1)
    gain, shift, eps = norm.weight.detach(), norm.bias.detach(), norm.eps
    start = [kept ** len(order) * one.clone() for one in (norm.running_mean, norm.running_var)]
    labels = y[sets].flatten()

    def train(X, rate):
        Z = (X @ W.T)[sets]
        mean, var = Z.mean(1), Z.var(1, unbiased=False)
        H = (Z - mean[:, None]) * (var[:, None] + eps).rsqrt() * gain + shift
        F = torch.nn.functional.gelu(H).flatten(0, 1)
        G, a = F @ F.T, torch.zeros_like(labels)
        for step in rate * seen:
            a = a + step * (labels - G @ a)
        unbiased = sets.shape[1] / (sets.shape[1] - 1)
        return F.T @ a, start[0] + share @ mean, start[1] + share @ var * unbiased

    return train


def trained(made, order, X, y):
    """Head and running statistics as torch's modules leave them, and the rate, half of a batch's inverse curvature."""
    norm, theta = made[1], torch.zeros(len(made[0].weight), dtype=X.dtype)
    made.train()
    batches = [made(X[rows]).detach() for rows in order]
    rate = 0.5 / max(float(torch.linalg.matrix_norm(H, 2)) ** 2 for H in batches)
    for H, rows in zip(batches, order, strict=True):
        theta = theta + rate * H.T @ (y[rows] - H @ theta)
    return (theta, norm.running_mean.clone(), norm.running_var.clone()), rate


def work(s: dict) -> dict:
    n, d = s["n"], 64
    data, draw = rl.data.digits(n, seed=s["seed"]), generator(s)
    made = body(d, s["p"], draw)
    order = torch.cat([torch.randperm(n, generator=draw, device="cpu") for _ in range(EPOCHS)]).reshape(-1, SIZE)
    train = recipe(made, order, data.y)
    before = made[1].running_mean.clone(), made[1].running_var.clone()
    theta, rate = trained(made, order, data.X, data.y)
    weight, kept = made[0].weight.detach(), (1 - made[1].momentum) ** len(order)

    def attack(clock):
        hull = rl.networks.batch_hull(weight, before, theta[1:], kept, rank=n - 1)
        inputs = rl.networks.TurnedHull(hull, order, made[1].momentum)
        options = {"inputs": inputs, "seed": s["seed"], "starts": s["starts"], "max_steps": s["max_steps"]}
        if s["case"] == "rate unknown":
            return rl.retrace(theta, train, (n, d), numbers={"rate": GUESS * rate}, clock=clock, **options)
        return rl.retrace(theta, lambda X: train(X, rate), (n, d), clock=clock, **options)

    result, seconds = common.measure(attack)
    error = (result.X - data.X).norm(dim=1) / data.X.norm(dim=1)  # batches and labels name each sample
    claimed = torch.tensor([flag is rl.Flag.RECOVERED for flag in result.flags])
    out = {
        "samples": n,
        "below_1e-2": int((error < 1e-2).sum()),
        "below_1e-6": int((error < 1e-6).sum()),
        "worst_error": common.short(error.max()),
        "mismatch": common.short(result.mismatch),
        "claimed": int(claimed.sum()),
        "wrong": int((error[claimed] > 1e-2).sum()),
        "steps_made": result.steps,
        "seconds": common.short(seconds),
        "status": result.status.value,
    }
    if result.numbers:
        out["rate_error"] = common.short(abs(result.numbers["rate"] / rate - 1))
    return out


def figures(results: list[dict], _) -> dict:
    totals = {"sets": len(results)}
    totals |= {k: sum(r[k] for r in results) for k in ("samples", "below_1e-2", "below_1e-6", "claimed", "wrong")}
    whole = {"sets_below_1e-6": common.whole(results, "below_1e-6")}
    worst = {"worst_error": max(r["worst_error"] for r in results)}
    return (
        totals | whole | worst | common.medians(results, ("mismatch", "steps_made", "rate_error", "seconds"), "median_")
    )


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("case", "n", "p", "starts", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (6)")
    options.add_argument("--cases", nargs="+", choices=KNOWN, default=list(KNOWN), help="what is told (all)")
    args = common.parse(options)
    starts, steps = (1, 3) if args.tiny else (24, 600)
    cells = [
        {"case": case, "n": 6, "p": 640, "starts": starts, "max_steps": steps, "seed": seed}
        for case in args.cases
        for seed in range(args.seeds or (1 if args.tiny else 6))
    ]
    common.run("batches", args, cells, work, summarise)


if __name__ == "__main__":
    main()
