"""The model that the tests of the audit share: four digits, a random body and a head."""

import torch

import reconlaw as rl

N = 4
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=2560, outputs=3):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.GELU())
        self.fc = nn.Linear(width, outputs)

    def forward(self, x):
        return self.fc(self.body(x)).softmax(-1)

def build():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return Net()

number = 3
"""
scope = {"__name__": "auditedmodel"}
exec(MODEL, scope)
Net = scope["Net"]


def data():
    return rl.data.digits(N, (3, 5, 8), seed=0)


def net(width=2560, outputs=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return Net(width, outputs)


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}
