"""The runs that the front page shows where its own search does not arrive in time.

`make serve`, and beside it `python book/_ext/hero_runs.py [ADDRESS]`. θ and V are the page's own, made in Chromium. The
package's search reads θ, within a budget of steps; the frames are what it had at shares of the steps that it took.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

import reconlaw as rl

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "book" / "_assets" / "playground" / "hero-runs.js"
SETTING = {"activation": "relu", "seed": 1}
RATIOS = (1, 1.25, 1.5, 1.75)
MOST_STEPS, SEEDS = 60_000, 3
SHARES = (0.005, 0.03, 0.1, 0.3, 0.6, 0.9)
TASK = """async ([ratio, setting]) => {
  const from = (module) => import(new URL(`_static/playground/${module}.js`, location.href));
  const { EXAMPLES } = await from("library"), { train } = await from("training");
  const { randomWeights } = await from("features"), { toPixels } = await from("pictures");
  const { samples, task } = train(EXAMPLES, { ...setting, ratio });
  return [[...task.theta], [...randomWeights(setting.seed, task.theta.length, task.d)], [...samples]];
}"""


def pixels(x, mean=0.3):
    """As `pictures.js` shows a sample, one letter a pixel: 0 is paper, z is ink."""
    scale = float(torch.where(x > 0, (1 - mean) / x.abs(), mean / x.abs()).min())
    return "".join(
        "0123456789abcdefghijklmnopqrstuvwxyz"[round(35 * min(max(mean + scale * float(v), 0), 1))] for v in x
    )


def run(theta, features, X) -> dict | None:
    """The first seed's search that reads all pictures, as frames; None where none does."""
    n = len(X)
    for seed in range(SEEDS):
        options = {"n": n, "seed": seed, "max_seconds": None}
        result = rl.reconstruct(theta, features, **options, max_steps=MOST_STEPS)
        report = rl.match(result.X, X)
        print(
            f"  seed {seed}: {report.recovered().sum()} of {n}, {result.steps:.0f} steps, {result.message}", flush=True
        )
        if report.recovered().all():
            break
    else:
        return None
    frames = []
    for share in SHARES:
        part = rl.reconstruct(theta, features, **options, max_steps=max(1, round(share * result.steps)))
        frames.append([pixels(x) for x in part.X[rl.match(part.X, X).order]])
    frames.append([pixels(x) for x in result.X[report.order]])
    return {"steps": round(result.steps), "frames": frames}


def main(address: str) -> None:
    runs = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}/playground.html")
        for ratio in RATIOS:
            theta, V, X = (torch.tensor(v, dtype=torch.float64) for v in page.evaluate(TASK, [ratio, SETTING]))
            features = rl.networks.LayerFeatures(V.reshape(len(theta), -1), SETTING["activation"], device="cpu")
            print(f"p/dn = {ratio}", flush=True)
            if found := run(theta, features, X.reshape(-1, features.d)):
                runs[ratio] = found
        browser.close()
    lines = [f"  {json.dumps(str(ratio))}: {json.dumps(one)}," for ratio, one in runs.items()]
    TARGET.write_text(
        "// Written by book/_ext/hero_runs.py: pictures of 8 × 8 letters, 0 is paper and z is ink.\n"
        f"export const SETTING = {json.dumps(SETTING)};\n"
        f'export const TRIED = {{"seeds": {SEEDS}, "steps": {MOST_STEPS}}};\n'
        "export const RUNS = {\n" + "\n".join(lines) + "\n};\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:] or ["http://localhost:8000"])
