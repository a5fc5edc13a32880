"""The networks of stages.rs in torch, by diffusers and transformers: see `stages`. Takes the same arguments."""

import sys
import time

import torch

folder, dtype, stage, *sizes = sys.argv[1:]
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
sizes = list(map(int, sizes))


def seconds(work, runs=1):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def latents(width, height, frames):
    return torch.randn(1, 16, (frames - 1) // 4 + 1, height // 8, width // 8).to(dtype)


@torch.no_grad()
def run():
    if stage == "text":
        from transformers import UMT5EncoderModel

        encoder = UMT5EncoderModel.from_pretrained(f"{folder}/text_encoder", dtype=dtype)
        ids = torch.arange(1, sizes[0] + 1)[None]
        return seconds(lambda: encoder(ids), 3)
    if stage == "pass":
        from diffusers import WanTransformer3DModel

        # 512 tokens of text, of which all but 40 are zeros, as the pipeline pads a prompt.
        text = torch.cat([torch.randn(1, 40, 4096), torch.zeros(1, 472, 4096)], 1).to(dtype)
        transformer = WanTransformer3DModel.from_pretrained(f"{folder}/transformer", torch_dtype=dtype)
        x = latents(*sizes)
        return seconds(lambda: transformer(x, torch.tensor([500.0]), text))
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(f"{folder}/vae", torch_dtype=dtype)
    if stage == "decode":
        z = latents(*sizes)
        return seconds(lambda: vae.decode(z))
    width, height, frames = sizes
    video = torch.randn(1, 3, frames, height, width).tanh().to(dtype)
    return seconds(lambda: vae.encode(video))


print(f"{run():.3f}")
