"""Which figures a dark page turns round: plots, and never a picture or a figure whose words speak of shades."""

import sys

import matplotlib.pyplot as plt
import pytest
import torch
from docutils import nodes
from helpers import BOOK

import reconlaw as rl

sys.path.insert(0, str(BOOK / "_ext"))
from dark_figures import is_plot, speaks_of_shades


@pytest.fixture
def saved(tmp_path):
    def save(figure):
        figure.savefig(tmp_path / "figure.png")
        plt.close(figure)
        return tmp_path / "figure.png"

    return save


def test_a_plot_is_one_and_rows_of_pictures_are_not(saved):
    figure, axes = plt.subplots()
    for k in range(5):
        axes.plot([0, 1, 2], [k, 3 - k, 2])
    axes.axvspan(0.5, 1.5, color="0.9")
    axes.legend(["one", "two"])
    assert is_plot(saved(figure))

    data = rl.data.digits(n=6, seed=0)
    rl.plotting.image_rows({"private": data.to_images(data.X), "came back": data.to_images(data.X)})
    assert not is_plot(saved(plt.gcf()))

    figure, axes = plt.subplots()
    axes.imshow(torch.rand(9, 9, generator=torch.Generator().manual_seed(1)).numpy())
    assert not is_plot(saved(figure))


@pytest.mark.parametrize(
    ("alt", "caption", "kept"),
    [
        ("A curve that falls.", "The loss falls at once.", False),
        ("A black curve rises.", "The overlap.", True),
        ("Two curves.", "White: the private samples.", True),
        ("Two curves, a highlight and a lighthouse.", "Both end.", False),
    ],
)
def test_words_of_black_and_white_stay_true(alt, caption, kept):
    image = nodes.image(alt=alt, uri="figure.png")
    nodes.figure("", image, nodes.caption("", caption))
    assert speaks_of_shades(image) == kept
