"""Being told of SIGTERM in an ordinary thread.

A Python signal handler runs between any two instructions of the main thread, also while that
thread holds a lock which the handler would need. Here the handler does nothing; the interpreter
writes the signal's number to a socket, and a thread that reads it calls back.
"""

import signal
import socket
import threading
from collections.abc import Callable


def on_termination(callback: Callable[[], None]) -> None:
    """Call ``callback`` from a thread for every SIGTERM and SIGINT. For the main thread only."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _handled_by_thread)

    def listen() -> None:
        # The sender lives as long as this thread: the interpreter knows only its number.
        while sender.fileno() >= 0 and receiver.recv(1):
            callback()

    threading.Thread(target=listen, name="signals", daemon=True).start()


def _handled_by_thread(_number: int, _frame: object) -> None:
    """Nothing: a handler has to be there for the interpreter to write to the wakeup socket."""
