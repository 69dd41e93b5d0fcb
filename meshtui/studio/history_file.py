"""The SQLite file of the history: schema, queries, and what to do when it is damaged.

Everything here blocks and belongs to one thread.
"""

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec

from meshtui.domain.codec import from_json, to_json
from meshtui.domain.errors import InvalidInput, MeshtuiError
from meshtui.domain.generation import Run

_BUSY_TIMEOUT_S = 5.0
# A page of runs ends here: a few hundred prompts that hold a book each are more than memory.
MAX_PAGE_BYTES = 64 * 1024 * 1024

_LOGGER = logging.getLogger(__name__)


class Trouble(MeshtuiError):
    """The history could not be read or written; the message is for people."""

    code = "history"


class _Newer(Exception):
    """The file was made by a later version of meshtui."""


class HistoryFile:
    """One connection to the file. The `record` of a run is its JSON without the answer, which
    grows while it streams and has a column of its own."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._has_index = _has_table(db, "runs_text")

    @classmethod
    def open(cls, path: Path) -> tuple[Self, str | None]:
        """The history in `path`, and a notice where it could not be opened as it is."""
        try:
            return cls._open_file(path), None
        except _Newer:
            return cls._in_memory(), (
                f"The history {path} was written by a newer meshtui: it is left alone, and new "
                "runs are kept until the controller ends."
            )
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                return cls._in_memory(), _cannot(path, error)
        except OSError as error:
            return cls._in_memory(), _cannot(path, error)
        try:
            aside = _move_aside(path)
            return cls._open_file(path), (
                f"The history was damaged. It was moved to {aside}, and a new one was begun."
            )
        except (OSError, sqlite3.Error) as error:
            return cls._in_memory(), _cannot(path, error)

    @classmethod
    def _open_file(cls, path: Path) -> Self:
        # Made here and not by SQLite, so that it is never readable to others, even for a moment.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        db = _connect(str(path))
        try:
            _prepare(db)
            return cls(db)
        except BaseException:
            db.close()
            raise

    @classmethod
    def _in_memory(cls) -> Self:
        db = _connect(":memory:")
        _prepare(db)
        return cls(db)

    def close(self) -> None:
        self._db.close()

    def put(self, run: Run) -> None:
        """Adds a run or replaces it."""
        record = to_json(msgspec.structs.replace(run, answer=""))
        with self._write() as db:
            self._forget_text(run.id)
            db.execute(
                "INSERT INTO runs (id, created_at, model, running, starred, prompt, answer, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                " running=excluded.running, prompt=excluded.prompt,"
                " answer=excluded.answer, record=excluded.record",
                (
                    run.id,
                    run.created_at,
                    run.model,
                    run.status == "running",
                    run.starred,
                    _storable("\n".join(message.content for message in run.messages)),
                    _storable(run.answer),
                    record,
                ),
            )
            if run.status != "running":
                self._index_text(run.id)

    def put_answer(self, run_id: str, answer: str) -> None:
        """Only for a run that is `running`: those are not in the text index."""
        with self._write() as db:
            db.execute(
                "UPDATE runs SET answer=? WHERE id=? AND running", (_storable(answer), run_id)
            )

    def get(self, run_id: str) -> Run | None:
        with self._read() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM runs WHERE id=?", (run_id,)).fetchone()
            return None if row is None else _run(run_id, row)

    def newest(self, limit: int, search: str | None, before: str | None) -> list[Run]:
        where, values = ["1"], list[object]()
        if before:
            where.append("id < ?")
            values.append(before)
        if search and search.strip():
            condition, found = self._matching(search)
            where.append(condition)
            values += found
        with self._read() as db:
            rows = db.execute(
                f"SELECT id, {_COLUMNS} FROM runs WHERE {' AND '.join(where)}"
                " ORDER BY id DESC LIMIT ?",
                (*values, limit),
            )
            runs: list[Run] = []
            size_bytes = 0
            for run_id, *row in rows:
                size_bytes += len(row[0]) + len(row[1])
                if runs and size_bytes > MAX_PAGE_BYTES:
                    break
                if run := _run(run_id, row):
                    runs.append(run)
            return runs

    def star(self, run_id: str, starred: bool) -> Run | None:
        with self._write() as db:
            db.execute("UPDATE runs SET starred=? WHERE id=?", (starred, run_id))
        return self.get(run_id)

    def delete(self, run_id: str) -> bool:
        with self._write() as db:
            self._forget_text(run_id)
            return db.execute("DELETE FROM runs WHERE id=?", (run_id,)).rowcount > 0

    def _matching(self, search: str) -> tuple[str, list[str]]:
        words = re.findall(r"[^\W_]+", search)
        if self._has_index and words:
            query = " ".join(f'"{word}"*' for word in words)
            found = "seq IN (SELECT rowid FROM runs_text WHERE runs_text MATCH ?)"
            return found, [query]
        pattern = "%" + re.sub(r"([%_|])", r"|\1", search.strip()) + "%"
        columns = ("model", "prompt", "answer")
        either = " OR ".join(f"{column} LIKE ? ESCAPE '|'" for column in columns)
        return f"({either})", [pattern] * len(columns)

    def _index_text(self, run_id: str) -> None:
        if self._has_index:
            self._db.execute(
                "INSERT INTO runs_text (rowid, model, prompt, answer)"
                " SELECT seq, model, prompt, answer FROM runs WHERE id=?",
                (run_id,),
            )

    def _forget_text(self, run_id: str) -> None:
        """Takes a run out of the index. The index keeps no text of its own, so it must be told
        exactly what had been put in; it is called before any of that changes."""
        if self._has_index:
            self._db.execute(
                "INSERT INTO runs_text (runs_text, rowid, model, prompt, answer)"
                " SELECT 'delete', seq, model, prompt, answer FROM runs"
                " WHERE id=? AND NOT running",
                (run_id,),
            )

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, whose errors are `Trouble`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise Trouble(f"The history cannot be written ({error}): new runs are not kept.") from (
                error
            )

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._db
        except sqlite3.Error as error:
            raise Trouble(f"The history cannot be read ({error}).") from error


_COLUMNS = "record, answer, starred"


def _run(run_id: str, row: Sequence[Any]) -> Run | None:
    """None for a record that another version wrote and this one cannot read: it must not take
    all the others with it."""
    record, answer, starred = row
    try:
        run: Run = from_json(record, Run)
    except InvalidInput as error:
        _LOGGER.warning("the run %s in the history cannot be read: %s", run_id, error)
        return None
    return msgspec.structs.replace(run, answer=answer, starred=bool(starred))


def _storable(text: str) -> str:
    """SQLite stores UTF-8, in which lone surrogates have no place."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(
        name, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _prepare(db: sqlite3.Connection) -> None:
    """Brings the schema up to date, and ends what a dead controller left running."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise _Newer
    db.execute("PRAGMA journal_mode=WAL")
    # With WAL a power cut may lose the last seconds, never the file.
    db.execute("PRAGMA synchronous=NORMAL")
    for number, migrate in enumerate(_MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            migrate(db)
            db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
    _end_interrupted(db)


def _end_interrupted(db: sqlite3.Connection) -> None:
    file = HistoryFile(db)
    rows = db.execute(f"SELECT id, {_COLUMNS} FROM runs WHERE running").fetchall()
    for run_id, *row in rows:
        if run := _run(run_id, row):
            file.put(msgspec.structs.replace(run, status="interrupted"))


def _first_schema(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE runs ("
        " seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created_at REAL NOT NULL,"
        " model TEXT NOT NULL, running INTEGER NOT NULL, starred INTEGER NOT NULL,"
        " prompt TEXT NOT NULL, answer TEXT NOT NULL, record BLOB NOT NULL)"
    )
    db.execute("CREATE INDEX runs_running ON runs (running) WHERE running")
    # FTS5 is a compile-time option of SQLite; without it, search reads every row.
    with contextlib.suppress(sqlite3.OperationalError):
        db.execute(
            "CREATE VIRTUAL TABLE runs_text USING fts5"
            " (model, prompt, answer, content='runs', content_rowid='seq')"
        )


# One function a version of the schema; the file's `user_version` counts those that ran.
_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_schema,)


def _has_table(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name=?", (name,)).fetchone() is not None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file's contents are at fault, and not the disk or its permissions."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or (
        name == "SQLITE_ERROR" and "no such" in str(error)
    )


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def _cannot(path: Path, error: Exception) -> str:
    return f"The history {path} cannot be used ({error}): runs are kept until the controller ends."
