"""Files that a run leaves: only where one may be, whole or not at all, and never taken for whole with a bit flipped."""

import os
import random
import stat

import pytest
import torch

import reconlaw as rl
from reconlaw import _files
from reconlaw._files import sealed, unsealed, usable_path, write_whole
from reconlaw.attack.run import CheckpointError, Run

POSIX = pytest.mark.skipif(os.name == "nt", reason="pipes, modes and names of POSIX")


class Refused(Exception):
    pass


def refused(path, words, **options):
    with pytest.raises(Refused, match=words) as caught:
        usable_path("place", path, Refused, **options)
    assert "place=" in str(caught.value)


def test_paths_that_are_none_are_refused_in_words(tmp_path):
    for path, words in [
        (b"run.pt", "is a bytes"),
        (3, "is a int"),
        (True, "is a bool"),
        (None, "is a NoneType"),
        ("", "no name of a file"),
        (str(tmp_path / "a\0b"), "no name of a file"),
        (f"{tmp_path}/new/", "no name of a file"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300), "cannot be written"),
        ("~nobody-of-that-name/run.pt", "cannot be written"),
    ]:
        refused(path, words)
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "pipe")
    refused("/dev/null", "device")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "cannot be written")
    place = usable_path("place", tmp_path / "run.pt", Refused)
    os.mkfifo(place)  # meanwhile
    with pytest.raises(OSError, match="pipe"):
        write_whole(place, b"content")
    assert stat.S_ISFIFO(place.stat().st_mode)


def test_a_file_of_another_program_is_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    refused(tmp_path / "notes.txt", "of another program", ours=lambda head: head == b"ours")
    assert (tmp_path / "notes.txt").read_text() == "notes"
    for content in ("", "ours"):
        (tmp_path / "notes.txt").write_text(content)
        usable_path("place", tmp_path / "notes.txt", Refused, lambda head: head == b"ours")


def test_links_are_followed_and_home_is_found(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "run.pt")
    place = usable_path("place", tmp_path / "link", Refused)
    write_whole(place, b"content")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "run.pt").read_bytes() == b"content"
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path))
    assert usable_path("place", "~/deep/run.pt", Refused) == tmp_path.resolve() / "deep" / "run.pt"


@POSIX
def test_names_as_long_as_a_folder_takes_and_of_any_letters(tmp_path):
    for name in ("x" * 250, "漢" * 80, "ü \n?.pt", "a\udcff.pt"):
        write_whole(usable_path("place", tmp_path / name, Refused), b"content")
        assert (tmp_path / name).read_bytes() == b"content"


@POSIX
def test_the_mode_is_that_of_a_new_file_or_of_the_one_before(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "run.pt", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.pt").stat().st_mode) == 0o640
    os.chmod(tmp_path / "run.pt", 0o604)
    write_whole(tmp_path / "run.pt", b"2")
    assert stat.S_IMODE((tmp_path / "run.pt").stat().st_mode) == 0o604


def test_a_full_disk_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    write_whole(tmp_path / "run.pt", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
            patch.setattr(_files.os, call, full)
            write_whole(tmp_path / "run.pt", b"new")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_every_flipped_bit_of_a_checkpoint_is_seen(tmp_path):
    run = Run(60, checkpoint=tmp_path / "run.pt", fingerprint="it")
    run.record(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), 0.5)
    run.save()
    whole, draw = (tmp_path / "run.pt").read_bytes(), random.Random(0)
    assert unsealed(whole) and sealed(unsealed(whole)) == whole
    places = [draw.randrange(8 * len(whole)) for _ in range(300)]
    for bit in [*places, 0, 8 * len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "run.pt").write_bytes(flipped)
        with pytest.raises(CheckpointError, match="cannot be read"):
            Run(60, checkpoint=tmp_path / "run.pt", fingerprint="it")
    for cut in (0, 1, 100, len(whole) - 1):
        (tmp_path / "run.pt").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="cannot be read"):
            Run(60, checkpoint=tmp_path / "run.pt", fingerprint="it")
    (tmp_path / "run.pt").write_bytes(whole)
    assert torch.equal(Run(60, checkpoint=tmp_path / "run.pt", fingerprint="it").best, run.best)


def test_a_disk_that_torch_finds_full_does_not_cost_the_result(problem, tmp_path, monkeypatch):
    case = problem()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="was not written"):
        result = rl.reconstruct(case.theta, case.features, 5, checkpoint=tmp_path / "run.pt")
    assert result.converged and list(tmp_path.iterdir()) == []
