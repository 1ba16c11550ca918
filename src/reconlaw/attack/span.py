r"""``method="span"``: where rank θ = n, the row space of θ *is* the span of the features, and each sample stands alone.

With Q (r × p) an orthonormal basis of θ's rows, x is a sample where its features lie in their span,

    ℓ(x) = ‖P F(x)ᵀ‖² / ‖D F(x)ᵀ‖²,        P = I − QᵀQ,

one search in d numbers, whatever n, the labels and the coefficients. F(x) is one column, or several: a convolution or
a token layer sees T positions of a sample, F(x) ∈ R^{T×p}, and all of them lie in the span of that layer's change.
The count is p ≥ d + n.

1. Many starts at once: batched Gauss–Newton with a damping each, between bounds where there are any.
2. Deflation: D = I − (projector on the features found), P D = P. A sample that was found is a zero of ℓ no more, since
   there the denominator vanishes as well; so starts go on to the others, until the span is used up.
3. At a zero the rank of P J tells a point from a segment: a network that is linear between two samples has a whole
   segment of zeros, and which of its points were data θ does not say.

Relatives for gradients of a single step: SPEAR (arXiv 2403.03945), DAGER (arXiv 2405.15586).
"""
