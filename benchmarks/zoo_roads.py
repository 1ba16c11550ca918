"""The built-in roads of the zoo: from a pair to estimates, with no look at the truth.

Each takes a :class:`zoo_pairs.Pair` and a budget in steps, and returns a dictionary with the estimates ``X``, the most
trusted first, and where the road makes claims, ``claims``, one for each row. ``TAKES`` says which pairs a road takes.
"""

from __future__ import annotations

import torch
from torch import nn

import reconlaw as rl
from reconlaw import networks

STEPS = {"varpro": 20_000, "span": 20_000, "sparse": 6_000, "first layer": 400_000}
STEPS |= {"NTK": 1_500, "KKT": 1_500, "replay": 9_000}
STEPS |= {"audit": 40_000}  # for two attacks that must agree, and those on nothing
LAZY = 0.2  # weights that moved by less than this of their norm are taken to have been trained lazily
NEAR = 0.3  # candidates nearer to one another than this, relative to their norm, are one


def claimed(result) -> dict:
    return {"X": result.X, "claims": torch.tensor([flag is rl.Flag.RECOVERED for flag in result.flags])}


def above(pair) -> list[str]:
    """The trained layers that something stands below."""
    return [name for name in pair.knows["trained"] if name != "0"]


def change(pair):
    """θ, and the feature map of the first trained layer that something stands below.

    Where training moved what is below as well, the features are those of the midpoint.
    """
    layer, before, after = above(pair)[0], pair.state("before"), pair.state("after")
    key, model = f"base_model.model.{layer}.lora_A.weight" if pair.adapter else f"{layer}.weight", pair.model()
    if "0" in pair.knows["trained"]:
        model = networks.between(model.double(), pair.model("after").double())
    features = rl.below(model, layer, (pair.d,), device="cpu")
    if pair.knows["weight_decay"]:
        features = rl.apart(features, before[key].double())
    if (pair.folder / "known.npz").exists():
        features = rl.apart(features, features(pair.array("known")["X"]))
    return after[key].double() - before[key].double(), features


def reconstructed(method):
    def road(pair, steps, seed=0):
        n = None if method == "sparse" else pair.n
        options = {"max_seconds": None, "max_steps": steps, "seed": seed}
        return claimed(rl.reconstruct(*change(pair), n, method, inputs=pair.inputs(), **options))

    return road


def first_layer(pair, steps, seed=0):
    return claimed(rl.first_layer(pair.model(), pair.model("after"), pair.n, seed=seed, max_steps=steps))


def two_layers(pair) -> bool:
    """Whether it is a network of two layers, ReLU, no biases and one output, both layers of which were trained."""
    names = [one[0] for one in pair.knows["architecture"]]
    plain = names == ["Linear", "ReLU", "Linear"] and set(pair.state("before")) == {"0.weight", "2.weight"}
    return plain and pair.knows["trained"] == ["0", "2"]


def both(pair) -> list[networks.TwoLayer]:
    made = []
    for when in ("before", "after"):
        state = pair.state(when)
        network = networks.TwoLayer(pair.d, len(state["0.weight"]))
        network.body[0].weight.data, network.head.weight.data = state["0.weight"], state["2.weight"]
        made.append(network)
    return made


def apart(result, n: int) -> dict:
    """The n rows with the largest coefficients that are no repetitions of one another."""
    size = result.coefficients.reshape(len(result.X), -1).norm(dim=1)
    taken: list[int] = []
    for row in size.argsort(descending=True).tolist():
        if all(float((result.X[row] - result.X[k]).norm() / result.X[k].norm()) > NEAR for k in taken):
            taken.append(row)
    return {"X": result.X[taken[:n]]}


def ntk(pair, steps, seed=0):
    before, after = both(pair)
    W = before.body[0].weight
    lazy = float((after.body[0].weight - W).detach().norm() / W.detach().norm()) < LAZY
    options = {"seed": seed, "max_seconds": None, "max_steps": steps, "learning_rate": 0.3}
    return apart(rl.ntk(before, after, pair.n, ends="before" if lazy else "both", **options), pair.n)


def kkt(pair, steps, seed=0):
    options = {"seed": seed, "max_seconds": None, "max_steps": steps, "learning_rate": 0.1}
    return apart(rl.kkt(both(pair)[1], pair.n, **options), pair.n)


def replay(pair, steps, seed=0):
    """Midpoint features in the span that the first layer gives away, then the training repeated on the candidates."""
    before, after = both(pair)
    basis = networks.input_span((after.body[0].weight - before.body[0].weight).detach(), pair.n)[0]
    W = networks.between(before, after).body[0].weight
    features = networks.LayerFeatures(W, "relu", basis, device="cpu")
    theta = (after.head.weight - before.head.weight).detach()
    found = rl.reconstruct(theta, features, pair.n, seed=seed, tol=1e-8, max_seconds=None, max_steps=steps)
    again = rl.replay(theta, features, found.X, before, after, inputs=features.inputs, tol=1e-6, step=0.3)
    return {"X": features.inputs(again.X)}


def audit(pair, steps, seed=0):
    """What ``rl.audit`` says of the pair as a whole, its claims included."""
    layer, where = above(pair)[0], pair.inputs()
    sphere = isinstance(where, rl.inputs.Sphere)
    known = {"norm": pair.d**0.5} if sphere else {"inputs": where}
    files = [pair.folder / (when if pair.adapter else f"{when}.pt") for when in ("before", "after")]
    options = {"max_seconds": None, "max_steps": steps, "report": None, "seed": seed, "device": "cpu"}
    if not pair.adapter:
        options["layer" if layer != pair.knows["trained"][-1] else "head"] = layer
    found = rl.audit(*files, input_shape=(pair.d,), n=pair.n, module=pair.model(), **known, **options)
    if found.candidates is None:
        return {"X": torch.zeros(0, pair.d)}
    return {"X": found.candidates, "claims": torch.as_tensor(found.held, dtype=torch.bool)}


ROADS = {name: reconstructed(name) for name in ("varpro", "span", "sparse")}
ROADS |= {"first layer": first_layer, "NTK": ntk, "KKT": kkt, "replay": replay, "audit": audit}
TAKES = {
    "varpro": lambda pair: bool(above(pair)),
    "span": lambda pair: bool(above(pair)),
    "sparse": lambda pair: bool(above(pair)) and pair.knows["inputs"] == "sphere",
    "first layer": lambda pair: "0" in pair.knows["trained"] and isinstance(pair.model()[1], nn.ReLU),
    "NTK": two_layers,
    "KKT": lambda pair: two_layers(pair) and pair.knows["loss"] == "logistic",
    "replay": lambda pair: two_layers(pair) and pair.knows["loss"] == "squares",
    "audit": lambda pair: bool(above(pair)) and not (pair.folder / "known.npz").exists(),
}
