"""Runs a command and makes sure that nothing of it outlives its owner.

Started as ``python -S -E warden.py [options] -- command …`` with a pipe on standard input whose
other end the owner holds open. The command's whole process tree is ended (SIGTERM, and SIGKILL
after a grace) when that pipe closes, which the kernel does however the owner dies, SIGKILL
included; when a SIGTERM or SIGINT arrives; and when the command itself ends and leaves processes
behind. Standard output and error are the command's, untouched.

Two processes share the work, because one can be killed. Both are *child subreapers*: a descendant
that left its session or lost its parent is handed to the nearest of them, never to init, so the
tree stays whole. The inner one starts the command and ends the tree. The outer one ends the tree
if the inner one is killed; the inner one is told by the kernel if the outer one is killed.

Ends with the command's own exit code, 128 + N where signal N killed it, 127 where it could not be
started. This file imports nothing but the standard library's quickest modules and nothing of ours:
it stands between every server and its start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

POLL_S = 0.01  # between two looks at a tree that is being ended
KILL_WAIT_S = 10.0  # for the kernel to take away what was sent SIGKILL

USAGE = "usage: warden.py [--grace SECONDS] [--started-fd FD] -- COMMAND [ARGUMENT …]"

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def descendants(root: int) -> list[int]:
    """Living processes below ``root``, nearest first; zombies are left out."""
    children: dict[int, list[tuple[int, bool]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double this program's start
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                # The command's name stands in brackets and may hold spaces and brackets itself.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it ended while we looked
        children.setdefault(int(fields[1]), []).append((int(name), fields[0] in (b"Z", b"X")))
    found: list[int] = []
    queue = [root]
    while queue:
        for pid, is_dead in children.get(queue.pop(0), ()):
            if not is_dead:
                found.append(pid)
            queue.append(pid)
    return found


def _reap(child: int) -> int | None:
    """Collects ended children, adopted ones too; ``child``'s wait status if it is among them."""
    status = None
    while True:
        try:
            pid, ended_with = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended_with


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def end_tree(child: int, grace_s: float) -> int | None:
    """Ends everything below this process; ``child``'s wait status if it was collected here.

    Processes born while the tree is being ended are found and told as well.
    """
    status = None
    told: set[int] = set()
    began = time.monotonic()
    while True:
        living = descendants(os.getpid())
        # After the look: who died just before it is not among the living, and is collected here.
        ended_with = _reap(child)
        status = ended_with if ended_with is not None else status
        waited_s = time.monotonic() - began
        if not living or waited_s > grace_s + KILL_WAIT_S:
            return status
        for pid in living:
            if waited_s > grace_s:
                _send(pid, signal.SIGKILL)
            elif pid not in told:
                told.add(pid)
                _send(pid, signal.SIGTERM)
                # A stopped process hears nothing else until it goes on.
                _send(pid, signal.SIGCONT)
        time.sleep(POLL_S)


def _exit_code(status: int | None) -> int:
    if status is None:
        return 1
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _exec(argv: list[str], parent: int, started_fd: int | None) -> None:
    """The command's side of the fork. ``started_fd`` closes by itself when the command runs."""
    try:
        for number in (*ENDING, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the kernel was asked to tell us
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if started_fd is not None:
            os.write(started_fd, f"{os.getpid()}\n".encode())
        os.execvp(argv[0], argv)
    except OSError as error:
        message = f"{argv[0]}: {error.strerror or errno.errorcode.get(error.errno or 0)}\n"
        if started_fd is not None:
            os.write(started_fd, b"error " + message.encode())
        os.write(2, message.encode())
    finally:
        os._exit(127)


def _listen() -> int:
    """Signals become bytes on a pipe, so that one poll waits for signals and the owner alike."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (*ENDING, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return readable


def _told_to_end(signals: int) -> bool:
    try:
        numbers = os.read(signals, 4096)
    except BlockingIOError:
        return False
    return any(number != signal.SIGCHLD for number in numbers)


def _owner_is_gone() -> bool:
    """Reads what stands on the control pipe; its content means nothing, its end does."""
    try:
        return os.read(0, 4096) == b""
    except OSError:
        return True


def _tend(child: int, signals: int, grace_s: float, watch_owner: bool) -> int:
    """Waits for the child, the owner or a signal; leaves nothing behind; the exit code."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    if watch_owner:
        poll.register(0, select.POLLIN | select.POLLHUP)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        ended = signals in ready and _told_to_end(signals)
        if watch_owner and 0 in ready:
            ended = _owner_is_gone() or ended
        status = _reap(child)
        if status is not None:
            end_tree(child, grace_s)  # what it left behind
            return _exit_code(status)
        if ended:
            if watch_owner:
                return _exit_code(end_tree(child, grace_s))
            _send(child, signal.SIGTERM)  # the inner one ends the tree, then itself


def _parse(arguments: list[str]) -> tuple[float, int | None, list[str]]:
    grace_s, started_fd = 10.0, None
    while arguments and arguments[0] != "--":
        option, value, *rest = [*arguments, ""]
        arguments = rest[:-1]
        try:
            if option == "--grace":
                grace_s = float(value)
            elif option == "--started-fd":
                started_fd = int(value)
            else:
                sys.exit(USAGE)
        except ValueError:
            sys.exit(USAGE)
    if len(arguments) < 2:
        sys.exit(USAGE)
    return grace_s, started_fd, arguments[1:]


def main() -> int:
    grace_s, started_fd, argv = _parse(sys.argv[1:])
    outer = os.getpid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals = _listen()
    inner = os.fork()
    if inner:
        if started_fd is not None:
            os.close(started_fd)
        # Patience for the inner one's own grace comes first: it is only helped when it is gone.
        return _tend(inner, signals, grace_s, watch_owner=False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signals = _listen()  # the pipe of the outer one would be shared otherwise
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != outer:
        return 1
    if started_fd is not None:
        os.set_inheritable(started_fd, False)
    inner = os.getpid()
    # A SIGTERM between the fork and the exec must not meet our handler, which only listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = os.fork()
    if child == 0:
        _exec(argv, inner, started_fd)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if started_fd is not None:
        os.close(started_fd)
    return _tend(child, signals, grace_s, watch_owner=True)


if __name__ == "__main__":
    sys.exit(main())
