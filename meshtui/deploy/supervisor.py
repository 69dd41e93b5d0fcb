"""The small process that owns one server's engine: starts it, keeps its log, ends all of it.

It is run by file path with `python -I -S` and uses the standard library and `members` only, so
that it is small and starts at once. It reads one JSON object from standard input (see
`Supervisor`), so that secrets are never on a command line, and answers with one line of JSON on
standard output: its record.

Why it exists: vLLM ignores SIGTERM while it starts and leaves processes with gigabytes behind when
its parent is killed. Whatever is killed with SIGKILL here, nothing of the engine stays:

- the engine's main process dies: the supervisor kills whatever is left of it;
- the supervisor dies: the kernel kills the engine's main process (parent-death signal) and the
  **guard**, a forked twin that waits for the end of a pipe, kills the rest;
- the guard dies: the supervisor forks another.

What belongs to the engine: its session; every process with the marker in its environment (those
that called setsid); the supervisor's descendants (it is a subreaper); and children of all these.

Signals: SIGTERM stops the engine (SIGKILL after the grace), SIGUSR1 kills it now. SIGHUP, SIGINT
and SIGQUIT, which terminals send, do nothing.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

if not __package__:  # run by its path: the package's own folder is all that it may import from
    sys.path.append(os.path.abspath(f"{__file__}/../../.."))  # noqa: PTH100
from meshtui.deploy.members import (
    MARKER_VARIABLE,
    boot_id,
    destroy,
    find_members,
    marker,
    process_stat,
)

# As `typing` has it, which is not imported here because it costs more memory than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RECORD_NAME = "supervisor.json"
LOG_NAME = "engine.log"
OLDER_LOG_NAME = "engine.log.1"

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_GUARD_MIN_LIFE_S = 1.0
_MAX_OWN_FILES = 64
_PIPE_READ_BYTES = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)


class _Log:
    """The engine's log, of bounded size: when full it becomes the older half and begins anew."""

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._path = f"{folder}/{LOG_NAME}"
        self._older = f"{folder}/{OLDER_LOG_NAME}"
        self._limit_bytes = limit_bytes // 2
        self._open()

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size_bytes = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        try:
            if self._size_bytes + len(data) > self._limit_bytes:
                os.rename(self._path, self._older)  # noqa: PTH104
                os.close(self._file)
                self._open()
            self._size_bytes += len(data)
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            pass  # a full disk costs log lines, it does not stop an engine that is serving


class Supervisor:
    """Owns one engine. `config`: `server`, `nonce`, `folder`, `argv`, `environment`, `port`,
    `grace_s` and `log_bytes` (the most that the log takes on disk)."""

    def __init__(self, config: "dict[str, Any]") -> None:
        self._folder: str = config["folder"]
        self._argv: list[str] = config["argv"]
        self._environment: dict[str, str] = config["environment"]
        self._grace_s: float = config["grace_s"]
        self._marker = marker(config["server"], config["nonce"])
        self._environment[MARKER_VARIABLE] = self._marker
        # setproctitle, which vLLM uses, would otherwise write over the environment that the
        # marker is read from.
        self._environment["SPT_NOENV"] = "1"
        self._log = _Log(self._folder, config["log_bytes"])
        self._pending: set[int] = set()
        self._engine = 0
        self._guard = 0
        self._guard_started = 0.0
        self._lifeline = -1
        self._kill_at: float | None = None
        self._wake = self._output = -1
        own = process_stat(os.getpid())
        self.record: dict[str, Any] = {
            "server": config["server"],
            "nonce": config["nonce"],
            "port": config["port"],
            "boot": boot_id(),
            "pid": os.getpid(),
            "start_ticks": own.start_ticks if own else 0,
            "guard_pid": None,
            "engine_pid": None,
            "engine_start_ticks": None,
            "state": "starting",
            "started_at": time.time(),
            "stop_requested": None,
            "exited_at": None,
            "exit_code": None,
            "error": None,
            "left": [],
        }

    def start(self) -> bool:
        """Starts guard and engine; False where the engine's program could not be run."""
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._listen()
        self._save()
        self._start_guard()
        error = self._start_engine()
        if error:
            self.record.update(state="exited", error=error, exited_at=time.time(), exit_code=127)
            self._save()
            return False
        self._tell_guard()
        self.record["state"] = "running"
        self._save()
        return True

    def run(self) -> None:
        """Until nothing of the engine is left."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._output, select.POLLIN)
        while not self._engine_exited() and not self._time_is_up():
            if not self._guard and time.monotonic() - self._guard_started > _GUARD_MIN_LIFE_S:
                self._start_guard()
                self._tell_guard()
                self._save()
            for source, _ in poll.poll(self._timeout_ms()):
                if source == self._wake:
                    os.read(self._wake, 4096)
                elif not self._copy_output():
                    poll.unregister(source)  # the engine closed it; it may run on all the same
            self._obey()
        self._finish()

    def _listen(self) -> None:
        self._wake, wake_writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_writer, False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda n, _: self._pending.add(n))
        # Not SIG_IGN, which the engine would inherit.
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda _, __: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)

    def _timeout_ms(self) -> float | None:
        now = time.monotonic()
        waits = []
        if self._kill_at is not None:
            waits.append(self._kill_at - now)
        if not self._guard:
            waits.append(self._guard_started + _GUARD_MIN_LIFE_S - now)
        return max(0.0, min(waits)) * 1000 + 1 if waits else None

    def _obey(self) -> None:
        if signal.SIGTERM in self._pending and self.record["stop_requested"] is None:
            self._kill_at = time.monotonic() + self._grace_s
            self.record.update(state="stopping", stop_requested="stop")
            self._save()
            os.kill(self._engine, signal.SIGTERM)  # not reaped yet, so the pid is still its own
        if signal.SIGUSR1 in self._pending and self.record["stop_requested"] != "kill":
            self._kill_at = time.monotonic()
            self.record.update(state="stopping", stop_requested="kill")
            self._save()
        self._pending.clear()

    def _time_is_up(self) -> bool:
        return self._kill_at is not None and time.monotonic() >= self._kill_at

    def _engine_exited(self) -> bool:
        """Reaps what was orphaned to us; leaves the engine itself a zombie, so that its pid,
        which is the session's number, cannot be another's while the rest is being killed."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if ended is None:
                return False
            if ended.si_pid == self._engine:
                return True
            os.waitpid(ended.si_pid, 0)
            if ended.si_pid == self._guard:
                self._guard = 0
                os.close(self._lifeline)

    def _copy_output(self) -> bool:
        try:
            data = os.read(self._output, _PIPE_READ_BYTES)
        except BlockingIOError:
            return True
        if data:
            self._log.write(data)
        return bool(data)

    def _finish(self) -> None:
        left = destroy(
            lambda: find_members(
                self._marker, session=self._engine, root=os.getpid(), without=[self._guard]
            )
        )
        while select.select([self._output], [], [], 0)[0] and self._copy_output():
            pass
        # What is stuck in the kernel cannot be waited for.
        _, status = os.waitpid(self._engine, os.WNOHANG if left else 0)
        self.record.update(
            state="exited",
            exited_at=time.time(),
            exit_code=os.waitstatus_to_exitcode(status),
            left=left,
        )
        self._save()
        if self._guard:
            os.kill(self._guard, signal.SIGKILL)
            os.waitpid(self._guard, 0)

    def _save(self) -> None:
        self.record["guard_pid"] = self._guard or None
        path = f"{self._folder}/{RECORD_NAME}"
        try:
            with open(f"{path}.tmp", "w") as file:  # noqa: PTH123
                json.dump(self.record, file)
            os.rename(f"{path}.tmp", path)  # noqa: PTH104
        except OSError:
            pass  # the folder is gone or the disk full: the engine is still to be looked after

    def _start_engine(self) -> str | None:
        """Forks and executes; gives the reason where that failed."""
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        failed, failure = os.pipe()
        supervisor = os.getpid()
        self._engine = os.fork()
        if not self._engine:
            try:
                self._become_engine(supervisor, output)
            except BaseException as error:
                os.write(failure, str(error).encode())
            os._exit(127)
        os.close(output)
        os.close(failure)
        with os.fdopen(failed, "rb") as file:
            reason = file.read().decode(errors="replace")
        if reason:
            os.waitpid(self._engine, 0)
            return reason
        stat = process_stat(self._engine)
        self.record["engine_pid"] = self._engine
        self.record["engine_start_ticks"] = stat.start_ticks if stat else 0
        return None

    def _become_engine(self, supervisor: int, output: int) -> None:
        os.setsid()
        # SIGKILL, because engines ignore SIGTERM while they start.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(127)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(self._folder)
        os.execvpe(self._argv[0], self._argv, self._environment)

    def _start_guard(self) -> None:
        watched, self._lifeline = os.pipe()
        self._guard_started = time.monotonic()
        self._guard = os.fork()
        if self._guard:
            os.close(watched)
            return
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _name("meshtui-guard")
            # All of them: the guard must not hold the pipes that others wait for the end of.
            os.closerange(0, watched)
            os.closerange(watched + 1, _MAX_OWN_FILES)
            self._watch(watched)
        finally:
            os._exit(0)

    def _tell_guard(self) -> None:
        with suppress(OSError):  # it may just have been killed: the next one will be told
            os.write(self._lifeline, f"{self._engine}\n".encode())

    def _watch(self, lifeline: int) -> None:
        """The guard's life: to wait for the supervisor's end, and then to end the engine."""
        heard = b""
        while data := os.read(lifeline, 64):
            heard += data
        session = int(heard) if heard else None
        destroy(lambda: find_members(self._marker, session=session))


def _name(name: str) -> None:
    """What `ps` and `top` show."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def main() -> int:
    """Reads the configuration, answers with the record, stays until the engine is gone."""
    os.umask(0o077)
    _name("meshtui-superv")
    config = b""
    while data := os.read(0, _PIPE_READ_BYTES):
        config += data
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    supervisor = Supervisor(json.loads(config))
    started = supervisor.start()
    os.write(1, json.dumps(supervisor.record).encode() + b"\n")
    os.dup2(nothing, 1)
    if started:
        supervisor.run()
    return 0 if started else 1


if __name__ == "__main__":
    sys.exit(main())
