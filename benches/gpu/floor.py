"""The least time that a card can take: the larger of operations over the rate of its matrix units and
bytes over the bandwidth of its memory. Operations are counted as the models are written, a
multiplication and an addition as two; bytes are those that cannot be saved by joining elementwise
operations to what they stand beside. `python3 -m doctest benches/gpu/floor.py` checks the counts.
"""

from math import prod
from typing import NamedTuple


class Card(NamedTuple):
    """TFLOP/s without sparsity, summed up in f32, and TB/s: NVIDIA's data sheets and white papers."""

    bits16: float
    tf32: float
    f32: float
    bandwidth: float


# By the names that nvidia-smi gives them.
CARDS = {
    "NVIDIA H100 80GB HBM3": Card(989.4, 494.7, 66.9, 3.35),  # SXM
    "NVIDIA H200": Card(989.4, 494.7, 66.9, 4.8),  # SXM
    "NVIDIA A100-SXM4-40GB": Card(312, 156, 19.5, 1.555),
    "NVIDIA A100-SXM4-80GB": Card(312, 156, 19.5, 2.039),
    "NVIDIA GeForce RTX 4090": Card(165.2, 82.6, 82.6, 1.008),
}


class Work(NamedTuple):
    operations: int
    bytes: int

    def seconds(self, card, dtype):
        """f32 by TF32, which is what matrix units have for it, unless a card is faster without them.

        >>> card = Card(bits16=2, tf32=1, f32=0.5, bandwidth=1)
        >>> Work(4 * 10**12, 10**12).seconds(card, "bf16"), Work(4 * 10**12, 10**12).seconds(card, "f32")
        (2.0, 4.0)
        >>> Work(10**12, 3 * 10**12).seconds(card, "bf16")
        3.0
        """
        rate = max(card.tf32, card.f32) if dtype == "f32" else card.bits16
        return max(self.operations / rate, self.bytes / card.bandwidth) / 1e12


def work(name, shape, model, size):
    """Of what is measured under `name`; `model` is its entry in models.json, `size` bytes a number.

    Names that have no floor of their own give None.
    """
    match name:
        case "attention" | "attention in pieces":
            return attention(shape, size)
        case "conv3d":
            return conv3d(shape, size)
        case "denoising step":
            return denoising_step(model["transformer"], shape, model["text_rows"], size)
        case "VAE decode":
            return vae_decode(model["vae"], shape, size)
        case "text encoding":
            return text_encoding(model["text_encoder"], shape[1], size)


def attention(shape, size):
    """Of `[B, H, S, D]` with itself.

    >>> attention([1, 2, 10, 4], 2)
    Work(operations=3200, bytes=640)
    """
    batch, heads, tokens, width = shape
    return Work(4 * batch * heads * tokens**2 * width, 4 * prod(shape) * size)


def conv3d(shape, size):
    """A kernel of 3x3x3 over `[B, T, H, W, C]` and two frames before it, to as many channels.

    >>> conv3d([1, 4, 2, 2, 8], 2) == Work(2 * 27 * 64 * 16, 2 * (8 * (24 + 16) + 27 * 64))
    True
    """
    batch, frames, height, width, channels = shape
    pixels, weights = batch * frames * height * width, 27 * channels**2
    past = batch * 2 * height * width
    return Work(2 * weights * pixels, (channels * (past + 2 * pixels) + weights) * size)


def denoising_step(config, latents, text_rows, size):
    """Two passes of the transformer, each of which reads all weights.

    >>> config = dict(num_attention_heads=1, attention_head_dim=2, ffn_dim=3, num_layers=5,
    ...     in_channels=1, out_channels=1, patch_size=[1, 2, 2], text_dim=7, freq_dim=2)
    >>> block = 2 * (6 * 4 * 6 + 2 * 4 * 10 + 2 * 6 * 6) + 4 * 6 * 6 * 2 + 4 * 6 * 10 * 2
    >>> ends = 2 * (6 * 4 * 2 + 10 * (7 * 2 + 4) + (2 * 2 + 4 + 6 * 4) + 6 * 2 * 4)
    >>> denoising_step(config, [1, 1, 1, 4, 6], 10, 2).operations == 2 * (5 * block + ends)
    True
    """
    d = config["num_attention_heads"] * config["attention_head_dim"]
    f, patch = config["ffn_dim"], prod(config["patch_size"])
    tokens = prod(latents[2:]) // patch
    # Of a block: queries and outputs of both attentions, keys and values of the one over frames, and
    # the feed-forward network; keys and values of the one over text.
    of_tokens, of_text = 6 * d * d + 2 * d * f, 2 * d * d
    scores = 2 * tokens * (tokens + text_rows) * d
    block = tokens * of_tokens + text_rows * of_text + scores
    ends = tokens * (config["in_channels"] + config["out_channels"]) * patch * d
    embed_text = config["text_dim"] * d + d * d
    embed_time = config["freq_dim"] * d + 7 * d * d
    products = config["num_layers"] * block + ends + text_rows * embed_text + embed_time
    weights = config["num_layers"] * (of_tokens + of_text) + embed_text + embed_time
    return Work(2 * 2 * products, 2 * (weights * size + 2 * prod(latents) * 4))


def vae_decode(config, latents, size):
    """Each convolution reads its input and writes its output.

    >>> config = dict(base_dim=4, z_dim=2, dim_mult=[1, 2], num_res_blocks=0, temperal_downsample=[True])
    >>> low, high = 3 * 6, 5 * 24  # pixels of 3 latent frames of 2x3, and of the 5 frames of 4x6
    >>> middle = 27 * 2 * 8 + 4 * 27 * 64 + 4 * 64  # conv_in, two blocks, attention's linear layers
    >>> low_level = 2 * 27 * 64 + 2 * 2  # a block of 8 channels; post_quant_conv
    >>> upsample = 2 * 6 * 3 * 8 * 16 + high * 9 * 8 * 4  # in time all but the first frame
    >>> high_level = 2 * 27 * 16 + 27 * 4 * 3
    >>> scores = 3 * 2 * 6 * 6 * 8
    >>> products = low * (middle + low_level) + upsample + high * high_level + scores
    >>> vae_decode(config, [1, 2, 3, 2, 3], 4).operations == 2 * products
    True
    """
    products = elements = weights = 0
    _, z, frames, height, width = latents

    def conv(inputs, outputs, taps, pixels, pixels_in=None):
        nonlocal products, elements, weights
        products += inputs * outputs * taps * pixels
        elements += inputs * (pixels_in or pixels) + outputs * pixels
        weights += inputs * outputs * taps

    base = config.get("decoder_base_dim") or config["base_dim"]
    widths = [base * multiple for multiple in reversed(config["dim_mult"])]
    top, pixels = widths[0], frames * height * width
    conv(z, z, 1, pixels)
    conv(z, top, 27, pixels)
    for _ in range(4):
        conv(top, top, 27, pixels)
    conv(top, 3 * top, 1, pixels)
    conv(top, top, 1, pixels)
    products += 2 * frames * (height * width) ** 2 * top

    inputs, temporal = top, config["temperal_downsample"][::-1]
    for level, channels in enumerate(widths):
        pixels = frames * height * width
        for _ in range(config["num_res_blocks"] + 1):
            conv(inputs, channels, 27, pixels)
            conv(channels, channels, 27, pixels)
            if inputs != channels:
                conv(inputs, channels, 1, pixels)
            inputs = channels
        if level < len(temporal):
            if temporal[level]:
                conv(channels, 2 * channels, 3, (frames - 1) * height * width)
                frames = 2 * frames - 1
            small, height, width = frames * height * width, 2 * height, 2 * width
            inputs = channels // 2
            conv(channels, inputs, 9, 4 * small, small)
    conv(inputs, 3, 27, frames * height * width)
    return Work(2 * products, (elements + weights) * size)


def text_encoding(config, tokens, size):
    """>>> config = dict(d_model=3, num_heads=2, d_kv=4, d_ff=5, num_layers=7)
    >>> text_encoding(config, 10, 2) == Work(
    ...     2 * 7 * (10 * (4 * 3 * 8 + 3 * 3 * 5) + 2 * 100 * 8), 2 * 7 * (4 * 3 * 8 + 3 * 3 * 5))
    True
    """
    inner = config["num_heads"] * config["d_kv"]
    weights = 4 * config["d_model"] * inner + 3 * config["d_model"] * config["d_ff"]
    products = tokens * weights + 2 * tokens**2 * inner
    return Work(2 * config["num_layers"] * products, config["num_layers"] * weights * size)
