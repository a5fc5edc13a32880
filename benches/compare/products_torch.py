"""The operations of products.rs in torch: see `products`. Takes the same arguments, with a dtype for the kernel."""

import argparse
import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PRODUCTS = [
    (1344, 1536, 8960),
    (1344, 8960, 1536),
    (2000, 1536, 1536),
    (16384, 864, 96),
    (4096, 5184, 192),
    (40, 4096, 10240),
    (512, 4096, 10240),
    (512, 10240, 4096),
]
CONVOLUTIONS = [(240, 416, 96, 96), (120, 208, 192, 192), (60, 104, 384, 384)]
ATTENTION = [(2000, 12), (8190, 12), (32760, 12)]
# A call that takes as many seconds is made once.
LONG = 10

parser = argparse.ArgumentParser()
parser.add_argument("dtype", choices=DTYPES)
parser.add_argument("--only", default="")
parser.add_argument("--threads", type=int)
options = parser.parse_args()
if options.threads:
    torch.set_num_threads(options.threads)


def row(name, operations, make):
    if options.only in name:
        print(f"{name}\t{operations / seconds(make()) / 1e9:.1f}", flush=True)


def seconds(work):
    """The least of the times of a second, three at least, after once to warm up."""

    def call():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    if (first := call()) >= LONG:
        return first
    began, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - began < 1:
        times.append(call())
    return min(times)


def random(*shape):
    return torch.randn(shape).to(DTYPES[options.dtype])


def product(rows, inputs, outputs):
    x, weight = random(rows, inputs), random(outputs, inputs)
    return lambda: F.linear(x, weight)


def convolution(height, width, cin, cout):
    """As the VAE calls it: the frames before this one joined, and zeros around them."""
    past, x, weight = random(1, cin, 2, height, width), random(1, cin, 1, height, width), random(cout, cin, 3, 3, 3)
    return lambda: F.conv3d(F.pad(torch.cat([past, x], 2), (1, 1, 1, 1, 0, 0)), weight)


def attention(tokens, heads):
    q, k, v = (random(1, tokens, heads, 128).transpose(1, 2) for _ in range(3))
    return lambda: F.scaled_dot_product_attention(q, k, v)


with torch.no_grad():
    for rows, inputs, outputs in PRODUCTS:
        name = f"product {rows} x {inputs} x {outputs}"
        row(name, 2 * rows * inputs * outputs, lambda: product(rows, inputs, outputs))
    for height, width, cin, cout in CONVOLUTIONS:
        name = f"convolution {height} x {width}, {cin} to {cout} channels"
        row(name, 54 * height * width * cin * cout, lambda: convolution(height, width, cin, cout))
    for tokens, heads in ATTENTION:
        name = f"attention of {tokens} tokens, {heads} heads of 128"
        row(name, 512 * tokens * tokens * heads, lambda: attention(tokens, heads))
