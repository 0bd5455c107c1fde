"""Which rows there are, what each must reach, and which two servers it compares."""

import operator
import shlex
import typing

COMMANDS = ("GET", "SET", "INCR", "LPUSH", "HSET", "ZADD")
# Their requests do not contain a value of a chosen size.
SIZELESS = ("INCR", "ZADD")
VALUE = 512
# Pairs of servers whose rows have no pipeline and no size in their names.
PLAIN = ("idle",)
# What labels of threads/* say: how many clients there are.
CROWDS = {"1-client": 1, "200-clients": 200}
# What labels of rows say about threads.
THREADS = {
    "one": ["--io-threads", "1"],
    "auto": ["--io-threads", "auto"],
    "always": ["--io-threads", "2", "--io-threads-always-active", "yes"],
    "3-always": ["--io-threads", "3", "--io-threads-always-active", "yes"],
    "2": ["--io-threads", "2"],
    "8": ["--io-threads", "8"],
    "8-always": ["--io-threads", "8", "--io-threads-always-active", "yes"],
}
# With how many threads those with spare ones are compared.
FEWER = {"8": "2", "8-always": "always"}


class Target(typing.NamedTuple):
    """What a row must reach, ratios being ours to theirs; None is no demand."""

    least: float | None = None
    cpu_most: float | None = None
    p99_most: float | None = None
    p999_most: float | None = None
    p99_more_ms: float | None = None
    main_most: float | None = None
    core_percent: float | None = None

    def demands(self):
        """[(bound, the result that is compared with it, how, how it is shown)]"""
        all_of_them = (
            (self.least, "throughput_ratio", operator.ge, ">= {}x"),
            (self.cpu_most, "cpu_ratio", operator.le, "CPU <= {}x"),
            (self.p99_most, "p99_ratio", operator.le, "p99 <= {}x"),
            (self.p999_most, "p999_ratio", operator.le, "p99.9 <= {}x"),
            (self.p99_more_ms, "p99_more_ms", operator.le, "p99 <= {} ms more"),
            (self.main_most, "main_ratio", operator.le, "<= {}x"),
            (self.core_percent, "core_percent", operator.lt, "< {} % of a core"),
        )
        return [demand for demand in all_of_them if demand[0] is not None]

    def __str__(self):
        return ", ".join(text.format(bound) for bound, _, _, text in self.demands())

    def reached(self, result):
        """True or False, or None if nothing is demanded."""
        demands = self.demands()
        met = [compare(result[name], bound) for bound, name, compare, _ in demands]
        return all(met) if demands else None


MEMORY_TARGET = {1: Target(1.0, 0.9), 16: Target(1.2, 0.9)}


class Row:
    """What is measured: `pair` names the two servers."""

    def __init__(self, pair, command, depth=1, size=0, keys=100_000, target=Target(), label=""):
        self.pair, self.command, self.depth, self.size = pair, command, depth, size
        self.keys, self.target, self.label = keys, target, label
        parts = [pair, command + ("-" + label if label else "")]
        if pair not in PLAIN:
            parts.append(f"P{depth}")
            parts += [] if command in SIZELESS else [str(size)]
        self.name = "/".join(parts)


def all_rows(args):
    rows = []
    for command in COMMANDS:
        for depth in (1, 16):
            for size in (16, VALUE)[: 1 if command in SIZELESS else 2]:
                target = MEMORY_TARGET[depth]
                rows.append(Row("memory", command, depth, size, args.keys, target))
    for depth in (1, 16):
        for size in (16, VALUE):
            rows.append(Row("disk", "GET", depth, size, args.keys, MEMORY_TARGET[depth]))
    for depth in (1, 16):
        rows.append(Row("disk", "SET", depth, VALUE, 1_000, Target(1.0), label="hot"))
    for depth, least in ((1, 0.9), (16, 0.7)):
        rows.append(Row("sustain", "SET", depth, VALUE, args.sustain_keys, Target(least)))
    for depth in (1, 16):
        rows.append(Row("tier", "GET", depth, VALUE, args.keys, Target(0.9, p99_most=1.2)))
    if args.rival:
        rows.append(Row("cold", "GET", 1, VALUE, args.cold_keys, Target(2.0)))
    for command in ("GET", "SET"):
        rows.append(Row("evict", command, 1, VALUE, args.cold_keys))
    for command in ("GET", "SET"):
        for depth in (1, 16):
            for label in ("", *CROWDS):
                rows.append(Row("threads", command, depth, VALUE, args.keys, Target(0.95), label))
    for command in ("GET", "SET"):
        for depth in (1, 16):
            rows.append(Row("hogs", command, depth, VALUE, args.keys, Target(0.8)))
    rows += rows_of_threads(args)
    rows.append(Row("idle", "no-client", target=Target(core_percent=1)))
    rows.append(Row("idle", "50-silent", target=Target(core_percent=1)))
    return rows


def rows_of_threads(args):
    """What IO threads save, what they cost, and whom they delay."""
    rows = []
    for depth, target in ((1, Target(main_most=0.06)), (10, Target())):
        for command in ("GET", "SET"):
            rows.append(Row("main", command, depth, VALUE, args.keys, target))
    for command in ("GET", "SET"):
        for label in ("8", "8-always"):
            rows.append(Row("spare", command, 1, VALUE, args.keys, Target(0.98), label))
    for pair, target in (("low", Target(cpu_most=1.1)), ("tail", Target(p999_most=1.2))):
        for command in ("GET", "SET"):
            for label in ("auto", "always"):
                rows.append(Row(pair, command, 1, VALUE, args.keys, target, label))
    for pair in ("beside-reply", "beside-pipeline"):
        for label in ("one", "auto", "always"):
            rows.append(Row(pair, "GET", 1, VALUE, args.keys, Target(p99_more_ms=1), label))
    for command in ("GET", "SET"):
        for label in ("always", "3-always"):
            rows.append(Row("stall", command, 1, VALUE, args.keys, Target(p99_more_ms=2), label))
    return rows


def servers_of(row, args):
    """Command lines of ours (A) and theirs (B)."""
    pair = row.pair
    ours, theirs = shlex.split(args.ours), shlex.split(args.theirs)
    durable = ["--appendfsync", "everysec"]
    plain_redis = theirs + ["--save", "", "--appendonly", "no"]
    if "redis-server" in ours[0]:
        # An A/A run: how far two equal servers differ here is the resolution of this script.
        same = {"disk": ["--save", "", "--appendonly", "yes", *durable]}
        same["sustain"] = same["disk"]
        more = same.get(pair, ["--save", "", "--appendonly", "no"])
        return ours + more, theirs + more
    if pair in ("disk", "sustain"):
        log = ["--save", "", "--appendonly", "yes", *durable]
        return ours + [*durable, *THREADS["one"]], theirs + log
    memory = ours + ["--store", "memory"]
    single = memory + THREADS["one"]
    if pair in ("threads", "hogs"):
        return memory + THREADS["auto"], single
    if pair == "main":
        return memory + THREADS["always"], single
    if pair == "spare":
        return memory + THREADS[row.label], memory + THREADS[FEWER[row.label]]
    if pair in ("low", "tail"):
        return memory + THREADS[row.label], single
    if pair == "stall" or pair.startswith("beside"):
        return memory + THREADS[row.label], memory + THREADS[row.label]
    if pair == "tier":
        return ours + [*durable, *THREADS["one"]], single
    if pair == "cold":
        return ours + durable, shlex.split(args.rival)
    if pair == "evict":
        return ours + durable, ours + durable
    if pair == "idle":
        return ours, plain_redis
    return single, plain_redis
