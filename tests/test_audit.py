"""The audit: what comes back, what is said where nothing can, which files are refused, and the report."""

import dataclasses
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from audited import MODEL, N, Net, data, net, state
from helpers import heed_interrupts
from torch import nn

import reconlaw as rl
from reconlaw import __main__ as command
from reconlaw.auditing import judgement
from reconlaw.auditing import report as reports
from reconlaw.auditing.checkpoints import read_state
from reconlaw.auditing.decay import Decay
from reconlaw.auditing.head import HeadInput, import_module
from reconlaw.auditing.outcome import EXIT, Examined

AUDIT = sys.modules["reconlaw.auditing.audit"]
EXAMINATION = sys.modules["reconlaw.auditing.examination"]


def finetune(model, steps=60, rate=0.005):
    """The head trained by plain gradient descent in float32, as a user would."""
    X, y = data().X.float().reshape(-1, 1, 8, 8), data().y.argmax(1)
    H = model.body(X).detach()
    optimiser = torch.optim.SGD(model.fc.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.fc(H), y).backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def pair():
    model = net()
    before = state(model)
    return before, state(finetune(model))


def run(before, after, **options):
    usual = {"module": net(), "input_shape": (1, 8, 8), "n": N, "report": None}
    return rl.audit(before, after, **usual | {"max_seconds": None, "max_steps": 20_000} | options)


class Page(HTMLParser):
    """Tags opened and closed in order, pictures with their text, and everything a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.fetched, self.tags = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        self.fetched += [attributes[name] for name in ("src", "href", "data", "srcset") if name in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page(path):
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert all(address.startswith("data:image/png;base64,") for address in parsed.fetched)
    assert not re.search(r"https?://|@import|url\(", text) and "script" not in parsed.tags and "link" not in parsed.tags
    assert all(image["alt"].strip() for image in parsed.images)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text and "@media print" in text
    return text, parsed


# --- what comes back ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recovered(pair, tmp_path_factory):
    return run(*pair, report=tmp_path_factory.mktemp("report") / "deep" / "audit.html")


def test_training_data_come_back_through_float32_files(recovered):
    assert (recovered.verdict, recovered.exit_code) == ("recovered", 1)
    error = rl.match(recovered.X, data().X).error
    assert error.max() < 1e-4
    assert recovered.rank == 2  # a softmax of three outputs moves two of them freely
    assert recovered.ratio == pytest.approx(20)


def test_an_audit_may_run_in_inference_mode(pair):
    with torch.inference_mode():
        done = run(*pair, references=1)
    assert done.verdict == "recovered" and done.standard_errors is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_data_come_back_through_files_of_few_digits(pair, dtype):
    done = run(*({name: value.to(dtype) for name, value in one.items()} for one in pair))
    assert done.verdict == "recovered" and rl.match(done.X, data().X).error.max() < 0.01
    assert 0.1 * done.noise**2 < done.result.loss < done.tolerance < 1e-3


def test_how_sure_is_judged_without_the_truth(recovered):
    assert recovered.result.loss < recovered.tolerance < 1e-3 * min(recovered.references)
    assert len(recovered.references) == 5 and len(recovered.guesses) == 100  # so that there are 20 nulls
    assert len(recovered.null_losses) == 5 * N and all(loss > 0.05 for loss in recovered.null_losses)
    assert all(0 < finding.loss < 1e-9 and finding.p_value == 1 / 21 for finding in recovered.findings)
    assert recovered.bias_mismatch < 1e-4
    error = rl.match(recovered.X, data().X).error
    assert error.max() < 10 * recovered.standard_errors.max() < 1e-3
    assert recovered.control is None


def test_report_of_recovered_data_is_self_contained(recovered):
    text, parsed = page(recovered.report)
    assert "Training data came back" in text and len(parsed.images) == N
    assert "A check that the attack has not seen" in text and "What this audit does not say" in text


def test_a_report_of_a_moved_body_gives_the_errors_of_simulated_heads(recovered):
    made = dataclasses.replace(recovered, moved=0.01, simulated=((1e-5, 0.037), (1e-3, 0.62)))
    page = reports.render(made)
    assert "2 candidates, 0.037 to 0.62 off" in page
    assert "To first order" not in page and "To first order" in reports.render(recovered)


def test_a_report_without_pictures_says_nothing_of_how_they_are_drawn(recovered):
    shown = recovered
    blank = dataclasses.replace(shown, verdict="not determined", X=None, candidates=None, findings=(), result=None)
    for made, said in ((shown, True), (blank, False)):
        page = reports.render(made)
        assert ("stretched from black to white" in page) is said
        assert ("The order of the inputs means nothing" in page) is said
        assert "decay but what the checks above name" in page


def test_a_report_on_a_layer_speaks_of_the_layer(recovered):
    settings = {("layer" if key == "head" else key): value for key, value in recovered.settings.items()}
    page = reports.render(dataclasses.replace(recovered, settings=settings))
    assert "Only that layer is attacked" in page and "the head alone was trained" not in page


def test_with_n_too_large_the_others_come_back_and_none_that_is_called_so_is_wrong(pair):
    """One more sample than there are lets some of the right ones move, and the audit says so."""
    for options, least in (({"norm": 8.0}, 3), ({}, N)):
        done = run(*pair, n=N + 1, references=1, max_steps=6_000, **options)
        assert done.verdict in ("recovered", "close") and "probably" not in done.summary
        near = torch.cdist(done.candidates, data().X.to(done.candidates)).amin(1) < 1e-3 * 8
        assert int(near.sum()) >= least and near[done.held].all()
        assert done.verdict == "recovered" or all(finding.against for finding in done.findings)


def judged(recovered, pair=None, second=True, **changes):
    """The verdict on the evidence of an audit with some of it changed."""
    evidence = {
        field.name: getattr(recovered, field.name) for field in dataclasses.fields(Examined) if field.name != "second"
    }
    made = Examined(**evidence | changes)
    usual = {
        "tolerance": recovered.tolerance,
        "moved": 0.0,
        "changed": [],
        "bounded": False,
        "decay": Decay(),
        "coarse": (),
        "random_layers": ["BatchNorm2d"],
        "statistics": False,
        "too_far": False,
    }
    usual |= {"features": SimpleNamespace(parity=recovered.parity, positions=1)}
    usual |= {"rank": recovered.rank, "noise": recovered.noise, "count": lambda n: SimpleNamespace(enough=True)}
    made = dataclasses.replace(made, second=made.result if second is True else second)
    said = judgement.judge(made, SimpleNamespace(**usual | (pair or {})), recovered.n, "pictures")
    changes |= {field.name: getattr(said, field.name) for field in dataclasses.fields(said)}
    return dataclasses.replace(recovered, **changes)


def test_evidence_as_it_is_gives_recovered(recovered):
    assert judged(recovered).verdict == "recovered"


@pytest.mark.parametrize(
    ("given", "changes", "reason"),
    [
        ({"tolerance": 1e-30}, {}, "not explained down to"),
        ({"changed": ["body.1.weight"], "moved": 0.01}, {}, "the body changed"),
        ({}, {"bias_mismatch": 0.2}, "the bias did not move"),
        ({}, {"standard_errors": None}, "standard error was not computed"),
        ({}, {"standard_errors": torch.full((N,), 0.05)}, "standard error is 5 %"),
        ({}, {"interrupted": True}, "interrupted"),
        ({}, {"null_losses": (0.5,) * 7}, "its p-value is 0.12, by 7 candidates"),
        ({}, {"null_losses": (1e-30,) * 2 + (0.5,) * 18}, "its p-value is 0.14"),
        ({}, {"null_losses": ()}, "no p-value"),
        (
            {"rank": N + 1, "change": torch.linspace(0, 9, 320).sin().double().reshape(5, 64) + torch.eye(5, 64) * 0.3},
            {},
            "θ has rank 5",
        ),
    ],
)
def test_each_thing_that_speaks_against_a_sample_makes_it_close(recovered, given, changes, reason, tmp_path):
    from reconlaw.auditing.report import write

    made = judged(recovered, given, **changes)
    assert (made.verdict, made.exit_code, made.X) == ("close", 3, None) and not made.held.any()
    assert all(reason in " ".join(finding.against) for finding in made.findings) and reason in made.summary
    assert ("is not known: some may be close to training data, or none" in made.summary) == (
        "standard_errors" in changes and changes["standard_errors"] is None or "moved" in given
    )
    text, parsed = page(write(made, tmp_path / "close.html"))
    assert "not confirmed" in text and "came back" not in text and len(parsed.images) == N


@pytest.mark.parametrize("times, by_itself, verdict", [(50, True, "close"), (50, False, None), (2, True, None)])
def test_candidates_that_are_clearly_better_than_chance_are_close(recovered, times, by_itself, verdict, tmp_path):
    """Batch norm in training mode ends so: not far below the references, with candidates beside the samples."""
    from reconlaw.auditing.report import write

    nulls = recovered.null_losses if by_itself else (1e-30,) * 20
    made = judged(recovered, references=(times * recovered.result.loss,), null_losses=nulls)
    assert (made.verdict, made.exit_code, made.X) == (verdict or "inconclusive", 3, None) and not made.held.any()
    assert all(finding.against for finding in made.findings)
    text, parsed = page(write(made, tmp_path / "close.html"))
    shown = times == 50
    assert len(parsed.images) == N * shown and ("They are not confirmed" in text) == shown and "came back" not in text
    assert ("clearly better than where there is nothing to find" in made.summary) == (verdict == "close")
    if verdict is None:
        assert ("batch norm or dropout in training mode" in made.summary) == shown
        assert by_itself == all("stand out" in finding.against[0] for finding in made.findings)


def test_a_report_says_once_what_speaks_against_all_candidates(recovered):
    made = judged(recovered, {"tolerance": 1e-30})
    text = reports.render(made)
    assert text.count("is not explained down to") == 1 and "said above" in text
    one = dataclasses.replace(made, references=made.references[:1])
    assert "1 attack of up to" in reports.render(one)


def test_a_report_says_which_candidates_are_probably_wrong(recovered, tmp_path):
    made = judged(recovered, pair={"changed": ["body.1.weight"], "moved": 0.01})
    sure, unsure = made.findings[0], dataclasses.replace(made.findings[1], standard_error=0.8)
    sure = dataclasses.replace(sure, standard_error=0.03)
    made = dataclasses.replace(made, findings=(sure, unsure, sure, unsure))
    text, _ = page(reports.write(made, tmp_path / "wrong.html"))
    assert "candidate 1, not confirmed, off by about 0.03 of its length if it is right" in text
    assert "candidate 2, not confirmed, probably wrong: off by about 0.8 of its length<" in text


def test_a_search_that_ended_with_its_budget_is_said_to_have(recovered):
    for status, spent in ((rl.Status.BUDGET_SPENT, True), (rl.Status.STALLED, False)):
        short = dataclasses.replace(recovered.result, loss=50 * recovered.tolerance, status=status)
        assert ("the search ended with its budget" in judged(recovered, result=short).summary) == spent


def test_a_layer_that_acts_otherwise_in_training_is_named_as_a_cause(recovered):
    made = judged(recovered, {"tolerance": 1e-30})
    assert "training mode (the body holds BatchNorm2d), Adam" in made.summary
    found = judged(recovered, references=(2 * recovered.result.loss,))
    assert found.verdict == "inconclusive" and "The body holds BatchNorm2d: a head that was" in found.summary


def test_without_a_second_attack_nothing_is_recovered(recovered):
    made = judged(recovered, second=None)
    assert made.verdict == "close" and "did not explain" in made.summary


def test_an_audit_is_frozen(recovered):
    with pytest.raises(dataclasses.FrozenInstanceError):
        recovered.verdict = "unchanged"
    assert isinstance(recovered.checks, tuple) and isinstance(recovered.references, tuple)


def test_a_sample_that_a_second_attack_did_not_find_is_not_recovered(recovered):
    X = recovered.result.X.clone()
    X[0] = -X[0]
    made = judged(recovered, second=dataclasses.replace(recovered.result, X=X))
    assert made.verdict == "recovered" and made.held.tolist() == [False] + [True] * (N - 1) and len(made.X) == N - 1
    assert "ended" in made.findings[0].against[0] and made.summary.startswith("3 of 4")


def test_the_repetition_does_not_take_the_road_of_the_attack(pair):
    """From the same spectral start another seed would end at the same set, right or wrong."""
    done = run(*pair, references=1, norm=8.0)
    assert done.verdict == "recovered" and 0 < max(finding.distance for finding in done.findings) < 1e-6


def test_fewer_parameters_than_inputs_cannot_name_them(tmp_path):
    model = net(60)
    before = state(model)
    done = run(before, finetune(model), module=None, report=tmp_path / "few.html")
    assert (done.verdict, done.exit_code, done.X, done.result) == ("not determined", 4, None, None)
    text, parsed = page(done.report)
    assert not parsed.images and "any would be made up" in text and "came back" not in text
    assert '"verdict neutral"' in text and "whatever the method" not in text and "no method" not in text
    assert done.summary.startswith("Not determined by counting, for inputs of which nothing is known")
    assert all(word in done.summary for word in ("does not say that the model is safe", "grey", "enlarged", "a pool"))


def test_dependent_features_are_counted_once(tmp_path):
    """2,560 features of 16 numbers span 17 dimensions: rank 2 gives 34 equations, not 5,120, for 260 unknowns."""

    def model():
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.GELU(), nn.Linear(16, 2560))
        return nn.Sequential(OrderedDict(body=body, fc=nn.Linear(2560, 3), softmax=nn.Softmax(-1)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        tuned = model()
    before = state(tuned)
    done = run(before, finetune(tuned), module=tuned, report=tmp_path / "narrow.html")
    assert (done.verdict, done.exit_code, done.X) == ("not determined", 4, None)
    answer = next(check.answer for check in done.checks if "equations" in check.question)
    assert answer.startswith("No: 34 for 264") and "34 numbers" in done.summary


def test_only_a_pair_without_any_change_is_unchanged(pair, tmp_path):
    done = run(pair[0], pair[0], report=tmp_path / "same.html")
    assert (done.verdict, done.exit_code, done.changed) == ("unchanged", 0, {})
    assert "nothing was learned" in page(done.report)[0]


def test_a_head_that_did_not_change_beside_a_layer_that_did_is_inconclusive_and_the_layer_is_named(pair):
    bias = pair[0] | {"fc.bias": pair[0]["fc.bias"] * 1.5}
    done = run(pair[0], bias, head="fc")
    assert (done.verdict, done.exit_code) == ("inconclusive", 3) and done.changed == {"fc.bias": pytest.approx(0.5)}
    done = run(*pair, head="body.1")
    assert (done.verdict, done.exit_code) == ("inconclusive", 3) and set(done.changed) == {"fc.weight", "fc.bias"}
    assert "fc.weight (" in done.summary and "Linear layers that changed: fc; pass one of them" in done.summary


def test_a_first_layer_trained_on_one_sample_is_said_to_hold_it(pair):
    after = dict(pair[1])
    x = data().X[0].float()
    after["body.1.weight"] = after["body.1.weight"] + torch.randn(2560, 1).sign() * 0.1 * x
    done = run(pair[0], after, head="fc")
    assert done.verdict == "inconclusive" and done.result is None and "every row of it is that input" in done.summary
    assert "body.1.weight (" in done.summary


def test_a_change_below_rounding_is_told(pair):
    after = dict(pair[0])
    after["fc.weight"] = after["fc.weight"].clone()
    after["fc.weight"][0, 0] *= 1 + 2e-7
    done = run(pair[0], after)
    assert done.verdict == "inconclusive" and "rounding" in done.summary


def test_a_changed_body_is_told_and_a_wild_one_is_never_recovered(pair, monkeypatch):
    monkeypatch.setattr(EXAMINATION, "reconstruct", _fake(loss=1e-25))
    after = dict(pair[1])
    after["body.1.weight"] = after["body.1.weight"] + 0.5 * torch.randn_like(after["body.1.weight"])
    done = run(pair[0], after)
    assert done.moved > 0.1 and done.verdict == "inconclusive" and "body.1.weight (" in done.summary
    check = next(c for c in done.checks if "body" in c.question)
    assert "body.1.weight" in check.answer and check.kind == "shut"
    after["body.1.weight"] = pair[0]["body.1.weight"] * (1 + 1e-3)
    assert 0 < run(pair[0], after).moved < 0.01


def test_errors_are_those_of_simulated_heads_where_the_body_moved(pair):
    """All layers trained by small steps: standard errors of the neighbourhood would be too small."""
    model = net()
    X, y = data().X.float().reshape(-1, 1, 8, 8), data().y.argmax(1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.002)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.fc(model.body(X)), y).backward()
        optimiser.step()
    done = run(pair[0], state(model), references=1, norm=8.0)
    assert 0 < done.moved < 0.01 and done.verdict == "close" and not done.held.any()
    assert len(done.simulated) >= 16 and "simulated" in done.summary
    said = torch.tensor([finding.standard_error for finding in done.findings])
    error = torch.cdist(done.candidates, data().X.to(done.candidates)).amin(1).cpu() / 8
    assert (error < 0.2).all() and (error <= 3 * said).double().mean() >= 0.75


def _fake(loss, message="stalled", n=N):
    """An attack that ends at a loss of our choice, with random samples."""

    def reconstruct(theta, features, n=n, *args, **options):
        X = features.probes(n or N, "fake")
        K = len(theta)
        made = rl.Result(X, torch.ones(n or N, K).double(), loss, [], True, True, True, message, 0.1, "varpro")
        flags = (rl.Flag.RECOVERED if features.parity == "mixed" else rl.Flag.UP_TO_SIGN,) * (n or N)
        return dataclasses.replace(made, status=rl.Status(message.removesuffix(" at loss")), flags=flags)

    return reconstruct


@pytest.mark.parametrize("loss", [1e-25, 1e-4, 0.5])
def test_a_loss_at_the_level_of_the_references_is_never_recovered(pair, monkeypatch, loss):
    """The references run through the same attack: one that explains anything proves nothing."""
    monkeypatch.setattr(EXAMINATION, "reconstruct", _fake(loss))
    done = run(*pair)
    assert done.verdict == "inconclusive" and done.X is None and done.exit_code == 3
    assert (done.control == 0) == (loss > done.tolerance)


def test_ctrl_c_reports_the_best_so_far(pair, monkeypatch, tmp_path):
    monkeypatch.setattr(EXAMINATION, "reconstruct", _fake(1e-25, "interrupted at loss"))
    done = run(*pair, report=tmp_path / "stopped.html")
    assert done.interrupted and done.verdict == "close" and not done.references
    assert "interrupted" in page(done.report)[0]


def test_n_must_be_given_where_it_cannot_be_estimated(pair, monkeypatch):
    def refuse(*args, **options):
        raise rl.SpanError("columns are dependent")

    monkeypatch.setattr(EXAMINATION, "reconstruct", refuse)
    with pytest.raises(rl.AuditError, match="pass n"):
        run(*pair, n=None)


def test_n_that_was_estimated_is_used(pair, monkeypatch):
    monkeypatch.setattr(EXAMINATION, "reconstruct", _fake(0.5))
    assert run(*pair, n=None).n == N


def test_an_even_body_shows_both_signs(pair, monkeypatch, tmp_path):
    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2560, 3)
            self.register_buffer("V", torch.randn(64, 2560, generator=torch.Generator().manual_seed(0)))

        def forward(self, x):
            return self.fc((x.flatten(1) @ self.V).abs())

    model = Even()
    before = state(model)
    with torch.no_grad():
        features = HeadInput(model, "fc")(data().X.float())
        model.fc.weight += torch.randn(3, N, generator=torch.Generator().manual_seed(1)) @ features * 1e-4
    calls = []

    def reconstruct(theta, features, n, *args, **options):  # the first θ is the head's: let it find the data
        calls.append(theta)
        return _fake(1e-15 if torch.equal(theta.cpu(), calls[0].cpu()) else 0.4)(theta, features, n)

    monkeypatch.setattr(EXAMINATION, "reconstruct", reconstruct)
    monkeypatch.setattr(EXAMINATION, "standard_errors", lambda pair, result, theta=None: torch.full((N,), 1e-3))
    done = run(before, model, module=Even(), input_shape=64, image_shape=(8, 8), report=tmp_path / "even.html")
    assert done.parity == "even" and done.verdict == "recovered"
    text, parsed = page(done.report)
    assert len(parsed.images) == 2 * N and "its negative" in text and "up to its sign" in done.summary
    calls.clear()
    done = run(before, model, module=Even(), input_shape=64, report=tmp_path / "rows.html")
    assert done.picture is None and "strip of grey values" in page(done.report)[0]


# --- files and layers that do not serve -------------------------------------------------------------------------------


def edited(pair, key, change):
    after = dict(pair[1])
    after[key] = change(after[key])
    return after


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("fc.weight", lambda w: w[:, :10], r"'fc.weight' has shape \(3, 10\) in after and \(3, 2560\)"),
        ("fc.bias", lambda b: b * float("nan"), "'fc.bias' holds NaN"),
        ("body.1.bias", lambda b: b * float("inf"), "'body.1.bias' holds NaN or infinite values in after"),
        ("fc.bias", lambda b: 3, "the model has fc.bias, which after lacks"),
    ],
)
def test_entries_that_do_not_fit_are_named(pair, key, change, message):
    with pytest.raises(rl.AuditError, match=message):
        run(pair[0], edited(pair, key, change))


def test_missing_and_foreign_keys_are_named(pair):
    with pytest.raises(rl.AuditError, match="the model has fc.bias, which after lacks; after has: body.1.weight"):
        run(pair[0], {key: value for key, value in pair[1].items() if key != "fc.bias"})
    with pytest.raises(rl.AuditError, match="after has extra, which the model lacks"):
        run(pair[0], pair[1] | {"extra": torch.zeros(1)})
    with pytest.raises(
        rl.AuditError, match=r"'body.1.weight' has shape \(2560, 64\) in before and \(60, 64\) in the model"
    ):
        run(*pair, module=net(60))
    with pytest.raises(rl.AuditError, match=r"before has classifier.weight, which the model lacks"):
        run({"classifier.weight": torch.zeros(3, 3)}, {"classifier.weight": torch.zeros(3, 3)})


def test_quantised_heads_are_refused(pair):
    before, after = (dict(part) | {"fc.weight": part["fc.weight"].to(torch.int8)} for part in pair)
    with pytest.raises(rl.AuditError, match="'fc.weight' has dtype torch.int8"):
        run(before, after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "classifier"}, "no layer 'classifier'; its linear layers are: body.1, fc"),
        ({"head": "body.2"}, "'body.2' is a GELU"),
        ({"module": None}, "holds no architecture"),
        ({"input_shape": None}, "input_shape is missing"),
        ({"image_shape": (3, 3)}, "has 9 numbers; an input has 64"),
        ({"image_shape": (64,)}, "no picture"),
        ({"input_shape": (1, 9, 9)}, "does input_shape fit"),
        ({"n": 0}, "n=0 must be a whole number"),
        ({"max_seconds": -1}, "max_seconds"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"norm": 0}, "norm"),
        ({"references": 0}, "references"),
    ],
)
def test_arguments_that_do_not_serve_are_named(pair, options, message):
    with pytest.raises(ValueError, match=message):
        run(*pair, **options)


def test_a_head_on_every_token_has_a_column_for_each():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(x.reshape(-1, 8, 8)).mean(1)

    model, other = Tokens(), Tokens()
    done = rl.audit(model, other, input_shape=64, n=1, report=None)
    assert done.verdict == "not determined" and done.X is None
    assert any("The count is empty" in check.answer for check in done.checks)


class Shell:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_malicious_pickle_is_refused_and_not_run(pair, tmp_path):
    bad, trace = tmp_path / "after.pt", tmp_path / "ran"
    torch.save(pair[1] | {"fc.weight": Shell(str(trace))}, bad)
    with pytest.raises(rl.AuditError, match="which after lacks|holds a Unread|cannot be read as tensors"):
        run(pair[0], bad)
    bad.write_bytes(pickle.dumps(Shell(str(trace))))
    with pytest.raises(rl.AuditError, match="which after lacks|holds a Unread|cannot be read as tensors"):
        run(pair[0], bad)
    assert not trace.exists()
    torch.save(nn.Linear(2, 2), bad)  # a whole module is a pickle of code too
    with pytest.raises(rl.AuditError, match="state_dict"):
        run(pair[0], bad)


def test_damaged_and_missing_files_are_named(pair, tmp_path):
    file = tmp_path / "after.pt"
    with pytest.raises(rl.AuditError, match="there is no file .*after.pt"):
        run(pair[0], file)
    torch.save(pair[1], file)
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no checkpoint at all"):
        file.write_bytes(content)
        with pytest.raises(rl.AuditError, match="after: .*after.pt cannot be read"):
            run(pair[0], file)
    torch.save(torch.zeros(3), file)
    with pytest.raises(rl.AuditError, match="after holds a Tensor"):
        run(pair[0], file)


def test_safetensors(pair, tmp_path):
    file = tmp_path / "after.safetensors"
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(pair[1], file)
    assert all(torch.equal(value, pair[1][key]) for key, value in read_state(file, "after").items())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(rl.AuditError, match="no readable safetensors"):
        read_state(file, "after")


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(rl.AuditError, match="pip install safetensors"):
        read_state(tmp_path / "a.safetensors", "after")


def test_the_body_is_what_the_head_is_fed(pair):
    model, X = net(), data().X.float()
    torch.testing.assert_close(HeadInput(model, "fc")(X), model.body(X))
    torch.testing.assert_close(HeadInput(model, "fc", 2.0)(X), model.body(2 * X))
    assert isinstance(model.fc, nn.Linear)  # the user's model is left as it was


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(pair, tmp_path):
    (tmp_path / "auditedmodel.py").write_text(MODEL)
    torch.save(pair[0], tmp_path / "before.pt")
    torch.save(pair[1], tmp_path / "after.pt")
    return tmp_path


COMMON = ["--model", "auditedmodel:build", "--input-shape", "1,8,8", "--n", str(N)]


def test_command_line_end_to_end(folder):
    few = [sys.executable, "-m", "reconlaw", "audit", "before.pt", "after.pt", *COMMON, "--references", "1"]
    ran = subprocess.run(
        few, cwd=folder, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "utf-8"}
    )
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.startswith("recovered: All 4 pictures were read out") and "attack: looking" in ran.stderr
    assert len(page(folder / "audit.html")[1].images) == N


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_the_command_writes_a_report(folder):
    wrong = ["--norm", "1", "--max-seconds", "600"]  # a search that does not end by itself
    call = [sys.executable, "-m", "reconlaw", "audit", "before.pt", "after.pt", *COMMON, *wrong]
    ran = subprocess.Popen(
        call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    seen = ""
    while "loss" not in seen and ran.poll() is None:
        seen += ran.stderr.read(1)
    time.sleep(1.0)
    ran.send_signal(signal.SIGINT)
    out, err = ran.communicate(timeout=600)
    assert ran.returncode == 3, err
    assert "Interrupted" in out and "Interrupted" in page(folder / "audit.html")[0]


def test_command_line_errors_are_one_line_and_status_2(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    assert command.main(["audit", "before.pt", "nowhere.pt", *COMMON]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    for model in ("auditedmodel", "nomodule:x", "auditedmodel:none", "auditedmodel:number"):
        with pytest.raises(rl.AuditError, match="--model"):
            import_module(model)
    for wrong in (["--input-shape", "a,b"], ["--n", "0"], ["--max-seconds", "nan"], []):
        with pytest.raises(SystemExit) as ended:
            command.main(["audit", "before.pt", "after.pt", "--model", "auditedmodel:build", *wrong])
        assert ended.value.code == 2
    with pytest.raises(SystemExit):
        command.main(["audit", "before.pt", *COMMON])
    assert capsys.readouterr().err.endswith("are required: after\n")


def test_a_failure_is_never_the_status_of_data_that_came_back(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    call = ["audit", "before.pt", "after.pt", *COMMON]
    (folder / "ascript.py").write_text("import sys\nsys.exit(1)\n")
    assert command.main([*call, "--model", "ascript:build"]) == 2
    assert "--model 'ascript:build' gives no model (SystemExit: 1)" in capsys.readouterr().err

    def exhausted(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(command, "audits", exhausted)
    assert command.main(call) == 2
    assert "failed (RuntimeError: out of memory)" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_the_work(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(AUDIT, "_answer", lambda *_: pytest.fail("worked"))
    (tmp_path / "file").write_text("")
    with pytest.raises(rl.AuditError, match="cannot be written"):
        run(*pair, report=tmp_path / "file" / "audit.html")
    with pytest.raises(rl.AuditError, match="is a folder"):
        run(*pair, report=tmp_path)


def test_a_report_replaces_a_report_and_nothing_else(pair, tmp_path, monkeypatch):
    (tmp_path / "notes.html").write_text("<!DOCTYPE html><title>notes</title>")
    with pytest.raises(rl.AuditError, match="of another program"):
        run(*pair, report=tmp_path / "notes.html")
    with pytest.raises(rl.AuditError, match="is a device"):
        run(*pair, report=os.devnull)
    for _ in range(2):
        done = run(pair[0], pair[0], report=tmp_path / "audit.html")
    assert "Nothing changed" in done.report.read_text()


def test_a_full_disk_does_not_cost_the_audit(pair, tmp_path, monkeypatch):
    from reconlaw import _files

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="report was not written"):
        done = run(pair[0], pair[0], report=tmp_path / "audit.html")
    assert done.verdict == "unchanged" and done.report is None and list(tmp_path.iterdir()) == []


def test_help_tells_the_exit_status(capsys):
    with pytest.raises(SystemExit):
        command.main(["audit", "--help"])
    text = capsys.readouterr().out
    assert "exit status" in text and "data came back" in text and "--input-shape" in text


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_of_steps_is_kept_and_gives_the_same_audit(pair):
    """A wrong norm, so that nothing is found: the attack, each reference and the control spend no more than theirs."""
    one, two = (run(*pair, norm=1.0, max_steps=4000, references=2) for _ in range(2))
    assert one.result.steps < 0.5 * 4000 + 300 and one.reference_steps <= 0.15 * 4000
    assert one.settings["budget"] == "4,000 steps" and one.control is not None
    assert torch.equal(one.candidates, two.candidates)
    assert (one.references, one.control, one.verdict) == (two.references, two.control, two.verdict)


# --- what is known of inputs, and pools of candidates -----------------------------------------------------------------


def known_pool():
    """Digits, among which are those that the head was tuned on, and where they stand."""
    X = rl.data.digits(40, (3, 5, 8), seed=5).X
    X = X[torch.cdist(X, data().X).amin(1) > 1e-6]
    return torch.cat([X[:9], data().X, X[9:]]), slice(9, 9 + N)


def head_of_many_outputs(width):
    model = net(width, 8)
    before = state(model)
    return before, finetune(model), net(width, 8)


def test_members_of_a_pool_are_named_where_counting_determines_nothing(tmp_path):
    before, after, module = head_of_many_outputs(40)
    X, members = known_pool()
    assert run(before, after, module=module).verdict == "not determined"
    done = run(before, after, module=module, candidates=X, report=tmp_path / "pool.html")
    assert (done.verdict, done.exit_code) == ("recovered", 1)
    assert done.pool.named.nonzero()[:, 0].tolist() == list(range(len(X)))[members]
    assert torch.equal(done.X, X[members].double()) and "number 9, number 10" in done.summary
    text, _ = page(done.report)
    assert "Training data were named" in text and "came back" not in text and "stretched" not in text
    assert "Candidates that were given" in text and text.count("trained on</td>") == N


def test_a_pool_without_members_names_nothing():
    before, after, module = head_of_many_outputs(40)
    X, members = known_pool()
    others = torch.cat([X[: members.start], X[members.stop :]])
    for seed in range(3):
        done = run(before, after, module=module, candidates=others, seed=seed)
        assert done.verdict == "not determined" and not done.pool.named.any()
        assert done.checks and any("None of" in check.answer for check in done.checks)


@pytest.mark.parametrize("how", ["all twice", "blank ones", "n too small"])
def test_copies_in_a_pool_and_an_n_below_the_rank_hide_no_member(how):
    before, after, module = head_of_many_outputs(40)
    X, members = known_pool()
    given, at = {"all twice": torch.cat([X, X]), "blank ones": torch.cat([X, torch.zeros(20, 64)])}.get(how, X), []
    for start in range(members.start, len(given) if how == "all twice" else len(X), len(X)):
        at += range(start, start + N)
    done = run(before, after, module=module, candidates=given, n=N - (how == "n too small"))
    assert done.verdict == "recovered" and done.pool.named.nonzero()[:, 0].tolist() == at


def test_copies_alone_are_no_pool():
    before, after, module = head_of_many_outputs(40)
    with pytest.raises(rl.AuditError, match="copies of a few inputs"):
        run(before, after, module=module, candidates=torch.zeros(20, 64))


def test_a_pool_says_where_samples_do_not_lie_in_the_span_and_what_is_near_them():
    before, after, module = head_of_many_outputs(40)
    X, members = known_pool()
    noise = torch.randn(X.shape, generator=torch.Generator().manual_seed(0), dtype=X.dtype)
    near = torch.where(torch.arange(len(X))[:, None] == members.start, X + 0.05 * noise, X + 2 * noise)
    done = run(before, after, module=module, candidates=near)
    assert done.verdict == "not determined" and not done.pool.named.any() and done.pool.alike[members.start]
    assert f"Like a sample, but not one to rounding: number {members.start}." in done.summary
    done = run(before, after, module=module, candidates=X[members.stop :], n=N + 2)
    assert f"{N + 2} samples that need more do not lie in it" in done.summary


def test_a_pool_in_another_range_is_told_in_the_summary():
    before, after, module = head_of_many_outputs(40)
    X, _ = known_pool()
    done = run(before, after, module=module, candidates=16 * X)
    assert done.verdict == "not determined" and not done.pool.named.any()
    assert done.summary.startswith(f"None of the {len(X)} candidates given can be named: the nearest leaves ")
    assert "Pass them as the model sees them" in done.summary and "Not determined by counting" in done.summary


def test_pools_are_read_from_files_and_pictures(tmp_path):
    import numpy as np
    from skimage import io

    from reconlaw.auditing.given import candidates_from

    X = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    rows = X.reshape(5, 64) / 255
    np.savez(tmp_path / "pool.npz", X=rows)
    np.savetxt(tmp_path / "pool.csv", rows, delimiter=",", header=",".join("abc"), comments="")
    for name in ("pool.npz", "pool.csv"):
        assert np.allclose(candidates_from(tmp_path / name, (1, 8, 8))[0], rows)
    for k, picture in enumerate(X):
        io.imsave(tmp_path / f"{k}.png", picture, check_contrast=False)
    read, names = candidates_from(tmp_path, (1, 8, 8), rl.inputs.pixels((1, 8, 8), 0.5, 0.25))
    assert np.allclose(read, (rows - 0.5) / 0.25) and names[0] == "0.png"
    assert candidates_from(tmp_path, (3, 8, 8))[0].shape == (5, 192)
    wrong = ((tmp_path / "no.npz", "no file"), (rows[:, :9], "1, 64"), (rows[:0], "m ≥ 1"), (rows * np.nan, "NaN"))
    for source, message in wrong:
        with pytest.raises(rl.AuditError, match=message):
            candidates_from(source, (1, 8, 8))
    with pytest.raises(rl.AuditError, match="resize"):
        candidates_from(tmp_path, (1, 9, 9))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("free", "Free()"),
        ("sphere:2", "Sphere(2)"),
        ("box:0,255", "Box(0, 255)"),
        ("box:0", None),
        ("box:a,b", None),
        ("ball", None),
        ("pixels:0.5,-1", None),
    ],
)
def test_words_for_inputs(text, made):
    from reconlaw.auditing.given import inputs_from

    if made is None:
        with pytest.raises(rl.AuditError, match="inputs"):
            inputs_from(text, (1, 8, 8))
    else:
        assert repr(inputs_from(text, (1, 8, 8))) == made


def test_a_box_gives_samples_that_counting_alone_leaves_open():
    """120 numbers for 130 unknowns; half of the pixels are 0, which the box tells."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = Net(60, 10)
    before, X = state(model), rl.data.digits(2, (0, 1), seed=1).X
    X = (X - X.amin(1, keepdim=True)) / (X.amax(1) - X.amin(1))[:, None]
    H = model.body(X.float().reshape(-1, 1, 8, 8)).detach()
    optimiser = torch.optim.SGD(model.fc.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.fc(H), torch.tensor([0, 1])).backward()
        optimiser.step()
    options = {"module": Net(60, 10), "n": 2, "references": 1}
    assert run(before, model, **options).verdict == "not determined"
    done = run(before, model, inputs=rl.inputs.Box(0.0, 1.0), **options)
    assert done.verdict == "recovered" and len(done.X) == 2
    assert torch.cdist(done.X, X.to(done.X)).amin(1).max() < 1e-4 * float(X.norm(dim=1).min())


# --- output for machines, and arguments in a file ---------------------------------------------------------------------


def test_json_and_sarif_say_what_the_audit_says(recovered, tmp_path):
    import json

    from reconlaw.auditing.output import as_dict, as_sarif, is_json, write_json

    path = write_json(recovered, tmp_path / "audit.json")
    assert is_json(path.read_bytes())
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read == as_dict(recovered) and read["schema"] == 1
    assert (read["verdict"], read["exit_code"], len(read["findings"])) == ("recovered", 1, N)
    assert read["changed"].keys() == {"fc.weight", "fc.bias"} and read["pool"] is None
    assert read["findings"][0]["x"] == recovered.X[0].tolist()
    log = as_sarif(recovered)["runs"][0]
    assert [(one["ruleId"], one["level"]) for one in log["results"]] == [("recovered", "error")]
    assert {one["ruleId"] for one in log["results"]} <= {rule["id"] for rule in log["tool"]["driver"]["rules"]}
    assert is_json(write_json(recovered, tmp_path / "audit.sarif", sarif=True).read_bytes())


def _object(**properties):
    """An object of these properties, all of them required, and no others."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


# What SARIF 2.1.0 (sections 3.13 to 3.52) asks of the parts of a log that an audit writes; types and names are its own.
_TEXT = _object(text={"type": "string", "minLength": 1})
_PLACE = _object(physicalLocation=_object(artifactLocation=_object(uri={"type": "string", "format": "uri-reference"})))
_RESULT = _object(
    ruleId={"type": "string"},
    level={"enum": ["none", "note", "warning", "error"]},
    message=_TEXT,
    locations={"type": "array", "items": _PLACE, "minItems": 1},
)
_RULES = {"type": "array", "items": _object(id={"type": "string"}, shortDescription=_TEXT), "uniqueItems": True}
_DRIVER = _object(name={"type": "string"}, version={"type": "string"}, rules=_RULES)
_RUN = _object(tool=_object(driver=_DRIVER), results={"type": "array", "items": _RESULT})
SARIF = _object(
    **{"$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"}},
    runs={"type": "array", "items": _RUN, "minItems": 1, "maxItems": 1},
)


@pytest.mark.parametrize("verdict", list(EXIT))
def test_a_sarif_log_has_what_code_scanning_requires(recovered, verdict, tmp_path):
    """Every status, also of a checkpoint whose name is no plain word."""
    import json

    validator = pytest.importorskip("jsonschema").Draft7Validator(SARIF)
    from reconlaw.auditing.output import as_sarif, write_json

    made = dataclasses.replace(recovered, verdict=verdict, settings=recovered.settings | {"after": "my model.pt"})
    log = json.loads(write_json(made, tmp_path / "a.sarif", sarif=True).read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(log)] == [] and log == as_sarif(made)
    assert len(log["runs"][0]["results"]) == (verdict != "unchanged")
    for part in log["runs"][0]["results"]:
        place = part["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place["uri"] == "my%20model.pt"
        del part["message"]["text"]  # the schema can fail
        assert not validator.is_valid(log)


def test_json_has_the_keys_that_its_schema_documents(recovered):
    from reconlaw.auditing import output

    made = output.as_dict(recovered)
    documented = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"``(.+?)``", output.__doc__, re.S))))
    absent = {"nulls", "layer", "named", "candidates", "name", "residual", "alike"}  # of a pool, which this one has not
    absent |= {"dtype", "foretold"}  # of training at a low precision
    absent |= {"share", "simulated", "wrong"}  # of dropout
    keys = {*made, *made["findings"][0], *made["checks"][0]}
    assert documented - absent == keys and absent <= documented


def test_nothing_changed_is_no_result_of_code_scanning(pair, tmp_path):
    import json

    run(pair[0], pair[0], json=tmp_path / "a.json", sarif=tmp_path / "a.sarif")
    assert json.loads((tmp_path / "a.json").read_text())["exit_code"] == 0
    assert json.loads((tmp_path / "a.sarif").read_text())["runs"][0]["results"] == []
    with pytest.raises(rl.AuditError, match="pass json="):
        run(pair[0], pair[0], report=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_every_argument_may_stand_in_a_file(folder, monkeypatch, capsys, kind):
    import json

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    said = {"before": "before.pt", "after": "before.pt", "model": "auditedmodel:build", "input_shape": [1, 8, 8]}
    said |= {"n": N, "json": "out.json", "quiet": True, "report": "out.html"}
    if kind == "yaml":
        pytest.importorskip("yaml")
    (folder / f"audit.{kind}").write_text(json.dumps(said))  # JSON is YAML, too
    assert command.main(["audit", "--config", f"audit.{kind}"]) == 0
    assert (folder / "out.json").exists() and (folder / "out.html").exists() and not capsys.readouterr().err
    (folder / f"audit.{kind}").write_text(json.dumps(said | {"nn": 3}))
    assert command.main(["audit", "--config", f"audit.{kind}"]) == 2
    assert "there is no argument 'nn'" in capsys.readouterr().err
    (folder / f"audit.{kind}").write_text(json.dumps(said | {"weight-decay": "false"}))
    assert command.main(["audit", "--config", f"audit.{kind}"]) == 2
    assert "without quotes" in capsys.readouterr().err
    assert command.main(["audit", "--config", "nowhere.json"]) == 2


def test_several_pairs_in_one_call(folder, monkeypatch, capsys):
    import json

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    (folder / "out").mkdir()
    said = {"pairs": [["before.pt", "before.pt"], ["before.pt", "nowhere.pt"], ["after.pt", "after.pt"]]}
    said |= {"model": "auditedmodel:build", "input_shape": [1, 8, 8], "report": "out/r.html", "quiet": True}
    (folder / "pairs.json").write_text(json.dumps(said))
    assert command.main(["audit", "--config", "pairs.json"]) == 2  # the others are audited all the same
    told = capsys.readouterr()
    assert told.out.count("unchanged") == 2 and "nowhere.pt" in told.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["r-1.html", "r-3.html"]
    (folder / "pairs.json").write_text(json.dumps(said | {"pairs": [["before.pt"]]}))
    assert command.main(["audit", "--config", "pairs.json"]) == 2 and "[before, after]" in capsys.readouterr().err
    made = rl.audits([("before.pt", "before.pt")], "out/one.html", module=net(), input_shape=(1, 8, 8))
    assert [one.verdict for one in made] == ["unchanged"] and (folder / "out" / "one.html").exists()


def test_the_exit_status_of_several_is_the_most_serious_and_that_of_the_verdicts_that_count():
    from reconlaw.auditing.several import status

    def made(verdict):
        return SimpleNamespace(verdict=verdict, exit_code=EXIT[verdict])

    unchanged, close, came_back, open_ = map(made, ("unchanged", "close", "recovered", "not determined"))
    failed = rl.AuditError("no file")
    assert status([unchanged, open_, close, failed, came_back]) == 1
    assert status([unchanged, open_, close, failed]) == 2
    assert status([unchanged, open_, close]) == 3 and status([unchanged, open_]) == 4 and status([unchanged]) == 0
    assert status([open_, close], ("recovered",)) == 0 and status([open_, close], ("recovered", "close")) == 3
    assert status([failed, close], ("recovered",)) == 2
    parsed = command.parser().parse_args(
        ["audit", "a", "b", "c", "d", "--model", "m:f", "--input-shape", "3", "--fail-on", "close,not-determined"]
    )
    assert parsed.more == ["c", "d"] and parsed.fail_on == ("close", "not determined")


def test_a_shortened_name_is_refused_and_not_passed_over(capsys):
    files = ["audit", "a.pt", "b.pt", "--model", "m:f", "--input-shape", "8"]
    with pytest.raises(SystemExit, match="2"):
        command.main([*files, "--conf", "audit.yaml"])
    assert "unrecognized arguments: --conf" in capsys.readouterr().err


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"n": 3, "seed": 5, "before": "x", "after": "y"}')
    words = command.with_config(["audit", "--config", str(tmp_path / "a.json"), "--n", "7", "--model", "m:f"])
    given = command.parser().parse_args([*words, "--input-shape", "3"])
    assert (given.n, given.seed, given.before, given.after) == (7, 5, "x", "y")


def test_a_part_that_took_too_long_leaves_less_to_the_later_ones():
    from reconlaw.auditing import spending

    now = [0.0]

    def clock():
        return now[0]

    budget = spending.Spending(100.0, 1000, clock)
    assert budget.share(0.4) == {"max_seconds": 40.0, "max_steps": 400, "clock": clock}
    assert budget.share(0.4, 7)["max_steps"] == 7
    now[0] = 30.0  # ten less than its share: they go to a part that may take what is left over
    assert budget.share(0.3)["max_seconds"] == 30.0 and budget.share(0.3, but=0.2)["max_seconds"] == 50.0
    now[0] = 95.0
    assert budget.share(0.4)["max_seconds"] == 5.0 and not budget.spent
    now[0] = 180.0
    assert budget.share(0.4)["max_seconds"] < 1 and budget.spent and budget.timer(0.1)() is False
    assert spending.Spending(None, None).share(0.5, but=0.2) == {"max_seconds": None, "max_steps": None}


def test_once_its_seconds_are_over_an_audit_runs_one_reference_and_no_control(pair, monkeypatch):
    from reconlaw.auditing import spending

    monkeypatch.setattr(EXAMINATION, "reconstruct", _fake(0.5))
    monkeypatch.setattr(spending.Spending, "spent", property(lambda self: True))
    done = run(*pair, references=4, max_seconds=100.0)
    assert len(done.references) == 1 and done.control is None and done.verdict == "inconclusive"


@pytest.mark.parametrize("p", [8, 64])  # of six samples: of 8, hardly more than the rank
def test_pools_without_a_sample_name_nobody_and_pools_with_them_name_all_of_them(p):
    """Nulls: digits that made no part of θ, beside others of the same ten classes that did."""
    from reconlaw.auditing.pool import identify

    X = torch.as_tensor(rl.data.digits(300, tuple(range(10)), seed=3).X)
    features, generator = rl.RandomFeatures(64, p, "gelu", seed=0), torch.Generator().manual_seed(0)
    for k in range(60):
        order = torch.randperm(len(X), generator=generator)
        others, members = X[order[:60]], X[order[60:66]]
        A = torch.randn(10, 6, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, 6, dtype=torch.float64)
        change = (A @ features(members).cpu().double()).float().double()
        pair = SimpleNamespace(change=change, features=features, scale=1.0, moved=0.0)
        assert not identify(pair, others, range(60), 6, k).named.any()
        if k < 10:
            named = identify(pair, torch.cat([others[:54], members]), range(60), 6, k).named
            assert named.tolist() == [False] * 54 + [True] * 6


@pytest.mark.parametrize("n, said", [(1, "every row of it is that input"), (3, "is a combination of them")])
def test_a_trained_first_layer_is_not_passed_over(n, said):
    """All layers trained, so far that the head's features moved: what the first layer holds is said at once."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.GELU(), nn.Linear(40, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for layer in (model[1], model[3]):
            layer.reset_parameters()
    before, X = state(model), data().X[:n].float()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    nn.functional.cross_entropy(model(X), torch.arange(n)).backward()
    optimiser.step()
    audit = rl.audit(before, model, "3", (1, 8, 8), n=n, max_steps=50, report=None)
    (check,) = (check for check in audit.checks if check.question == "Does the first layer hold inputs?")
    assert check.answer.startswith("Yes. '1' sees the inputs themselves") and said in check.answer
    assert audit.verdict != "recovered" and audit.first_layer is None


def test_seconds_begin_after_what_torch_imports_for_seconds():
    """In a process of its own: here torch has imported it."""
    code = """
import sys, torch, reconlaw as rl
seen = []
def clock():
    seen.append("torch._dynamo" in sys.modules)
    return 0.0
try:
    rl.audit({}, {}, module=torch.nn.Linear(2, 1), input_shape=2, max_seconds=1.0, clock=clock)
except rl.AuditError:
    print(seen[0])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert ran.stdout == "True\n", ran.stderr
