#!/usr/bin/env python3
"""Runs two jobs in turn, as whole processes, and prints what each took as a Markdown table.

Wall time, CPU time and peak memory are the kernel's, from wait4: CPU time is of the process and all
it started; peak resident memory is of the largest of them. Needs nothing but Python and Linux."""

import argparse
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time

OURS, THEIRS = "wan-pipeline", "diffusers"

# As diffusers_text_to_video.py prints them.
STAGE = re.compile(r"(\w[\w ]*?) ([\d.]+) s")

# These would slow one side or the other.
UNSET = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"]


def environment(threads):
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]:
        env[name] = str(threads)
    return env


def measure(command, cores, env):
    """Wall seconds, CPU seconds, peak MiB, and the last line that it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    # Both print a few lines, far less than a pipe holds.
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"failed with {process.returncode}: {shlex.join(command)}\n{out}{err}")
    last = out.strip().splitlines()[-1] if out.strip() else ""
    return (wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), last


def cpu():
    with open("/proc/cpuinfo") as lines:
        fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    vectors = [name for name in ("avx2", "avx512f") if name in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", platform.machine()), *vectors])


def table(results, stages, versions, threads, load):
    middle = statistics.median
    rows = ["Wall time (s)", "CPU time (s)", "Peak memory (MiB)"]
    print(f"- machine: {cpu()}; {threads} threads on {threads} of {os.cpu_count()} cores")
    print(f"- system: {platform.system()} {platform.release()}, load average {load} before the start")
    for version in versions:
        print(f"- {version}")
    print()
    print(
        f"| {len(results[OURS])} runs each | {OURS}, median | least | {THEIRS}, median | least "
        "| ratio of medians | of the least |"
    )
    print("|---|---|---|---|---|---|---|")
    for index, row in enumerate(rows):
        ours, theirs = ([run[index] for run in results[side]] for side in (OURS, THEIRS))
        digits = 0 if index == 2 else 2
        cells = [middle(ours), min(ours), middle(theirs), min(theirs)]
        ratios = [cells[0] / cells[2], cells[1] / cells[3]]
        figures = [f"{cell:.{digits}f}" for cell in cells] + [f"**{ratio:.2f}**" for ratio in ratios]
        print(f"| {row} | {' | '.join(figures)} |")
    if stages:
        names = stages[0].keys()
        parts = (f"{name} {middle([run[name] for run in stages]):.2f} s" for name in names)
        print(f"\nWithin {THEIRS}, medians of wall time: {', '.join(parts)}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, help="command line")
    parser.add_argument("--theirs", required=True, help="command line")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--load", required=True, help="of the machine before this began")
    parser.add_argument("--version", action="append", default=[], help="line for the table's head")
    options = parser.parse_args()

    commands = {OURS: shlex.split(options.ours), THEIRS: shlex.split(options.theirs)}
    cores = sorted(os.sched_getaffinity(0))[: options.threads]
    env = environment(options.threads)

    results, stages = {OURS: [], THEIRS: []}, []
    print("one run of each that does not count, then in turn", flush=True)
    for number in range(options.runs + 1):
        for side, command in commands.items():
            figures, last = measure(command, cores, env)
            wall, cpu_time, memory = figures
            print(
                f"{number or 'warm-up':>7} {side:<12} wall {wall:6.2f} s, CPU {cpu_time:6.2f} s, "
                f"peak {memory:5.0f} MiB; {last}",
                flush=True,
            )
            if number > 0:
                results[side].append(figures)
            if number > 0 and side == THEIRS:
                stages.append({name: float(s) for name, s in STAGE.findall(last)})
    print()
    table(results, stages, options.version, options.threads, options.load)


main()
