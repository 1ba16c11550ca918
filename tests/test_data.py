import hashlib
import http.server
import io
import math
import tarfile
import threading

import numpy as np
import pooch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconlaw import data
from reconlaw._random import seeded_generator
from reconlaw.data import cifar

ALL = {
    "digits": lambda n=6, seed=0, **more: data.digits(n, seed=seed, **more),
    "faces": lambda n=6, seed=0, **more: data.faces(n, seed=seed, **more),
    "photos": lambda n=6, seed=0, **more: data.photos(n, size=16, seed=seed, **more),
    "colour photos": lambda n=6, seed=0, **more: data.photos(n, size=16, rgb=True, seed=seed, **more),
    "sphere": lambda n=6, seed=0, **more: data.sphere(n, 10, seed=seed, **more),
}
PICTURES = [name for name in ALL if name != "sphere"]


@pytest.mark.parametrize("name", ALL)
def test_rows_lie_on_the_sphere(name):
    for dtype in (torch.float64, torch.float32):
        found = ALL[name](dtype=dtype)
        n, d = found.X.shape
        assert n == 6 and found.X.dtype == found.y.dtype == dtype and found.y.shape == (6,)
        torch.testing.assert_close(found.X.norm(dim=1), torch.full((6,), math.sqrt(d), dtype=dtype))
        assert found.image_shape is None or math.prod(found.image_shape) == d


@pytest.mark.parametrize("name", ALL)
def test_raw_pixels_are_there_in_the_same_order(name):
    """What ordinary models see: in [0, 1], and on the sphere once the mean pixel is taken off."""
    found = ALL[name]()
    if found.image_shape is None:
        assert found.pixels is None
        return
    assert found.pixels.shape == found.X.shape and 0 <= found.pixels.min() and found.pixels.max() <= 1
    centred = (found.pixels.reshape(6, *found.image_shape) - torch.tensor(found.mean)).reshape(6, -1)
    torch.testing.assert_close(torch.nn.functional.normalize(centred), torch.nn.functional.normalize(found.X))


@pytest.mark.parametrize("name", ALL)
def test_seeds(name):
    first, again, other = ALL[name](seed=1), ALL[name](seed=1), ALL[name](seed=2)
    assert torch.equal(first.X, again.X) and torch.equal(first.y, again.y)
    assert not torch.equal(first.X, other.X)
    rounded = ALL[name](seed=1, dtype=torch.float32)
    torch.testing.assert_close(rounded.X.double(), first.X, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name):
    found = ALL[name]()
    pictures = found.to_images(found.X)
    assert pictures.shape == (6, *found.image_shape) and pictures.dtype == np.float64
    assert pictures.min() >= 0 and pictures.max() <= 1
    # Nothing of the truth is clipped, so the way back is exact; and the contrast is as large as it can be.
    mean = np.asarray(found.mean) if len(found.image_shape) == 3 else found.mean[0]
    back = ((pictures - mean) / found.scale).reshape(6, -1)
    np.testing.assert_allclose(back, found.X.numpy(), atol=1e-12)
    assert min(pictures.min(), 1 - pictures.max()) < 1e-12
    # A sign flip is a negative about the mean, wherever it is not clipped.
    negative = found.to_images(-found.X)
    np.testing.assert_allclose(negative, np.clip(2 * mean - pictures, 0, 1), atol=1e-12)


def test_a_picture_is_the_original_up_to_contrast():
    import skimage.data

    found = data.faces(100)
    originals = skimage.data.lfw_subset()[:100].reshape(100, -1) - found.mean[0]
    rows = found.X.numpy() / 25
    cosine = rows @ (originals / np.linalg.norm(originals, axis=1, keepdims=True)).T
    np.testing.assert_allclose(np.sort(cosine.max(axis=1)), 1.0, rtol=1e-12)


def test_to_images_refuses():
    digits = data.digits(4)
    with pytest.raises(ValueError, match="no pictures"):
        data.sphere(3, 4).to_images(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"X has shape \(2, 63\)"):
        digits.to_images(torch.zeros(2, 63))
    with pytest.raises(ValueError, match="NaN"):
        digits.to_images(torch.full((1, 64), torch.nan))
    with pytest.raises(TypeError, match="torch tensor"):
        digits.to_images(digits.X.numpy())


def test_digit_labels():
    two = data.digits(5, classes=(3, 8))
    assert two.y.tolist() == [-1, -1, -1, 1, 1]
    three = data.digits(7, classes=(0, 1, 2))
    assert three.y.shape == (7, 3)
    torch.testing.assert_close(three.y.sum(dim=1), torch.zeros(7).double(), rtol=0, atol=1e-15)
    assert three.y.argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert set(data.faces(50).y.tolist()) == {-1.0, 1.0}


def test_photo_sizes():
    assert data.photos(3, size=5).image_shape == (5, 5)
    assert data.photos(1, size=512, rgb=True).image_shape == (512, 512, 3)
    with pytest.raises(ValueError, match="larger than every photograph"):
        data.photos(1, size=513)


def test_sphere_labels():
    silent = data.sphere(50, 3, noise=0.0)
    solution = torch.linalg.lstsq(silent.X, silent.y[:, None])
    assert (silent.X @ solution.solution - silent.y[:, None]).abs().max() < 1e-12
    many = data.sphere(20_000, 5, noise=0.5)
    residual = many.y - many.X @ torch.linalg.lstsq(many.X, many.y[:, None]).solution[:, 0]
    assert residual.std().item() == pytest.approx(0.5, rel=0.02)
    assert set(data.sphere(20, 5, labels="signs").y.tolist()) == {-1.0, 1.0}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_streams_do_not_meet(seed):
    purposes = ["data", "features", "attack"]
    draws = [torch.randn(3, generator=seeded_generator(purpose, seed)) for purpose in purposes]
    draws += [torch.randn(3, generator=torch.Generator().manual_seed(seed))]
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
    again = torch.randn(3, generator=seeded_generator("data", seed))
    assert torch.equal(draws[0], again)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        *[(lambda make=make: make(n=0), "n=0 must be") for make in ALL.values()],
        *[(lambda make=make: make(seed=-1), "seed=-1 must be") for make in ALL.values()],
        *[(lambda make=ALL[name]: make(n=2000), "lower n") for name in PICTURES],
        (lambda: data.sphere(3, 0), "d=0"),
        (lambda: data.sphere(3, 4, noise=-1.0), "noise"),
        (lambda: data.sphere(3, 4, noise=math.nan), "noise"),
        (lambda: data.sphere(3, 4, labels="quadratic"), "'linear' or 'signs'"),
        (lambda: data.sphere(3, 1), "duplicate rows"),
        (lambda: data.digits(2, classes=(3, 10)), r"unknown classes \[10\]"),
        (lambda: data.digits(2, classes=(3,)), "at least two classes"),
        (lambda: data.digits(2, classes=3), "at least two classes"),
        (lambda: data.digits(2, classes=(3, 3)), "each once"),
        (lambda: data.photos(2, size=1), "size=1"),
        (lambda: data.cifar10(0), "n=0"),
        (lambda: data.cifar10(2, classes=("frog", "toad")), r"unknown classes \['toad'\]"),
        (lambda: data.cifar10(2, classes="frog"), "at least two classes"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_bad_dtype():
    for make in ALL.values():
        with pytest.raises(TypeError, match="float16"):
            make(dtype=torch.float16)


# CIFAR-10, from small files of the same layout


def records(labels, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.hstack([np.asarray(labels, dtype=np.uint8)[:, None], pixels])


def archive_of(batches):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{cifar.FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def batches(monkeypatch):
    """Five batches of eight records, and the checks set for them."""
    content = {name: records([6, 9, 0, 6, 3, 9, 6, 1], k).tobytes() for k, name in enumerate(cifar.BATCHES)}
    monkeypatch.setattr(cifar, "BATCH_RECORDS", 8)
    # The time stamp of a gzip file changes its hash: keep the bytes.
    packed = archive_of(content)
    monkeypatch.setattr(cifar, "SHA256", hashlib.sha256(packed).hexdigest())
    return content, packed


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "reconlaw"


@pytest.fixture
def server(batches, monkeypatch, tmp_path):
    """Serves tmp_path/site on localhost, and the archive's URL points there."""
    site = tmp_path / "site"
    site.mkdir()
    (site / cifar.ARCHIVE).write_bytes(batches[1])

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(site))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:{httpd.server_port}/{cifar.ARCHIVE}")
        yield site
        httpd.shutdown()


def test_cifar_bare_file(tmp_path):
    raw = records([9, 6, 0, 6, 9, 6])
    path = tmp_path / "some.bin"
    path.write_bytes(raw.tobytes())
    found = data.cifar10(4, root=path)
    assert found.image_shape == (32, 32, 3) and found.y.tolist() == [-1, -1, 1, 1]
    planes = raw[[1, 3, 0, 4], 1:].reshape(4, 3, 32, 32) / 255.0
    centred = planes.transpose(0, 2, 3, 1) - np.array(cifar.MEAN)
    rows = centred.reshape(4, -1)
    rows *= math.sqrt(3072) / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.X.numpy(), rows, rtol=1e-12)
    assert data.cifar10(3, root=str(path), dtype=torch.float32).y.tolist() == [-1, -1, 1]
    assert data.cifar10(3, classes=("truck", "frog", "airplane"), root=path).y.shape == (3, 3)


def test_cifar_folder_and_archive_agree(batches, tmp_path):
    content, packed = batches
    folder = tmp_path / "data" / cifar.FOLDER
    folder.mkdir(parents=True)
    for name, batch in content.items():
        (folder / name).write_bytes(batch)
    (tmp_path / "archived").mkdir()
    (tmp_path / "archived" / cifar.ARCHIVE).write_bytes(packed)
    roots = [
        tmp_path / "data",
        folder,
        tmp_path / "archived",
        tmp_path / "archived" / cifar.ARCHIVE,
    ]
    found = [data.cifar10(16, root=root).X for root in roots]  # eight trucks: four batches
    assert all(torch.equal(found[0], X) for X in found)
    (folder / cifar.BATCHES[2]).unlink()
    data.cifar10(8, root=folder)  # four trucks are in the first two batches
    with pytest.raises(FileNotFoundError, match=r"data_batch_3.bin is missing"):
        data.cifar10(16, root=folder)
    with pytest.raises(ValueError, match="too few images in .*found 12 of 12 frog, 10 of 12 truck"):
        data.cifar10(24, root=tmp_path / "archived")


def test_cifar_bad_files(batches, tmp_path):
    content, packed = batches
    path = tmp_path / "short.bin"
    for bad in (b"", records([6, 9]).tobytes()[:-1], packed):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="no whole number of 3073-byte records"):
            data.cifar10(2, root=path)
    path.write_bytes(records([6, 9, 17]).tobytes())
    with pytest.raises(ValueError, match="record 2 of .* has label 17"):
        data.cifar10(2, root=path)
    path.write_bytes(records([6, 9, 9]).tobytes())
    with pytest.raises(ValueError, match="found 1 of 2 frog, 2 of 2 truck"):
        data.cifar10(4, root=path)
    twice = records([6, 9])[[0, 0, 1]]
    path.write_bytes(twice.tobytes())
    with pytest.raises(ValueError, match="duplicate rows"):
        data.cifar10(3, root=path)
    # Cut at a record's end: every label is good, yet the images would not be the first of the data set.
    (tmp_path / cifar.BATCHES[0]).write_bytes(content[cifar.BATCHES[0]][: 5 * cifar.RECORD])
    with pytest.raises(ValueError, match="it was cut short"):
        data.cifar10(2, root=tmp_path)


def test_cifar_wrong_archive_or_place(batches, tmp_path):
    (tmp_path / cifar.ARCHIVE).write_bytes(batches[1][:-5])
    with pytest.raises(ValueError, match="wrong SHA-256"):
        data.cifar10(2, root=tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.cifar10(2, root=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no cifar-10-binary.tar.gz"):
        data.cifar10(2, root=tmp_path / "empty")
    (tmp_path / "empty" / "mine.bin").write_bytes(records([6, 9]).tobytes())
    with pytest.raises(FileNotFoundError, match="it has mine.bin: pass such a file"):
        data.cifar10(2, root=tmp_path / "empty")


def test_cifar_download(server, cache):
    with pytest.raises(FileNotFoundError, match="pass download=True"):
        data.cifar10(2, download=False)
    fetched = data.cifar10(4)
    assert (cache / cifar.ARCHIVE).is_file()
    (server / cifar.ARCHIVE).unlink()
    assert torch.equal(data.cifar10(4).X, fetched.X)
    assert torch.equal(data.cifar10(4, download=False).X, fetched.X)


def test_cifar_download_fails(server, cache, monkeypatch):
    archive = server / cifar.ARCHIVE
    archive.write_bytes(archive.read_bytes()[:-5])
    with pytest.raises(ValueError, match="gave a file of the wrong SHA-256"):
        data.cifar10(2)
    assert not (cache / cifar.ARCHIVE).exists()
    archive.unlink()
    with pytest.raises(ConnectionError, match="HTTPError"):
        data.cifar10(2)
    monkeypatch.setattr(cifar, "URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    with pytest.raises(ConnectionError, match="check the network"):
        data.cifar10(2)
    assert not (cache / cifar.ARCHIVE).exists()
