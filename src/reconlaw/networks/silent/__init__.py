r"""Samples off a ReLU network's first layer, however it was trained: from the neurons to which each sample was silent.

A step of training moves neuron j of a first layer by a combination of its inputs, and input x_i takes part in it where
w_j·x_i + b_j > 0 and nowhere else. So after any number of steps, with any loss, batches, rates, momentum, and any
network above that is trained along,

    Δw_j = Σ_i β_ji x_i,   β_ji = 0 exactly where x_i never passed the ReLU of neuron j.

The β_ji themselves tell nothing that can be predicted; that a quarter or a half of them vanish is enough. The rows of
the change at which x_i was silent lie in the hyperplane spanned by the other samples. Its normal is read off them to
rounding, and r normals give r samples (``faces``). What is asked of them before they are called recovered is in
``result``: no label, loss, read-out or truth is needed.

Weight decay shrinks the old weights beside that, all by one factor, which is read off and taken out; biases too, or
they are spared (``decay``). Biases with a learning rate of their own are set aside where samples are not silent where
they should be; that costs the samples' lengths. Not for optimisers that step by more than a combination of gradients,
as Adam does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from ..._checks import check_count
from ..._precision import full_precision
from ..._random import seeded_generator
from ...attack.result import Status
from ...attack.run import Run
from ..first_layer.change import read_change, read_rank
from .decay import bias_aside, remark_decay, without_decay
from .faces import Rows, Search
from .result import SilentNeurons, result_of


@full_precision()
def silent_neurons(
    before: nn.Module | tuple[torch.Tensor, ...],
    after: nn.Module | tuple[torch.Tensor, ...],
    n: int | None = None,
    layer: str | None = None,
    seed: int = 0,
    max_steps: int | None = 200_000,
    max_seconds: float | None = None,
    progress: bool = False,
    clock: Callable[[], float] | None = None,
) -> SilentNeurons:
    r"""Samples from the change of a ReLU network's first layer, however the network was trained.

    The first layer must have fewer samples than inputs, n < d, linearly independent, and each of them must be silent
    to many more than n neurons throughout the training.

    Args:
        before: the network before training, whose modules stand in the order in which they are applied: a linear layer
            or convolution, ReLU, and anything above. Or the layer's tensors (W,) or (W, b), W (p, d), of which a ReLU
            must be known to follow: below a leaky one samples come back mixed, by about its slope.
        after: the same after training.
        n: number of samples, where it is known; read off the change where None.
        layer: name of the layer, where it is not the network's first: what it takes in must not have been trained.
        seed: of the starts.
        max_steps: the search ends with this; a step is one direction, asked of all neurons once.
        max_seconds: it ends with this as well; None for no limit.
        progress: show a bar on stderr.
        clock: as of :func:`reconlaw.reconstruct`.

    Returns:
        :class:`SilentNeurons`; its status is "recovered" where as many hyperplanes were found as the change has
        directions, each told by many neurons, and every sample read from them is silent where its hyperplane says so.
        Ctrl-C ends the search with what there is.

    Raises:
        TypeError, ValueError: what is wrong with an argument; a layer that no ReLU follows.
    """
    change, factor = without_decay(read_change(before, after, layer, read_out=False))
    n = None if n is None else check_count("n", n)
    steps = None if max_steps is None else check_count("max_steps", max_steps)
    how = {"seed": seed, "progress": progress, "clock": clock, "factor": factor}
    result = _searched(change, n, max_steps=steps, max_seconds=max_seconds, **how)
    if result.status is not Status.STALLED or not change.bias or len(result.X) < max(1, result.rank):
        return result
    # Hyperplanes stand in the weights' change alone, whatever the rate of the biases was.
    left = {
        "max_steps": None if steps is None else max(1, steps - int(result.steps)),
        "max_seconds": None if max_seconds is None else max(1e-3, max_seconds - result.seconds),
    }
    other = _searched(bias_aside(change), n, silent=result.silent, **left, **how)
    if other.status is not Status.RECOVERED or other.rank != result.rank:
        return result
    return dataclasses.replace(other, steps=result.steps + other.steps, seconds=result.seconds + other.seconds)


def _searched(change, n, max_steps, max_seconds, seed, progress, clock, factor, silent=None) -> SilentNeurons:
    run = Run(max_seconds, progress, clock=clock, max_steps=max_steps)
    rank, remark = read_rank(change, n)
    if remark:
        run.remark(remark)
    remark_decay(run, factor)
    search = None
    try:
        with run.working():
            if rank:
                search = Search(Rows(change, rank), run, seeded_generator("attack", seed))
                if silent is not None:
                    search.begin(silent)
                search.search()
    except KeyboardInterrupt:
        run.interrupt()
    finally:
        run.close()
    return result_of(change, rank, n, search, run, factor)


__all__ = ["SilentNeurons", "silent_neurons"]
