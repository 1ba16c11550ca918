"""Messages speak of one sample as of one."""

import torch

import reconlaw as rl
from reconlaw._words import many, some


def test_a_number_has_its_noun():
    assert many(1, "sample") == "1 sample" and many(0, "sample") == "0 samples" and many(3, "box", "boxes") == "3 boxes"


def test_the_first_of_many_names_and_how_many_more():
    assert some("ab") == "a, b" and some([]) == "nothing" and some([], none="none") == "none"
    assert some(range(5), 3) == "0, 1, 2 and 2 more"


def test_one_sample_is_no_samples():
    data, features = rl.data.sphere(1, 4), rl.RandomFeatures(4, 20, device="cpu")
    result = rl.reconstruct(features.fit(data.X, data.y), features, 1, max_seconds=None, max_steps=500)
    assert "1 sample of dimension 4" in repr(result)
    torn = rl.match(torch.full_like(data.X, torch.nan), data.X)
    assert "1 of 1 sample has no estimate" in str(torn)
