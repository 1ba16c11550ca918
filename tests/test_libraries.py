"""Checkpoints that the libraries themselves wrote: a tiny real model of each is fine-tuned, saved, and audited.

The head is tuned on three pictures of a pool, which is the cheapest of what an audit can find: each file must lead to
the right head and body, and the three must be named. A library that is not installed is passed over, and
``test_checkpoints.py`` holds the layout of its files.
"""

import copy
import json

import pytest
import torch
from helpers import seeded
from torch import nn

import reconlaw as rl

N, SHAPE = 3, (3, 32, 32)
OPTIONS = {"n": N, "report": None, "max_seconds": None, "max_steps": 50}
# The installed library is not at fault where it does not fit the installed torch.
BROKEN = (ImportError, RuntimeError, AttributeError)


def library(name):
    try:
        return pytest.importorskip(name)
    except BROKEN as error:
        pytest.skip(f"{name} does not import: {error}")


def pool(shape=SHAPE):
    return torch.rand(40, *shape, generator=torch.Generator().manual_seed(7))


def tuned(model, head, logits=lambda out: out):
    """A copy whose head alone was trained on the first pictures of the pool, the body in evaluation."""
    after = copy.deepcopy(model).eval().requires_grad_(False)
    parameters = list(after.get_submodule(head).requires_grad_(True).parameters())
    descend(lambda x: logits(after(x)), parameters, pool()[:N])
    return after


def descend(model, parameters, X, steps=20):
    optimiser = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(X), torch.arange(len(X))).backward()
        optimiser.step()


def names_the_samples(before, after, model, found, shape=SHAPE, **options):
    options = OPTIONS | options
    audit = rl.audit(before, after, module=model, input_shape=shape, candidates=pool(shape), **options)
    assert audit.verdict == "recovered", audit.summary
    assert audit.pool.named.nonzero()[:, 0].tolist() == list(range(N))
    assert (audit.settings.get("head") or audit.settings["layer"]) == found and audit.moved == 0
    return audit


# --- torchvision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "head"),
    [
        ("resnet18", {}, "fc"),
        ("mobilenet_v3_small", {"width_mult": 0.25, "dropout": 0.0}, "classifier.3"),
        ("vit", {}, "heads.head"),
    ],
)
def test_torchvision(name, options, head, tmp_path):
    models = library("torchvision.models")
    small = {"image_size": 32, "patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 48}
    make = models.VisionTransformer if name == "vit" else getattr(models, name)
    options = small if name == "vit" else options
    model = seeded(lambda: make(num_classes=5, **options)).eval()
    if name == "vit":  # its head starts at zero
        nn.init.normal_(model.heads.head.weight, std=0.1)
    after = tuned(model, head)
    torch.save(model.state_dict(), tmp_path / "before.pth")
    torch.save({"epoch": 1, "model": after.state_dict(), "args": None}, tmp_path / "after.pth")
    names_the_samples(tmp_path / "before.pth", tmp_path / "after.pth", model, head)


# --- timm -----------------------------------------------------------------------------------------------------------


def test_timm(tmp_path):
    timm = library("timm")
    from timm.utils import CheckpointSaver, ModelEmaV2

    model = seeded(lambda: timm.create_model("test_resnet", num_classes=5)).eval()
    after = tuned(model, "fc")
    timm.models.save_for_hf(model, tmp_path / "before", safe_serialization=True)
    (tmp_path / "run").mkdir()
    ema = ModelEmaV2(model, decay=0.5)
    ema.update(after)
    optimiser = torch.optim.SGD(after.parameters(), lr=0.1)
    saver = CheckpointSaver(after, optimiser, model_ema=ema, checkpoint_dir=str(tmp_path / "run"), recovery_dir="")
    saver.save_checkpoint(0)
    (last,) = [path for path in (tmp_path / "run").iterdir() if path.name.startswith("last")]
    with pytest.raises(rl.AuditError, match="state_dict_ema"):
        rl.audit(tmp_path / "before", last, module=model, input_shape=SHAPE, **OPTIONS)
    names_the_samples(tmp_path / "before", last, model, "fc", state="state_dict")
    names_the_samples(tmp_path / "before", last, model, "fc", state="state_dict_ema")


@pytest.mark.slow(reason="pictures of 224 × 224 in double precision")
def test_timm_efficientnet_at_full_size_is_not_determined_and_a_pool_of_nineteen_names_three(tmp_path):
    """150,528 unknowns a picture, which the count leaves open, and one projection for each picture of the pool."""
    timm = library("timm")
    model = seeded(lambda: timm.create_model("test_efficientnet", num_classes=5)).eval()
    X = torch.rand(19, 3, 224, 224, generator=torch.Generator().manual_seed(8))
    after = copy.deepcopy(model)
    descend(after, after.classifier.parameters(), X[:N])
    torch.save(model.state_dict(), tmp_path / "before.pth")
    torch.save({"state_dict": after.state_dict()}, tmp_path / "after.pth")
    files, options = (tmp_path / "before.pth", tmp_path / "after.pth"), OPTIONS | {"module": model}
    blind = rl.audit(*files, input_shape=(3, 224, 224), **options)
    assert (blind.verdict, blind.exit_code) == ("not determined", 4) and "candidates=" in blind.summary
    told = rl.audit(*files, input_shape=(3, 224, 224), candidates=X, **options)
    assert told.verdict == "recovered" and told.pool.named.nonzero()[:, 0].tolist() == list(range(N))
    assert told.settings["head"] == "classifier" and told.pool.residuals[N:].min() > 1e-3


# --- Hugging Face ---------------------------------------------------------------------------------------------------


def vision_transformer(transformers):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=5, **sizes)
    return seeded(lambda: transformers.ViTForImageClassification(config)).eval()


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_hugging_face(shard, tmp_path):
    transformers = library("transformers")
    model = vision_transformer(transformers)
    after = tuned(model, "classifier", lambda out: out.logits)
    model.save_pretrained(tmp_path / "before", max_shard_size=shard)
    after.save_pretrained(tmp_path / "after", max_shard_size=shard)
    assert (len(list((tmp_path / "after").glob("*.safetensors"))) > 1) == (shard == "20KB")
    names_the_samples(tmp_path / "before", tmp_path / "after", model, "classifier")


def test_hugging_face_texts_begin_at_the_embedding(tmp_path):
    transformers = library("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=8, num_labels=5, **sizes)
    model = seeded(lambda: transformers.BertForSequenceClassification(config)).eval()
    after = copy.deepcopy(model)
    after.classifier.weight.data += torch.randn(5, 16, generator=torch.Generator().manual_seed(0)) / 10
    with pytest.raises(rl.AuditError, match="embedding"):
        rl.audit(model, after, input_shape=8, **OPTIONS)

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, embedded):
            return self.inner(inputs_embeds=embedded)

    model.save_pretrained(tmp_path / "before")
    after.save_pretrained(tmp_path / "after")
    audit = rl.audit(tmp_path / "before", tmp_path / "after", module=Embedded(), input_shape=(8, 16), **OPTIONS)
    assert audit.verdict == "not determined" and audit.p == 16


# --- Lightning ------------------------------------------------------------------------------------------------------


def test_lightning(tmp_path):
    lightning = library("lightning")

    class Classifier(lightning.LightningModule):
        def __init__(self, width):
            super().__init__()
            self.save_hyperparameters()
            layers = [nn.Conv2d(3, width, 3, 4), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(512, 5)]
            self.model = nn.Sequential(*layers)

        def forward(self, x):
            return self.model(x)

        def on_train_epoch_start(self):
            self.model.eval()

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.model[4].parameters(), lr=0.1)

    made = seeded(lambda: Classifier(8))
    module = copy.deepcopy(made.model).eval()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pool()[:N], torch.arange(N)), batch_size=N)
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.strategy.connect(made)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    trainer.fit(made, data)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    names_the_samples(tmp_path / "before.ckpt", tmp_path / "after.ckpt", module, "4")
    names_the_samples(tmp_path / "before.ckpt", tmp_path / "after.ckpt", made, "model.4")


# --- PEFT -----------------------------------------------------------------------------------------------------------


def perceptron():
    return seeded(lambda: nn.Sequential(nn.Linear(12, 96), nn.GELU(), nn.Linear(96, 64), nn.Tanh(), nn.Linear(64, 5)))


def test_peft_adapters(tmp_path):
    peft = library("peft")
    said = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["2"])
    model = peft.get_peft_model(perceptron(), said)
    model.save_pretrained(tmp_path / "before")
    descend(model, [p for p in model.parameters() if p.requires_grad], pool((12,))[:N])
    model.save_pretrained(tmp_path / "after")
    names_the_samples(tmp_path / "before", tmp_path / "after", perceptron(), "2", (12,))


def test_peft_modules_to_save(tmp_path):
    peft = library("peft")
    said = peft.LoraConfig(r=4, target_modules=["2"], modules_to_save=["4"])
    model = peft.get_peft_model(perceptron(), said)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("modules_to_save" in name)
    model.save_pretrained(tmp_path / "before")
    descend(model, [p for p in model.parameters() if p.requires_grad], pool((12,))[:N])
    model.save_pretrained(tmp_path / "after")
    kept = json.loads((tmp_path / "after" / "adapter_config.json").read_text())
    assert kept["modules_to_save"] == ["4"]
    names_the_samples(tmp_path / "before", tmp_path / "after", perceptron(), "4", (12,), head="4")


def test_peft_dora_is_refused(tmp_path):
    peft = library("peft")
    model = peft.get_peft_model(perceptron(), peft.LoraConfig(r=4, target_modules=["2"], use_dora=True))
    model.save_pretrained(tmp_path / "before")
    descend(model, [p for p in model.parameters() if p.requires_grad], pool((12,))[:N], steps=3)
    model.save_pretrained(tmp_path / "after")
    with pytest.raises(rl.AuditError, match="DoRA"):
        rl.audit(tmp_path / "before", tmp_path / "after", module=perceptron(), input_shape=12, **OPTIONS)
