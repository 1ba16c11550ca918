"""Who computes a cell: processes that share a store claim cells before they start, and claims of the dead expire."""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid

TABLES = (
    """CREATE TABLE IF NOT EXISTS owners (
    owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, beat REAL NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS claims (
    name TEXT NOT NULL, version TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, UNIQUE (name, version, key))""",
)
_BEAT = 5.0  # seconds between two signs of life
_SILENCE = 60.0  # after so many without one an owner counts as dead; on this machine as soon as its process is gone


class Claims:
    """The claims of this process in one store.

    Args:
        connection: to SQLite, in autocommit.
        explained: a context that guards it, and words its errors.
    """

    def __init__(self, connection, explained):
        self._sqlite, self._explained = connection, explained
        self.owner, self.host = uuid.uuid4().hex, platform.node()
        self._ended = threading.Event()
        self._beat()
        threading.Thread(target=self._live, daemon=True).start()

    def _beat(self):
        with self._explained():
            values = (self.owner, self.host, os.getpid(), time.time())
            self._sqlite.execute("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)", values)

    def _live(self):
        while not self._ended.wait(_BEAT):
            try:
                self._beat()
            except Exception:  # a store that is busy or full: the next one may do, and a claim too few costs time only
                continue

    def take(self, name: str, version: str, key: str) -> bool:
        """Whether the cell is this process's to compute: neither finished nor claimed by a process that lives."""
        with self._explained():
            self._sqlite.execute("BEGIN IMMEDIATE")
            try:
                mine = self._free(name, version, key)
                if mine:
                    self._sqlite.execute(
                        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (name, version, key, self.owner)
                    )
            finally:
                self._sqlite.execute("COMMIT")
        return mine

    def give_back(self, name: str, version: str, key: str) -> None:
        """Leave a cell that failed here to whoever waits for it: two that wait for each other's would wait for ever."""
        with self._explained():
            at = "WHERE name = ? AND version = ? AND key = ? AND owner = ?"
            self._sqlite.execute(f"DELETE FROM claims {at}", (name, version, key, self.owner))

    def _free(self, name, version, key):
        at = "WHERE name = ? AND version = ? AND key = ?"
        place = (name, version, key)
        if self._sqlite.execute(f"SELECT 1 FROM cells {at} AND result IS NOT NULL", place).fetchone():
            return False
        query = f"SELECT owner, host, pid, beat FROM claims LEFT JOIN owners USING (owner) {at}"
        found = self._sqlite.execute(query, place).fetchone()
        return found is None or found[0] == self.owner or not self._alive(*found[1:])

    def _alive(self, host, pid, beat):
        if beat is None or time.time() - beat > _SILENCE:
            return False
        return host != self.host or _running(pid)

    def close(self):
        """Give back what was not computed."""
        self._ended.set()
        try:
            with self._explained():
                self._sqlite.execute("DELETE FROM claims WHERE owner = ?", (self.owner,))
                self._sqlite.execute("DELETE FROM owners WHERE owner = ?", (self.owner,))
        except Exception:  # a full disk, say: they expire
            return


def _running(pid: int) -> bool:
    if os.name == "nt":  # no signal asks there, and 0 is Ctrl-C: what it has claimed expires
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
