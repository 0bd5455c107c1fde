"""Real clients against a real server: the smoke tests.

usage: run.py --tools FOLDER [--server COMMAND] [--only NAMES] [--stores NAMES] [--rounds N]

Parts: redis-py, ioredis, node-redis, redis-cli, redis-benchmark, crash (kill -9 and restart).
`--server redis-server` runs the parts against Debian's redis-server, which shows that they are sound.
Every part runs against the memory store and against the disk store, except crash (disk only).
"""

import argparse
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time

import crash
from server_process import ServerProcess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../../.."))
PART_SECONDS = 600
BENCHMARK_TESTS = 20


def say(text):
    print(text, flush=True)


def run(command, **options):
    """Runs a client; a failure shows what it printed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PART_SECONDS, **options
    )
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{text}")
    return text


def redis_py(server, tools):
    python = os.path.join(tools, "venv/bin/python")
    for protocol in ("2", "3"):
        run([python, os.path.join(HERE, "redis_py.py"), str(server.port), protocol])


def node(server, tools, script):
    # Modules are found from where the script lies, so it runs from beside the installed ones.
    copy = os.path.join(tools, script)
    shutil.copyfile(os.path.join(HERE, script), copy)
    run([os.path.join(tools, "node"), copy, str(server.port)])


def ioredis(server, tools):
    node(server, tools, "ioredis.mjs")


def node_redis(server, tools):
    node(server, tools, "node_redis.mjs")


def redis_cli(server, _tools):
    base = ["redis-cli", "-p", str(server.port)]

    def expect(words, want, **options):
        got = run(base + words, **options)
        if want not in got:
            raise RuntimeError(f"redis-cli {shlex.join(words)}: {want!r} is not in:\n{got}")

    server.ask("FLUSHALL")
    expect(["PING"], "PONG")
    expect(["-3", "HSET", "h", "f", "v"], "1")
    expect(["-3", "--no-raw", "HGETALL", "h"], '1# "f" => "v"')
    expect(["-r", "3", "INCR", "n"], "3")
    expect(["-n", "5", "SET", "k", "in five"], "OK")
    expect(["-n", "5", "GET", "k"], "in five")
    expect(["-x", "SET", "from-stdin"], "OK", input=b"some bytes")
    expect(["GET", "from-stdin"], "some bytes")
    expect(["GET", "h"], "WRONGTYPE")
    expect(["--scan", "--pattern", "from*"], "from-stdin")
    frames = b"".join(b"*3\r\n$3\r\nSET\r\n$5\r\np%04d\r\n$1\r\nv\r\n" % i for i in range(2_000))
    expect(["--pipe"], "errors: 0, replies: 2000", input=frames)
    server.ask("RPUSH", "big-list", *range(500))
    expect(["--bigkeys"], "big-list")
    expect(["INFO", "server"], "redis_version")
    interactive(base, [("SET a b", "OK"), ("GET a", '"b"'), ("NOSUCH", "unknown command")])


def interactive(command, exchanges):
    """redis-cli at a terminal first asks for COMMAND DOCS, then works as usual."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp(command[0], command)
    try:
        for line, want in exchanges:
            os.write(terminal, line.encode() + b"\r")
            seen, until = "", time.monotonic() + 60
            while want not in seen.replace(line, ""):
                ready, _, _ = select.select([terminal], [], [], max(0, until - time.monotonic()))
                if not ready:
                    raise RuntimeError(f"redis-cli at a terminal: no {want!r} in:\n{seen}")
                seen += os.read(terminal, 65536).decode("utf-8", "replace")
        os.write(terminal, b"quit\r")
    finally:
        time.sleep(0.05)
        os.close(terminal)
        os.waitpid(pid, 0)


def redis_benchmark(server, _tools):
    errors = int(server.info("stats")["total_error_replies"])
    for options in (["-n", "5000"], ["-n", "20000", "-P", "16"], ["-n", "5000", "-3", "-r", "1000"]):
        text = run(["redis-benchmark", "-p", str(server.port), "--csv", *options])
        tests = [line for line in text.splitlines() if line.startswith('"')][1:]
        if len(tests) < BENCHMARK_TESTS:
            raise RuntimeError(f"only {len(tests)} tests were run:\n{text}")
    if int(server.info("stats")["total_error_replies"]) != errors:
        raise RuntimeError("redis-benchmark met error replies")


PARTS = {
    "redis-py": redis_py,
    "ioredis": ioredis,
    "node-redis": node_redis,
    "redis-cli": redis_cli,
    "redis-benchmark": redis_benchmark,
}


def stores(server):
    """Name and arguments of each store that is tested."""
    debug = ["--enable-debug-command", "yes"]
    if "redis-server" in server[0]:
        return [("memory", ["--save", "", "--appendonly", "no", *debug])]
    return [("memory", ["--store", "memory", *debug]), ("disk", debug)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tools", required=True, help="folder of the installed clients")
    parser.add_argument("--server", default=os.path.join(ROOT, "target/release/flintlock"))
    parser.add_argument("--only", default=",".join([*PARTS, "crash"]), help="parts, by name")
    parser.add_argument("--stores", default="memory,disk", help="stores, by name")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of kill -9 and restart")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the kill moments")
    parser.add_argument("--scratch", default=os.path.join(ROOT, "target/smoke"))
    args = parser.parse_args()
    command, tools = shlex.split(args.server), os.path.abspath(args.tools)
    wanted = args.only.split(",")
    for store, options in stores(command):
        if store not in args.stores.split(","):
            continue
        for name, part in PARTS.items():
            if name not in wanted:
                continue
            start = time.monotonic()
            server = ServerProcess(command + options, os.path.join(args.scratch, name))
            try:
                part(server, tools)
                if server.process.poll() is not None:
                    raise RuntimeError("the server ended")
            except Exception:
                say(f"smoke: {name} on {store}: RED; the server said:\n" + "".join(server.said))
                raise
            finally:
                server.stop()
            say(f"smoke: {name} on {store}: green after {time.monotonic() - start:.1f} s")
    if "crash" in wanted:
        crash.main(command, os.path.join(args.scratch, "crash"), args.rounds, args.seed)
    shutil.rmtree(args.scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
