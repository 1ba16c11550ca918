"""Audits of what was trained otherwise than a head without decay: middle layers, low-rank adapters, weight decay."""

import json
import math

import pytest
import torch
from helpers import normal, seeded
from torch import nn

import reconlaw as rl
from reconlaw.__main__ import main
from reconlaw.auditing.decay import find_decay

D, BOX = 9, rl.inputs.Box(0.0, 1.0)
OPTIONS = {"input_shape": D, "report": None, "max_seconds": None, "max_steps": 30_000, "references": 1, "inputs": BOX}


def build():
    """9 pixels, two hidden layers, 6 classes."""
    return seeded(lambda: nn.Sequential(nn.Linear(D, 96), nn.GELU(), nn.Linear(96, 80), nn.Tanh(), nn.Linear(80, 6)))


def samples(n=3):
    return torch.rand(n, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def descend(model, parameters, X, loss=nn.functional.cross_entropy, y=None, steps=30, **options):
    optimiser = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, **options)
    y = torch.arange(len(X)) if y is None else y
    for _ in range(steps):
        optimiser.zero_grad()
        loss(model(X), y).backward()
        optimiser.step()


def copy_of(model):
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def answer(made, question):
    return next(check.answer for check in made.checks if question in check.question)


def all_back(made, X):
    return made.verdict == "recovered" and float(rl.match(made.X, X).error.max()) < 1e-5


# --- layers ---------------------------------------------------------------------------------------------------------


def test_a_middle_layer_with_all_above_it_trained():
    model, X = build().double(), samples()
    before = copy_of(model)
    descend(model, [*model[2].parameters(), *model[4].parameters()], X)
    made = rl.audit(before, copy_of(model), layer="2", module=build().double(), n=3, **OPTIONS)
    assert all_back(made, X), made.summary
    assert "lies above '2'" in answer(made, "Is the body the same") and made.settings["layer"] == "2"
    wrong = rl.audit(before, copy_of(model), head="4", module=build().double(), n=3, **OPTIONS)
    assert wrong.verdict != "recovered"  # its inputs moved


def test_a_convolution_at_its_positions():
    def net():
        return seeded(
            lambda: nn.Sequential(
                nn.Conv2d(1, 24, 2), nn.GELU(), nn.Conv2d(24, 32, 2, stride=1), nn.Flatten(), nn.Linear(32, 6)
            )
        ).double()

    model, X = net(), samples(2)
    before = copy_of(model)
    descend(lambda X: model(X.reshape(-1, 1, 3, 3)), [*model[2].parameters(), *model[4].parameters()], X)
    shape = {**OPTIONS, "input_shape": (1, 3, 3)}
    made = rl.audit(before, copy_of(model), layer="2", module=net(), n=2, **shape)
    assert all_back(made, X), made.summary
    with pytest.raises(rl.AuditError, match="pass layer='2' to audit"):
        rl.audit(
            before,
            {**copy_of(model), "4.weight": before["4.weight"], "4.bias": before["4.bias"]},
            module=net(),
            **shape,
        )


def test_tokens_are_columns_and_a_full_space_is_an_empty_count():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.mid = nn.Linear(3, 5), nn.Linear(5, 40)

        def forward(self, x):
            return self.mid(torch.tanh(self.into(x))).mean(1)

    model, X = seeded(Tokens).double(), samples(2)
    before = copy_of(model)
    descend(lambda X: model(X.reshape(-1, 3, 3)), model.mid.parameters(), X)
    made = rl.audit(
        before, copy_of(model), layer="mid", module=seeded(Tokens).double(), n=2, **{**OPTIONS, "input_shape": (3, 3)}
    )
    assert made.verdict == "not determined" and made.X is None
    assert "The count is empty" in answer(made, "fill the space")
    assert "3 (tokens" in answer(made, "At how many positions")
    with pytest.raises(rl.AuditError, match="one column a sample"):
        rl.audit(
            before,
            copy_of(model),
            layer="mid",
            module=seeded(Tokens).double(),
            n=2,
            candidates=samples(9),
            **{**OPTIONS, "input_shape": (3, 3)},
        )


def test_a_layer_that_does_not_serve():
    model = build().double()
    pair = (copy_of(model), {**copy_of(model), "2.weight": model[2].weight.detach() + 1})
    with pytest.raises(rl.AuditError, match="has no layer 'fc'; its linear and convolutional layers are: 0, 2, 4"):
        rl.audit(*pair, layer="fc", module=model, **OPTIONS)
    with pytest.raises(rl.AuditError, match="'1' is a GELU"):
        rl.audit(*pair, layer="1", module=model, **OPTIONS)
    with pytest.raises(rl.AuditError, match="pass one of the two"):
        rl.audit(*pair, layer="2", head="2", module=model, **OPTIONS)


# --- decay ----------------------------------------------------------------------------------------------------------


def decayed(weight_decay, loss=nn.functional.cross_entropy, y=None, outputs=6):
    model = build().double()
    model[4] = seeded(lambda: nn.Linear(80, outputs)).double()
    X, before = samples(), copy_of(model)
    descend(model, model[4].parameters(), X, loss, y, weight_decay=weight_decay)
    return before, copy_of(model), model, X


@pytest.mark.parametrize("weight_decay", [5e-4, 1e-2])
def test_decay_after_a_softmax_is_read_off_and_taken_out(weight_decay):
    before, after, model, X = decayed(weight_decay)
    made = rl.audit(before, after, module=model, n=3, **OPTIONS)
    assert all_back(made, X), made.summary
    assert "Yes: a direction of the outputs" in answer(made, "weight decay")
    plain = rl.audit(before, after, module=model, n=3, weight_decay=False, **OPTIONS)
    assert plain.verdict != "recovered"


def test_decay_that_does_not_show_is_told_by_the_caller():
    """One output: no direction of the outputs is free of samples."""
    y = normal(3, 1, seed=8)
    before, after, model, X = decayed(1e-2, nn.functional.mse_loss, y, outputs=1)
    made = rl.audit(before, after, module=model, n=3, weight_decay=True, **OPTIONS)
    assert all_back(made, X), made.summary
    assert "stand beside" in answer(made, "weight decay")
    plain = rl.audit(before, after, module=model, n=3, **OPTIONS)
    assert plain.verdict != "recovered" and "pass weight_decay=True" in answer(plain, "weight decay")


def test_no_decay_is_told_from_decay():
    before, after, model, X = decayed(0.0)
    made = rl.audit(before, after, module=model, n=3, **OPTIONS)
    assert all_back(made, X) and "No: in a direction" in answer(made, "weight decay")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("softmax", [True, False], ids=["softmax", "more outputs than samples"])
def test_the_factor_is_that_of_the_recipe(dtype, softmax):
    F, W0 = normal(3, 200, seed=1).to(dtype), normal(7, 200, seed=2).to(dtype)
    W = W0.clone()
    for _ in range(25):
        out = torch.softmax(F @ W.T, 1) if softmax else torch.tanh(F @ W.T / 10)
        W = W - 0.02 * ((out - torch.eye(7, dtype=dtype)[:3]).T @ F + 0.1 * W)
    rounding = torch.finfo(dtype).eps * float(W0.norm()) / 3.5
    found = find_decay(W.double() - W0.double(), W0.double(), rounding, None)
    assert math.isclose(found.factor, (1 - 0.002) ** 25, abs_tol=1e-12 if dtype == torch.float64 else 1e-5)
    generic = find_decay(normal(7, 200, seed=3), W0.double(), rounding, None)
    assert generic.factor is None and not generic.ruled_out


# --- adapters -------------------------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """A layer with a low-rank adapter, B from zero."""

    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.base_layer, self.scale = layer, alpha / rank
        self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, h):
        return self.base_layer(h) + self.scale * self.lora_B(self.lora_A(h))


def adapter(folder, rank=5, layers=("2", "4"), dtype=torch.float64, **config):
    """A pair of adapters as PEFT saves them, in two folders; the samples."""
    from safetensors.torch import save_file

    model, X = build().to(dtype).requires_grad_(False), samples()
    for layer in layers:
        made = seeded(lambda layer=layer: Adapted(model.get_submodule(layer), rank, 8))
        setattr(model, layer, made.to(dtype))
        model.get_submodule(layer).base_layer.requires_grad_(False)

    def save(name):
        (folder / name).mkdir()
        state = {f"base_model.model.{k}": v.contiguous() for k, v in copy_of(model).items() if "lora_" in k}
        save_file(state, folder / name / "adapter_model.safetensors")
        said = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": list(layers), **config}
        (folder / name / "adapter_config.json").write_text(json.dumps(said))
        return folder / name

    before = save("before")
    descend(model, [p for p in model.parameters() if p.requires_grad], X.to(dtype), steps=60)
    return before, save("after"), X


def test_an_adapter_as_peft_stores_it(tmp_path):
    before, after, X = adapter(tmp_path)
    made = rl.audit(before, after, module=build().double(), n=3, **OPTIONS)
    assert all_back(made, X), made.summary
    assert made.settings["layer"] == "2" and made.outputs == 5
    told = answer(made, "two factors")
    assert "B began at zero" in told and "400 numbers move, r·out" in told and "480 of A move at second order" in told
    upper = rl.audit(before, after, module=build().double(), n=3, layer="4", **OPTIONS)
    assert upper.verdict != "recovered"  # the adapter below it moved what it saw
    assert upper.moved > 0


def test_adapters_that_are_not_supported_say_why(tmp_path):
    before, after, _ = adapter(tmp_path, layers=("2",))
    model = build().double()

    def audit(first, second, **options):
        return rl.audit(first, second, module=model, n=3, **{**OPTIONS, **options})

    with pytest.raises(rl.AuditError, match="A's start is drawn at random"):
        audit(model.state_dict(), after)
    with pytest.raises(rl.AuditError, match="layer='4' is not adapted; the adapters are of 2"):
        audit(before, after, layer="4")
    config = after / "adapter_config.json"
    said = json.loads(config.read_text())
    for change, match in (
        ({"use_dora": True}, "DoRA adapter, which is not supported: its weights are divided"),
        ({"peft_type": "IA3"}, "of type IA3; only LoRA"),
        ({"r": 4}, "has rank 5; adapter_config.json says 4"),
    ):
        config.write_text(json.dumps({**said, **change}))
        with pytest.raises(rl.AuditError, match=match):
            audit(before, after)
    config.write_text("{")
    with pytest.raises(rl.AuditError, match=r"is no adapter_config.json \(JSONDecodeError"):
        audit(before, after)
    A, B = normal(5, 96), normal(80, 5)
    state = {"base_model.model.2.lora_A.weight": A, "base_model.model.2.lora_B.weight": B}
    for extra, match in (
        ({"base_model.model.2.lora_magnitude_vector": B}, "DoRA"),
        ({"base_model.model.9.lora_A.weight": A}, "adapts a layer that the model lacks"),
        ({"base_model.model.4.lora_A.weight": A}, "lacks lora_B"),
        ({"base_model.model.2.lora_A.other.weight": A}, "several adapters"),
    ):
        with pytest.raises(rl.AuditError, match=match):
            audit(state, {**state, **extra})
    both = {
        **state,
        "base_model.model.4.lora_A.weight": normal(5, 80),
        "base_model.model.4.lora_B.weight": normal(6, 5),
    }
    with pytest.raises(rl.AuditError, match="their scale is needed"):
        audit(both, both)
    with pytest.raises(rl.AuditError, match="must adapt the same layers"):
        audit(state, both)


def test_the_command_takes_a_layer_and_decay(tmp_path, monkeypatch, capsys):
    before, after, model, _ = decayed(1e-2)
    (tmp_path / "ours.py").write_text(
        "from torch.nn import GELU, Linear, Sequential, Tanh\n\n\ndef build():\n"
        "    return Sequential(Linear(9, 96), GELU(), Linear(96, 80), Tanh(), Linear(80, 6))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(before, tmp_path / "before.pt")
    torch.save(after, tmp_path / "after.pt")
    arguments = ["audit", tmp_path / "before.pt", tmp_path / "after.pt", "--model", "ours:build", "--input-shape", "9"]
    arguments += [
        "--n",
        "3",
        "--inputs",
        "box:0,1",
        "--max-seconds",
        "600",
        "--max-steps",
        "30000",
        "--references",
        "1",
    ]
    arguments += ["--report", tmp_path / "audit.html", "--json", tmp_path / "audit.json", "--quiet", "--layer", "4"]
    assert main([str(a) for a in arguments]) == 1
    assert "were read out" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["settings"]["layer"] == "4"
    assert main([*map(str, arguments), "--weight-decay", "--head", "4"]) == 2
    assert "pass one of the two" in capsys.readouterr().err
