r"""The first layer of a ReLU network as a parallelepiped: samples read off its change, one edge each.

The gradient of a first layer is a combination of inputs, and a ReLU lets each through whole or not at all: over the
read-out, the change of neuron j is Σ_i m_ij c_i x_i with m_ij = 1[w_j·x_i + b_j > 0]. So the p neurons are vertices of
a parallelepiped with the edges c_i x_i. Its masks are found one at a time (``masks``),
its edges by a linear fit (``fit``), and a certificate that needs no truth
(``certificate``) tells whether they are the data's.

Exact for one gradient of any batch and any loss, as in a round of federated learning, and for networks trained lazily.
Where training moved more, the rows are no vertices. Then the neurons to which each sample was silent are asked
(:func:`reconlaw.silent_neurons`), which is exact as well. Where that fails, the fit takes the movement of the read-out
into account, and neurons that samples crossed are left out. What weight decay shrank of the old weights is taken out
before all that, as there. Relative: SPEAR (Dimitrov et al., arXiv 2403.03945), for
gradients, which samples rows of the gradient until a direction vanishes on enough of them, and takes exponentially long
in n; here the neurons' own weights lead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..._checks import check_count
from ..._precision import full_precision
from ..._random import seeded_generator
from ...attack.result import Status
from ...attack.run import Run
from ..silent import faces
from ..silent.decay import remark_decay, without_decay
from ..silent.result import SilentNeurons
from ..silent.result import result_of as told_by_silence
from .change import read_change, read_rank
from .fit import Problem
from .result import FirstLayer, result_by_silence, result_of
from .search import Search


@full_precision()
def first_layer(
    before: nn.Module | tuple[torch.Tensor, ...],
    after: nn.Module | tuple[torch.Tensor, ...],
    n: int | None = None,
    layer: str | None = None,
    head: str | None = None,
    lazy: bool | None = None,
    seed: int = 0,
    max_steps: int | None = 2_000_000,
    max_seconds: float | None = None,
    progress: bool = False,
    clock: Callable[[], float] | None = None,
) -> FirstLayer:
    r"""Samples from the change of a ReLU network's first layer, without labels, losses or the way it was trained.

    Args:
        before: the network before training, whose modules stand in the order in which they are applied: a linear layer
            or convolution, ReLU, a linear read-out, and anything above it. Or its tensors (W, V) or (W, b, V), W (p, d)
            of the layer and V (K, p) of the read-out.
        after: the same after training, or after one step: W less the gradient.
        n: number of samples (of patches, of a convolution), where it is known: with noise, it is not read off.
        layer: name of the layer, where it is not the network's first: what it takes in must not have been trained.
        head: name of its read-out, the next linear layer where None.
        lazy: True for one gradient step or exactly lazy training, False for training of both layers, None to try both:
            masks frozen, then silent neurons, then a fit with the read-out trained along.
        seed: of the starts.
        max_steps: the search ends with this; a step is one iteration of one climb, 2p(n + K) multiplications and as
            many additions.
        max_seconds: it ends with this as well; None for no limit.
        progress: show a bar on stderr.
        clock: as of :func:`reconlaw.reconstruct`.

    Returns:
        :class:`FirstLayer`, whose ``road`` says which of the three it came by; its status is "recovered" where the
        certificate of that road holds for all samples, the change tells them to half a hundredth, and there are as many
        as its rank. Ctrl-C ends the search with what there is.

    Raises:
        TypeError, ValueError: what is wrong with an argument; an activation that is no ReLU.
    """
    change, factor = without_decay(read_change(before, after, layer, head))
    n = None if n is None else check_count("n", n)
    if lazy not in (None, True, False):
        raise ValueError(f"lazy={lazy!r} must be True, False, or None to try both")
    steps = None if max_steps is None else check_count("max_steps", max_steps)
    run = Run(max_seconds, progress, clock=clock, max_steps=steps)
    generator = seeded_generator("attack", seed)
    rank, remark = read_rank(change, n)
    if remark:
        run.remark(remark)
    remark_decay(run, factor)
    outcome, silent = None, None
    try:
        with run.working():
            for way in (True, False) if lazy is None else (lazy,):
                if not way and rank and not run.expired and not (outcome and outcome.complete):
                    silent = _by_silence(change, rank, n, run, seeded_generator("attack", seed), factor)
                    if silent.converged:
                        break
                if rank and not run.expired and not (outcome and outcome.complete):
                    search = Search(Problem(change, rank, way), run, generator)
                    outcome, other = search, outcome
                    search.search()
                    if other and not search.complete and (other.exact or other.loss <= search.loss):
                        outcome = other
    except KeyboardInterrupt:
        run.interrupt()
    finally:
        run.close()
    if silent is not None and silent.converged:
        return result_by_silence(change, silent)
    made = result_of(change, rank, n, outcome, run, factor)
    rough = silent is not None and silent.status is Status.IN_PART and made.status is not Status.RECOVERED
    return result_by_silence(change, silent) if rough else made


def _by_silence(change, rank, n, run, generator, factor) -> SilentNeurons:
    search = faces.Search(faces.Rows(change, rank), run, generator)
    search.search()
    return told_by_silence(change, rank, n, search, run, factor)
