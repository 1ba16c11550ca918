"""What several tests share: the repository's places, draws, and tables of feature maps, activations and problems."""

import importlib
import inspect
import re
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

import reconlaw as rl
from reconlaw.networks import LayerFeatures, Restricted

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
SLUG = CONFIG["repository"]["url"].removeprefix("https://github.com/")
FIRST_CELL = f"""\
try:
    import reconlaw as rl
except ModuleNotFoundError:  # on Colab, say
    %pip install -q "reconlaw @ git+https://github.com/{SLUG}"
    import reconlaw as rl

print(rl.device_note())"""
PUBLIC_MODULES = ("counting", "data", "exercises", "inputs", "networks", "plotting", "privacy")
HOW_TO = (BOOK / "how-to.md").read_text(encoding="utf-8")
RECIPES = dict(
    re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", HOW_TO, flags=re.MULTILINE | re.DOTALL)
)


def code_cells(path):
    import nbformat  # which takes seconds, by what it checks formats with

    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def toc_entries():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [c for part in toc.get("parts", []) for c in part["chapters"]] + toc.get("chapters", [])
    return [toc["root"]] + [s["file"] for c in chapters for s in [c, *c.get("sections", [])]]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(d=6, p=80, seed=0, activation=nn.GELU):
    """A layer with biases: it sees norms."""
    made = nn.Linear(d, p).double()
    with torch.no_grad():
        made.weight.copy_(normal(p, d, seed=seed) / d**0.5)
        made.bias.copy_(normal(p, seed=seed + 1) / 2)
    return rl.ModuleFeatures(nn.Sequential(made, activation()), (d,), device="cpu")


class _Positions(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def windows(length, p, width=3, seed=0):
    """Samples of several columns, one for each window of neighbours; it sees norms."""
    made = nn.Conv1d(1, p, width).double()
    with torch.no_grad():
        made.weight.copy_(normal(p, 1, width, seed=seed))
        made.bias.copy_(normal(p, seed=seed + 1) / 2)
    return rl.ModuleFeatures(nn.Sequential(made, nn.GELU(), _Positions()), (1, length), device="cpu", several=True)


def seeded(make):
    """A module drawn the same every time, without touching the stream of other tests."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1_000_003)
        return make()


# The built-in activations, by parity.
PARITY = {
    "relu": "mixed",
    "tanh": "odd",
    "gelu": "mixed",
    "softplus": "mixed",
    "silu": "mixed",
    "erf": "odd",
    "abs": "even",
    "relu+tanh": "mixed",
}


def make_problem(d=20, n=5, p=1000, activation="relu", seed=0, outputs=None, dtype=torch.float64):
    """Samples X on the sphere, labels y, the features, and the θ that fits them; ``outputs`` K labels a sample."""
    features = rl.RandomFeatures(d, p, activation, seed=seed, dtype=dtype, device="cpu")
    data = rl.data.sphere(n, d, seed=seed)
    y = data.y if outputs is None else normal(n, outputs, seed=seed)
    return SimpleNamespace(features=features, X=data.X, y=y, theta=features.fit(data.X, y), n=n)


class Transformer(nn.Module):
    """Two tokens of half the input each, one encoder layer."""

    def __init__(self, width=16, tokens=2):
        super().__init__()
        self.tokens = tokens
        self.embed, self.place = nn.LazyLinear(width), nn.Parameter(torch.randn(tokens, width))
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, activation="gelu", batch_first=True)

    def forward(self, X):
        return self.layer(self.embed(X.reshape(len(X), self.tokens, -1)) + self.place)


class Attention(nn.Module):
    """Fused attention called by hand, without a module that could turn it off."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 24)

    def forward(self, X):
        q, k, v = self.qkv(X.reshape(len(X), 1, 2, 4)).chunk(3, -1)
        return nn.functional.scaled_dot_product_attention(q, k, v)


class Recurrent(nn.Module):
    """Two tokens of half the input each, and the state after each."""

    def __init__(self, cells=nn.GRU):
        super().__init__()
        self.cells = cells(4, 30, batch_first=True)

    def forward(self, X):
        return self.cells(X.reshape(-1, 2, 4))[0]


def cnn():
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 8, 2), nn.SiLU())


def mlp(p=60, d=8):
    return nn.Sequential(nn.Linear(d, 20), nn.GELU(), nn.Linear(20, p), nn.SiLU())


def transformer():
    module = Transformer()
    module(torch.zeros(1, 8))
    return module.eval()


def norms():
    return nn.Sequential(nn.Linear(8, 30), nn.BatchNorm1d(30), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm(30)).eval()


# Bodies on inputs of dimension 8, and the shape of one input.
BODIES = {
    "mlp": (mlp, 8),
    "cnn": (cnn, (1, 2, 4)),
    "transformer": (transformer, 8),
    "attention": (Attention, 8),
    "norms": (norms, 8),
    "gru": (Recurrent, 8),
}


def features_of(name, **options):
    make, shape = BODIES[name]
    return rl.ModuleFeatures(seeded(make), shape, device="cpu", **options)


def _basis(rows, d, seed=2):
    return torch.linalg.qr(normal(d, rows, seed=seed)).Q.T


def _own():
    """The feature map that the how-to shows."""
    names = {"__name__": "how_to"}
    exec(RECIPES["Use a feature map of your own"].split("\ndata = ")[0], names)
    return names["Gated"](8, 50, seed=1, device="cpu")


# Every kind of feature map, made small and in float64; what a map must do, it must do for each of them.
FEATURE_MAPS = {
    "relu": lambda: rl.RandomFeatures(8, 60, "relu", seed=1, device="cpu"),
    "gelu": lambda: rl.RandomFeatures(8, 60, "gelu", seed=1, device="cpu"),
    "tanh": lambda: rl.RandomFeatures(8, 60, "tanh", seed=1, device="cpu"),
    "abs": lambda: rl.RandomFeatures(8, 60, "abs", seed=1, device="cpu"),
    "layer": lambda: LayerFeatures(normal(60, 8, seed=3) / 8**0.5, "relu+tanh", device="cpu"),
    "layer in a span": lambda: LayerFeatures(normal(60, 12, seed=3) / 12**0.5, basis=_basis(8, 12), device="cpu"),
    **{name: lambda name=name: features_of(name) for name in BODIES},
    "body in a span": lambda: rl.ModuleFeatures(
        Restricted(seeded(lambda: mlp(d=12)).double(), _basis(8, 12)), 8, device="cpu"
    ),
    "known of random": lambda: rl.known(rl.RandomFeatures(8, 90, "silu", seed=1, device="cpu"), range(0, 90, 2)),
    "known of a layer": lambda: rl.known(FEATURE_MAPS["layer in a span"](), range(50)),
    "known of a body": lambda: rl.known(features_of("mlp"), range(0, 60, 2)),
    "known of known": lambda: rl.known(FEATURE_MAPS["known of a body"](), range(25)),
    "apart of random": lambda: rl.apart(rl.RandomFeatures(8, 60, "gelu", seed=1, device="cpu"), normal(3, 60, seed=2)),
    "apart of a body": lambda: rl.apart(features_of("mlp"), normal(2, 60, seed=2)),
    "one's own": _own,
}


def git_lists(root, *how):
    """What ``git ls-files`` says of a checkout; there may be no git, or it may trust no files of another owner."""
    if not (root / ".git").exists():
        pytest.skip("not a checkout of the repository: git lists no files here")
    try:
        run = subprocess.run(["git", "-C", root, "ls-files", *how], capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"git does not run here: {error}")
    if run.returncode:
        pytest.skip(f"git lists no files here: {run.stderr.strip()[:100]}")
    return run.stdout


def heed_interrupts():
    """For ``preexec_fn``: a process whose shell runs in the background is started to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def faces():
    """Name → thing of all that is public: of the package, and of the modules that it shows."""
    names = {name: getattr(rl, name) for name in rl.__all__}
    for module in PUBLIC_MODULES:
        found = getattr(rl, module)
        public = getattr(found, "__all__", None) or [
            name for name, value in vars(found).items() if getattr(value, "__module__", "") == found.__name__
        ]
        names |= {f"{module}.{name}": getattr(found, name) for name in public if not name.startswith("_")}
    return {name: thing for name, thing in names.items() if not inspect.ismodule(thing)}


def exercise_cases(kind):
    """RIGHT answers, or WRONG ones, to the exercises of all chapters."""
    chapters = [path.stem for path in sorted(Path(__file__).parent.glob("test_exercises_*.py"))]
    return [
        pytest.param(*case, id=f"{chapter.removeprefix('test_exercises_')}-{case[0].__name__}")
        for chapter in chapters
        for case in getattr(importlib.import_module(chapter), kind)
    ]
