"""Rounds of kill -9 and restart under load, checked against a log of what was acknowledged.

Writers number their writes and pipeline them; each remembers what it sent and when the last reply
came. After a kill and a restart on the same folder:

- always: every acknowledged write is there;
- everysec: every write acknowledged longer ago than the window is there;
- in every mode what is missing is the end of a writer's sequence, never its middle; the two keys of
  one EXEC are equal; a counter is no lower than its acknowledged increments; nothing is there that
  was not sent.

Python 3 standard library only.
"""

import os
import random
import threading
import time

from server_process import ReplyError, ServerProcess

WRITERS = 4
# The sync interval of everysec, and as much again for a machine that is busy with other things.
WINDOW_SECONDS = 2.0
MODES = ("always", "everysec", "no")
# The data outgrows this, so that what is checked has to come back from disk.
MEMORY = "16mb"
VALUE_BYTES = 300
# Writes asked for together.
STRETCH = 500
# Rounds after which all writes are looked at.
WHOLE_EACH = 20


class Writer:
    """One connection that writes key after key until the server is gone."""

    def __init__(self, number, seed):
        self.number = number
        self.random = random.Random(seed)
        self.sent = 0  # Writes sent, and so the number of the next one.
        self.acked = []  # (writes acknowledged, moment), rising.
        self.checked = 0  # Writes that the last round found.

    def key(self, index):
        return f"w:{self.number}:{index}"

    def value(self, index):
        return (f"{self.number}.{index}." * (VALUE_BYTES // 6))[:VALUE_BYTES].encode()

    def batch(self, count):
        """`count` numbered writes, each with one kind of company."""
        commands, replies = [], []
        for index in range(self.sent, self.sent + count):
            commands.append(("SET", self.key(index), self.value(index)))
            commands.append(("INCR", f"counter:{self.number}"))
            replies += [b"OK", None]
            if index % 8 == 0:
                pair = [("SET", f"{side}:{self.number}", index) for side in ("left", "right")]
                commands += [("MULTI",), *pair, ("EXEC",)]
                replies += [b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"]]
        return commands, replies

    def write_until_gone(self, server, failures):
        try:
            connection = server.connect()
            while True:
                count = self.random.choice((1, 1, 2, 8, 32))
                commands, wanted = self.batch(count)
                self.sent += count
                got = connection.pipeline(commands)
                for want, reply in zip(wanted, got):
                    if isinstance(reply, ReplyError) or (want is not None and reply != want):
                        failures.append(f"writer {self.number}: {reply!r} instead of {want!r}")
                        return
                self.acked.append((self.sent, time.monotonic()))
        except OSError:
            return  # The server was killed; what was not answered was not acknowledged.

    def must_have(self, mode, killed_at):
        """Writes that must have survived; in any mode those that survived the last time."""
        age = {"always": 0.0, "everysec": WINDOW_SECONDS}.get(mode)
        if age is None:
            return self.checked
        old = [count for count, moment in self.acked if moment <= killed_at - age]
        return old[-1] if old else 0

    def stretches(self, whole):
        """Where to look: at what is new and the last before it, and at one older stretch or all."""
        recent = 0 if whole else max(0, self.checked - STRETCH)
        older = [self.random.randrange(recent)] if recent else []
        for start in [*older, *range(recent, self.sent, STRETCH)]:
            yield range(start, min(start + STRETCH, self.sent))

    def check(self, connection, mode, killed_at, whole):
        """Compares with what the server has now, and goes on from there."""
        found = 0
        missing_from = None
        for indexes in self.stretches(whole):
            values = connection.command("MGET", *[self.key(index) for index in indexes])
            for index, value in zip(indexes, values):
                if value is None:
                    missing_from = index if missing_from is None else missing_from
                    continue
                if missing_from is not None:
                    return f"write {index} is there, the earlier {missing_from} is not"
                if value != self.value(index):
                    return f"write {index} holds {value[:40]!r}"
                found = index + 1
        need = self.must_have(mode, killed_at)
        if found < need:
            return f"{found} writes survived, {need} had been acknowledged in time"
        counter = int(connection.command("GET", f"counter:{self.number}") or 0)
        # The increment follows its write on the same connection.
        if not found - 1 <= counter <= self.sent or counter < need:
            return f"the counter says {counter}, with {found} writes there and {need} needed"
        left, right = connection.command("MGET", f"left:{self.number}", f"right:{self.number}")
        if left != right:
            return f"half of an EXEC: {left!r} and {right!r}"
        self.lost = self.sent - found
        # What was lost is written again, so that the numbers stay without a gap.
        self.sent = self.checked = found
        connection.command("SET", f"counter:{self.number}", found)
        self.acked = [(found, float("-inf"))]
        return None


def options(command, mode):
    if "redis-server" in command[0]:
        return ["--save", "", "--appendonly", "yes", "--appendfsync", mode]
    return ["--appendfsync", mode, "--maxmemory", MEMORY]


def rounds_of(mode, count, command, folder, seed):
    """Kills and restarts `count` times; raises with all that is needed to run it again."""
    chance = random.Random(seed)
    server = ServerProcess(command + options(command, mode), os.path.join(folder, mode))
    writers = [Writer(number, chance.random()) for number in range(WRITERS)]
    lost = 0
    try:
        for round_number in range(count):
            failures = []
            threads = [
                threading.Thread(target=writer.write_until_gone, args=(server, failures))
                for writer in writers
            ]
            for thread in threads:
                thread.start()
            least = WINDOW_SECONDS + 0.5 if mode == "everysec" else 0.1
            time.sleep(least + chance.random() * 0.7)
            killed_at = time.monotonic()
            server.kill()
            for thread in threads:
                thread.join()
            server.start()
            connection = server.connect()
            whole = round_number % WHOLE_EACH == WHOLE_EACH - 1 or round_number == count - 1
            for writer in writers:
                wrong = writer.check(connection, mode, killed_at, whole)
                if wrong:
                    failures.append(f"writer {writer.number}: {wrong}")
            if failures:
                raise RuntimeError(
                    f"crash: {mode}, seed {seed}, round {round_number}: " + "; ".join(failures)
                    + "\nthe server said:\n" + "".join(server.said)
                )  # fmt: skip
            lost += sum(writer.lost for writer in writers)
            connection.close()
    finally:
        server.stop()
    written = sum(writer.sent for writer in writers)
    print(
        f"smoke: crash, {mode}: {count} rounds, {written} writes there, {lost} sent ones lost",
        flush=True,
    )


def main(command, folder, rounds, seed):
    print(f"smoke: crash, seed {seed}", flush=True)
    for place, mode in enumerate(MODES):
        count = (rounds + len(MODES) - 1 - place) // len(MODES)
        if count:
            rounds_of(mode, count, command, folder, seed + place)
