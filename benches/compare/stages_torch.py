"""The networks of stages.rs in torch, by diffusers and transformers: see `stages`. Takes the same arguments."""

import argparse
import time

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("dtype", choices=DTYPES)
parser.add_argument("stage")
parser.add_argument("sizes", type=int, nargs="*")
parser.add_argument("--threads", type=int)
options = parser.parse_args()
folder, stage, sizes, dtype = options.folder, options.stage, options.sizes, DTYPES[options.dtype]
if options.threads:
    torch.set_num_threads(options.threads)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def least(work):
    """The least of the seconds of a second, three at least."""
    began, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - began < 1:
        times.append(seconds(work))
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
        images = 2 if config.pos_embed_seq_len else 1
        more["encoder_hidden_states_image"] = torch.randn(images, 257, config.image_dim).to(dtype)
    return seconds(lambda: transformer(x, timesteps, text, **more))


@torch.no_grad()
def run():
    if stage == "text":
        from transformers import UMT5EncoderModel

        encoder = UMT5EncoderModel.from_pretrained(f"{folder}/text_encoder", dtype=dtype)
        ids = torch.arange(1, sizes[0] + 1)[None]
        return least(lambda: encoder(ids))
    if stage == "tower":
        from transformers import XLMRobertaConfig, XLMRobertaModel

        # As large as the one in the file, which transformers does not read.
        sizes_of_large = dict(vocab_size=250002, hidden_size=1024, intermediate_size=4096, num_attention_heads=16)
        config = XLMRobertaConfig(num_hidden_layers=1, max_position_embeddings=514, type_vocab_size=1, **sizes_of_large)
        tower = XLMRobertaModel(config, add_pooling_layer=False).to(dtype).eval()
        ids = torch.arange(2, sizes[0] + 2)[None]
        return least(lambda: tower(ids))
    if stage == "image":
        from transformers import CLIPVisionModel

        encoder = CLIPVisionModel.from_pretrained(f"{folder}/image_encoder", dtype=dtype)
        pixels = torch.randn(1, 3, 224, 224).to(dtype)
        return least(lambda: encoder(pixels, output_hidden_states=True))
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


print(f"{run():.6f}")
