"""CIFAR-10 in its binary version, records of one label byte and 3072 pixel bytes: no pickle is ever loaded.

Source: A. Krizhevsky, *Learning multiple layers of features from tiny images* (2009),
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch

from .._checks import check_count, check_float_dtype, check_folder
from .dataset import Dataset, check_classes, class_labels, from_pixels, load_pooch, share_out

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
BATCHES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32
BATCH_RECORDS = 10_000
MEAN = (0.4914, 0.4822, 0.4465)  # of the 50,000 training images, per channel

Source = tuple[str, bytes]  # what to call it in an error, and its records


def cifar10(
    n: int = 10,
    classes: tuple[str, ...] = ("frog", "truck"),
    root: str | PathLike | None = None,
    download: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """Training images of CIFAR-10, 32×32 in colour, d = 3072: of each class the first in file order.

    Args:
        n: how many, shared evenly among the classes (the first classes take the remainder).
        classes: two or more of "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
            "ship", "truck".
        root: where the data lie: a folder that has ``cifar-10-binary.tar.gz``, ``cifar-10-batches-bin`` or
            the ``data_batch_*.bin`` themselves, or one such archive, or one file of records. With a root
            nothing is downloaded. None takes the archive from the cache (``pooch.os_cache("reconlaw")``).
        download: fetch the archive (162 MiB) into the cache if it is not there; its checksum is always
            verified.
        dtype: torch.float64 or torch.float32.

    Returns:
        A :class:`Dataset`, rows sorted by class. y is −1 for the first and +1 for the second of two classes,
        (n,); for K ≥ 3 classes the one-hot row less 1/K, (n, K).

    Raises:
        FileNotFoundError: nothing to read at root, or nothing cached and ``download=False``.
        ConnectionError: the download failed.
        ValueError: wrong checksum, short file, a label above 9, too few images of a class, unknown classes,
            n < 1.

    Source:
        The choice of images is that of Iurada et al., arXiv 2509.22214: n=10, five frogs and five trucks.
    """
    check_count("n", n)
    check_float_dtype(dtype)
    chosen = check_classes(classes, CLASSES)
    counts = share_out(n, len(chosen))
    pixels = _first_of_each(_sources(root, download), [CLASSES.index(c) for c in chosen], counts)
    return from_pixels(pixels, class_labels(counts), MEAN, dtype)


def _first_of_each(sources: Iterator[Source], labels: list[int], counts: list[int]) -> np.ndarray:
    """(n, 32, 32, 3) in [0,1]: the first ``counts[k]`` images of ``labels[k]``; reads no further."""
    found: dict[int, list[np.ndarray]] = {label: [] for label in labels}
    wanted = dict(zip(labels, counts, strict=True))
    read: list[str] = []
    while any(len(found[label]) < wanted[label] for label in labels):
        name, content = next(sources, ("", b""))
        if not name:
            have = ", ".join(f"{len(found[k])} of {wanted[k]} {CLASSES[k]}" for k in labels)
            raise ValueError(f"too few images in {', '.join(read)}: found {have}; lower n or add batches")
        read.append(name)
        records = _records(name, content)
        for label in labels:
            missing = wanted[label] - len(found[label])
            found[label].extend(records[records[:, 0] == label][:missing, 1:])
    rows = np.stack([image for label in labels for image in found[label]])
    # Stored as three planes, red, green, blue; pictures here carry the channel last.
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255.0


def _records(name: str, content: bytes) -> np.ndarray:
    """The (k, 3073) bytes of a file of records, checked."""
    if len(content) == 0 or len(content) % RECORD:
        raise ValueError(
            f"{name} has {len(content)} bytes, no whole number of {RECORD}-byte records: it was cut short or "
            "is not CIFAR-10's binary version; fetch it again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        bad = int(np.argmax(records[:, 0] > 9))
        raise ValueError(
            f"record {bad} of {name} has label {records[bad, 0]}, expected 0…9: not CIFAR-10's binary "
            "version (CIFAR-100 has records of 3074 bytes); fetch it again"
        )
    return records


def _sources(root: str | PathLike | None, download: bool) -> Iterator[Source]:
    """The training batches in order, wherever they are."""
    if root is None:
        return _from_archive(_cached(download))
    root = check_folder("root", root)
    if root.is_dir():
        for folder in (root, root / FOLDER):
            if (folder / BATCHES[0]).is_file():
                return _from_folder(folder)
        if (root / ARCHIVE).is_file():
            return _from_archive(root / ARCHIVE)
        bare = sorted(path.name for path in root.glob("*.bin"))
        hint = f"; it has {', '.join(bare[:3])}: pass such a file itself as root" if bare else ""
        raise FileNotFoundError(f"{root} has no {ARCHIVE}, {FOLDER}/ or {BATCHES[0]}{hint}")
    if not root.is_file():
        raise FileNotFoundError(f"root={str(root)!r} does not exist; give a folder, an archive or a .bin file")
    if root.name.endswith((".tar.gz", ".tgz")):
        return _from_archive(root)
    return iter([(str(root), root.read_bytes())])


def _from_folder(folder: Path) -> Iterator[Source]:
    for batch in BATCHES:
        path = folder / batch
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the folder holds an incomplete CIFAR-10; extract it again")
        yield _whole_batch(str(path), path.read_bytes())


def _from_archive(path: Path) -> Iterator[Source]:
    if load_pooch().file_hash(str(path), alg="sha256") != SHA256:
        raise ValueError(f"{path} has the wrong SHA-256, expected {SHA256}: it was cut short or altered; fetch {URL}")
    with tarfile.open(path, "r:gz") as archive:
        for batch in BATCHES:
            # Stop at the member: asking for it by name would first unpack all 162 MiB to list the archive.
            member = next(m for m in archive if m.name == f"{FOLDER}/{batch}")
            yield _whole_batch(f"{path}:{batch}", cast(IO[bytes], archive.extractfile(member)).read())


def _whole_batch(name: str, content: bytes) -> Source:
    # A batch cut at a record's end would pass for whole, and shift which images are "the first".
    if len(content) != BATCH_RECORDS * RECORD:
        raise ValueError(
            f"{name} has {len(content)} bytes, a batch has {BATCH_RECORDS * RECORD}: it was cut short; fetch "
            "it again, or pass that file itself as root to read the records that are there"
        )
    return name, content


def _cached(download: bool) -> Path:
    """The archive in pooch's cache, fetched if need be."""
    from requests.exceptions import RequestException

    pooch = load_pooch()
    cache = Path(pooch.os_cache("reconlaw"))
    if not download:
        if not (cache / ARCHIVE).is_file():
            raise FileNotFoundError(f"no {ARCHIVE} in {cache}; pass download=True, or root= where you keep it")
        return cache / ARCHIVE
    try:
        fetched = pooch.retrieve(
            URL,
            known_hash=f"sha256:{SHA256}",
            fname=ARCHIVE,
            path=cache,
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
        )
    except RequestException as error:
        raise ConnectionError(
            f"could not download {URL} ({type(error).__name__}); check the network, or fetch it by other "
            "means and pass its place as root="
        ) from error
    except ValueError as error:  # pooch's word for a wrong hash; it keeps no such file
        raise ValueError(
            f"{URL} gave a file of the wrong SHA-256, expected {SHA256}; try again, or pass a copy as root="
        ) from error
    return Path(fetched)
