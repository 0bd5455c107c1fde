"""Runs of redis-benchmark, and of nothing at all: figures of one run as a dictionary."""

import csv
import os
import shutil
import subprocess
import time

import main_thread
import paced
from machine import Hogs, Meter, difference, wait_until_settled
from report import summarise
from rows import CROWDS, VALUE, servers_of
from server_process import ReplyError, ServerProcess
from stalls import Stalls

CLIENTS = 50
# Where servers and clients are bound, if they are.
SERVER_CORE, CLIENT_CORE = 0, 1
# Data over memory in cold/*.
COLD_FACTOR = 10
# The same in evict/*.
EVICT_FACTOR = 4


def key_name(number):
    return b"key:%012d" % number


def preload(server, row):
    """Every key of the row exists before it is read or overwritten, with a value of its size."""
    connection = server.connect()
    connection.command("FLUSHALL")
    value = b"x" * max(row.size, 1)
    for start in range(0, row.keys, 5_000):
        numbers = range(start, min(start + 5_000, row.keys))
        replies = connection.pipeline([(b"SET", key_name(number), value) for number in numbers])
        bad = [reply for reply in replies if reply != b"OK"]
        if bad:
            raise ReplyError(f"preload: {bad[0]}")
    for number in (0, row.keys // 2, row.keys - 1):
        if connection.command("GET", key_name(number)) != value:
            raise RuntimeError("a key does not hold what was written")
    connection.close()


def benchmark_command(server, row, requests, core=None, clients=CLIENTS):
    prefix = ["taskset", "-c", str(core)] if core is not None else []
    return prefix + [
        "redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-c", str(clients),
        "-P", str(row.depth), "-d", str(max(row.size, 1)), "-r", str(row.keys),
        "-t", row.command.lower(), "-n", str(requests), "--csv",
    ]  # fmt: skip


def errors_of(server):
    return int(server.info("stats").get("total_error_replies", 0))


def drive(server, row, requests, machine, core=None, clients=CLIENTS):
    """One run of redis-benchmark; throughput, latencies, CPU, and what others used meanwhile."""
    if row.command in ("LPUSH", "HSET", "ZADD"):
        server.ask("DEL", "mylist", "myhash", "myzset")
    errors = errors_of(server)
    meter = Meter(server, machine)
    command = benchmark_command(server, row, requests, core, clients)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    figures = meter.figures()
    lines = [line for line in csv.reader(done.stdout.splitlines()) if len(line) >= 8]
    if not lines or errors_of(server) != errors:
        raise RuntimeError(f"{row.name}: redis-benchmark met errors: {done.stdout}{done.stderr}")
    rate, _, _, p50, _, p99, _ = (float(field) for field in lines[-1][1:8])
    latencies = {"p50_ms": p50, "p99_ms": p99}
    return {"requests": requests, "per_second": rate, **latencies, **figures}


def alternate(repetitions, run):
    """[(ours, theirs)] from AB, BA, AB, ..."""
    pairs = []
    for round_number in range(repetitions):
        order = (0, 1) if round_number % 2 == 0 else (1, 0)
        found = {which: run(which) for which in order}
        pairs.append((found[0], found[1]))
    return pairs


def repeat(row, servers, args, run):
    """Pairs of `run(server, requests)`, which last about as long as is asked for."""

    def settled(which, requests):
        wait_until_settled(servers, 10)
        return run(servers[which], requests)

    # A short run warms both up and tells how many requests make one run.
    few = 10_000 * row.depth
    rate = min(settled(which, few)["per_second"] for which in (0, 1))
    requests = max(20_000, int(rate * args.seconds))
    return alternate(args.repetitions, lambda which: settled(which, requests))


def measure_benchmark(row, servers, args, machine):
    for server in servers:
        preload(server, row)
        if row.pair == "cold":
            # Not before: KeyDB refuses a fast load that its eviction cannot follow.
            # A rival whose cache has a fixed size refuses it; its command says that size.
            try:
                server.ask("CONFIG", "SET", "maxmemory", row.keys * VALUE // COLD_FACTOR)
            except ReplyError as refusal:
                if server is servers[0] or "maxmemory" not in str(refusal):
                    raise
    core = CLIENT_CORE if is_pinned(row, args) else None
    clients = CROWDS.get(row.label, CLIENTS)

    def run(server, requests):
        return drive(server, row, requests, machine, core, clients)

    return repeat(row, servers, args, run)


def measure_among_hogs(row, servers, args, machine):
    with Hogs():
        return measure_benchmark(row, servers, args, machine)


def measure_main(row, servers, args, machine):
    for server in servers:
        preload(server, row)
        main_thread.step_back(server, SERVER_CORE, CLIENT_CORE)

    def run(server, requests):
        watch = main_thread.Watch(server)
        clients = main_thread.CLIENTS
        figures = drive(server, row, requests, machine, SERVER_CORE, clients)
        return {**figures, **watch.figures(requests)}

    return repeat(row, servers, args, run)


def measure_paced(row, servers, args, machine):
    for server in servers:
        preload(server, row)
    if row.pair == "evict":
        servers[0].ask("CONFIG", "SET", "maxmemory", row.keys * VALUE // EVICT_FACTOR)
    rate = paced.STALL_RATE if row.pair == "stall" else paced.LOW_RATE
    if row.pair == "tail":
        # Half of what the one with fewer threads can do. The first run warms it up.
        full = [drive(servers[1], row, 50_000, machine)["per_second"] for _ in range(2)][1]
        rate = int(full / 2)

    def run(which):
        wait_until_settled(servers, 10)
        if row.pair == "stall" and which == 0:
            with Stalls(servers[which]) as stalls:
                figures = paced.drive(servers[which], row, rate, None, args, machine)
            return {**figures, "stalls": stalls.count}
        disturbance = paced.DISTURBANCES.get(row.pair) if which == 0 else None
        return paced.drive(servers[which], row, rate, disturbance, args, machine)

    for which in (0, 1):
        run(which)
    return alternate(args.repetitions, run)


def sustained(server, servers, row, args, machine):
    """SET without a break for a fixed time; the server's own counter tells how many were done."""
    server.ask("FLUSHALL")
    wait_until_settled(servers, 60)
    meter = Meter(server, machine)
    counter = lambda: int(server.info("stats")["total_commands_processed"])  # noqa: E731
    samples = [(time.time(), counter())]
    command = benchmark_command(server, row, 1_000_000_000)
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        windows = max(2, round(args.sustain / 5))
        for window in range(1, windows + 1):
            time.sleep(max(0.0, samples[0][0] + args.sustain * window / windows - time.time()))
            samples.append((time.time(), counter()))
    finally:
        client.kill()
        client.wait()
    # Work put off by a write is part of its cost: CPU is counted until it has settled.
    at_end = meter.figures()
    wait_until_settled(servers, 60)
    settled = meter.threads()
    rates = [
        (after[1] - start[1]) / (after[0] - start[0]) for start, after in zip(samples, samples[1:])
    ]
    requests = samples[-1][1] - samples[0][1]
    return {
        "requests": requests,
        "per_second": requests / (samples[-1][0] - samples[0][0]),
        "per_second_by_window": [round(rate) for rate in rates],
        "cpu_ns": sum(settled.values()),
        "cpu_ns_at_end": at_end["cpu_ns"],
        "cpu_ns_by_thread": settled,
        "foreign_cores": at_end["foreign_cores"],
        "keys": server.ask("DBSIZE"),
    }


def measure_sustained(row, servers, args, machine):
    return alternate(
        args.sustain_repetitions,
        lambda which: sustained(servers[which], servers, row, args, machine),
    )


def idle(server, row, args):
    crowd = [server.connect() for _ in range(CLIENTS)] if row.command == "50-silent" else []
    for connection in crowd:
        connection.command("PING")
    time.sleep(1)
    before, switches, start = server.thread_ns(), server.switches(), time.time()
    time.sleep(args.idle)
    took = time.time() - start
    threads = difference(before, server.thread_ns())
    found = {
        "requests": 0,
        "cpu_ns": sum(threads.values()),
        "cpu_ns_by_thread": threads,
        "core_percent": round(sum(threads.values()) / 1e7 / took, 3),
        "switches_per_second": round((server.switches() - switches) / took, 1),
        "foreign_cores": 0,
    }
    for connection in crowd:
        connection.close()
    return found


def measure_idle(row, servers, args, _machine):
    return [tuple(idle(server, row, args) for server in servers)]


MEASURES = {"idle": measure_idle, "sustain": measure_sustained, "main": measure_main}
MEASURES["hogs"] = measure_among_hogs
MEASURES |= dict.fromkeys(("low", "tail", "evict", "stall", *paced.DISTURBANCES), measure_paced)


def is_pinned(row, args):
    return row.pair == "memory" and args.pin


def measure(row, args, machine, scratch):
    commands = servers_of(row, args)
    pin = SERVER_CORE if is_pinned(row, args) else None
    servers = []
    try:
        for name, command in zip("AB", commands):
            folder = os.path.join(scratch, name)
            servers.append(ServerProcess(command, folder, pin=pin))
        run = MEASURES.get(row.pair, measure_benchmark)
        pairs = run(row, servers, args, machine)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    return summarise(row, commands, pairs)
