"""Sweeps: a function over a grid of settings, in parallel, every finished cell kept at once and never computed again.

Cells go out through joblib (this machine, Dask, Ray, …); results come back to one SQLite store, which this process
alone writes.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import inspect
import itertools
import json
import pickle
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .._checks import listed, resolve_device
from .._workers import active_backend, check_jobs, close_quietly, local, this_process, work_for, workers
from .store import Store, keyed

_WAIT = 0.2  # seconds between two looks at cells that another process computes


class SweepError(RuntimeError):
    """Some cells failed; ``records`` holds all of them, the finished ones included."""

    def __init__(self, message: str, records: Sequence[dict] = ()):  # a default, so that it can be pickled
        super().__init__(message)
        self.records = list(records)


def grid(**axes: Iterable) -> list[dict]:
    """Every combination of the axes' values, the last axis fastest: ``grid(n=[5, 10], seed=range(3))`` has 6 cells.

    Raises:
        TypeError: an axis is one value, a text say, and no list of them.
    """
    for name, values in axes.items():
        if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
            raise TypeError(f"{name}={values!r} is one value; an axis is a list of them: {name}=[{values!r}]")
    ranges = [listed(name, values) for name, values in axes.items()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*ranges)]


def sweep(
    work: Callable[[dict], dict],
    cells: Iterable[dict],
    store: str | Path | None = None,
    *,
    name: str | None = None,
    version: str = "",
    jobs: int = -1,
    threads: int | None = None,
    isolate: bool = False,
    progress: bool = True,
    errors: str = "raise",
    fresh: bool = False,
    code: str | None = None,
    on_record: Callable[[dict], None] | None = None,
) -> list[dict]:
    """``work`` of every cell, in parallel; what the store holds already is not computed again.

    Each finished cell is committed at once, by this process alone: a worker, here or on a cluster, needs no file. So a
    sweep can be ended at any moment, by Ctrl-C, kill -9 or a power cut, and the same call goes on from there. Inside
    ``joblib.parallel_config(backend="dask")``, or ``"ray"`` after ``ray.util.joblib.register_ray()``, the same call
    runs on that cluster. A backend that cannot hand results over one by one (Ray's, multiprocessing's) works in rounds
    of one cell a worker, kept at the end of each round.

    A cell that ends its own process, for want of memory say, counts as failed, and the others go on. On a cluster that
    is the cluster's affair, and joblib's Dask backend may wait for such a cell for ever: Ctrl-C, and call again.

    Processes may share a store, and then share the work: each claims a cell before it starts it, and waits at the end
    for those of the others. Claims of a process that has died expire, on this machine at once, elsewhere after a
    minute.

    Args:
        work: settings → figures, both dictionaries that JSON can hold (NumPy's and torch's numbers and arrays pass as
            plain numbers and lists). It may be defined in a notebook.
        cells: settings, no two alike. 2 and 2.0 are the same setting; True and 1 are not.
        store: a SQLite file, created where there is none; None keeps nothing beyond this call.
        name: under which the store keeps these cells; the function's name if None.
        version: part of that name: change it when ``work`` changes, and its cells are computed anew beside the old.
        jobs: processes; −1 is one for each core, and one alone where torch sees an accelerator, in which every process
            would open a context of its own. A cluster uses what it has.
        threads: torch's threads a cell; None is 1 where cells run side by side and leaves a lone process as it is.
        isolate: a new process for every cell, one after the other.
        progress: a bar on stderr, with the time that remains at this call's mean pace.
        errors: "raise" a :class:`SweepError` after the last cell if any failed, or "keep" them among the records.
        fresh: first forget what the store holds under this name and version.
        code: recorded with each cell; a digest of ``work``'s own text if None.
        on_record: called here with every record as soon as it is kept.

    Returns:
        A record for each cell, in the order of ``cells``: {"settings", "result", "code", "seconds"}, or "error" in
        place of "result". A failed cell is tried again by the next call.

    Raises:
        SweepError: cells failed, and ``errors`` is "raise".
        StoreError: the store cannot be used; says why and what to do.
        ValueError, TypeError: what is wrong with an argument.
        KeyboardInterrupt: Ctrl-C; its ``records`` are those finished.
    """
    if errors not in ("raise", "keep"):
        raise ValueError(f"errors={errors!r}; use 'raise' or 'keep'")
    check_jobs(jobs)
    wanted = keyed(cells)
    name = _name(work, store) if name is None else name
    code = _digest(work) if code is None else code
    for label, text in (("name", name), ("version", version), ("code", code)):
        if not isinstance(text, str) and (label, text) != ("code", None):  # the text of some functions is not known
            raise TypeError(f"{label}={text!r} is a {type(text).__name__}; pass a string")
    with Store(store) as kept:
        if fresh:
            kept.forget(name, version)
        before = kept.records(name, version)
        todo = {key: settings for key, settings in wanted.items() if "result" not in before.get(key, {})}
        _announce(kept, name, version, code, [before[key] for key in wanted if key not in todo])
        claims = kept.claims() if todo else None
        take = (lambda key: True) if claims is None else (lambda key: claims.take(name, version, key))
        plan = _Plan(work, take, lambda key: kept.finished(name, version, key), jobs, threads, isolate)
        count, torch_threads, interrupted = len(wanted), torch.get_num_threads(), None
        bar = {"total": count, "initial": count - len(todo), "unit": "cell", "smoothing": 0, "file": sys.stderr}
        outcomes = plan.outcomes(todo)
        try:
            with tqdm(**bar, disable=not progress or not todo) as shown:
                for key, result, error, seconds in outcomes:
                    record = kept.add(name, version, key, todo[key], result, error, code, seconds)
                    if claims is not None and error is not None:
                        claims.give_back(name, version, key)
                    shown.update()
                    if on_record is not None:
                        on_record(record)
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
        finally:
            close_quietly(outcomes)
            if claims is not None:
                claims.close()
            torch.set_num_threads(torch_threads)
        after = kept.records(name, version)
    records = [after[key] | {"settings": settings} for key, settings in wanted.items() if key in after]
    if interrupted is not None:
        finished = [record for record in records if "result" in record]
        interrupted.records = finished  # type: ignore[attr-defined]
        where = f"{store} keeps them, and the same call goes on from there" if store else "no store was given"
        print(f"interrupted with {len(finished)} of {count} cells finished; {where}", file=sys.stderr)
        raise interrupted
    failed = [record for record in records if "error" in record]
    if failed and errors == "raise":
        raise SweepError(
            f"{len(failed)} of {count} cells failed, the first, {failed[0]['settings']}, with {failed[0]['error']}; "
            "the others are kept, and the same call tries the failed ones again (errors='keep' returns them all)",
            records,
        )
    return records


def _name(work, store) -> str:
    name = getattr(work, "__qualname__", None)
    if store is not None and (name is None or "<lambda>" in name):
        raise ValueError(f"{work!r} has no name of its own to keep its cells under; pass name=")
    return f"{getattr(work, '__module__', '')}.{name}"


def _digest(work) -> str | None:
    """Of the function's text, docstring and layout aside; None where it cannot be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(work)))
    except (OSError, TypeError, SyntaxError):
        return None
    function = tree.body[0]
    if isinstance(function, ast.FunctionDef) and ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def _announce(kept: Store, name: str, version: str, code: str | None, finished: list[dict]):
    """Say so where finished cells may not be what this call would compute."""
    stale = sum(record["code"] is not None and code is not None and record["code"] != code for record in finished)
    if stale:
        warnings.warn(
            f"{stale} of the finished cells are of another state of the code, and used as they are: fresh=True "
            "computes them anew, another version= beside the old ones",
            stacklevel=3,
        )
    others = kept.versions(name) - {version}
    if others and not finished:
        known = ", ".join(map(repr, sorted(others)))
        warnings.warn(f"the store holds {name} in version {known} only, not {version!r}: starting anew", stacklevel=3)


def _compute(work, key, settings, threads, parent):
    """One cell, wherever it runs: its key, its figures as JSON or its error, and the seconds it took."""
    work_for(parent)
    before, start = torch.get_num_threads(), time.perf_counter()
    result = error = None
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        figures = work(copy.deepcopy(settings))  # in this process it might write to those that are kept
        if not isinstance(figures, dict):
            raise TypeError(f"work returned a {type(figures).__name__}; it returns a dictionary of figures")
        text = json.dumps(figures, ensure_ascii=False, default=_listed)
        text.encode()  # half a letter cannot be kept
        result = text
    except (Exception, SystemExit) as caught:
        error = _told(caught)
    finally:
        torch.set_num_threads(before)
    return key, result, error, time.perf_counter() - start


def _told(error: BaseException) -> str:
    """An error in words that every file can keep."""
    try:
        text = str(error)
    except Exception as another:
        text = f"(its text cannot be had: {type(another).__name__})"
    return f"{type(error).__name__}: {text}".encode(errors="backslashreplace").decode()


def _listed(value):
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"work returned a {type(value).__name__} among its figures; return numbers, strings and lists")


class _Plan:
    """How the cells run: by the active joblib backend, or each in a process of its own."""

    def __init__(self, work, take, finished, jobs, threads, isolate):
        from joblib import effective_n_jobs

        self.work, self.take, self.finished, self.jobs, self.isolate = work, take, finished, jobs, isolate
        self.backend = active_backend()
        self.here = local(self.backend)
        if jobs == -1 and self.here and resolve_device("auto").type != "cpu":
            self.jobs = jobs = 1
        self.workers = effective_n_jobs(jobs)
        side_by_side = not isolate and (self.workers > 1 or not self.here)
        self.threads = 1 if threads is None and side_by_side else threads
        self.parent = this_process()
        if isolate or side_by_side and not getattr(self.backend, "supports_sharedmem", False):
            _check_travels(work, getattr(self.backend, "client", None))

    def outcomes(self, todo: dict[str, dict]):
        """What :func:`_compute` gave for each cell, as it comes; those of another process are waited for."""
        while todo:
            yield from self._free(todo)
            todo = {key: settings for key, settings in todo.items() if key in self.busy and not self.finished(key)}
            if todo:
                time.sleep(_WAIT)

    def _free(self, todo):
        """The same, of the cells that no other process has claimed; the others are then ``busy``."""
        from joblib.externals.loky import BrokenProcessPool

        started: dict[str, dict] = {}
        self.busy: set[str] = set()

        def calls():
            for key, settings in waiting:
                if self._take(key):
                    started[key] = settings
                    yield self._call(key, settings)

        waiting = iter(todo.items())
        if self.isolate:
            yield from (self._alone(key, settings) for key, settings in waiting if self._take(key))
            return
        broken = True
        while broken:
            try:
                with contextlib.closing(self._together(calls())) as outcomes:
                    for outcome in outcomes:
                        started.pop(outcome[0])
                        yield outcome
                broken = False
            except BrokenProcessPool:  # a worker died, of memory perhaps: its cell is one of those that were started
                broken = True
            while started:
                yield self._alone(*started.popitem())

    def _take(self, key):
        if self.take(key):
            return True
        self.busy.add(key)
        return False

    def _call(self, key, settings):
        from joblib import delayed

        return delayed(_compute)(self.work, key, settings, self.threads, self.parent)

    def _together(self, calls):
        one_by_one = self.backend.supports_return_generator
        how = {"return_as": "generator_unordered" if one_by_one else "list", "batch_size": 1}
        parallel = workers(self.jobs, self.threads, **how)
        if one_by_one:
            yield from parallel(calls)
            return
        with parallel:
            while together := list(itertools.islice(calls, self.workers)):
                yield from parallel(together)

    def _alone(self, key, settings):
        from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

        pool = ProcessPoolExecutor(1)
        try:
            function, given, _ = self._call(key, settings)
            return pool.submit(function, *given).result()
        except BrokenProcessPool as error:
            if error.__cause__ is not None:  # its traceback: the process lives, and could not load what it was sent
                why = str(error.__cause__).strip().strip('"').strip().splitlines()[-1]
                raise TypeError(
                    f"work cannot be loaded in another process ({why}); put what it calls (a function that functools "
                    "caches, say) into a module of its own, or use jobs=1"
                ) from error
            return key, None, "its process was ended from outside, for want of memory perhaps", None
        finally:
            pool.shutdown(wait=True, kill_workers=True)


def _check_travels(work, client=None):
    """Fail before the first cell where ``work`` cannot reach a worker."""
    from joblib.externals.loky.backend.reduction import dumps

    try:
        packed = dumps(work)
    except Exception as error:
        raise TypeError(
            f"work cannot be sent to another process ({error}); make what it holds inside it, or use jobs=1"
        ) from error
    if client is not None:  # Dask's: joblib would wait for ever for a cell that the workers cannot load
        client.run(pickle.loads, packed)
