"""A server as a child process: ours or redis-server, on a free port, in a folder of its own.

Python 3 standard library only. Used by the smoke tests and by benches/side_by_side.
"""

import glob
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

READY_SECONDS = 120
EXIT_SECONDS = 120
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class ReplyError(Exception):
    """An error reply of the server."""


class Connection:
    """A plain RESP2 connection: commands out, replies in."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, *words):
        self.socket.sendall(encode(*words))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode("latin1"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            count = int(rest)
            if count < 0:
                return None
            body = self.file.read(count + 2)
            if len(body) != count + 2:
                raise ConnectionError("the server closed the connection inside a reply")
            return body[:-2]
        if kind == b"*":
            count = int(rest)
            return None if count < 0 else [self.read() for _ in range(count)]
        raise ConnectionError(f"not a RESP2 reply: {line!r}")

    def command(self, *words):
        """One command; an error reply is raised."""
        self.send(*words)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands):
        """Many commands in one write, from another thread, so that neither side can block for ever."""
        data = b"".join(encode(*words) for words in commands)
        writer = threading.Thread(target=self.socket.sendall, args=(data,))
        writer.start()
        replies = [self.read() for _ in commands]
        writer.join()
        return replies


def encode(*words):
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        if not isinstance(word, bytes):
            word = str(word).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(out)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ServerProcess:
    """A running server. `command` is a list; the port and the folder are added here."""

    def __init__(self, command, folder, pin=None):
        self.command = list(command)
        self.folder = folder
        self.pin = pin
        self.process = None
        self.port = None
        self.said = []
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.start()

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        # redis-server and its relatives cannot choose a free port themselves.
        chooses = not os.path.basename(self.command[0]).endswith("-server")
        self.port = 0 if chooses else free_port()
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder]
        prefix = ["taskset", "-c", str(self.pin)] if self.pin is not None else []
        self.said = []
        self.process = subprocess.Popen(
            prefix + self.command[:1] + where + self.command[1:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(self.process, ready), daemon=True).start()
        until = time.monotonic() + READY_SECONDS
        while not ready.wait(0.05):
            # Not every relative of redis-server says so when it is ready.
            if not chooses and self._answers():
                return
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{self.command} did not become ready:\n" + "".join(self.said))

    def _answers(self):
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, ReplyError):
            return False

    def _listen(self, process, ready):
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            self.said.append(line)
            if "Ready to accept connections" in line:
                port = line.rstrip().rsplit(":", 1)[-1]
                if port.isdigit():
                    self.port = int(port)
                ready.set()
        process.stdout.close()

    def connect(self, timeout=60):
        return Connection(self.port, timeout)

    def ask(self, *words):
        """One command on a connection of its own."""
        connection = self.connect()
        try:
            return connection.command(*words)
        finally:
            connection.close()

    def info(self, section="everything"):
        text = self.ask("INFO", section).decode("utf-8", "replace")
        lines = [line.split(":", 1) for line in text.split("\r\n") if ":" in line]
        return {name: value for name, value in lines}

    def kill(self, number=signal.SIGKILL):
        """Sends a signal and waits for the end; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(EXIT_SECONDS)

    def stop(self):
        """Ends it in any case."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def thread_ns(self):
        """CPU nanoseconds of each living thread, summed by thread name, and of ended children."""
        out = {}
        for task in glob.glob(f"/proc/{self.pid}/task/*"):
            try:
                with open(task + "/schedstat", encoding="ascii") as file:
                    used = int(file.read().split()[0])
                with open(task + "/comm", encoding="utf-8", errors="replace") as file:
                    name = file.read().strip()
            except OSError:
                continue  # It ended in between.
            out[name] = out.get(name, 0) + used
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        # A log rewrite in a forked child is work of the server, too.
        children = (int(fields[13]) + int(fields[14])) * TICK_NS
        if children:
            out["(children)"] = children
        return out

    def switches(self):
        """Voluntary and involuntary context switches of all threads."""
        total = 0
        for status in glob.glob(f"/proc/{self.pid}/task/*/status"):
            try:
                with open(status, encoding="ascii", errors="replace") as file:
                    total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
            except OSError:
                continue
        return total

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")
