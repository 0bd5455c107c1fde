"""From pairs of runs to a row of a table."""

import shlex
import statistics

QUIET_CORES = 0.25


def median_ratio(pairs, field):
    ratios = [ours[field] / theirs[field] for ours, theirs in pairs if theirs.get(field)]
    return round(statistics.median(ratios), 3) if ratios else None


def medians(pairs, field):
    """Of ours and of theirs; None where runs do not have it."""
    found = [[pair[which][field] for pair in pairs if field in pair[which]] for which in (0, 1)]
    return [round(statistics.median(values), 3) if values else None for values in found]


def cpu_us_per_request(pairs, which):
    requests = sum(pair[which]["requests"] for pair in pairs)
    used = sum(pair[which]["cpu_ns"] for pair in pairs)
    return used / 1e3 / requests if requests else None


def summarise(row, commands, pairs):
    quiet = [pair for pair in pairs if all(run["foreign_cores"] < QUIET_CORES for run in pair)]
    counted = quiet or pairs
    cpu = [cpu_us_per_request(pairs, which) for which in (0, 1)]
    more = [a["p99_ms"] - b["p99_ms"] for a, b in counted if "p99_ms" in a and "p99_ms" in b]
    result = {
        "row": row.name,
        "servers": [shlex.join(command) for command in commands],
        "pairs": len(pairs),
        "quiet_pairs": len(quiet),
        "per_second": medians(counted, "per_second"),
        "throughput_ratio": median_ratio(counted, "per_second"),
        "cpu_us_per_request": [round(value, 3) if value else None for value in cpu],
        "cpu_ratio": round(cpu[0] / cpu[1], 3) if all(cpu) else None,
        "main_us": medians(counted, "main_us"),
        "main_ratio": median_ratio(counted, "main_us"),
        "requests_a_turn": medians(counted, "requests_a_turn"),
        "p50_ms": medians(counted, "p50_ms"),
        "p99_ms": medians(counted, "p99_ms"),
        "p99_ratio": median_ratio(counted, "p99_ms"),
        "p99_more_ms": round(statistics.median(more), 3) if more else None,
        "p999_ms": medians(counted, "p999_ms"),
        "p999_ratio": median_ratio(counted, "p999_ms"),
        "late_p999_ms": medians(counted, "late_p999_ms"),
        "core_percent": medians(counted, "core_percent")[0],
        "core_percents": medians(counted, "core_percent"),
        "target": str(row.target),
        "runs": [{"ours": ours, "theirs": theirs} for ours, theirs in pairs],
    }
    result["reached"] = row.target.reached(result)
    return result


def show(value, form="{}"):
    return "" if value is None else form.format(value)


def both(values, form):
    return [show(value, form) for value in values]


def thousands(result):
    return [show(rate / 1000, "{:.1f}") for rate in result["per_second"]]


class Speed:
    """How much, and at what cost."""

    head = ["ours k/s", "theirs k/s", "ratio", "CPU us/request ours", "theirs", "ratio"]
    head += ["p99 ratio"]

    @staticmethod
    def cells(result):
        cells = thousands(result)
        cells += [show(result["throughput_ratio"], "{:.2f}x")]
        cells += both(result["cpu_us_per_request"], "{:.2f}")
        cells += [show(result["cpu_ratio"], "{:.2f}x"), show(result["p99_ratio"], "{:.2f}x")]
        return cells


class Main:
    """The main thread alone."""

    head = ["with a worker, us", "one thread, us", "of one thread", "requests a turn", "theirs"]

    @staticmethod
    def cells(result):
        cells = both(result["main_us"], "{:.2f}") + [show(result["main_ratio"], "{:.3f}")]
        return cells + both(result["requests_a_turn"], "{:.0f}")


class Latency:
    """Of requests that come at a fixed rate; "late" is the client's own part of it."""

    head = ["k/s", "p50 us ours", "theirs", "p99 us ours", "theirs", "p99.9 us ours", "theirs"]
    head += ["late p99.9 us ours", "theirs", "p99.9 ratio", "p99 more, ms"]

    @staticmethod
    def cells(result):
        cells = thousands(result)[:1]
        for field in ("p50_ms", "p99_ms", "p999_ms", "late_p999_ms"):
            cells += both([value * 1000 for value in result[field]], "{:.0f}")
        cells += [show(result["p999_ratio"], "{:.2f}x"), show(result["p99_more_ms"], "{:.2f}")]
        return cells


class Rest:
    """Nothing to do."""

    head = ["ours, % of a core", "theirs, % of a core"]

    @staticmethod
    def cells(result):
        return both(result["core_percents"], "{}")


def sheet_of(name):
    """The columns of a row."""
    pair = name.split("/")[0].split("-")[0]
    latencies = dict.fromkeys(("tail", "evict", "beside", "stall"), Latency)
    return {"main": Main, **latencies, "idle": Rest}.get(pair, Speed)


def line(result):
    verdict = {True: "yes", False: "NO", None: ""}[result["reached"]]
    quiet = f"{result['quiet_pairs']}/{result['pairs']}"
    cells = sheet_of(result["row"]).cells(result)
    return "| " + " | ".join([result["row"], *cells, quiet, result["target"], verdict]) + " |"


def tables(results):
    """One for each kind of columns, in the order of the rows."""
    out = []
    for sheet in dict.fromkeys(sheet_of(result["row"]) for result in results):
        head = ["row", *sheet.head, "quiet", "target", "reached"]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines += [line(result) for result in results if sheet_of(result["row"]) is sheet]
        out.append("\n".join(lines))
    return "\n\n".join(out)
