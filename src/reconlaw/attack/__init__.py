"""From θ and the feature map to X̂. Nothing here imports the data, nor what scores against it.

Where a docstring says no more of them, functions of this folder take: ``features``, the feature map; ``theta``, θ as
(R, p) independent rows; ``X`` (n, d), samples where an attack ended, or ``U`` (n, k), their coordinates in the domain;
``inputs``, the domain; ``n``, the number of samples; ``spare``, equations less unknowns; ``tol``, the loss at which θ
counts as explained; ``run``, whose budget bounds the work; ``seed``, of what is drawn.
"""
