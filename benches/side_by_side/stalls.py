"""Stops one IO thread of a server again and again, wherever it is, as a busy host does.

A debugger's means, ptrace, stop a single thread; signals stop the whole process.
"""

import ctypes
import os
import random
import threading
import time

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
# For os.waitpid: threads of others, too.
WALL = 0x40000000
STOPPED, PAUSE = 0.1, 0.2


class Stalls:
    """While it is entered, a random IO thread of `server` is stopped for 100 ms of each 300."""

    def __init__(self, server):
        self.server, self.count, self.failure = server, 0, None
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.over = threading.Event()
        # One thread must do it all: the system lets only the one that stopped a thread continue it.
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        if self.failure:
            raise self.failure

    def _io_threads(self):
        folder = f"/proc/{self.server.pid}/task"
        for task in os.listdir(folder):
            with open(f"{folder}/{task}/comm", encoding="ascii") as file:
                if file.read().startswith("io-"):
                    yield int(task)

    def _ptrace(self, request, task):
        if self.libc.ptrace(request, task, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def _run(self):
        try:
            while not self.over.wait(PAUSE + random.random() * PAUSE / 4):
                found = list(self._io_threads())
                if not found:
                    continue
                task = random.choice(found)
                self._ptrace(SEIZE, task)
                self._ptrace(INTERRUPT, task)
                os.waitpid(task, WALL)
                time.sleep(STOPPED)
                self._ptrace(DETACH, task)
                self.count += 1
        except OSError as failure:
            self.failure = failure
