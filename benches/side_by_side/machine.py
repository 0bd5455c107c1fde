"""The machine while it is measured: who used its CPUs, and what it is."""

import os
import platform
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Machine:
    """CPU used by everybody, to tell what others used while we measured."""

    def __init__(self):
        self.tick = os.sysconf("SC_CLK_TCK")

    def busy(self):
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        return (sum(fields) - fields[3] - fields[4]) / self.tick

    def own_children(self):
        times = os.times()
        return times.children_user + times.children_system + times.user + times.system


class Hogs:
    """A process on each CPU that never stops: what is measured shares every CPU with one."""

    def __enter__(self):
        cpus = sorted(os.sched_getaffinity(0))
        spin = ["sh", "-c", "while :; do :; done"]
        self.processes = [subprocess.Popen(["taskset", "-c", str(cpu), *spin]) for cpu in cpus]
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


class Meter:
    """What a run of one server costs it, and what others used meanwhile, from `Meter()` on."""

    def __init__(self, server, machine):
        self.server, self.machine = server, machine
        self.before = server.thread_ns()
        self.busy, self.own, self.start = machine.busy(), machine.own_children(), time.time()

    def threads(self):
        """CPU nanoseconds up to now, by thread."""
        return difference(self.before, self.server.thread_ns())

    def figures(self):
        """The fields that each run has. The run's own children must have been waited for."""
        took = time.time() - self.start
        threads = self.threads()
        cpu = sum(threads.values())
        others = self.machine.busy() - self.busy - (self.machine.own_children() - self.own)
        foreign = others - cpu / 1e9
        return {
            "cpu_ns": cpu,
            "cpu_ns_by_thread": threads,
            "foreign_cores": round(max(0.0, foreign / took), 3),
        }


def difference(before, after):
    out = {name: after[name] - before.get(name, 0) for name in after}
    return {name: value for name, value in sorted(out.items()) if value > 0}


def wait_until_settled(servers, most_seconds):
    """Gives the servers' background work (compaction, log rewriting) time to end."""
    until = time.monotonic() + most_seconds
    while time.monotonic() < until:
        before = sum(sum(server.thread_ns().values()) for server in servers)
        time.sleep(0.2)
        used = sum(sum(server.thread_ns().values()) for server in servers) - before
        if used < 0.03 * 200_000_000:
            return


def facts(args):
    def first_line(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            return done.stdout.strip().split("\n")[0]
        except OSError:
            return ""

    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": first_line("git", "describe", "--always", "--dirty"),
        "ours": args.ours,
        "theirs": first_line(args.theirs, "--version"),
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
    }
