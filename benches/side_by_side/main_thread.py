"""What a request costs the main thread: its CPU time alone, with a backlog whenever it runs.

It bounds what a machine with many cores can do. So that two cores show it, the main thread shares
one with the client and steps back for it: it runs when all clients wait, as on a large machine
under full load, whereas one that is always ready sleeps after each handful of requests, and what
is measured is sleeping and waking. The other threads have the second core.
"""

import os

CLIENTS = 200


def step_back(server, main_core, others_core):
    """Binds the threads of `server`; its main one runs where nobody else wants to."""
    for task in os.listdir(f"/proc/{server.pid}/task"):
        core = main_core if int(task) == server.pid else others_core
        os.sched_setaffinity(int(task), {core})
    # Of a process this is only its main thread.
    os.sched_setscheduler(server.pid, os.SCHED_IDLE, os.sched_param(0))


class Watch:
    """The main thread and its loop, from `Watch()` on."""

    def __init__(self, server):
        self.server = server
        self.cycles, self.ns = self._cycles(), self._ns()

    def _ns(self):
        path = f"/proc/{self.server.pid}/task/{self.server.pid}/schedstat"
        with open(path, encoding="ascii") as file:
            return int(file.read().split()[0])

    def _cycles(self):
        return int(self.server.info("stats")["eventloop_cycles"])

    def figures(self, requests):
        used = self._ns() - self.ns
        turns = self._cycles() - self.cycles
        return {"main_us": used / 1e3 / requests, "requests_a_turn": requests / max(1, turns)}
