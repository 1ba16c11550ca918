"""What an audit says of heads that were trained in few digits, or along with their bodies: claims, and stated errors.

Three inputs of eight numbers train a head of six outputs by 100 steps of cross-entropy with momentum, over a random
body of GELU features with biases: in float32, under autocast, with all weights in few digits, or with the body moving
along. *real*: the change as it is. *reordered*: its columns stand in another order, so that no sample made it, and
whatever is called recovered is wrong. Counted against the truth, which the audit never sees:

- called, false: candidates called recovered, and those of them off by a tenth of their length or more;
- shown: samples near a candidate, to a tenth, where the verdict shows candidates ("recovered" or "close");
- the error of each shown candidate over the one that the audit states; above 1 it states too little.

Budgets are in steps.

    python benchmarks/precision.py        five minutes on one core
"""

from __future__ import annotations

import contextlib
import math

import common
import torch
from torch import nn

import reconlaw as rl

D, N, OUTPUTS, WIDTH, TRAINED = 8, 3, 6, 400, 100
NEAR = 0.1
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TRAININGS = ("float32", *(f"{how} {name}" for how in ("autocast", "weights") for name in HALF))
# Learning rates of a body that moves: features by about half a percent, one, and three.
RATES = (0.0005, 0.001, 0.002)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.fc = nn.Sequential(nn.Linear(D, WIDTH), nn.GELU()), nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x):
        return self.fc(self.body(x))


def network(seed: int) -> Head:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head()


def trained(s: dict):
    """The state before and after, and the samples (N, D)."""
    model, draw = network(1000 + s["seed"]), torch.Generator().manual_seed(5000 + s["seed"])
    X, y = torch.randn(N, D, generator=draw), torch.arange(N)
    how, _, name = s["training"].partition(" ")
    dtype = HALF[name] if how == "weights" else torch.float32
    model, seen = model.to(dtype), X.to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moving = model if how == "moved" else model.fc
    stepper = torch.optim.SGD(moving.parameters(), lr=s["rate"], momentum=0.9)
    for _ in range(TRAINED):
        stepper.zero_grad()
        with torch.autocast("cpu", HALF[name]) if how == "autocast" else contextlib.nullcontext():
            out = model(seen)
        nn.functional.cross_entropy(out.float(), y).backward()
        stepper.step()
    after = model.state_dict()
    if s["kind"] == "reordered":
        start = before["fc.weight"].double()
        change = (after["fc.weight"].double() - start)[:, torch.randperm(WIDTH, generator=draw)]
        after = after | {"fc.weight": (start + change).to(dtype)}
    return before, after, X


def work(s: dict) -> dict:
    before, after, X = trained(s)
    budget = {"max_seconds": None, "max_steps": s["steps"]}
    audit, seconds = common.measure(
        lambda _: rl.audit(before, after, module=network(0), input_shape=(D,), n=N, report=None, references=1, **budget)
    )
    found = torch.empty(0, D) if audit.candidates is None else audit.candidates.cpu().float()
    errors = (torch.cdist(found, X) / X.norm(dim=1)).amin(1).tolist()
    if s["kind"] == "reordered":
        errors = [math.inf] * len(errors)
    held, shown = audit.held.tolist(), audit.verdict in ("recovered", "close")
    return {
        "verdict": audit.verdict,
        "told": None if audit.training is None else audit.training.name,
        "moved": common.short(audit.moved),
        "loss": None if audit.result is None else common.short(audit.result.loss),
        "errors": [common.short(error) for error in errors],
        "stated": [common.short(finding.standard_error) for finding in audit.findings],
        "called": sum(held),
        "false": sum(one and error >= NEAR for one, error in zip(held, errors, strict=True)),
        "shown": sum(error < NEAR for error in errors) if shown else 0,
        "against": sorted({reason for finding in audit.findings for reason in finding.against}) if shown else [],
        "seconds": common.short(seconds),
    }


def _over(result: dict) -> list[float]:
    """True over stated errors of the candidates shown."""
    if result["verdict"] not in ("recovered", "close"):
        return []
    both = zip(result["errors"], result["stated"], strict=True)
    return [error / stated for error, stated in both if error is not None and stated]


def figures(results: list[dict], _) -> dict:
    over = sorted(ratio for r in results for ratio in _over(r))
    verdicts = {verdict: sum(r["verdict"] == verdict for r in results) for verdict in rl.auditing.outcome.EXIT}
    shown = [error for r in results if _over(r) for error in r["errors"] if error is not None]
    return {
        "audits": len(results),
        "samples": N * len(results),
        **{name: sum(r[name] for r in results) for name in ("called", "false", "shown")},
        **{verdict: count for verdict, count in verdicts.items() if count},
        "median_error": common.median(shown),
        "worst_error": max(shown, default=None),
        "median_over_stated": common.median(over),
        "over_stated_at_nine_tenths": common.short(over[math.ceil(0.9 * len(over)) - 1]) if over else None,
        "largest_over_stated": common.short(over[-1]) if over else None,
        **common.medians(results, ("moved", "seconds"), "median_"),
    }


def summarise(cells: list[dict]) -> list[dict]:
    return common.table(cells, ("training", "rate", "kind"), figures)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=20, help="sets of samples of each training (20)")
    args = common.parse(options)
    same = {"steps": [60 if args.tiny else 2000], "seed": range(1 if args.tiny else args.seeds)}
    cells = rl.grid(training=TRAININGS, rate=[0.05], kind=["real", "reordered"], **same)
    cells += rl.grid(training=["moved body"], rate=RATES, kind=["real"], **same)
    common.run("precision", args, cells[:2] if args.tiny else cells, work, summarise)


if __name__ == "__main__":
    main()
