"""Files that a run leaves behind: asked for before the work, written whole or not at all, with a checksum.

A path that is handed in must name a regular file, or nothing yet: a device, a folder or a pipe is never replaced. A
symbolic link is followed, and what it points to is written; ``~`` is the home folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_SEAL = b"\nreconlaw sha256 "  # before the digest, after the content


def usable_path(name: str, path, refusal: type[Exception], ours=None) -> Path:
    """The place that ``path`` names, links and ``~`` resolved, if a file can be written there; folders are made.

    Args:
        name: of the argument, for messages.
        path: str or ``os.PathLike`` of one.
        refusal: class of the error that is raised, a clear one.
        ours: tells of the first 4096 bytes of a file that is there, and not empty, whether it may be replaced.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise refusal(f"{name}={path!r} is a {type(path).__name__}; pass the path of a file, as a string or Path")
    text = os.fspath(path)
    if not text or "\0" in text or text.endswith(("/", os.sep)):
        raise refusal(f"{name}={text!r} is no name of a file; name one")
    try:
        place = Path(os.path.realpath(Path(text).expanduser()))
        if _kind(place) not in ("regular file", None):
            raise refusal(f"{name}={text!r} is a {_kind(place)}, which is not replaced; name a file")
        place.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own beside it, as long as the one that is written first.
        tempfile.NamedTemporaryFile(dir=place.parent, prefix=_short(place.name), suffix=".part").close()
        if ours is not None and place.exists():
            with open(place, "rb") as file:
                head = file.read(4096)
            if head and not ours(head):
                raise refusal(f"{name}={text!r} is there already, and of another program: name another file")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, refusal):
            raise
        raise refusal(f"{name}={text!r} cannot be written ({error}); name another file") from error
    return place


def _short(name: str) -> str:
    """So much of a file's name that a few letters more still make one."""
    return os.fsencode(name)[:200].decode("utf-8", "ignore")


def _kind(place: Path) -> str | None:
    try:
        mode = os.stat(place).st_mode
    except FileNotFoundError:
        return None
    kinds = {stat.S_IFREG: "regular file", stat.S_IFDIR: "folder", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "pipe or socket")


def write_whole(place: Path, content: bytes) -> None:
    """Write to a file beside ``place`` and move it there: a kill or a full disk leaves the old one or the new.

    Raises:
        OSError: the disk is full, say, or what stands there now is no regular file; nothing was changed.
    """
    if _kind(place) not in ("regular file", None):
        raise OSError(f"{place} has become a {_kind(place)}, which is not replaced")
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(place).st_mode)
        return _write(place, content, mode)
    umask = os.umask(0)
    os.umask(umask)
    return _write(place, content, 0o666 & ~umask)


def _write(place, content, mode):
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=_short(place.name), suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sealed(content: bytes) -> bytes:
    """The content with its checksum behind it."""
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def unsealed(whole: bytes) -> bytes:
    """The content again.

    Raises:
        ValueError: it is not what was written: one bit is enough.
    """
    content, seal, digest = whole.rpartition(_SEAL)
    if not seal or hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its checksum is not that of its content: it is damaged, or of another program")
    return content
