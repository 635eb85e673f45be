"""Ctrl-C in a command: it ends with one line, at whatever moment it comes."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130
"""The exit status of a command that was interrupted, as shells have it."""


@contextlib.contextmanager
def noting_interrupts(prog: str) -> Iterator[list[int]]:
    """Ctrl-C as KeyboardInterrupt, and in the list that this gives; or the end, where nobody would catch it.

    Args:
        prog: the command's name, for the line that says that it was interrupted.

    Returns:
        A context manager that gives the list, empty until there was an interrupt. Outside of the main thread, and where
        somebody else handles the signal, it stays empty.
    """
    noted: list[int] = []

    def end() -> NoReturn:
        if not noted:
            os.write(2, f"{prog}: interrupted\n".encode())
        os._exit(INTERRUPTED)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if noted or _importing(frame):  # the second time; or in the middle of loading a library, which would lose it
            end()
        noted.append(number)
        raise KeyboardInterrupt

    def on_lost(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            noted.clear()
            end()
        hook(unraisable)

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    hook, sys.unraisablehook = sys.unraisablehook, on_lost
    signal.signal(signal.SIGINT, on_signal)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = hook


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if "importlib._bootstrap" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
