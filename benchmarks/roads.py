"""Other roads to the samples, on the same two-layer networks: what each must know, and what it recovers.

Ten 8×8 digits, one of each class, labels ±1 by parity; f(x) = vᵀ relu(Wx), 2,560 neurons, so that the head alone has
p/dn = 4. The mean image of all digits is subtracted: without it samples of opposite labels have cosines near 1, and
KKT finds none. Two trainings of all weights by full-batch gradient descent: "lazy", the usual start and
squares down to 1e-6; "margin", a start of norm 1 in either layer and the logistic loss down to 1e-10.

"silent": rl.silent_neurons, which takes the first layer's change and nothing else. "span": features of the midpoint (of
the end, after margin training) in the span read off ΔW; "span, replayed": and then replay; "head": the same features
without the span. "NTK", "KKT": rl.ntk and rl.kkt, with twice as many candidates as
samples, which are matched to the samples by the truth; NTK takes the gradients before training where that was lazy, and
those of both ends otherwise. Each road has a budget of its own, in steps, with its seconds beside it. The learning
rates of NTK and KKT were chosen among 0.02, 0.05, 0.1 and 0.3 on a set (seed 100) that is not measured here.

    python benchmarks/roads.py
    python benchmarks/roads.py --roads silent  # alone, in silent.json, so that it may be run on another machine
"""

from __future__ import annotations

import math

import common
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import reconlaw as rl
from reconlaw import networks
from reconlaw.data.dataset import from_pixels
from reconlaw.networks import tangent
from reconlaw.networks.replay import replay

D, N = 64, 10
KNOWS = {
    "silent": {"before": "first layer", "after": "first layer", "loss": False},
    "span": {"before": "all", "after": "all", "loss": False},
    "span, replayed": {"before": "all", "after": "all", "loss": True},
    "head": {"before": "all", "after": "all", "loss": False},
    "NTK": {"before": "all", "after": "all", "loss": False},
    "KKT": {"before": "nothing", "after": "all", "loss": False},
}
BUDGETS = {
    "silent": 9_000,
    "span": 9_000,
    "span, replayed": 9_000,
    "head": 9_000,
    "NTK": 1_500,
    "KKT": 1_500,
}  # steps a set
RATES = {"NTK": 0.3, "KKT": 0.1}


def digits(seed: int) -> rl.data.Dataset:
    """One digit of each class less the mean image, on the sphere; drawn about mid-grey."""
    images, target = load_digits(return_X_y=True)
    centred = torch.as_tensor(images - images.mean(0)) / 16 + 0.5
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    of_class = [torch.nonzero(torch.as_tensor(target == k)).flatten() for k in range(N)]
    picked = [int(rows[torch.randint(len(rows), (1,), device="cpu", generator=generator)]) for rows in of_class]
    y = torch.tensor([1.0, -1.0] * (N // 2), dtype=torch.float64)
    return from_pixels(centred[picked].reshape(N, 8, 8).numpy(), y, (0.5,), torch.float64)


def to_the_margin(network, X, y, log_loss, max_steps=100_000):
    """A copy from a start of norm 1 in either layer, trained on the logistic loss until its mean is e^log_loss.

    Descent on the logarithm of the loss follows the path of descent on the loss, at a speed that does not die away.
    """
    network = networks.between(network, network)
    W, v = network.body[0].weight.data, network.head.weight.data[0]
    W /= W.norm()
    v /= v.norm()
    before = networks.between(network, network)
    for _ in range(max_steps):
        z = X @ W.T
        f = y * (z.clamp_min(0) @ v)
        loss = torch.where(f > 30, -f, F.softplus(-f).clamp_min(1e-300).log()).logsumexp(0)
        if float(loss) - math.log(len(y)) <= log_loss:
            break
        pull = y * (F.logsigmoid(-f) - loss).exp()
        rate = 1 / (D * float(W.square().sum() + v.square().sum()) + 80)  # below the inverse of the curvature
        W_step, v_step = (pull[:, None] * (z > 0) * v).T @ X, pull @ z.clamp_min(0)
        W += rate * W_step
        v += rate * v_step
    return before, network, math.exp(float(loss) - math.log(len(y)))


def trained(s: dict, data):
    """The networks before and after, and the mean loss at the end."""
    network = networks.TwoLayer(D, s["p"], seed=s["seed"])
    if s["training"] == "margin":
        return to_the_margin(network, data.X, data.y, math.log(s["tol"]))
    training = networks.train(network, data.X, data.y, tol=s["tol"], step=0.3)
    return network, training.network, training.loss


def budget(s: dict, clock) -> dict:
    return {"max_seconds": None, "max_steps": s["max_steps"], "clock": clock}


def span(s: dict, before, after, clock):
    """Our roads: the head's change, read with features of the midpoint or of the end."""
    change = (after.body[0].weight - before.body[0].weight).detach()
    basis = None if s["road"] == "head" else networks.input_span(change, N)[0]
    W = networks.between(before, after, 0.5 if s["training"] == "lazy" else 1.0).body[0].weight
    features = networks.LayerFeatures(W, "relu", basis, device=s["device"])
    theta = (after.head.weight - before.head.weight).detach()
    result = rl.reconstruct(theta, features, N, seed=s["seed"], tol=1e-8, **budget(s, clock))
    X = result.X
    if s["road"] == "span, replayed":
        X = replay(theta, features, X, before, after, inputs=features.inputs, tol=s["tol"], step=0.3).X
    return features.inputs(X), result.loss


def reconstruct(s: dict, before, after, clock):
    """(X̂, loss) by the road of these settings."""
    options = {"seed": s["seed"], **budget(s, clock)}
    if s["road"] == "NTK":
        ends = "before" if s["training"] == "lazy" else "both"
        result = rl.ntk(before, after, N, ends=ends, learning_rate=s.get("rate", RATES["NTK"]), **options)
    elif s["road"] == "KKT":
        result = rl.kkt(after, N, learning_rate=s.get("rate", RATES["KKT"]), **options)
    elif s["road"] == "silent":
        result = rl.silent_neurons(before, after, N, **options)
    else:
        return span(s, before, after, clock)
    return result.X, result.loss


def work(s: dict) -> dict:
    data = digits(s["seed"])
    before, after, training_loss = trained(s, data)
    (X, loss), seconds = common.measure(lambda clock: reconstruct(s, before, after, clock), s["device"])
    report = rl.match(X, data.X)
    likeness = rl.ssim(data.to_images(X[report.order]), data.to_images(data.X))
    W0, W1 = before.body[0].weight.detach(), after.body[0].weight.detach()
    at = tangent.layers("network", after)
    cosine = (data.X @ W1.T).abs() / (W1.norm(dim=1) * math.sqrt(D))
    return {
        "samples": N,
        "candidates": len(X),
        "below_1e-2": int(report.recovered(1e-2).sum()),
        "below_0.1": int(report.recovered(0.1).sum()),
        "below_0.5": int(report.recovered(0.5).sum()),
        "ssim_above_0.9": int((torch.as_tensor(likeness) > 0.9).sum()),
        "median_error": common.short(report.error.median()),
        "worst_error": common.short(report.error.max()),
        "loss": common.short(loss),
        "seconds": common.short(seconds),
        "training_loss": common.short(training_loss),
        "moved": common.short((W1 - W0).norm() / W0.norm()),
        "kkt_loss_of_truth": common.short(tangent.fit([at], at, data.X, data.y, True)[1]),
        "on_a_kink": common.short(W1.square().sum(1)[cosine.amin(0) < 1e-2].sum() / W1.square().sum()),
    }


def figures(results: list[dict], settings: dict) -> dict:
    counts = ("samples", "below_1e-2", "below_0.1", "below_0.5", "ssim_above_0.9")
    names = ("median_error", "loss", "seconds", "training_loss", "moved", "kkt_loss_of_truth", "on_a_kink")
    return {
        **{"n": N, "candidates": results[0]["candidates"], "knows": KNOWS[settings["road"]], "sets": len(results)},
        **{count: sum(r[count] for r in results) for count in counts},
        **common.medians(results, names),
    }


def summarise(cells: list[dict]) -> list[dict]:
    order = lambda row: (row["training"], list(KNOWS).index(row["road"]))  # noqa: E731
    return common.table(cells, ("training", "road", "p", "max_steps"), figures, order)


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--roads", nargs="+", choices=KNOWS, default=list(KNOWS), metavar="ROAD")
    options.add_argument("--trainings", nargs="+", choices=["lazy", "margin"], default=["lazy", "margin"])
    options.add_argument("--seeds", nargs="+", type=int, help="of the sets (0 to 4)")
    options.add_argument("--steps", type=int, help="a set (each road its own)")
    options.add_argument("--rates", nargs="+", type=float, help="learning rates to try, for NTK and KKT")
    args = common.parse(options)
    cells = []
    for seed in args.seeds or range(1 if args.tiny else 5):
        for training in args.trainings:
            for road in args.roads:
                if (road, training) in (("span, replayed", "margin"), ("KKT", "lazy")):
                    continue  # replay is for squares; lazily trained weights are mostly those before
                tol = {"lazy": 1e-2 if args.tiny else 1e-6, "margin": 1e-2 if args.tiny else 1e-10}[training]
                cell = {"training": training, "road": road, "p": 128 if args.tiny else 2560, "tol": tol, "seed": seed}
                cell["max_steps"] = args.steps or (200 if args.tiny else BUDGETS[road])
                for rate in args.rates if args.rates and road in RATES else [None]:
                    cells.append(cell | ({"rate": rate} if rate else {}))
    common.run("silent" if args.roads == ["silent"] else "roads", args, cells, work, summarise)


if __name__ == "__main__":
    main()
