"""Where a sweep keeps its cells: what identifies a cell, and the SQLite file that holds those that are done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import threading
import time
from pathlib import Path

from .._files import usable_path
from .claims import TABLES, Claims

_APPLICATION = 0x72636C77  # marks a SQLite file as a store of sweeps
_LAYOUT = 2
_BUSY = 60.0  # seconds to wait for another process that is writing
_TABLE = """CREATE TABLE cells (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, key TEXT NOT NULL, settings TEXT NOT NULL,
    result TEXT, error TEXT, code TEXT, seconds REAL, seal TEXT, UNIQUE (name, version, key))"""


class StoreError(RuntimeError):
    """A store that cannot be used: damaged, of something else, or nowhere to write it. Nothing in it was changed."""


# Of what is stored: levels of nesting, and whole numbers.
_DEEPEST, _LARGEST = 100, 10**300


def cell_key(settings: dict) -> str:
    """The text that identifies a cell: JSON with sorted names, in which numbers that are equal read the same."""
    return json.dumps(_canonical(_plain(settings)), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _canonical(value):
    if isinstance(value, dict):
        return {name: _canonical(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value, place: str = "settings"):
    """``value`` as JSON holds it, lists for tuples and arrays; whatever JSON has no word for is refused."""
    if hasattr(value, "tolist"):  # numbers and arrays of NumPy, tensors of torch
        try:
            value = value.tolist()
        except (RuntimeError, NotImplementedError) as error:
            raise TypeError(f"{place} holds no numbers that can be stored ({error})") from error
    if place.count("[") > _DEEPEST:
        raise ValueError(f"{place[:40]}… is nested more than {_DEEPEST} deep, which no file keeps; pass it flatter")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _LARGEST:
        raise ValueError(f"{place} is a whole number of more than 300 digits; pass it as text")
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{place} has the key {name!r}, a {type(name).__name__}; keys must be strings")
        return {name: _plain(one, f"{place}[{name!r}]") for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, f"{place}[{i}]") for i, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place} is {value}, which is equal to no setting and cannot be found again; use None, say")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{place} holds half a letter (a lone surrogate), which no file can keep; pass whole text")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{place} is a {type(value).__name__}; settings are numbers, strings, None, lists and dictionaries, so that "
        "they can be stored; pass what it is made from, and make it in work"
    )


def keyed(cells) -> dict[str, dict]:
    """Key → settings as JSON holds them, of cells no two of which are alike."""
    found: dict[str, dict] = {}
    for i, cell in enumerate(cells):
        if not isinstance(cell, dict):
            raise TypeError(f"cell {i} is a {type(cell).__name__}; each cell is a dictionary of settings")
        key = cell_key(cell)
        if key in found:
            raise ValueError(f"cell {i}, {cell}, is there twice; each cell once (add a seed to repeat it)")
        found[key] = _plain(cell)
    return found


_COLUMNS = "settings, result, error, code, seconds"


def _seal(*cell) -> str:
    """A checksum of a cell and of the place where it is kept."""
    return hashlib.sha256(repr(cell).encode(errors="backslashreplace")).hexdigest()[:32]


class Store:
    """Finished and failed cells in one SQLite file, in write-ahead mode: a kill at any moment leaves it whole.

    Args:
        path: of the file; None is a store in memory, gone at the end.

    Raises:
        StoreError: the file is damaged, is no store of sweeps, or cannot be written. It is left as it is.
    """

    def __init__(self, path: str | Path | None):
        self.path = None if path is None else usable_path("store", path, StoreError)
        self._lock = threading.Lock()  # joblib asks for the next cell from threads of its own
        if self.path is not None and self.path.is_file() and self.path.stat().st_size == 1:  # empty, for SQLite
            raise StoreError(f"store {self.path} is no SQLite file, of one byte; it was left as it is: name another")
        with self._explained():
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            place = ":memory:" if self.path is None else self.path
            self._sqlite = sqlite3.connect(place, timeout=_BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._sqlite.close()
                raise

    def _prepare(self):
        (application,) = self._sqlite.execute("PRAGMA application_id").fetchone()
        if application == 0:
            self._sqlite.execute("BEGIN IMMEDIATE")
            try:
                if not self._sqlite.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    self._sqlite.execute(_TABLE)
                    self._sqlite.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._sqlite.execute(f"PRAGMA user_version = {_LAYOUT}")
            finally:
                self._sqlite.execute("COMMIT")
            (application,) = self._sqlite.execute("PRAGMA application_id").fetchone()
        (layout,) = self._sqlite.execute("PRAGMA user_version").fetchone()
        if application == _APPLICATION and layout == 1:
            self._add_seals()
        if application != _APPLICATION or layout > _LAYOUT:
            whose = "of a later reconlaw" if application == _APPLICATION else "a database of something else"
            raise StoreError(f"{self.path} is {whose}; it was left as it is: name another file for the store")
        (found,) = self._sqlite.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {found}")
        for _ in range(100):  # entering this mode is refused, not waited for, while another process looks in
            try:
                self._sqlite.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                time.sleep(0.02)
        self._sqlite.execute("PRAGMA synchronous = FULL")  # what is committed outlives a power cut

    def _add_seals(self):
        """A store of layout 1 had none: what it holds is taken as it is, once."""
        self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            if self._sqlite.execute("PRAGMA user_version").fetchone() == (1,):
                self._sqlite.execute("ALTER TABLE cells ADD COLUMN seal TEXT")
                rows = self._sqlite.execute(f"SELECT id, name, version, key, {_COLUMNS} FROM cells").fetchall()
                sealed = [(_seal(*row[1:]), row[0]) for row in rows]
                self._sqlite.executemany("UPDATE cells SET seal = ? WHERE id = ?", sealed)
                self._sqlite.execute(f"PRAGMA user_version = {_LAYOUT}")
        finally:
            self._sqlite.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self):
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, ValueError) as error:
            text = str(error)
            if "not a database" in text or "malformed" in text or isinstance(error, ValueError):
                what = (
                    f"is damaged, or no SQLite file ({text}); it was left as it is: move it away, or name another file"
                )
            elif "locked" in text or "busy" in text:
                what = f"has been kept locked by another process for {_BUSY:.0f} s; wait for it, or name another file"
            else:
                what = f"cannot be written ({text}); what it held is still there: free space, or name another file"
            raise StoreError(f"store {self.path} {what}") from error

    def records(self, name: str, version: str) -> dict[str, dict]:
        """Key → record of every cell under this name and version, in the order in which they came."""
        query = f"SELECT key, {_COLUMNS}, seal FROM cells WHERE name = ? AND version = ? ORDER BY id"
        found = {}
        with self._explained():
            for key, *cell, seal in self._sqlite.execute(query, (name, version)):
                if seal != _seal(name, version, key, *cell) or key in found:
                    raise ValueError(f"the checksum of a cell is wrong, {str(key)[:100]}")
                found[key] = self._record(*cell)
        return found

    @staticmethod
    def _record(settings, result, error, code, seconds) -> dict:
        outcome = {"error": error} if result is None else {"result": json.loads(result)}
        return {"settings": json.loads(settings), **outcome, "code": code, "seconds": seconds}

    def claims(self) -> Claims | None:
        """What this process claims of the cells; None of a store in memory, which nobody shares."""
        if self.path is None:
            return None
        with self._explained():
            for table in TABLES:
                self._sqlite.execute(table)
        return Claims(self._sqlite, self._explained)

    def finished(self, name: str, version: str, key: str) -> bool:
        query = "SELECT 1 FROM cells WHERE name = ? AND version = ? AND key = ? AND result IS NOT NULL"
        with self._explained():
            return self._sqlite.execute(query, (name, version, key)).fetchone() is not None

    def versions(self, name: str) -> set[str]:
        with self._explained():
            query = "SELECT DISTINCT version FROM cells WHERE name = ? AND result IS NOT NULL"
            return {version for (version,) in self._sqlite.execute(query, (name,))}

    @contextlib.contextmanager
    def at_once(self):
        """What is added inside becomes one commit."""
        with self._explained():
            self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sqlite.execute("ROLLBACK")
            raise
        with self._explained():
            self._sqlite.execute("COMMIT")

    def add(
        self, name, version, key, settings, result=None, error=None, code=None, seconds=None, replace: bool = False
    ) -> dict:
        """Commit one cell; a finished one stays as it is unless ``replace``. Returns its record."""
        text = json.dumps(settings, ensure_ascii=False)
        columns = (*_COLUMNS.split(", "), "seal")
        change = ", ".join(f"{column} = excluded.{column}" for column in columns)
        statement = (
            f"INSERT INTO cells (name, version, key, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"ON CONFLICT (name, version, key) DO UPDATE SET {change}" + ("" if replace else " WHERE result IS NULL")
        )
        with self._explained():
            seconds = None if seconds is None else float(seconds)  # as SQLite gives it back
            cell = (name, version, key, text, result, error, code, seconds)
            self._sqlite.execute(statement, (*cell, _seal(*cell)))
        return self._record(text, result, error, code, seconds)

    def forget(self, name: str, version: str):
        with self._explained():
            self._sqlite.execute("DELETE FROM cells WHERE name = ? AND version = ?", (name, version))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sqlite.close()
