"""The operations of products.rs in torch: see `products`. Takes the name of a dtype."""

import sys
import time

import torch
import torch.nn.functional as F

DTYPE = getattr(torch, sys.argv[1])
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
ATTENTION = [(2000, 12), (8190, 12)]


def rate(name, operations, work):
    work()
    began, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - began < 1:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    print(f"{name}\t{operations / min(times) / 1e9:.1f}")


def random(*shape):
    return torch.randn(shape).to(DTYPE)


with torch.no_grad():
    for rows, inputs, outputs in PRODUCTS:
        x, weight = random(rows, inputs), random(outputs, inputs)
        rate(f"product {rows} x {inputs} x {outputs}", 2 * rows * inputs * outputs, lambda: F.linear(x, weight))
    for height, width, cin, cout in CONVOLUTIONS:
        # As the VAE calls it: the frames before this one joined, and zeros around them.
        past, x, weight = random(1, cin, 2, height, width), random(1, cin, 1, height, width), random(cout, cin, 3, 3, 3)

        def convolve():
            return F.conv3d(F.pad(torch.cat([past, x], 2), (1, 1, 1, 1, 0, 0)), weight)

        rate(f"convolution {height} x {width}, {cin} to {cout} channels", 54 * height * width * cin * cout, convolve)
    for tokens, heads in ATTENTION:
        q, k, v = (random(1, tokens, heads, 128).transpose(1, 2) for _ in range(3))

        def attend():
            return F.scaled_dot_product_attention(q, k, v)

        rate(f"attention of {tokens} tokens, {heads} heads of 128", 512 * tokens * tokens * heads, attend)
