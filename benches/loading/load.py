"""Loads all tensors of a sharded checkpoint with safetensors and torch, cast to a dtype, and prints how
long it took and how much memory of its own the process had, as load.rs does.

    python benches/loading/load.py FOLDER f32|bf16
"""

import pathlib
import sys
import threading
import time

import torch
from safetensors import safe_open


def anonymous():
    """Bytes of memory that are not pages of files."""
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.bytes, self.done = 0, threading.Event()

    def run(self):
        while not self.done.wait(0.001):
            self.bytes = max(self.bytes, anonymous())


folder, dtype = pathlib.Path(sys.argv[1]), {"f32": torch.float32, "bf16": torch.bfloat16}[sys.argv[2]]
before, peak = anonymous(), Peak()
peak.start()
start = time.perf_counter()
tensors = {}
for shard in sorted(folder.glob("*.safetensors")):
    with safe_open(shard, framework="pt") as file:
        for name in file.keys():
            tensors[name] = file.get_tensor(name).to(dtype, copy=True)
seconds = time.perf_counter() - start
peak.done.set()
peak.join()
model = sum(t.numel() * t.element_size() for t in tensors.values())
beyond = (max(peak.bytes, anonymous()) - before - model) / 2**20
print(f"{seconds:.2f} s, {model / 2**20:.0f} MiB of tensors, {beyond:.0f} MiB beyond them at the peak")
