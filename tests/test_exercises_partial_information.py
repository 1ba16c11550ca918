import math

import torch

from reconlaw import exercises


def count(m, K, n, d, span, sphere=1, inside=lambda n, d: n):
    return K * m, n * ((inside(n, d) if span else d) - sphere) + n * K


def share(theta, V, power=2):
    return (torch.linalg.qr(V).Q.T @ theta).norm() ** power / theta.norm() ** power


def centred(theta, V):
    return theta - theta.mean(), V - V.mean(0)


def smooth(mean, deviation):
    density = torch.exp(-0.5 * (mean / deviation) ** 2) / math.sqrt(2 * math.pi)
    return mean * torch.special.ndtr(mean / deviation) + deviation * density


def blurred(z, s):
    return smooth(z / (1 + s**2), s / math.sqrt(1 + s**2))


def parts(Phi, y, theta0):
    """Φ⁺y, and θ₀ off and within the span."""
    pinv = torch.linalg.pinv(Phi)
    within = pinv @ (Phi @ theta0)
    return pinv @ y, theta0 - within, within


def noise(Phi, y, theta0):
    made, off, _ = parts(Phi, y, theta0)
    return off.norm() / made.norm()


COUNT, SHARE = exercises.check_partial_count, exercises.check_linear_share
BLURRED, NOISE = exercises.check_blurred_relu, exercises.check_start_noise

RIGHT = [(COUNT, count), (SHARE, lambda t, V: share(*centred(t, V))), (BLURRED, blurred), (NOISE, noise)]
WRONG = [
    (COUNT, lambda m, K, *rest: (m, count(m, K, *rest)[1]), "known output is an equation"),
    (COUNT, lambda m, K, n, d, span: count(m, K, n, d, False), "forget the span"),
    (COUNT, lambda *case: count(*case, sphere=0), "sphere"),
    (COUNT, lambda m, K, n, d, span: (K * m, n * ((n if span else d) - 1)), "forget the coefficients"),
    (COUNT, lambda m, K, n, d, span: (K * m, n * (n if span else d)), "for each known output"),
    (COUNT, lambda *case: count(*case, inside=lambda n, d: d - n), "does not take n away"),
    (COUNT, lambda *case: count(*case)[::-1], "equations first"),
    (COUNT, lambda *case: (1, 1), "off by"),
    (SHARE, share, "centre both"),
    (SHARE, lambda t, V: share(t - t.mean(), V), "columns of V as well"),
    (SHARE, lambda t, V: share(t, V - V.mean(0)), "centre θ as well"),
    (SHARE, lambda t, V: share(t - t.mean(), V - V.mean()), "its own mean"),
    (SHARE, lambda t, V: 1 - share(*centred(t, V)), "left over"),
    (SHARE, lambda t, V: share(*centred(t, V), 1), "forget the square"),
    (SHARE, lambda t, V: share(*centred(t, V)) * centred(t, V)[0].square().sum(), "squared norm of the centred"),
    (SHARE, lambda t, V: ((t - t.mean()) @ (V - V.mean(0))).square().sum() / (t - t.mean()).square().sum(), "QR"),
    (SHARE, lambda t, V: None, "None"),
    (BLURRED, lambda z, s: smooth(z, torch.tensor(s)), "blurred about z"),
    (BLURRED, lambda z, s: smooth(z, s / math.sqrt(1 + s**2)), "not z"),
    (BLURRED, lambda z, s: smooth(z / (1 + s**2), s), r"not s²"),
    (BLURRED, lambda z, s: smooth(z / (1 + s**2), s**2 / (1 + s**2)), "take its root"),
    (BLURRED, lambda z, s: smooth(z / math.sqrt(1 + s**2), s / math.sqrt(1 + s**2)), "not by its root"),
    (BLURRED, lambda z, s: torch.relu(z / (1 + s**2)), "not the mean of ReLU"),
    (BLURRED, lambda z, s: z / (1 + s**2) * torch.special.ndtr(z / (s * math.sqrt(1 + s**2))), "density"),
    (NOISE, lambda P, y, t: t.norm() / parts(P, y, t)[0].norm(), "only the part off it"),
    (NOISE, lambda P, y, t: parts(P, y, t)[2].norm() / parts(P, y, t)[0].norm(), "that training replaces"),
    (NOISE, lambda P, y, t: parts(P, y, t)[1].norm() / sum(parts(P, y, t)[:2]).norm(), r"not to θ\*"),
    (NOISE, lambda P, y, t: parts(P, y, t)[1].norm() / parts(P, y - P @ t, t)[0].norm(), "depends on θ₀"),
    (NOISE, lambda P, y, t: noise(P, y, t) ** 2, "square root"),
    (NOISE, lambda P, y, t: 1 / noise(P, y, t), "other way round"),
    (NOISE, lambda P, y, t: parts(P, y, t)[1].norm(), "divide by"),
]


def test_a_blurred_relu_is_the_mean_that_it_claims_to_be():
    """The right answer itself, against draws: vᵀx among pairs whose v'ᵀx is near z."""
    s, generator = 0.8, torch.Generator().manual_seed(0)
    pre = torch.randn(2_000_000, generator=generator, dtype=torch.float64)
    seen = pre + s * torch.randn(2_000_000, generator=generator, dtype=torch.float64)
    for z in (-1.0, 0.0, 1.5):
        near = torch.relu(pre[(seen - z).abs() < 0.02])
        expected = float(blurred(torch.tensor([z], dtype=torch.float64), s))
        assert abs(float(near.mean()) - expected) < 5 * float(near.std()) / len(near) ** 0.5 + 0.01
