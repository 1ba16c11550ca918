import torch

from reconlaw import exercises


def edges(U, M):
    return torch.linalg.lstsq(M, U).solution


def agreement(M, W, E):
    share = (M == (W @ E.T > 0)).double().mean(0)
    return torch.maximum(share, 1 - share)


def climbed(A, s):
    return (A @ (A.T @ s)).sign(), (A.T @ s).norm() / len(s) ** 0.5


EDGES, ROUND, AGREE = exercises.check_edges, exercises.check_round, exercises.check_agreement

RIGHT = [
    (EDGES, edges),
    (EDGES, lambda U, M: torch.linalg.pinv(M) @ U),
    (EDGES, lambda U, M: torch.linalg.solve(M.T @ M, M.T @ U)),
    (ROUND, climbed),
    (AGREE, agreement),
    (AGREE, lambda M, W, E: 0.5 + ((2 * M - 1) * (W @ E.T).sign()).mean(0).abs() / 2),
]
WRONG = [
    (EDGES, lambda U, M: edges(U, M).T, "one edge a row"),
    (EDGES, lambda U, M: M.T @ U, "Mᵀ U"),
    (EDGES, lambda U, M: M.T @ U / len(U), "mean"),
    (EDGES, lambda U, M: M.T @ U / M.sum(0)[:, None], "mean vertex"),
    (EDGES, lambda U, M: edges(U, 2 * M - 1), "not signs"),
    (EDGES, lambda U, M: torch.nn.functional.normalize(edges(U, M)), "lengths"),
    (EDGES, lambda U, M: 2 * edges(U, M), "off by"),
    (ROUND, lambda A, s: climbed(A, s)[0], "two things"),
    (ROUND, lambda A, s: (A @ (A.T @ s), climbed(A, s)[1]), "take the signs"),
    (ROUND, lambda A, s: ((A.T @ s).sign(), climbed(A, s)[1]), "go back to the neurons"),
    (ROUND, lambda A, s: (-climbed(A, s)[0], climbed(A, s)[1]), "turned round"),
    (ROUND, lambda A, s: ((climbed(A, s)[0] + 1) / 2, climbed(A, s)[1]), "not 0 and 1"),
    (ROUND, lambda A, s: (climbed(A, s)[0], (A.T @ s).norm()), "divide the norm"),
    (ROUND, lambda A, s: (climbed(A, s)[0], climbed(A, s)[1] ** 2), "take the root"),
    (ROUND, lambda A, s: (climbed(A, s)[0], climbed(A, climbed(A, s)[0])[1]), "after the round"),
    (AGREE, lambda M, W, E: (M == (W @ E.T > 0)).double().mean(0), "may be negative"),
    (AGREE, lambda M, W, E: agreement(M, W, E).mean(), "each sample"),
    (AGREE, lambda M, W, E: agreement(M, W, E).min(), "each sample"),
    (AGREE, lambda M, W, E: 1 - agreement(M, W, E), "disagree"),
    (AGREE, lambda M, W, E: len(W) * agreement(M, W, E), "divide"),
    (AGREE, lambda M, W, E: agreement(M, W, E) / 2, "off by"),
]
