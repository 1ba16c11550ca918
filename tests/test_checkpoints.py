"""Checkpoint files and models as they are found: the wrappers, trainers, formats and bodies that people ask about."""

import argparse
import json
import pickle

import pytest
import torch
from torch import nn

import reconlaw as rl
from reconlaw.auditing.checkpoints import matched_pair, read_state
from reconlaw.auditing.head import HeadInput, changed_tensors, find_head


class Net(nn.Module):
    def __init__(self, K=3):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh())
        self.fc = nn.Linear(8, K)

    def forward(self, x):
        return self.fc(self.body(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


def after_of(model):
    """Its state with another head."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["fc.weight"] += 1
    return state


def agree(found, state):
    assert set(found) == set(state)
    assert all(torch.equal(found[key], value) for key, value in state.items())


def wrapped(state, how):
    rename = {
        "DataParallel": lambda key: f"module.{key}",
        "compile": lambda key: f"_orig_mod.{key}",
        "compile in DataParallel": lambda key: f"module._orig_mod.{key}",
        "DataParallel in compile, twice": lambda key: f"_orig_mod.module._orig_mod.module.{key}",
        "the body compiled alone": lambda key: key.replace("body.", "body._orig_mod."),
        "Lightning": lambda key: f"model.{key}",
        "Lightning of a compiled model": lambda key: f"model._orig_mod.{key}",
        "FSDP": lambda key: f"_fsdp_wrapped_module.{key.replace('body.', 'body._fsdp_wrapped_module.')}",
        "DeepSpeed": lambda key: f"_module.{key}",
        "PEFT": lambda key: "base_model.model." + key.replace("fc.", "fc.modules_to_save.default."),
    }[how]
    return {rename(key): value for key, value in state.items()}


WRAPPERS = (
    *(
        "DataParallel",
        "compile",
        "compile in DataParallel",
        "DataParallel in compile, twice",
        "the body compiled alone",
    ),
    *("Lightning", "Lightning of a compiled model", "FSDP", "DeepSpeed", "PEFT"),
)


@pytest.mark.parametrize("how", WRAPPERS)
def test_wrapped_keys_are_those_of_the_model(model, how):
    state = after_of(model)
    agree(matched_pair(wrapped(model.state_dict(), how), wrapped(state, how), model)[1], state)
    agree(matched_pair(model.state_dict(), wrapped(state, how), model)[1], state)


def test_a_wrapped_model_takes_plain_keys(model):
    state = after_of(model)
    wrapper = nn.Module()
    wrapper.module = model
    found = matched_pair(model.state_dict(), state, wrapper)[1]
    agree({key.removeprefix("module."): value for key, value in found.items()}, state)


def test_a_module_that_is_called_model_keeps_its_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.module = nn.Linear(4, 8), nn.Linear(8, 3)

    named = Named()
    agree(matched_pair(named.state_dict(), wrapped(named.state_dict(), "DataParallel"), named)[1], named.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "module", "params", "net"])
def test_states_are_found_among_what_trainers_store(model, tmp_path, key):
    state = after_of(model)
    torch.save({"epoch": 3, key: state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, tmp_path / "a.pt")
    agree(read_state(tmp_path / "a.pt", "after"), state)


def test_hyper_parameters_of_any_class_are_left_unread(model, tmp_path):
    state = after_of(model)
    saved = {"state_dict": wrapped(state, "Lightning"), "hyper_parameters": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(saved, tmp_path / "lightning.ckpt")
    agree(matched_pair(model.state_dict(), read_state(tmp_path / "lightning.ckpt", "after"), model)[1], state)


class Trap:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (self.place, "w")


def test_nothing_in_a_file_is_run(model, tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"state_dict": after_of(model), "callback": Trap(str(trap))}, tmp_path / "trapped.pt")
    agree(read_state(tmp_path / "trapped.pt", "after"), after_of(model))
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(str(trap))))
    with pytest.raises(rl.AuditError, match="after"):
        read_state(tmp_path / "plain.pt", "after")
    assert not trap.exists()


def test_of_two_states_it_is_asked_which(model, tmp_path):
    plain, mean = model.state_dict(), after_of(model)
    torch.save({"state_dict": plain, "state_dict_ema": mean}, tmp_path / "ema.pt")
    with pytest.raises(rl.AuditError, match="several states: 'state_dict', 'state_dict_ema'.*state='state_dict_ema'"):
        read_state(tmp_path / "ema.pt", "after")
    agree(read_state(tmp_path / "ema.pt", "after", "state_dict_ema"), mean)
    with pytest.raises(rl.AuditError, match="no state dictionary at 'other'"):
        read_state(tmp_path / "ema.pt", "after", "other")
    torch.save({"net": plain, "ema": {key: one.clone() for key, one in plain.items()}}, tmp_path / "begun.pt")
    agree(read_state(tmp_path / "begun.pt", "before"), plain)  # the mean before the first step


def test_a_file_of_the_head_alone_has_its_body_from_before(model):
    state = after_of(model)
    head = {key: value for key, value in state.items() if key.startswith("fc.")}
    agree(matched_pair(model.state_dict(), head, model)[1], state)


def test_an_adapter_without_its_model_is_named(model):
    adapter = {"base_model.model.body.1.lora_A.weight": torch.ones(2, 4)}
    with pytest.raises(rl.AuditError, match="LoRA adapter"):
        matched_pair(model.state_dict(), adapter, model)


@pytest.mark.parametrize("by", ["index", "folder"])
def test_shards(model, tmp_path, by):
    safetensors = pytest.importorskip("safetensors.torch")
    state = after_of(model)
    shards = {"model-1.safetensors": list(state)[:2], "model-2.safetensors": list(state)[2:]}
    for file, keys in shards.items():
        safetensors.save_file({key: state[key] for key in keys}, tmp_path / file)
    index = {"weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    agree(read_state(tmp_path / "model.safetensors.index.json" if by == "index" else tmp_path, "after"), state)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(rl.AuditError, match="no file .*model-2.safetensors"):
        read_state(tmp_path, "after")
    index["weight_map"]["fc.bias"] = "../elsewhere.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(rl.AuditError, match="outside its folder"):
        read_state(tmp_path, "after")


def test_folders_with_no_or_with_two_checkpoints(model, tmp_path):
    with pytest.raises(rl.AuditError, match="holds no checkpoint"):
        read_state(tmp_path, "after")
    for name in ("a.pt", "b.pt"):
        torch.save(model.state_dict(), tmp_path / name)
    with pytest.raises(rl.AuditError, match="holds a.pt, b.pt"):
        read_state(tmp_path, "after")


def test_a_replaced_head_says_what_to_pass(model):
    with pytest.raises(rl.AuditError, match="head was replaced.*right after replacing the head"):
        matched_pair(Net(1000).state_dict(), model.state_dict(), model)


@pytest.mark.filterwarnings("ignore")  # torch is moving its quantisation elsewhere
def test_quantised_modules_are_said_to_be_unsupported(model):
    with_int8 = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(rl.AuditError, match="quantised modules are not supported"):
        read_state(with_int8.state_dict(), "after")


def test_tied_weights_are_stored_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Linear(4, 4), nn.Linear(4, 4)
            self.fc.weight = self.embed.weight

    tied = Tied()
    once = {key: value for key, value in tied.state_dict().items() if key != "fc.weight"}
    agree(matched_pair(tied.state_dict(), once, tied)[1], tied.state_dict())


def test_buffers_that_one_file_lacks():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    old = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    before, after = matched_pair(old, model.state_dict(), model)
    agree(before, model.state_dict())
    agree(after, model.state_dict())


def test_the_head_is_the_layer_that_changed(model):
    changed = changed_tensors(model.state_dict(), after_of(model))
    assert set(changed) == {"fc.weight"} and find_head(model, changed) == "fc"
    two = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(rl.AuditError, match="several linear layers changed: 0, 1, .*head='1' .*layer='0'"):
        find_head(two, ["0.weight", "1.weight"])
    assert find_head(model, {}) == "fc"
    with pytest.raises(rl.AuditError, match="no torch.nn.Linear"):
        find_head(nn.Conv2d(1, 1, 3), {})
    with pytest.raises(rl.AuditError, match="no linear layer changed.*conv.bias"):
        find_head(model, ["conv.bias"])


# --- bodies -----------------------------------------------------------------------------------------------------------


class Probe(Net):
    """A linear probe, as people write it: no gradient through the body."""

    def forward(self, x):
        with torch.no_grad():
            h = self.body(x)
        return self.fc(h.detach())


def test_a_body_without_gradients_is_attacked_with_them():
    probe = Probe().double()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    HeadInput(probe, "fc")(x).sum().backward()
    expected = torch.autograd.grad(probe.body(x).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)
    assert torch.is_grad_enabled()
    rl.ModuleFeatures(HeadInput(probe, "fc"), (4,), device="cpu")


class Wrapped(Net):
    """A dictionary out, the input by name alone."""

    def forward(self, *, pixel_values):
        return {"logits": self.fc({"hidden": self.body(pixel_values)}["hidden"])}


def test_dictionary_outputs_and_inputs_by_name():
    assert rl.ModuleFeatures(HeadInput(Wrapped(), "fc"), (4,), device="cpu").p == 8


class TokenIds(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(32, 8))


class TwoInputs(Net):
    def forward(self, image, mask):
        return super().forward(image * mask)


class Bytes(Net):
    def forward(self, x):
        if x.dtype != torch.uint8:
            raise TypeError(f"expected uint8 pixels, got {x.dtype}")
        return super().forward(x.float() / 255)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (TokenIds, "token ids.*from its embedding on"),
        (TwoInputs, r"takes 2 inputs \(image, mask\)"),
        (Bytes, "uint8 pixels.*floating numbers"),
    ],
)
def test_inputs_that_cannot_be_looked_for_are_named(kind, said):
    with pytest.raises(rl.AuditError, match=said):
        try:
            rl.ModuleFeatures(HeadInput(kind(), "fc"), (4,), device="cpu")
        except rl.AuditError as error:
            assert "input_shape fit" not in str(error)
            raise


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_a_head_whose_weight_is_computed_is_refused(norm):
    model, tuned = Net(), Net()
    for one in (model, tuned):
        norm(one.fc)
        one(torch.randn(2, 4))
    with pytest.raises(rl.AuditError, match="the weight of 'fc' is computed from .*weight"):
        rl.audit(model, tuned.state_dict(), head="fc", input_shape=4, report=None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_and_pickled_modules_say_what_to_pass(model, tmp_path):
    scripted = torch.jit.trace(model, torch.randn(2, 4))
    with pytest.raises(rl.AuditError, match="module is scripted.*pass the module it was made from"):
        rl.audit(model.state_dict(), after_of(model), module=scripted, input_shape=4, report=None)
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(rl.AuditError, match=r"a whole module, it seems. Save model.state_dict\(\)"):
        read_state(tmp_path / "whole.pt", "before")


def test_an_averaged_model_is_the_model():
    model = Net()
    averaged = torch.optim.swa_utils.AveragedModel(model).state_dict()
    assert "n_averaged" in averaged
    before, after = matched_pair(model.state_dict(), averaged, model)
    agree(before, after)


def test_a_convolution_that_changed_is_pointed_at_where_the_head_that_was_named_did_not():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model[0].weight.data += 0.1
    done = rl.audit(before, model, head="3", input_shape=(1, 4, 4), report=None)
    assert done.verdict == "inconclusive" and "layer='0' audits it" in done.summary


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_old_norms_of_weights_after_a_forward_pass(norm):
    model = Net()
    norm(model.body[1])
    model(torch.randn(2, 4))
    features = rl.ModuleFeatures(HeadInput(model, "fc"), (4,), dtype=torch.float32, device="cpu")
    x = torch.randn(2, 4)
    torch.testing.assert_close(features(x), model.eval().body(x).detach())
