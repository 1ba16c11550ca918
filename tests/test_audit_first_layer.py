"""What an audit reads off a first layer that was trained along: the inputs, off the neurons they were silent to."""

import copy
import dataclasses
import importlib
import json

import pytest
import torch
from torch import nn
from torch.nn import functional

import reconlaw as rl
from reconlaw.attack.result import Flag, Status
from reconlaw.auditing.pool import SEEN

FIRST = importlib.import_module("reconlaw.auditing.first_layer")
N, D, WIDTH = 5, 24, 300
ACTIVATIONS = {
    "relu": torch.relu,
    "in place": functional.relu_,
    "leaky": lambda z: functional.leaky_relu(z, 1e-3),
    "gelu": functional.gelu,
    "no gradient below": lambda z: torch.relu(z) + torch.relu(2 * z - 1),
    "normed": lambda z: torch.relu(z - z.mean(1, keepdim=True)),
}


class Mlp(nn.Module):
    """The activation is a function, which no list of modules tells of."""

    def __init__(self, activation="relu", bias=True):
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(D, WIDTH, bias), nn.Linear(WIDTH, 32), nn.Linear(32, 4)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x):
        return self.head(torch.relu(self.fc2(self.activation(self.fc1(x.flatten(1))))))


def tuned(seed=0, n=N, optimiser=torch.optim.SGD, batch=None, steps=100, activation="relu", bias=True, **options):
    """A model before and after all its layers were trained, and the inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100 + seed)
        model = Mlp(activation, bias)
        X, y = torch.rand(n, D), torch.arange(n) % 4
        before = copy.deepcopy(model)
        stepper = optimiser(model.parameters(), **{"lr": 0.05} | options)
        for _ in range(steps):
            rows = torch.randperm(n)[:batch]
            stepper.zero_grad()
            functional.cross_entropy(model(X[rows]), y[rows]).backward()
            stepper.step()
    return before, model, X


def audit(before, after, n=N, **options):
    options = {"max_seconds": None, "max_steps": 1_000, "report": None, "references": 1} | options
    return rl.audit(before, after, input_shape=(D,), n=n, **options)


def off(done, X):
    """Of each sample, how far the nearest recovered row is, relative."""
    return (torch.cdist(done.X.cpu().double(), X.double()) / X.double().norm(dim=1)).amin(0)


@pytest.mark.parametrize(
    "how",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "batch": 2, "seed": 2},
        {"momentum": 0.9, "weight_decay": 1e-3},
        {"activation": "in place"},
        {"activation": "no gradient below"},
        {"steps": 1},
        {"n": 1},
    ],
    ids=str,
)
def test_inputs_come_back_from_a_model_trained_as_a_whole(how):
    before, after, X = tuned(**how)
    done = audit(before, after, n=len(X))
    assert (done.verdict, done.exit_code, done.first_layer) == ("recovered", 1, "fc1")
    assert len(done.X) == done.n == len(X) and bool(done.held.all())
    assert float(off(done, X).max()) < 1e-3
    far = (torch.cdist(done.candidates.cpu().double(), X.double()) / X.double().norm(dim=1)).amin(1)
    for error, finding in zip(far.tolist(), done.findings, strict=True):
        assert error <= 2 * finding.standard_error < 0.02 and finding.p_value < 1e-9 and finding.distance < 1e-3


@pytest.mark.parametrize("named", ["layer", "head"])
def test_a_first_layer_that_is_named_is_read_as_well(whole, named):
    """Whether a ReLU takes its values is asked of what the model gives, since nothing is fed to it."""
    before, after, X = whole
    wrap = {"layer": lambda out: out, "head": lambda out: {"ids": torch.arange(3), "logits": (out, out.detach())}}
    hooks = [model.register_forward_hook(lambda _, __, out: wrap[named](out)) for model in (before, after)]
    done = audit(before, after, **{named: "fc1"})
    for hook in hooks:
        hook.remove()
    assert (done.verdict, done.first_layer) == ("recovered", "fc1") and float(off(done, X).max()) < 1e-3


@pytest.mark.parametrize("activation", ["leaky", "normed"])
def test_a_first_layer_that_is_named_is_not_read_where_no_relu_is(activation):
    done = audit(*tuned(activation=activation)[:2], layer="fc1")
    assert done.first_layer is None and done.verdict == "not determined"
    assert "No ReLU takes its values as they are" in answer(done)


POOL = torch.rand(60, D, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("named", [{}, {"layer": "fc1"}], ids=str)
@pytest.mark.parametrize("how", [{"activation": "gelu"}, {"activation": "leaky", "weight_decay": 1e-2}], ids=str)
def test_a_pool_is_asked_of_a_first_layer_whatever_its_activation(how, named, tmp_path):
    """Beside what is no sample and lies near them: nothing, a multiple of a sample, and two samples halfway."""
    before, after, X = tuned(**how)
    wrong = torch.stack([0 * X[0], 2 * X[0], X[0] - X[1]])
    done = audit(before, after, candidates=torch.cat([POOL, wrong, X]), json=tmp_path / "audit.json", **named)
    assert (done.verdict, done.pool.layer, done.pool.lengths) == ("recovered", "fc1", True)
    assert done.pool.named.tolist() == [False] * 63 + [True] * N and torch.equal(done.X.float(), X)
    assert "span of the change of 'fc1', the first trained layer" in done.summary
    assert json.loads((tmp_path / "audit.json").read_text())["pool"]["layer"] == "fc1"
    done = audit(before, after, candidates=POOL, **named)
    assert done.verdict != "recovered" and not done.pool.named.any() and "None of the 60 candidates" in done.summary


def test_a_pool_is_asked_beside_what_silent_neurons_give(whole, monkeypatch, tmp_path):
    before, after, X = whole
    done = audit(before, after, candidates=torch.cat([POOL, X]), report=tmp_path / "audit.html")
    assert (done.verdict, done.first_layer) == ("recovered", "fc1") and float(off(done, X).max()) < 1e-3
    assert done.pool.named.tolist() == [False] * 60 + [True] * N
    page = (tmp_path / "audit.html").read_text()
    assert "numbers that lies outside the span of the change of &#x27;fc1&#x27;" in page and "What came back" in page
    # Candidates that are not confirmed do not stand against names that are.
    monkeypatch.setattr(
        FIRST, "_findings", lambda found, *_: (FIRST.Finding(False, 0.1, None, ("-",)) for _ in found.X)
    )
    done = audit(before, after, candidates=torch.cat([POOL, X]))
    assert done.verdict == "recovered" and done.candidates is None and torch.equal(done.X.float(), X)
    assert "none is confirmed" in answer(done)


@pytest.mark.parametrize(
    "how, pool, why",
    [
        ({"optimiser": torch.optim.Adam, "lr": 1e-3}, POOL, "its change fills its space"),
        ({"momentum": 0.9}, POOL[:7], "candidates holds 7, and p-values need"),
    ],
    ids=["adam", "too few"],
)
def test_why_a_pool_is_not_asked_is_said(how, pool, why):
    done = audit(*tuned(**how)[:2], candidates=pool, layer="fc1", max_steps=300)
    assert answer(done, SEEN).startswith(f"They were not asked of 'fc1': {why}") and done.pool is None


def test_without_a_bias_multiples_of_samples_are_named_and_that_is_said():
    before, after, X = tuned(activation="gelu", bias=False)
    done = audit(before, after, candidates=torch.cat([POOL, 2 * X]))
    assert done.pool.named.tolist() == [False] * 60 + [True] * N and not done.pool.lengths
    assert "a multiple of a sample is named as well" in answer(done, SEEN)


def unnamed(activation=nn.ReLU, below=()):
    """A Sequential, whose layers have numbers for names, before and after, and the inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        above = (activation(), nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 4))
        before, X = nn.Sequential(*below, nn.Linear(D, WIDTH), *above), torch.rand(N, D)
        after = copy.deepcopy(before)
        stepper = torch.optim.SGD(after.parameters(), lr=0.05, momentum=0.9)
        for _ in range(60):
            stepper.zero_grad()
            functional.cross_entropy(after(X), torch.arange(N) % 4).backward()
            stepper.step()
    return before, after, X


def test_of_layers_without_names_the_first_is_read():
    before, after, X = unnamed(below=(nn.Flatten(),))
    done = audit(before, after)
    assert (done.verdict, done.first_layer, done.settings["head"]) == ("recovered", "1", "1")
    assert float(off(done, X).max()) < 1e-3
    said = answer(done, "Which layer was audited?")
    assert "'1', the model's first" in said and "(1, 3, 5)" in said and "head='5' audits the last" in said


@pytest.mark.parametrize(
    "how", [{"activation": nn.GELU}, {"below": (nn.Linear(D, D), nn.ReLU())}], ids=["gelu", "deep"]
)
def test_of_layers_without_names_none_is_taken_where_the_first_is_not_read(how):
    """Each is asked whether it sees inputs, whatever its width."""
    before, after, _ = unnamed(**how)
    if "below" in how:
        after[0] = before[0]
    names = "0, 2, 4" if "activation" in how else "2, 4, 6"
    with pytest.raises(rl.AuditError, match=f"changed: {names}, and none .* head='{names[-1]}' .* layer='{names[0]}'"):
        audit(before, after)


def test_n_need_not_be_known_and_the_report_says_what_was_done(tmp_path):
    before, after, X = tuned(momentum=0.9)
    done = audit(before, after, None, report=tmp_path / "audit.html", json=tmp_path / "audit.json")
    assert done.n == N and float(off(done, X).max()) < 1e-3
    assert "'fc1', the model's first layer" in done.summary and "silent to" in done.summary
    page = (tmp_path / "audit.html").read_text()
    assert "Training data came back" in page and "hyperplane" in page and "References:" not in page
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["first_layer"] == "fc1" and all(one["recovered"] and one["loss"] is None for one in told["findings"])


def test_without_a_bias_directions_come_back():
    before, after, X = tuned(bias=False, momentum=0.9)
    done = audit(before, after)
    directions = done.X / done.X.norm(dim=1, keepdim=True)
    truth = (X / X.norm(dim=1, keepdim=True)).to(directions)
    assert done.verdict == "recovered" and "only directions are known" in done.summary
    assert float(torch.cdist(directions, truth).amin(0).max()) < 1e-3


def test_a_bias_that_decay_spared_tells_no_lengths():
    """Recipes often give the weights decay and the biases none: directions come back, and the report says so."""
    before, model, X = tuned(steps=0)
    X = X - 0.5
    decayed = [p for p in model.parameters() if p.ndim == 2]
    spared = [p for p in model.parameters() if p.ndim == 1]
    stepper = torch.optim.SGD([{"params": decayed, "weight_decay": 1e-2}, {"params": spared}], lr=0.05)
    for _ in range(100):
        stepper.zero_grad()
        functional.cross_entropy(model(X), torch.arange(N) % 4).backward()
        stepper.step()
    done = audit(before, model, max_steps=4_000)
    assert done.verdict == "recovered" and "only directions are known" in done.summary
    truth = (X / X.norm(dim=1, keepdim=True)).to(done.X)
    assert float(torch.cdist(done.X / done.X.norm(dim=1, keepdim=True), truth).amin(0).max()) < 1e-3


def test_dropout_before_the_layer_is_not_passed_over():
    """One step with dropout on the inputs moves the layer along what was left of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = nn.Sequential(nn.Dropout(0.3), nn.Linear(D, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))
        after, X = copy.deepcopy(before).train(), torch.rand(N, D)
        stepper = torch.optim.SGD(after.parameters(), lr=0.05)
        functional.cross_entropy(after(X), torch.arange(N) % 4).backward()
        stepper.step()
    done = audit(before, after, head="3")
    assert done.first_layer is None and done.verdict != "recovered"
    assert "In training mode it is given something else" in answer(done)


def answer(done, question="Does the first layer hold inputs?"):
    (check,) = (check for check in done.checks if check.question == question)
    return check.answer


@pytest.mark.parametrize("activation", ["leaky", "gelu", "normed"])
def test_other_activations_are_left_alone(activation):
    done = audit(*tuned(activation=activation)[:2])
    assert done.first_layer is None and done.verdict != "recovered"
    assert "No ReLU takes its values as they are" in answer(done)


def test_what_no_inputs_made_is_not_called():
    before, after, _ = tuned(momentum=0.9)
    for seed in range(5):
        wrong = copy.deepcopy(after)
        order = torch.randperm(D, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            wrong.fc1.weight += (after.fc1.weight - before.fc1.weight)[:, order] - (
                wrong.fc1.weight - before.fc1.weight
            )
        done = audit(before, wrong)
        assert done.first_layer is None and done.verdict != "recovered"
        assert "Silent neurons do not tell them apart" in answer(done)


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_is_not_mistaken(optimiser):
    done = audit(*tuned(optimiser=optimiser, lr=1e-3)[:2], max_steps=50)
    assert done.first_layer is None and done.verdict != "recovered"


def test_more_inputs_than_dimensions_and_few_digits_are_not_called():
    done = audit(*tuned(n=2 * D)[:2], n=2 * D)
    assert done.first_layer is None and "Silent neurons do not tell them apart" in answer(done)
    before, after, _ = tuned()
    done = audit(before.bfloat16(), after.bfloat16())
    assert done.first_layer is None and "In bfloat16 its change has too few digits" in answer(done)


def test_shared_weights_are_left_alone():
    """What the other use of the weights added is not silent where the ReLU is."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.again, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 4)
            self.again.weight = self.fc1.weight

        def forward(self, x):
            return self.head(torch.tanh(self.again(torch.relu(self.fc1(x)))))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = Tied()
        after, X = copy.deepcopy(before), torch.rand(3, D)
        optimiser = torch.optim.SGD(after.parameters(), lr=0.1)
        for _ in range(10):
            optimiser.zero_grad()
            functional.cross_entropy(after(X), torch.arange(3)).backward()
            optimiser.step()
    assert "No ReLU takes its values" in answer(audit(before, after, 3, head="head"))


@pytest.fixture(scope="module")
def whole():
    return tuned(momentum=0.9)


@pytest.mark.parametrize("doubt", ["called where nothing is", "not found again", "elsewhere"])
def test_a_search_that_contradicts_itself_confirms_nothing(whole, monkeypatch, doubt):
    """The searches of the audit: the one on the change, one from other starts, and those on other orders of columns."""
    real, asked = FIRST.silent_neurons, []

    def faked(*args, **options):
        found = real(*args, **options)
        asked.append(found.status)
        if len(asked) > 2 and doubt == "called where nothing is":
            return dataclasses.replace(found, flags=(Flag.RECOVERED,) * max(1, len(found.flags)))
        if len(asked) == 2 and doubt == "not found again":
            return dataclasses.replace(found, flags=(Flag.UNRESOLVED,) * len(found.flags))
        if len(asked) == 2 and doubt == "elsewhere":
            return dataclasses.replace(found, X=1.1 * found.X)
        return found

    monkeypatch.setattr(FIRST, "silent_neurons", faked)
    done = audit(*whole[:2])
    assert (done.verdict, done.exit_code, done.X) == ("close", 3, None) and not bool(done.held.any())
    assert (
        len(asked) == 4 and all(one.against for one in done.findings) and "Treat the layer as leaking" in done.summary
    )


def test_its_budget_is_the_audits(whole, monkeypatch):
    done = audit(*whole[:2], max_steps=1)
    assert done.first_layer is None and "budget spent" in answer(done)
    given, real = [], FIRST.silent_neurons
    monkeypatch.setattr(FIRST, "silent_neurons", lambda *a, **options: given.append(options) or real(*a, **options))
    audit(*whole[:2], max_steps=None, max_seconds=1_000.0, clock=lambda: 0.0)
    assert sum(options["max_seconds"] for options in given) <= 400 and all(options["clock"] for options in given)


def test_ctrl_c_ends_it(whole, monkeypatch):
    real = FIRST.silent_neurons
    monkeypatch.setattr(
        FIRST, "silent_neurons", lambda *a, **o: dataclasses.replace(real(*a, **o), status=Status.INTERRUPTED)
    )
    with pytest.raises(KeyboardInterrupt):
        audit(*whole[:2])


def test_what_the_first_layer_holds_is_reported_where_n_cannot_be_estimated(tmp_path):
    """Fresh noise on the inputs fills all dimensions, and the head's attack wants n."""
    X, y = torch.rand(5, 12, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0, 1, 2, 0, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = nn.Sequential(nn.Linear(12, 400), nn.ReLU(), nn.Linear(400, 3)).double()
        after = copy.deepcopy(before)
        stepper = torch.optim.SGD(after.parameters(), lr=0.05)
        for _ in range(60):
            stepper.zero_grad()
            functional.cross_entropy(after(functional.dropout(X, 0.2)), y).backward()
            stepper.step()
    files = {"report": tmp_path / "audit.html", "json": tmp_path / "audit.json"}
    made = rl.audit(before, after, input_shape=12, max_steps=100, max_seconds=None, **files)
    assert made.verdict == "inconclusive" and made.exit_code == 3 and made.n is None
    assert "holds its inputs" in made.summary and "n could not be estimated" in made.summary
    assert json.loads(files["json"].read_text())["verdict"] == "inconclusive" and files["report"].exists()
    with pytest.raises(rl.AuditError, match="n could not be estimated"):  # where no first layer told anything
        body_alone = copy.deepcopy(before)
        body_alone[2].weight.data += 1e-2 * torch.randn(3, 400, generator=torch.Generator().manual_seed(2)).double()
        rl.audit(before, body_alone, input_shape=12, max_steps=100, max_seconds=None, report=None)
