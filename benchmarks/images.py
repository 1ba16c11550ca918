"""CIFAR-10 at the paper's size: n = 10 frogs and trucks, d = 3072, p = 100,000, float32.

Every cell runs in a process of its own, so that its peak memory counts nothing else. The results hold numbers only, no
pictures. The images are downloaded once (162 MiB) unless --cifar names a folder, an archive or a .bin of records.

    python benchmarks/images.py --cifar PATH
"""

from __future__ import annotations

import time
from pathlib import Path

import common
import torch

import reconlaw as rl


def load(s: dict):
    if s["data"] == "digits":
        return rl.data.digits(n=s["n"], classes=(3, 8), seed=0, dtype=torch.float32)
    return rl.data.cifar10(n=s["n"], classes=("frog", "truck"), root=s.get("root"), dtype=torch.float32)


def seconds_since(start: float) -> float:
    return common.short(time.perf_counter() - start)


def work(s: dict) -> dict:
    start = time.perf_counter()
    data = load(s)
    features = rl.RandomFeatures(
        data.X.shape[1], s["p"], s["activation"], seed=s["seed"], dtype=torch.float32, device=s["device"]
    )
    drawn = seconds_since(start)
    start = time.perf_counter()
    theta = features.fit(data.X, data.y)
    fitted = seconds_since(start)
    before = common.peak_memory()
    result = common.attack(theta, features, s["n"], seed=s["seed"], max_steps=s["max_steps"])
    peak = common.peak_memory()
    report = rl.match(result.X, data.X)
    pictures, truth = data.to_images(result.X[report.order]), data.to_images(data.X)
    psnr, ssim = rl.psnr(pictures, truth), rl.ssim(pictures, truth)
    cosines = torch.nn.functional.normalize(data.X) @ torch.nn.functional.normalize(data.X).T
    return {
        **common.scores(result, data.X),
        "seconds_features": drawn,
        "seconds_fit": fitted,
        "errors": [common.short(e) for e in report.error],
        # 200 dB is beyond float32, where equal pictures would have an infinite ratio
        "psnr": [common.short(min(v, 200.0)) for v in psnr],
        "ssim": [round(float(v), 6) for v in ssim],
        "largest_cosine": common.short(cosines.fill_diagonal_(0).abs().max()),
        "V_bytes": features.V.numel() * features.V.element_size(),
        "peak_bytes_before": before,
        "peak_bytes": peak,
        "peak_bytes_gpu": torch.cuda.max_memory_allocated() if s["device"] == "cuda" else None,
        "message": result.message,
    }


def summarise(cells: list[dict]) -> list[dict]:
    rows = []
    for settings, members in common.groups(cells, ("data", "n", "p", "activation", "max_steps")):
        for cell in members:
            r = cell["result"]
            rows.append(
                settings
                | {"seed": cell["settings"]["seed"]}
                | {name: r[name] for name in ("seconds", "seconds_fit", "loss", "worst_error", "V_bytes", "peak_bytes")}
                | {"recovered": r["below_1e-2"], "least_psnr": min(r["psnr"]), "least_ssim": min(r["ssim"])}
                | {"largest_cosine": r["largest_cosine"], "peak_bytes_gpu": r["peak_bytes_gpu"]}
            )
    return rows


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--cifar", type=Path, help="folder, archive or .bin of records of CIFAR-10's binary version")
    options.add_argument("--seeds", type=int, default=1, help="of V and the attack (1)")
    options.add_argument("--activations", nargs="+", default=["relu", "relu+tanh"])
    options.add_argument("--steps", type=int, default=4_000, help="budget of an attack (4,000)")
    options.add_argument("--features", nargs="+", type=int, default=[100_000], help="p (100,000)")
    args = common.parse(options, alone=True)
    setting = {"data": "cifar10", "n": 10}
    if args.tiny:
        setting, args.features = {"data": "digits", "n": 3}, [10 * 3 * 64]
        args.activations = args.activations[:1]
    else:
        try:
            load(setting | {"root": args.cifar})
        except (OSError, ValueError) as error:
            raise SystemExit(f"no images: {error}") from error
    cells = [
        {**setting, "p": p, "activation": activation, "seed": seed, "max_steps": args.steps}
        for seed in range(args.seeds)
        for p in args.features
        for activation in args.activations
    ]
    common.run("images", args, cells, common.Located(work, args.cifar), summarise, isolate=True)


if __name__ == "__main__":
    main()
