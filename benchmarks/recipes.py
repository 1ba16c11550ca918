"""Samples out of heads that Adam and AdamW trained, the recipe and the labels known (rl.retrace_adam).

Four raw digits of different classes, a body of random GELU features with biases, a head of ten outputs trained from
a random start by torch.optim, full batches, 100 steps at a rate of 1e-3. The attacker has both heads, the body, the
recipe and the labels, and starts from the mean picture of each label over other digits.

"claimed" counts samples flagged "recovered", "wrong" those of them that are off by more than 1e-2: it must be zero.

    python benchmarks/recipes.py
"""

from __future__ import annotations

import common
import torch
from torch import nn

import reconlaw as rl
from reconlaw._random import seeded_generator
from reconlaw.networks import Adam

RATE, OUTPUTS = 1e-3, 10
DECAY = {"adam": 0.0, "adamw": 1e-2}
PUBLIC = 400  # digits of all classes, those of the head among them; the means are of the others


def drawn(*shape, seed):
    return torch.randn(*shape, generator=seeded_generator("benchmark", seed), dtype=torch.float64)


def digits(n: int, seed: int):
    """n digits of n classes with their labels, and the mean of others of each label."""
    made = rl.data.digits(PUBLIC, classes=tuple(range(OUTPUTS)), seed=seed)
    X, labels = made.pixels, made.y.argmax(1)
    y = torch.randperm(OUTPUTS, generator=seeded_generator("benchmark", seed))[:n]
    first = torch.stack([torch.nonzero(labels == label)[0, 0] for label in y])
    others = torch.ones(PUBLIC, dtype=torch.bool).index_fill_(0, first, False)
    return X[first], y, torch.stack([X[others & (labels == label)].mean(0) for label in y])


def work(s: dict) -> dict:
    device = s["device"]
    X, y, means = (t.to(device) for t in digits(s["n"], s["seed"]))
    d, p = X.shape[1], s["p"]
    V, b, W = (drawn(*shape, seed=100 * s["seed"] + k) for k, shape in enumerate([(p, d), (p,), (OUTPUTS, p)]))
    V, b, W = (2 * V / d**0.5).to(device), (b / 2).to(device), (W / (3 * p) ** 0.5).to(device)

    def body(X):
        return nn.functional.gelu(X @ V.T + b)

    recipe = Adam(RATE, s["steps"], weight_decay=DECAY[s["recipe"]])
    head = nn.Linear(p, OUTPUTS, bias=False, dtype=torch.float64, device=device)
    head.weight.data = W.clone()
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=recipe.weight_decay)
    for _ in range(s["steps"]):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(body(X)), y).backward()
        optimiser.step()
    options = {"inputs": rl.inputs.Box(0.0, 1.0), "seed": s["seed"]}
    options |= {name: s[name] for name in ("max_rounds", "max_steps")}
    after = head.weight.detach()
    result, seconds = common.measure(
        lambda clock: rl.retrace_adam(after, W, body, recipe, means, y, clock=clock, **options), device
    )
    error = (result.X - X).norm(dim=1) / X.norm(dim=1)  # each row has its label: nothing to match
    start = (means - X).norm(dim=1) / X.norm(dim=1)
    claimed = torch.tensor([flag is rl.Flag.RECOVERED for flag in result.flags])
    return {
        "samples": len(X),
        "below_1e-2": int((error < 1e-2).sum()),
        "below_1e-6": int((error < 1e-6).sum()),
        "start_error": common.short(start.median()),
        "worst_error": common.short(error.max()),
        "mismatch": common.short(result.mismatch),
        "claimed": int(claimed.sum()),
        "wrong": int((error[claimed.to(device)] > 1e-2).sum()),
        "steps_made": result.steps,
        "seconds": common.short(seconds),
        "status": result.status.value,
    }


def figures(results: list[dict], _) -> dict:
    totals = {"sets": len(results)}
    totals |= {k: sum(r[k] for r in results) for k in ("samples", "below_1e-2", "below_1e-6", "claimed", "wrong")}
    whole = {f"sets_{name}": common.whole(results, name) for name in ("below_1e-2", "below_1e-6")}
    worst = {"worst_error": max(r["worst_error"] for r in results)}
    return totals | whole | worst | common.medians(results, ("start_error", "mismatch", "seconds"), "median_")


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("recipe", "n", "p", "steps", "max_rounds", "max_steps"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, help="sets (5)")
    options.add_argument("--recipes", nargs="+", choices=DECAY, default=list(DECAY), help="which optimisers (all)")
    options.add_argument("--rounds", type=int, help="a set (30)")
    args = common.parse(options)
    n, p, steps, rounds, descent = (2, 96, 4, 1, 2) if args.tiny else (4, 256, 100, 30, 20)
    names = ("recipe", "n", "p", "steps", "max_rounds", "max_steps", "seed")
    cells = [
        dict(zip(names, (recipe, n, p, steps, args.rounds or rounds, descent, seed), strict=True))
        for recipe in args.recipes
        for seed in range(args.seeds or (1 if args.tiny else 5))
    ]
    common.run("recipes", args, cells, work, summarise)


if __name__ == "__main__":
    main()
