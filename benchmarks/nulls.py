"""False discoveries and power of the audit's p-values, and which pictures of a pool are told apart from lookalikes.

Small heads are audited as a user's would be. *null*: the change is of the same size and rank, and no n samples made it
(those of many others did, or the columns of a right one stand in another order). *real*: n samples made it. Reported
are the candidates that Benjamini and Hochberg's rule passes, those that the whole audit calls recovered, and how many
of either are wrong, against p/dn. *pool*: a head over digits; the share that each member and each other picture of the
pool leaves outside the span of the change, the areas under their ROC curves, and what the rule alone passes.

    python benchmarks/nulls.py            a quarter of an hour on one core
"""

import common
import torch
from torch import nn

import reconlaw as rl
from reconlaw.auditing.nulls import benjamini_hochberg
from reconlaw.auditing.pool import identify

D, N = 8, 3
RATIOS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
RIGHT = 0.01  # a candidate this near to a sample, relative to its length, is right
POOL, MEMBERS = 60, 6


class Head(nn.Module):
    def __init__(self, body, p, outputs):
        super().__init__()
        self.body, self.fc = body, nn.Linear(p, outputs, bias=False)

    def forward(self, x):
        return self.fc(self.body(x))


def network(p, seed):
    """A random body of GELU features with biases, and a head of one output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(nn.Sequential(nn.Linear(D, p), nn.GELU()), p, 1)


def change(model, kind, seed):
    """(1, p) in float32: what n samples make of the head, or what none do; and the samples."""
    draw = torch.Generator().manual_seed(seed)
    many = 16 * N if kind == "others" else N
    X, a = torch.randn(many, D, generator=draw), torch.randn(1, many, generator=draw)
    theta = (a @ model.body(X)).detach()
    if kind == "reordered":
        theta = theta[:, torch.randperm(theta.shape[1], generator=draw)]
    return 0.1 * theta / theta.norm(), X


def audited(settings):
    p = round(settings["ratio"] * (D + 1) * N)
    seed, kind = settings["seed"], settings["kind"]
    model = network(p, 1000 + seed)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    theta, X = change(model, kind, 5000 + seed)
    after = before | {"fc.weight": before["fc.weight"] + theta}
    audit = rl.audit(
        before, after, module=model, input_shape=(D,), n=N, max_seconds=None, max_steps=settings["steps"], report=None
    )
    found = () if audit.candidates is None else audit.candidates
    errors = [float(((X - x.cpu().float()).norm(dim=1) / X.norm(dim=1)).min()) for x in found]
    right = [kind == "real" and error < RIGHT for error in errors]
    p_values = [finding.p_value for finding in audit.findings]
    return {
        "verdict": audit.verdict,
        "candidates": len(right),
        "right": sum(right),
        "errors": errors,
        "p_values": p_values,
        "own_losses": [finding.loss for finding in audit.findings],
        "passed": _passed(p_values, right),
        "recovered": [int(sum(held)) for held in _by(right, audit.held.tolist())],
    }


def _by(right, held):
    """Those held among the right ones, and among the wrong ones."""
    return ([h for h, r in zip(held, right, strict=True) if r is kind] for kind in (True, False))


def _passed(p_values, right):
    if not p_values:
        return [0, 0]
    found = benjamini_hochberg(torch.tensor(p_values, dtype=torch.float64)).tolist()
    return [int(sum(held)) for held in _by(right, found)]


class _Pair:
    """What a pool is asked against, without files."""

    scale, moved = 1.0, 0.0

    def __init__(self, change, features):
        self.change, self.features = change, features


def pooled(settings):
    """Residuals of members and of others, and what the rule alone passes."""
    X = rl.data.digits(900, tuple(range(10)), seed=3).X
    features = rl.RandomFeatures(64, settings["p"], "gelu", seed=0, device="cpu")
    draw = torch.Generator().manual_seed(settings["seed"])
    order = torch.randperm(len(X), generator=draw)
    members = X[order[:MEMBERS]]
    inside = MEMBERS if settings["members"] else 0
    others = X[order[MEMBERS : MEMBERS + POOL - inside]]
    scales = torch.logspace(0, -2, MEMBERS, dtype=torch.float64)
    A = torch.randn(10, MEMBERS, generator=draw, dtype=torch.float64) * scales
    theta = (A @ features(members)).float().double()
    found = identify(
        _Pair(theta, features), torch.cat([others, members[:inside]]), range(POOL), MEMBERS, settings["seed"]
    )
    rule = found.named | found.alike
    return {
        "area": _area(found.residuals[len(others) :], found.residuals[: len(others)]) if inside else None,
        "largest_member": float(found.residuals[len(others) :].max()) if inside else None,
        "smallest_other": float(found.residuals[: len(others)].min()),
        "rule": [int(rule[len(others) :].sum()), int(rule[: len(others)].sum())],
        "named": [int(found.named[len(others) :].sum()), int(found.named[: len(others)].sum())],
    }


def work(settings):
    return pooled(settings) if settings["case"] == "pool" else audited(settings)


def _area(members, others):
    """Area under the ROC curve of small residuals."""
    below = (members[:, None] < others).double() + 0.5 * (members[:, None] == others).double()
    return float(below.mean())


def summarise(cells):
    rows = []
    for kind, found in common.groups([c for c in cells if c["settings"]["case"] == "audit"], ("kind", "ratio")):
        made = [cell["result"] for cell in found]
        passed, recovered = ([sum(r[name][k] for r in made) for k in (0, 1)] for name in ("passed", "recovered"))
        share = [r["passed"][1] / max(1, sum(r["passed"])) for r in made]
        rows.append(
            {
                "case": "audit",
                **kind,
                "audits": len(made),
                "candidates": sum(r["candidates"] for r in made),
                "samples": N * len(made) if kind["kind"] == "real" else 0,
                "right": sum(r["right"] for r in made),
                "passed_right": passed[0],
                "passed_wrong": passed[1],
                "false_discovery_rate": sum(share) / len(made),
                "recovered_right": recovered[0],
                "recovered_wrong": recovered[1],
            }
        )
    for kind, found in common.groups([c for c in cells if c["settings"]["case"] == "pool"], ("p", "members")):
        made = [cell["result"] for cell in found]
        rows.append(
            {
                "case": "pool",
                **kind,
                "pools": len(made),
                "rule_right": sum(r["rule"][0] for r in made),
                "rule_wrong": sum(r["rule"][1] for r in made),
                "rule_false_discovery_rate": sum(r["rule"][1] / max(1, sum(r["rule"])) for r in made) / len(made),
                "named_right": sum(r["named"][0] for r in made),
                "named_wrong": sum(r["named"][1] for r in made),
                "area": sum(r["area"] for r in made) / len(made) if kind["members"] else None,
                "largest_member": max(r["largest_member"] for r in made) if kind["members"] else None,
                "smallest_other": min(r["smallest_other"] for r in made),
            }
        )
    return rows


def main():
    options = common.parser(__doc__)
    args = common.parse(options)
    seeds, pools, steps = (1, 2, 300) if args.tiny else (84, 20, 1500)
    ratios = RATIOS[3:4] if args.tiny else RATIOS
    audits = {"case": ["audit"], "ratio": ratios, "steps": [steps]}
    cells = rl.grid(**audits, kind=["real"], seed=range(max(1, seeds // 3)))
    widths = (64,) if args.tiny else (8, 12, 16, 24, 64)
    cells += rl.grid(case=["pool"], p=widths, members=[True, False], seed=range(pools))
    cells += rl.grid(**audits, kind=["others", "reordered"], seed=range(seeds))
    common.run("nulls", args, cells, work, summarise)


if __name__ == "__main__":
    main()
