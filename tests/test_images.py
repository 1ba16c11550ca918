import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from reconlaw.images import psnr, ssim


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(2, 8, 8), (3, 5, 9), (2, 8, 8, 3)]))
def test_psnr_is_scikit_image_s(seed, shape):
    a, b = np.random.default_rng(seed).random((2, *shape))
    expected = [peak_signal_noise_ratio(t, e, data_range=1) for e, t in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(a, b), expected, rtol=1e-12)


def test_psnr_by_hand():
    truth = np.full((1, 4, 4), 0.5)
    np.testing.assert_allclose(psnr(truth + 0.001, truth), [60.0], rtol=1e-9)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 3, 3), (2, 4, 6), (2, 25, 25), (2, 9, 9, 3)])
def test_equal_pictures_are_perfect(shape):
    pictures = np.random.default_rng(0).random(shape)
    assert np.isposinf(psnr(pictures, pictures)).all()
    np.testing.assert_allclose(ssim(pictures, pictures), 1.0)


def test_ssim_falls_with_noise_and_marks_a_negative():
    rng = np.random.default_rng(0)
    truth = np.linspace(0.2, 0.8, 64).reshape(1, 8, 8)
    scores = [ssim(np.clip(truth + s * rng.normal(size=truth.shape), 0, 1), truth)[0] for s in (0.01, 0.05, 0.2)]
    assert 1 > scores[0] > scores[1] > scores[2]
    assert ssim(1 - truth, truth)[0] < 0


@pytest.mark.parametrize("score", [psnr, ssim])
@pytest.mark.parametrize(
    ("estimate", "truth", "words"),
    [
        (np.zeros((1, 8, 8)), np.zeros((2, 8, 8)), "compare equal shapes"),
        (np.zeros((8, 8)), np.zeros((8, 8)), "no stack of pictures"),
        (np.zeros((1, 8, 8, 4)), np.zeros((1, 8, 8, 4)), "no stack of pictures"),
        (np.zeros((0, 8, 8)), np.zeros((0, 8, 8)), "no stack of pictures"),
        (np.full((1, 8, 8), 1.5), np.zeros((1, 8, 8)), "estimate has values outside"),
        (np.zeros((1, 8, 8)), np.full((1, 8, 8), np.nan), "truth has values outside"),
    ],
)
def test_bad_input(score, estimate, truth, words):
    with pytest.raises(ValueError, match=words):
        score(estimate, truth)


def test_too_small_for_ssim():
    with pytest.raises(ValueError, match="too small for SSIM"):
        ssim(np.zeros((1, 2, 8)), np.zeros((1, 2, 8)))
