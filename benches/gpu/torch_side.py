#!/usr/bin/env python3
"""The PyTorch side of gpu.rs: the same parts, made by diffusers and transformers from the same configs
with random weights, timed in the same way, in the same JSON lines; with torch's count of the memory of
its tensors at the peak (allocated_peak_bytes). Whatever torch has as a default stays: convolutions in
f32 may use TF32, matrix products may not.

    python benches/gpu/torch_side.py --what dit --model tiny --device cpu
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch

MODELS = json.loads(pathlib.Path(__file__).with_name("models.json").read_text())
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

parser = argparse.ArgumentParser(description="PyTorch's times of parts of text-to-video")
parser.add_argument("--what", required=True, choices=["attention", "conv3d", "dit", "vae", "text"])
parser.add_argument("--model", default="1.3b", choices=MODELS)
parser.add_argument("--dtype", default="bf16", choices=DTYPES)
parser.add_argument("--runs", type=int, default=5, help="runs after the first")
parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
parser.add_argument("--compile", action="store_true", help="models by torch.compile")
options = parser.parse_args()
device, dtype = torch.device(options.device), DTYPES[options.dtype]


def of_model(part):
    """A config or shape of the model; what a model does not have is that of 1.3b."""
    return MODELS[options.model].get(part, MODELS["1.3b"].get(part))


def on_cuda():
    return device.type == "cuda"


def timed(work):
    if on_cuda():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = work()
    if on_cuda():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    del result
    return seconds


def measure(name, shape, work):
    if on_cuda():
        torch.cuda.reset_peak_memory_stats()
    first = timed(work)
    line = {
        "name": name,
        "shape": list(shape),
        "first_seconds": first,
        "median_seconds": statistics.median(timed(work) for _ in range(options.runs)),
        "allocated_peak_bytes": torch.cuda.max_memory_allocated() if on_cuda() else None,
        "dtype": options.dtype,
        "model": options.model,
    }
    print(json.dumps(line), flush=True)
    if on_cuda():
        torch.cuda.empty_cache()


def random(*shape, dtype=dtype):
    return torch.randn(*shape, device=device, dtype=dtype)


def made(build):
    """The module on the device, in the dtype from the start: 14B in f32 would not fit most cards. What
    from_pretrained keeps in f32 is in f32."""
    torch.set_default_dtype(dtype)
    with device:
        model = build().eval()
    torch.set_default_dtype(torch.float32)
    exact = set(getattr(model, "_keep_in_fp32_modules", None) or [])
    for name, parameter in model.named_parameters():
        if exact.intersection(name.split(".")):
            parameter.data = parameter.data.float()
    return model


def attention():
    batch, heads, tokens, width = of_model("attention")
    # In the memory order of the transformer.
    q, k, v = (random(batch, tokens, heads, width).transpose(1, 2) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    measure("attention", [batch, heads, tokens, width], lambda: attend(q, k, v))


def conv3d():
    for shape in of_model("conv3d"):
        batch, frames, height, width, channels = shape
        past = random(batch, channels, 2, height, width)
        x = random(batch, channels, frames, height, width)
        weight, bias = random(channels, channels, 3, 3, 3), random(channels)

        def convolve():
            joined = torch.cat([past, x], 2)
            return torch.nn.functional.conv3d(joined, weight, bias, padding=(0, 1, 1))

        measure("conv3d", shape, convolve)


def dit():
    from diffusers import WanTransformer3DModel

    transformer = made(lambda: WanTransformer3DModel.from_config(of_model("transformer")))
    forward = torch.compile(transformer) if options.compile else transformer
    latents = random(*of_model("latents"))
    rows = [1, of_model("text_rows"), transformer.config.text_dim]
    texts = [random(*rows) for _ in range(2)]
    timestep = torch.tensor([500.0], device=device)

    def step():
        conditional, unconditional = (
            forward(latents, timestep, text, return_dict=False)[0] for text in texts
        )
        return unconditional + 5.0 * (conditional - unconditional)

    measure("denoising step", of_model("latents"), step)


def vae():
    from diffusers import AutoencoderKLWan

    model = made(lambda: AutoencoderKLWan.from_config(of_model("vae")))
    if options.compile:
        model.decoder = torch.compile(model.decoder)
    latents = random(*of_model("latents"))
    measure("VAE decode", latents.shape, lambda: model.decode(latents, return_dict=False)[0])


def text():
    from transformers import UMT5Config, UMT5EncoderModel

    model = made(lambda: UMT5EncoderModel(UMT5Config(**of_model("text_encoder"))))
    encode = torch.compile(model) if options.compile else model
    tokens, rows = of_model("prompt_tokens"), of_model("text_rows")
    ids = torch.arange(1, rows + 1, device=device)[None]
    mask = (ids <= tokens).long()
    encoded = lambda count: encode(ids[:, :count], mask[:, :count])[0]
    measure("text encoding", [1, tokens], lambda: encoded(tokens))
    # As the pipeline of diffusers does it.
    measure("text encoding, padded", [1, rows], lambda: encoded(rows))


if on_cuda() and not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} finds no GPU: it takes one of NVIDIA and its driver")
torch.manual_seed(0)
with torch.no_grad():
    globals()[options.what]()
