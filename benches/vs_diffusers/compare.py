#!/usr/bin/env python3
"""Compares what two runs of the same job made: `compare.py OURS THEIRS`, each a folder with
`latents.safetensors` and `video.mp4`. Exits with 1 if the latents differ by more than rounding."""

import sys
from pathlib import Path

import imageio.v3
import numpy
from safetensors.numpy import load_file

# Twenty steps and forty passes of float32 arithmetic in another order.
ABSOLUTE, RELATIVE = 2e-3, 1e-3

ours, theirs = map(Path, sys.argv[1:])

a, b = (load_file(folder / "latents.safetensors")["latents"] for folder in (ours, theirs))
if a.shape != b.shape:
    sys.exit(f"latents: {a.shape} against {b.shape}")
difference = numpy.abs(a.astype(numpy.float64) - b)
share = float((difference / (ABSOLUTE + RELATIVE * numpy.abs(b))).max())
print(
    f"latents {list(a.shape)}: largest difference {difference.max():.1e}, values up to "
    f"{numpy.abs(b).max():.2f}; {share:.3f} of the tolerance {ABSOLUTE:g} + {RELATIVE:g} |x|"
)

# The files went through two H.264 encoders: their pixels tell only that the same thing is seen.
a, b = (
    imageio.v3.imread(folder / "video.mp4", plugin="FFMPEG").astype(numpy.float64)
    for folder in (ours, theirs)
)
if a.shape != b.shape:
    sys.exit(f"videos: {a.shape} against {b.shape}")
print(f"videos {list(a.shape)}: mean difference {numpy.abs(a - b).mean():.2f} of 255")

if not share <= 1.0:
    sys.exit("the two did not do the same job")
