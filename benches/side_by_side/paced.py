"""Requests at a fixed rate, whatever the server does, by the client `paced` of this crate."""

import json
import os
import subprocess

from machine import Meter

CLIENTS = 50
# Of low/*, evict/* and beside-*/*, requests a second.
LOW_RATE = 10_000
# Of stall/*: enough to have each of two workers find jobs.
STALL_RATE = 20_000
# What another client does meanwhile.
DISTURBANCES = {"beside-reply": "reply", "beside-pipeline": "pipeline"}


def drive(server, row, rate, disturbance, args, machine):
    if not os.path.exists(args.paced):
        raise RuntimeError(f"{args.paced} is missing: cargo build --release -p flintlock-benches")
    command = [
        args.paced, str(server.port), "--clients", str(CLIENTS), "--rate", str(rate),
        "--seconds", str(args.seconds), "--command", row.command.lower(),
        "--value-bytes", str(row.size), "--keys", str(row.keys),
    ]  # fmt: skip
    command += ["--beside", disturbance] if disturbance else []
    meter = Meter(server, machine)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    figures = meter.figures()
    if done.returncode != 0:
        raise RuntimeError(f"{row.name}: {done.stderr}")
    return {**json.loads(done.stdout), **figures}
