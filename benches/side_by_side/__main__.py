"""Our release binary and Debian's redis-server 7.0.15, side by side in one run.

Both servers run at the same time; redis-benchmark (50 connections) drives one, then the other, in
alternating order (AB, BA, ...). Before each run both servers are given time to settle, so that the
background work of one is not charged to the other. Reported for each row:

- throughput: the medians of the runs, and the median over the pairs of ours over theirs: what the
  host does to both runs of a pair is not in it. Single pairs spread by 0.1 to 0.3, hence many;
- CPU: nanoseconds of all threads of the server from /proc/PID/task/*/schedstat, as microseconds per
  request (the same number as CPU seconds per million requests), a ratio of sums;
- p99 ratio: the 99th percentiles that the client tells, the median over the pairs likewise;
- quiet: pairs of runs in which other processes used less than a quarter of a core. Throughput and
  latencies are taken from these if there are any; CPU from all.

Rows (choose with --rows, a glob or several, comma-separated; --list prints them):

- memory/*: `--store memory`, IO threads 1, against `--save '' --appendonly no`; the server is bound
  to one core and redis-benchmark to another;
- disk/*: the default store with everysec against `--appendonly yes --appendfsync everysec`; nothing
  is bound, because both have threads of their own;
- sustain/*: the same pair, SET over 1 M keys without a break, requests counted by the server;
- tier/*: the default store, whose keys are all in memory, against `--store memory`, both ours,
  nothing bound: what a hit pays for the disk behind it;
- cold/*: GET of random keys over ten times `maxmemory`, which is set after the load, the default
  store against the command that --rival gives, nothing bound and no limit on the system's cache of
  files; only with --rival;
- evict/*: 10,000 requests a second for random keys, over four times `maxmemory`, which is set after
  the load (ours), and without a limit (theirs), both the default store, nothing bound;
- threads/*: `--io-threads auto` against `--io-threads 1`, both ours, nothing bound, with 50 clients
  or as many as the row says;
- hogs/*: the same with a process on each CPU that never stops, for which no pair counts as quiet;
- idle/*: no client, and 50 that say nothing.

What IO threads do, both sides ours with `--store memory`; "auto" is `--io-threads auto`, "always"
`--io-threads 2 --io-threads-always-active yes`, "one" `--io-threads 1`:

- main/*: CPU time of the main thread alone, always against one, 200 connections. The main thread
  shares a core with redis-benchmark, in the scheduler's idle class, and the worker has the other,
  so that there is a backlog whenever the main thread runs; requests a turn of its loop tell
  whether there was. Ratios are medians over the pairs;
- spare/*: 8 threads against 2, by load (8) or always active (8-always), nothing bound: what threads
  beyond those needed cost. With two cores one of the 8 is needed, and the other six or seven can
  only be in the way, also of each other;
- low/*: 10,000 requests a second, against one: CPU per request of a server that has little to do;
- tail/*: p99.9 at half of what one thread does in redis-benchmark just before, against one;
- beside-reply/*, beside-pipeline/*: 10,000 requests a second, with (ours) and without (theirs)
  another client that fetches a value of 1 MiB, or sends 10,000 INCR at once, waits for the end and
  does it again 10 ms later, with the threads that the row names.

- stall/*: 20,000 requests a second, with (ours) and without (theirs) an IO thread being stopped for
  100 ms of each 300, wherever it is, one of them (always) or of two that are always active
  (3-always): how long do clients wait whose requests it does not hold?

The last five, and evict/*, are driven by `paced` (50 connections): it sends at fixed times, whether
replies come or not, and counts latencies from those times. "late" is how far behind its own times
it sent, which is in the latencies: where that comes near them, the client had no CPU, and they say
little of the server.

A row may state what it must reach; --check exits with 1 if one does not. Ratios from a loaded
machine are no claim: see the quiet column. Source of the method: alternating runs, CPU as a ratio of
sums.
"""

import argparse
import fnmatch
import json
import os
import sys

from machine import ROOT, Machine, facts

sys.path.insert(0, os.path.join(ROOT, "crates/server/tests/smoke"))
import report  # noqa: E402
import runs  # noqa: E402
from rows import all_rows  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(
        prog="python3 benches/side_by_side",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", default="*", help="globs of row names, comma-separated (default all)")
    add("--list", action="store_true", help="print the row names and stop")
    add("--repetitions", type=int, default=20, help="pairs of runs per row (default 20)")
    add("--seconds", type=float, default=1.0, help="length of a run, roughly (default 1)")
    add("--sustain", type=float, default=60, help="seconds of a sustained run (default 60)")
    add("--sustain-repetitions", type=int, default=1, help="pairs of sustained runs (default 1)")
    add("--sustain-keys", type=int, default=1_000_000, help="keys of a sustained run (1 M)")
    add("--cold-keys", type=int, default=1_000_000, help="keys of a cold row (1 M)")
    add("--keys", type=int, default=100_000, help="keys of the other rows (default 100,000)")
    add("--idle", type=float, default=10, help="seconds an idle server is watched (default 10)")
    add("--short", action="store_true", help="a quick look: 3 pairs of 0.3 s, 10 s sustained")
    add("--no-pin", dest="pin", action="store_false", help="bind no process of memory/* to a core")
    add("--ours", default=built("flintlock"), help="our command")
    add("--theirs", default="redis-server", help="the other command")
    add("--rival", help="command of a disk-backed server to compare with in cold/*")
    add("--paced", default=built("paced"), help="the client of paced requests")
    add("--json", default=os.path.join(ROOT, "target/side_by_side.json"), help="where JSON goes")
    add("--scratch", default=os.path.join(ROOT, "target/side_by_side"), help="where data goes")
    add("--check", action="store_true", help="exit with 1 if a target is not reached")
    args = parser.parse_args()
    if args.short:
        args.repetitions, args.seconds, args.sustain, args.idle = 3, 0.3, 10, 3
    return args


def built(name):
    return os.path.join(ROOT, "target/release", name)


def print_head(known, args):
    for key, value in known.items():
        print(f"{key}: {value}")
    print(f"connections: {runs.CLIENTS}, pairs: {args.repetitions}, seconds a run: {args.seconds}")
    cores = f"server on core {runs.SERVER_CORE}, client on core {runs.CLIENT_CORE}"
    print(f"bound to cores in memory/*: {cores if args.pin else 'none'}; in other rows see --help")


def main():
    args = arguments()
    rows = all_rows(args)
    wanted = [glob.strip() for glob in args.rows.split(",")]
    rows = [row for row in rows if any(fnmatch.fnmatch(row.name, glob) for glob in wanted)]
    if args.list or not rows:
        print("\n".join(row.name for row in rows))
        return 0 if rows else 1
    if (os.cpu_count() or 1) < 2:
        args.pin = False
        rows = [row for row in rows if row.pair != "main"]
    known, machine, results = facts(args), Machine(), []
    print_head(known, args)
    for row in rows:
        result = runs.measure(row, args, machine, args.scratch)
        results.append(result)
        print(report.line(result), flush=True)
        os.makedirs(os.path.dirname(args.json), exist_ok=True)
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"facts": known, "clients": runs.CLIENTS, "results": results}, file, indent=1)
    print("\nServers:")
    shown = dict.fromkeys(tuple(result["servers"]) for result in results)
    for servers in shown:
        names = [r["row"] for r in results if tuple(r["servers"]) == servers]
        print(f"- {', '.join(names)}: ours `{servers[0]}`, theirs `{servers[1]}`")
    print("\n" + report.tables(results))
    missed = [result["row"] for result in results if result["reached"] is False]
    if missed:
        print("\nnot reached: " + ", ".join(missed))
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
