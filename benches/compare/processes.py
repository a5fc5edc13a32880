"""What `products` and `stages` have in common: processes of either side, on as many cores as they have threads."""

import collections
import os
import subprocess
import sys
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[2] / "target")) / "release" / "examples"
CORES = sorted(os.sched_getaffinity(0))
DTYPES = ["f32", "bf16"]
# The most memory that it had, in bytes.
Done = collections.namedtuple("Done", "code said errors peak")


def add_options(parser):
    cores = len(CORES)
    parser.add_argument("--python", help="a Python with torch, for its side")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in their name")
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--kernel", nargs="+", metavar="NAME", help="our kernels for bf16, by their names in wan-core")
    parser.add_argument("--threads", type=int, default=cores, choices=range(1, cores + 1), metavar="N",
                        help="threads and cores of either side; default: all the cores")


def machine(threads):
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else 'processor of no name'}, {threads} threads on {threads} of {len(CORES)} cores"


def run(command, threads):
    """Runs it to its end. Both sides know the option for threads."""
    process = subprocess.Popen(
        [str(word) for word in [*command, "--threads", threads]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, CORES[:threads]),
    )
    # Neither says more to the second pipe than that holds.
    said, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Done(process.returncode, said, errors, usage.ru_maxrss * 1024)


def run_or_exit(command, threads):
    done = run(command, threads)
    if done.code:
        sys.exit(f"{' '.join(map(str, command))}: {done.errors}")
    return done
