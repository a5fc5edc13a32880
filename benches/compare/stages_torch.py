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


def latents(width, height, frames, channels=16, factor=8):
    return torch.randn(1, channels, (frames - 1) // 4 + 1, height // factor, width // factor).to(dtype)


def predict():
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    # 512 tokens of text, of which all but 40 are zeros, as the pipeline pads a prompt.
    text = torch.cat([torch.randn(1, 40, 4096), torch.zeros(1, 472, 4096)], 1).to(dtype)
    network = WanVACETransformer3DModel if "vace" in folder else WanTransformer3DModel
    transformer = network.from_pretrained(f"{folder}/transformer", torch_dtype=dtype)
    config, more = transformer.config, {}
    x = latents(*sizes, config.in_channels, 16 if stage == "tokens" else 8)
    timesteps = torch.tensor([500.0])
    if stage == "tokens":
        [frames, height, width] = x.shape[2:]
        timesteps = torch.full((1, frames * height * width // 4), 500.0)
        timesteps[:, : height * width // 4] = 0
    if "vace" in folder:
        more["control_hidden_states"] = latents(*sizes, config.vace_in_channels)
    elif config.image_dim:
        more["encoder_hidden_states_image"] = torch.randn(1, 257, config.image_dim).to(dtype)
    return seconds(lambda: transformer(x, timesteps, text, **more))


@torch.no_grad()
def run():
    if stage == "text":
        from transformers import UMT5EncoderModel

        encoder = UMT5EncoderModel.from_pretrained(f"{folder}/text_encoder", dtype=dtype)
        ids = torch.arange(1, sizes[0] + 1)[None]
        return seconds(lambda: encoder(ids), 3)
    if stage == "image":
        from transformers import CLIPVisionModel

        encoder = CLIPVisionModel.from_pretrained(f"{folder}/image_encoder", dtype=dtype)
        pixels = torch.randn(1, 3, 224, 224).to(dtype)
        return seconds(lambda: encoder(pixels, output_hidden_states=True), 3)
    if stage in ("pass", "tokens"):
        return predict()
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(f"{folder}/vae", torch_dtype=dtype)
    if stage == "decode":
        z = latents(*sizes, vae.config.z_dim, vae.config.scale_factor_spatial)
        return seconds(lambda: vae.decode(z))
    width, height, frames = sizes
    video = torch.randn(1, 3, frames, height, width).tanh().to(dtype)
    return seconds(lambda: vae.encode(video))


print(f"{run():.3f}")
