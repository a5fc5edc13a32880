#!/usr/bin/env python3
"""Writes ghost checkpoints: folders with the configs, names, shapes and dtypes of a published Wan model, in
the layout of Diffusers or in the original one, whose weights are holes in sparse files. They read as zeros and
take next to no disk space. Nothing is downloaded and nothing but Python 3.9 is needed.

    benches/ghosts/make_ghost.py wan2.1-t2v-1.3b target/ghosts/1.3b
    benches/ghosts/make_ghost.py --original wan2.1-t2v-1.3b target/ghosts/1.3b-original
    benches/ghosts/make_ghost.py all target/ghosts            one folder for each model
    benches/ghosts/make_ghost.py --random wan2.1-t2v-1.3b target/ghosts/1.3b-random
    benches/ghosts/make_ghost.py --random --only vae wan2.1-t2v-1.3b target/ghosts/vae
    benches/ghosts/make_ghost.py --check

`--bf16` and `--layers N` make variants: as the files that are repackaged for other programs, and the widths of
a model with a few of its layers. The image encoder of the layout of Diffusers keeps all of them.

With zeros some work is trivial: every hidden state is zero, pages of a hole are never read from a disk. Where
time matters, --random writes small normal values (norms 1, biases 0), which takes the whole disk space.

Models that are published in one layout alone have no ghost in the other: Fun in the original one, Lucy Edit in
that of Diffusers. What of the original is not needed to make a video is left out (xlm-roberta-large, examples).

The tokenizer is the one in target/umt5-tokenizer (.ci/fetch-umt5-tokenizer) if it is there, else the small
one of tests/fixtures.

--check compares what the script knows with the headers of tests/fixtures, and with the sizes, numbers of
parameters and hashes of what is published. What could not be compared is marked "from memory" below.
"""

import argparse
import array
import collections
import hashlib
import io
import json
import math
import pickle
import random
import re
import shutil
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
BYTES = {"F32": 4, "BF16": 2}
# The largest shard, in bytes: of every published repository in the layout of Diffusers, and of those in the original
# layout of Wan 2.1 and of Wan 2.2.
SHARD = 5 * 10**9
SHARD21 = 99 * 10**8
SHARD22 = 10 * 10**9
# The transformers of Fun and Lucy Edit are one file.
ONE_FILE = 10**12


# Names and shapes. Each function takes the config of a network and returns {name: shape} in the order of the
# modules, by which shards are cut.


class Table(dict):
    """Names and shapes of the tensors of a network."""

    def linear(self, name, inputs, outputs, bias=True):
        self[f"{name}.weight"] = [outputs, inputs]
        if bias:
            self[f"{name}.bias"] = [outputs]

    def conv(self, name, inputs, outputs, *kernel):
        self[f"{name}.weight"] = [outputs, inputs, *kernel]
        self[f"{name}.bias"] = [outputs]

    def layer_norm(self, name, width):
        self[f"{name}.weight"] = [width]
        self[f"{name}.bias"] = [width]


def transformer(config):
    """WanTransformer3DModel, and WanVACETransformer3DModel with `vace_layers`."""
    table = Table()
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch, image, vace = config["patch_size"], config.get("image_dim"), config.get("vace_layers", [])

    table["scale_shift_table"] = [1, 2, width]
    table.conv("patch_embedding", config["in_channels"], width, *patch)
    if vace:
        table.conv("vace_patch_embedding", config["vace_in_channels"], width, *patch)
    condition = "condition_embedder"
    table.linear(f"{condition}.time_embedder.linear_1", config["freq_dim"], width)
    table.linear(f"{condition}.time_embedder.linear_2", width, width)
    table.linear(f"{condition}.time_proj", width, 6 * width)
    table.linear(f"{condition}.text_embedder.linear_1", config["text_dim"], width)
    table.linear(f"{condition}.text_embedder.linear_2", width, width)
    if image is not None:
        embedder = f"{condition}.image_embedder"
        if config.get("pos_embed_seq_len") is not None:
            table[f"{embedder}.pos_embed"] = [1, config["pos_embed_seq_len"], image]
        table.layer_norm(f"{embedder}.norm1", image)
        table.linear(f"{embedder}.ff.net.0.proj", image, image)
        table.linear(f"{embedder}.ff.net.2", image, width)
        table.layer_norm(f"{embedder}.norm2", width)
    for index in range(config["num_layers"]):
        transformer_block(table, f"blocks.{index}", width, config, config.get("added_kv_proj_dim"))
    for index in range(len(vace)):
        block = f"vace_blocks.{index}"
        if index == 0:
            table.linear(f"{block}.proj_in", width, width)
        transformer_block(table, block, width, config, None)
        table.linear(f"{block}.proj_out", width, width)
    table.linear("proj_out", width, config["out_channels"] * math.prod(patch))
    return table


def transformer_block(table, block, width, config, added):
    table[f"{block}.scale_shift_table"] = [1, 6, width]
    for attention in (f"{block}.attn1", f"{block}.attn2"):
        table[f"{attention}.norm_q.weight"] = [width]
        table[f"{attention}.norm_k.weight"] = [width]
        for projection in ("to_q", "to_k", "to_v"):
            table.linear(f"{attention}.{projection}", width, width)
        with_image = added is not None and attention.endswith("attn2")
        if with_image:
            table.linear(f"{attention}.add_k_proj", added, width)
            table.linear(f"{attention}.add_v_proj", added, width)
        table.linear(f"{attention}.to_out.0", width, width)
        if with_image:
            # A norm for queries that there are none of; later versions have none.
            if config["_diffusers_version"] == WAN21:
                table[f"{attention}.norm_added_q.weight"] = [width]
            table[f"{attention}.norm_added_k.weight"] = [width]
    if config["cross_attn_norm"]:
        table.layer_norm(f"{block}.norm2", width)
    table.linear(f"{block}.ffn.net.0.proj", width, config["ffn_dim"])
    table.linear(f"{block}.ffn.net.2", config["ffn_dim"], width)


# What the original config leaves out: the text's width, the size of patches, and the image's width and tokens.
TEXT_DIM, PATCH, IMAGE_DIM, IMAGE_TOKENS = 4096, (1, 2, 2), 1280, 257


def original_transformer(config, text_dim=TEXT_DIM):
    """WanModel and VaceWanModel. Those of Wan 2.1 that start from an image look at it through CLIP."""
    table = Table()
    width, kind, vace = config["dim"], config["model_type"], config.get("vace_layers", [])
    image = looks_at_image(config)
    table.conv("patch_embedding", config["in_dim"], width, *PATCH)
    table.linear("text_embedding.0", text_dim, width)
    table.linear("text_embedding.2", width, width)
    table.linear("time_embedding.0", config["freq_dim"], width)
    table.linear("time_embedding.2", width, width)
    table.linear("time_projection.1", width, 6 * width)
    for index in range(config["num_layers"]):
        original_block(table, f"blocks.{index}", config, image)
    table["head.modulation"] = [1, 2, width]
    table.linear("head.head", width, config["out_dim"] * math.prod(PATCH))
    if image:
        if kind == "flf2v":
            table["img_emb.emb_pos"] = [1, 2 * IMAGE_TOKENS, IMAGE_DIM]
        table.layer_norm("img_emb.proj.0", IMAGE_DIM)
        table.linear("img_emb.proj.1", IMAGE_DIM, IMAGE_DIM)
        table.linear("img_emb.proj.3", IMAGE_DIM, width)
        table.layer_norm("img_emb.proj.4", width)
    for index in range(len(vace)):
        block = f"vace_blocks.{index}"
        original_block(table, block, config, False)
        if index == 0:
            table.linear(f"{block}.before_proj", width, width)
        table.linear(f"{block}.after_proj", width, width)
    if vace:
        table.conv("vace_patch_embedding", config["vace_in_dim"], width, *PATCH)
    return table


def looks_at_image(config):
    return config["model_type"] in ("i2v", "flf2v") and config["_diffusers_version"] == ORIGINAL21


def original_block(table, block, config, image):
    width = config["dim"]
    table[f"{block}.modulation"] = [1, 6, width]
    for attention in ("self_attn", "cross_attn"):
        for projection in "qkvo":
            table.linear(f"{block}.{attention}.{projection}", width, width)
        table[f"{block}.{attention}.norm_q.weight"] = [width]
        table[f"{block}.{attention}.norm_k.weight"] = [width]
        if attention == "self_attn":
            table.layer_norm(f"{block}.norm3", width)
        elif image:
            table.linear(f"{block}.cross_attn.k_img", width, width)
            table.linear(f"{block}.cross_attn.v_img", width, width)
            table[f"{block}.cross_attn.norm_k_img.weight"] = [width]
    table.linear(f"{block}.ffn.0", width, config["ffn_dim"])
    table.linear(f"{block}.ffn.2", config["ffn_dim"], width)


def text_encoder(config):
    """UMT5EncoderModel. The table of embeddings is saved once, under `shared`."""
    table = Table()
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    table["shared.weight"] = [config["vocab_size"], width]
    for index in range(config["num_layers"]):
        attention = f"encoder.block.{index}.layer.0"
        for projection in "qkv":
            table.linear(f"{attention}.SelfAttention.{projection}", width, inner, bias=False)
        table.linear(f"{attention}.SelfAttention.o", inner, width, bias=False)
        buckets = [config["relative_attention_num_buckets"], config["num_heads"]]
        table[f"{attention}.SelfAttention.relative_attention_bias.weight"] = buckets
        table[f"{attention}.layer_norm.weight"] = [width]
        feed_forward = f"encoder.block.{index}.layer.1"
        table.linear(f"{feed_forward}.DenseReluDense.wi_0", width, config["d_ff"], bias=False)
        table.linear(f"{feed_forward}.DenseReluDense.wi_1", width, config["d_ff"], bias=False)
        table.linear(f"{feed_forward}.DenseReluDense.wo", config["d_ff"], width, bias=False)
        table[f"{feed_forward}.layer_norm.weight"] = [width]
    table["encoder.final_layer_norm.weight"] = [width]
    return table


def original_text_encoder(config):
    """T5Encoder of the original."""
    table = Table()
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
    table["token_embedding.weight"] = [config["vocab_size"], width]
    for index in range(config["num_layers"]):
        block = f"blocks.{index}"
        table[f"{block}.norm1.weight"] = [width]
        for projection in "qkv":
            table.linear(f"{block}.attn.{projection}", width, inner, bias=False)
        table.linear(f"{block}.attn.o", inner, width, bias=False)
        table[f"{block}.norm2.weight"] = [width]
        table.linear(f"{block}.ffn.gate.0", width, config["d_ff"], bias=False)
        table.linear(f"{block}.ffn.fc1", width, config["d_ff"], bias=False)
        table.linear(f"{block}.ffn.fc2", config["d_ff"], width, bias=False)
        buckets = [config["relative_attention_num_buckets"], config["num_heads"]]
        table[f"{block}.pos_embedding.embedding.weight"] = buckets
    table["norm.weight"] = [width]
    return table


def vae(config):
    """AutoencoderKLWan, of Wan 2.1 and, with `is_residual`, of Wan 2.2."""
    table = Table()
    latent, residual = config["z_dim"], config.get("is_residual", False)
    base, multiples = config["base_dim"], config["dim_mult"]
    decoder_base = config.get("decoder_base_dim") or base
    blocks, in_time = config["num_res_blocks"], config["temperal_downsample"]

    def resnet(name, inputs, outputs):
        table[f"{name}.norm1.gamma"] = [inputs, 1, 1, 1]
        table.conv(f"{name}.conv1", inputs, outputs, 3, 3, 3)
        table[f"{name}.norm2.gamma"] = [outputs, 1, 1, 1]
        table.conv(f"{name}.conv2", outputs, outputs, 3, 3, 3)
        if inputs != outputs:
            table.conv(f"{name}.conv_shortcut", inputs, outputs, 1, 1, 1)

    def mid_block(name, width):
        table[f"{name}.attentions.0.norm.gamma"] = [width, 1, 1]
        table.conv(f"{name}.attentions.0.to_qkv", width, 3 * width, 1, 1)
        table.conv(f"{name}.attentions.0.proj", width, width, 1, 1)
        resnet(f"{name}.resnets.0", width, width)
        resnet(f"{name}.resnets.1", width, width)

    def downsampler(name, width, time):
        table.conv(f"{name}.resample.1", width, width, 3, 3)
        if time:
            table.conv(f"{name}.time_conv", width, width, 3, 1, 1)

    def upsampler(name, inputs, outputs, time):
        table.conv(f"{name}.resample.1", inputs, outputs, 3, 3)
        if time:
            table.conv(f"{name}.time_conv", inputs, 2 * inputs, 3, 1, 1)

    widths = [base * multiple for multiple in [1, *multiples]]
    last = len(multiples) - 1
    table.conv("encoder.conv_in", config.get("in_channels", 3), widths[0], 3, 3, 3)
    flat = 0
    for level, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        for index in range(blocks):
            name = f"encoder.down_blocks.{level}.resnets.{index}" if residual else f"encoder.down_blocks.{flat}"
            flat += 1
            resnet(name, inputs, outputs)
            inputs = outputs
        if level != last:
            name = f"encoder.down_blocks.{level}.downsampler" if residual else f"encoder.down_blocks.{flat}"
            flat += 1
            downsampler(name, outputs, in_time[level])
    mid_block("encoder.mid_block", widths[-1])
    table["encoder.norm_out.gamma"] = [widths[-1], 1, 1, 1]
    table.conv("encoder.conv_out", widths[-1], 2 * latent, 3, 3, 3)
    table.conv("quant_conv", 2 * latent, 2 * latent, 1, 1, 1)
    table.conv("post_quant_conv", latent, latent, 1, 1, 1)

    widths = [decoder_base * multiple for multiple in [multiples[-1], *multiples[::-1]]]
    table.conv("decoder.conv_in", latent, widths[0], 3, 3, 3)
    mid_block("decoder.mid_block", widths[0])
    for level, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        # In Wan 2.1 an upsampler halves the channels.
        if level > 0 and not residual:
            inputs //= 2
        for index in range(blocks + 1):
            resnet(f"decoder.up_blocks.{level}.resnets.{index}", inputs, outputs)
            inputs = outputs
        if level != last:
            name = f"decoder.up_blocks.{level}." + ("upsampler" if residual else "upsamplers.0")
            upsampler(name, outputs, outputs if residual else outputs // 2, in_time[::-1][level])
    table["decoder.norm_out.gamma"] = [widths[-1], 1, 1, 1]
    table.conv("decoder.conv_out", widths[-1], config.get("out_channels", 3), 3, 3, 3)
    return table


# Parts of names of AutoencoderKLWan and of the original.
VAE_NAMES = [
    (r"^quant_conv", "conv1"),
    (r"^post_quant_conv", "conv2"),
    (r"coder\.conv_in", "coder.conv1"),
    (r"norm_out", "head.0"),
    (r"conv_out", "head.2"),
    (r"mid_block\.attentions\.0", "middle.1"),
    (r"mid_block\.resnets\.0", "middle.0"),
    (r"mid_block\.resnets\.1", "middle.2"),
    (r"(\.\d+)\.norm1", r"\1.residual.0"),
    (r"(\.\d+)\.conv1", r"\1.residual.2"),
    (r"(\.\d+)\.norm2", r"\1.residual.3"),
    (r"(\.\d+)\.conv2", r"\1.residual.6"),
    (r"conv_shortcut", "shortcut"),
    (r"down_blocks", "downsamples"),
]


def original_vae(config):
    """WanVAE_ of the original, where the blocks of a level and its resampling are counted together, in Wan 2.1
    through all levels."""
    residual, blocks = config.get("is_residual", False), config["num_res_blocks"]

    def in_level(match):
        """A block of a level of Wan 2.2, or of the decoder of Wan 2.1."""
        coder, level, kind, index = match.groups()
        list_name, count = {"down": ("downsamples", blocks), "up": ("upsamples", blocks + 1)}[coder]
        number = int(index) if kind == "resnets." else count
        if residual:
            return f"{list_name}.{level}.{list_name}.{number}."
        return f"{list_name}.{int(level) * (count + 1) + number}."

    table = Table()
    for name, shape in vae(config).items():
        name = re.sub(r"(down|up)_blocks\.(\d+)\.(resnets\.|(?:down|up)samplers?\.)(?:(\d+)\.)?", in_level, name)
        for mine, original in VAE_NAMES:
            name = re.sub(mine, original, name)
        table[name] = shape
    return table


def image_encoder(config, prefix="vision_model."):
    """CLIPVisionModel and CLIPVisionModelWithProjection. Since transformers 5 the names of the former have no
    prefix."""
    table = Table()
    width, patch = config["hidden_size"], config["patch_size"]
    table[f"{prefix}embeddings.class_embedding"] = [width]
    table[f"{prefix}embeddings.patch_embedding.weight"] = [width, config["num_channels"], patch, patch]
    positions = (config["image_size"] // patch) ** 2 + 1
    table[f"{prefix}embeddings.position_embedding.weight"] = [positions, width]
    table.layer_norm(f"{prefix}pre_layrnorm", width)
    for index in range(config["num_hidden_layers"]):
        layer = f"{prefix}encoder.layers.{index}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            table.linear(f"{layer}.self_attn.{projection}", width, width)
        table.layer_norm(f"{layer}.layer_norm1", width)
        table.linear(f"{layer}.mlp.fc1", width, config["intermediate_size"])
        table.linear(f"{layer}.mlp.fc2", config["intermediate_size"], width)
        table.layer_norm(f"{layer}.layer_norm2", width)
    table.layer_norm(f"{prefix}post_layernorm", width)
    if config["architectures"] == ["CLIPVisionModelWithProjection"]:
        table.linear("visual_projection", width, config["projection_dim"], bias=False)
    return table


def clip(config):
    """XLMRobertaCLIP of the original: a ViT, of which models that start from an image need all but the last block
    and the head, and XLM-RoBERTa."""
    table = Table()
    width, patch, text = config["vision_dim"], config["patch_size"], config["text_dim"]
    table["log_scale"] = []
    table["visual.cls_embedding"] = [1, 1, width]
    table["visual.pos_embedding"] = [1, (config["image_size"] // patch) ** 2 + 1, width]
    table["visual.head"] = [width, config["embed_dim"]]
    table["visual.patch_embedding.weight"] = [width, 3, patch, patch]
    table.layer_norm("visual.pre_norm", width)
    for index in range(config["vision_layers"]):
        block = f"visual.transformer.{index}"
        table.layer_norm(f"{block}.norm1", width)
        table.linear(f"{block}.attn.to_qkv", width, 3 * width)
        table.linear(f"{block}.attn.proj", width, width)
        table.layer_norm(f"{block}.norm2", width)
        table.linear(f"{block}.mlp.0", width, 4 * width)
        table.linear(f"{block}.mlp.2", 4 * width, width)
    table.layer_norm("visual.post_norm", width)
    table["textual.token_embedding.weight"] = [config["vocab_size"], text]
    table["textual.type_embedding.weight"] = [config["type_size"], text]
    table["textual.pos_embedding.weight"] = [config["max_text_len"], text]
    for index in range(config["text_layers"]):
        block = f"textual.blocks.{index}"
        for projection in "qkvo":
            table.linear(f"{block}.attn.{projection}", text, text)
        table.layer_norm(f"{block}.norm1", text)
        table.linear(f"{block}.ffn.0", text, 4 * text)
        table.linear(f"{block}.ffn.2", 4 * text, text)
        table.layer_norm(f"{block}.norm2", text)
    table.layer_norm("textual.norm", text)
    middle = (text + config["embed_dim"]) // 2
    table.linear("textual.head.0", text, middle, bias=False)
    table.linear("textual.head.2", middle, config["embed_dim"], bias=False)
    return table


def parameters(table):
    return sum(math.prod(shape) for shape in table.values())


# Configs, as published.


def transformer_config(version, layers, heads, ffn, inputs=16, outputs=16, task="t2v"):
    image = task in ("i2v", "flf2v")
    config = {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": version,
        "added_kv_proj_dim": 128 * heads if image else None,
        "attention_head_dim": 128,
        "cross_attn_norm": True,
        "eps": 1e-06,
        "ffn_dim": ffn,
        "freq_dim": 256,
        "image_dim": IMAGE_DIM if image else None,
        "in_channels": inputs,
        "num_attention_heads": heads,
        "num_layers": layers,
        "out_channels": outputs,
        "patch_size": [1, 2, 2],
        "pos_embed_seq_len": 2 * IMAGE_TOKENS if task == "flf2v" else None,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": TEXT_DIM,
    }
    if version == WAN21:
        del config["pos_embed_seq_len"]
    if task == "vace":
        config["_class_name"] = "WanVACETransformer3DModel"
        config["vace_in_channels"] = VACE_CHANNELS
        config["vace_layers"] = vace_layers(layers)
    return config


# Channels of the latents and of the mask of a control video.
VACE_CHANNELS = 2 * 16 + 64


def vace_layers(layers):
    """Every second layer of the small model, every fifth of the large one."""
    return list(range(0, layers, 2 if layers == 30 else 5))


def original_config(version, layers, heads, ffn, inputs=16, outputs=16, task="t2v"):
    config = {
        "_class_name": "WanModel",
        "_diffusers_version": version,
        "dim": 128 * heads,
        "eps": 1e-06,
        "ffn_dim": ffn,
        "freq_dim": 256,
        "in_dim": inputs,
        "model_type": task,
        "num_heads": heads,
        "num_layers": layers,
        "out_dim": outputs,
        "text_len": 512,
    }
    if task == "vace":
        config["_class_name"] = "VaceWanModel"
        config.update(vace_layers=vace_layers(layers), vace_in_dim=VACE_CHANNELS)
    return config


def text_encoder_config(dtype):
    return {
        "_name_or_path": "google/umt5-xxl",
        "architectures": ["UMT5EncoderModel"],
        "classifier_dropout": 0.0,
        "d_ff": 10240,
        "d_kv": 64,
        "d_model": 4096,
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-06,
        "model_type": "umt5",
        "num_decoder_layers": 24,
        "num_heads": 64,
        "num_layers": 24,
        "output_past": True,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "scalable_attention": True,
        "tie_word_embeddings": False,
        "tokenizer_class": "T5Tokenizer",
        "torch_dtype": {"F32": "float32", "BF16": "bfloat16"}[dtype],
        "transformers_version": "4.48.0.dev0",
        "use_cache": True,
        "vocab_size": 256384,
    }


def vae_config(version, ti2v=False):
    config = {
        "_class_name": "AutoencoderKLWan",
        "_diffusers_version": version,
        "attn_scales": [],
        "base_dim": 96,
        "dim_mult": [1, 2, 4, 4],
        "dropout": 0.0,
        "latents_mean": [
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ],
        "latents_std": [
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
            3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916,
        ],
        "num_res_blocks": 2,
        "temperal_downsample": [False, True, True],
        "z_dim": 16,
    }
    if ti2v:
        config.update(
            base_dim=160,
            clip_output=False,
            decoder_base_dim=256,
            in_channels=12,
            is_residual=True,
            latents_mean=[
                -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
                -0.1382, 0.0542, 0.2813, 0.0891, 0.157, -0.0098, 0.0375, -0.1825,
                -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
                -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123,
                -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052, 0.3748,
                0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
            ],
            latents_std=[
                0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013,
                0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
                0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
                0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
                0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
                0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
            ],
            out_channels=12,
            patch_size=2,
            scale_factor_spatial=16,
            scale_factor_temporal=4,
            z_dim=48,
        )
    return dict(sorted(config.items()))


IMAGE_ENCODER = {
    "_name_or_path": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "architectures": ["CLIPVisionModelWithProjection"],
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "image_size": 224,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 5120,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 32,
    "patch_size": 14,
    "projection_dim": 1024,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.48.0.dev0",
}

# The arguments of `clip_xlm_roberta_vit_h_14`, which has no file.
CLIP = {
    "embed_dim": 1024,
    "image_size": 224,
    "max_text_len": 514,
    "patch_size": 14,
    "text_dim": 1024,
    "text_layers": 24,
    "type_size": 1,
    "vision_dim": 1280,
    "vision_layers": 32,
    "vocab_size": 250002,
}

IMAGE_PROCESSOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


def scheduler_config(version, shift):
    config = {
        "_class_name": "UniPCMultistepScheduler",
        "_diffusers_version": version,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "disable_corrector": [],
        "dynamic_thresholding_ratio": 0.995,
        "final_sigmas_type": "zero",
        "flow_shift": shift,
        "lower_order_final": True,
        "num_train_timesteps": 1000,
        "predict_x0": True,
        "prediction_type": "flow_prediction",
        "rescale_betas_zero_snr": False,
        "sample_max_value": 1.0,
        "solver_order": 2,
        "solver_p": None,
        "solver_type": "bh2",
        "steps_offset": 0,
        "thresholding": False,
        "time_shift_type": "exponential",
        "timestep_spacing": "linspace",
        "trained_betas": None,
        "use_beta_sigmas": False,
        "use_dynamic_shifting": False,
        "use_exponential_sigmas": False,
        "use_flow_sigmas": True,
        "use_karras_sigmas": False,
    }
    if version == WAN21:
        del config["time_shift_type"], config["use_dynamic_shifting"]
    return config


def model_index(pipeline, version, parts, transformer_class, **fields):
    classes = {
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
        "image_processor": ("transformers", "CLIPImageProcessor"),
        "scheduler": ("diffusers", "UniPCMultistepScheduler"),
        "text_encoder": ("transformers", "UMT5EncoderModel"),
        "tokenizer": ("transformers", "T5TokenizerFast"),
        "transformer": ("diffusers", transformer_class),
        "transformer_2": ("diffusers", transformer_class),
        "vae": ("diffusers", "AutoencoderKLWan"),
    }
    index = {part: list(classes[part]) if parts[part] else [None, None] for part in parts}
    index.update(fields, _class_name=pipeline, _diffusers_version=version)
    return dict(sorted(index.items()))


# Models. From memory, in the layout of Diffusers: the values of Wan 2.1's scheduler (flow_shift), the index, image
# encoder's config and image processor of I2V and FLF2V, of both A14B whatever they do not share with TI2V-5B
# (boundary_ratio, flow_shift, the fields of their index), the versions in the configs of FLF2V, VACE and Lucy Edit,
# the dtypes of FLF2V and VACE. In the original layout: the config of Fun and the dtype of
# Fun 14B and FLF2V, and the versions in configs, where none is compared below.

WAN21 = "0.33.0.dev0"
WAN21_LATER = "0.34.0.dev0"
WAN22 = "0.35.0.dev0"
LUCY = "0.36.0.dev0"
ORIGINAL21 = "0.30.0"
ORIGINAL22 = "0.33.0"
ALL_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
STEM = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Network:
    """The weights of one part of a model."""

    part: str
    folder: str
    config: dict
    # Names and shapes by the config.
    names: Callable
    dtype: str
    # How the names of its files begin.
    stem: str
    shard: int = SHARD
    # The dtype of the blocks for a control video.
    control_dtype: str = ""
    # Whether its config lies beside it.
    has_config: bool = True
    # How it is written that is not in safetensors.
    pth: Callable = None

    @property
    def table(self):
        return self.names(self.config)

    @property
    def tensors(self):
        """{name: (dtype, shape)}"""
        dtypes = {True: self.control_dtype or self.dtype, False: self.dtype}
        return {name: (dtypes[name.startswith("vace_")], shape) for name, shape in self.table.items()}

    def files(self):
        """{name of a file: its tensors}, and the index if they are several."""
        if self.pth:
            return {f"{self.stem}.pth": self.tensors}, None
        return files_of(self.tensors, self.stem, self.shard)


class Model:
    # The tokenizer's folder.
    tokenizer = "tokenizer"

    def __init__(self, version, pipeline, network, *, text, shift, present=(), absent=(), ti2v=False, **fields):
        parts = dict.fromkeys([*ALL_PARTS, *present], True)
        parts.update(dict.fromkeys(absent, False))
        self.json = {
            "model_index.json": model_index(pipeline, version, parts, network["_class_name"], **fields),
            "scheduler/scheduler_config.json": scheduler_config(version, shift),
        }
        if "image_processor" in present:
            self.json["image_processor/preprocessor_config.json"] = IMAGE_PROCESSOR
        shard = ONE_FILE if pipeline == "LucyEditPipeline" else SHARD
        self.networks = [
            Network(part, part, network, transformer, "F32", STEM, shard)
            for part in ("transformer", "transformer_2")
            if parts.get(part)
        ]
        self.networks += [
            Network("text_encoder", "text_encoder", text_encoder_config(text), text_encoder, text, "model"),
            Network("vae", "vae", vae_config(version, ti2v), vae, "F32", STEM),
        ]
        if "image_encoder" in present:
            encoder = Network("image_encoder", "image_encoder", IMAGE_ENCODER, image_encoder, "BF16", "model")
            self.networks.append(encoder)

    def use_bf16(self):
        """All networks but the VAE in bf16."""
        bf16 = dict(dtype="BF16", control_dtype="BF16")
        self.networks = [n if n.part == "vae" else replace(n, **bf16) for n in self.networks]

    def keep_layers(self, count):
        """The widths of the model, with fewer layers of transformers and text encoder, and of both towers of the
        original CLIP."""
        self.networks = [replace(n, config=fewer_layers(n.config, count)) for n in self.networks]

    def bytes(self):
        return sum(bytes_of(network.tensors) for network in self.networks)


def fewer_layers(config, count):
    # A model that starts from an image needs all but the last layer of the tower that looks at it.
    counts = {"num_layers": count, "text_layers": count, "vision_layers": count + 1}
    fewer = {**config, **{name: counts[name] for name in counts if name in config}}
    if "vace_layers" in config:
        fewer["vace_layers"] = [layer for layer in config["vace_layers"] if layer < count]
    return fewer


class OriginalModel(Model):
    tokenizer = "google/umt5-xxl"

    def __init__(self, network, *, experts=False, dtype="F32", shard=None):
        self.json = {}
        folders = {"transformer": ""}
        if experts:
            folders = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
        shard = shard or (SHARD22 if network["_diffusers_version"] == ORIGINAL22 else SHARD21)
        self.networks = [
            Network(part, folder, network, original_transformer, dtype, STEM, shard, control_dtype="BF16")
            for part, folder in folders.items()
        ]

        def beside(part, config, names, dtype, stem, write=write_pth):
            network = Network(part, "", config, names, dtype, stem, has_config=False, pth=write)
            self.networks.append(network)

        text = text_encoder_config("BF16")
        beside("text_encoder", text, original_text_encoder, "BF16", "models_t5_umt5-xxl-enc-bf16")
        if network["out_dim"] == 48:
            beside("vae", vae_config("", ti2v=True), original_vae, "F32", "Wan2.2_VAE")
        else:
            # Its size tells that it is no zip archive, which would be larger.
            beside("vae", vae_config(""), original_vae, "F32", "Wan2.1_VAE", write_old_pth)
        if looks_at_image(network):
            beside("image_encoder", CLIP, clip, "F32", "models_clip_open-clip-xlm-roberta-large-vit-huge-14")


SMALL = dict(layers=30, heads=12, ffn=8960)
LARGE = dict(layers=40, heads=40, ffn=13824)
MIDDLE = dict(layers=30, heads=24, ffn=14336, outputs=48)


def models():
    """Those that are published in the layout of Diffusers."""
    look = ("image_encoder", "image_processor")
    small = transformer_config(WAN21, **SMALL)
    large = transformer_config(WAN21, **LARGE)
    i2v = transformer_config(WAN21, **LARGE, inputs=36, task="i2v")
    flf2v = transformer_config(WAN21_LATER, **LARGE, inputs=36, task="flf2v")
    small_vace = transformer_config(WAN21_LATER, **SMALL, task="vace")
    large_vace = transformer_config(WAN21_LATER, **LARGE, task="vace")
    to_image = "WanImageToVideoPipeline"
    vace = "WanVACEPipeline"
    ti2v = dict(text="BF16", shift=5.0, ti2v=True, absent=("transformer_2",), boundary_ratio=None)
    ti2v["expand_timesteps"] = True
    experts = dict(text="BF16", shift=3.0, present=("transformer_2",))
    return {
        "wan2.1-t2v-1.3b": Model(WAN21, "WanPipeline", small, text="F32", shift=3.0),
        "wan2.1-t2v-14b": Model(WAN21, "WanPipeline", large, text="F32", shift=3.0),
        "wan2.1-i2v-14b-480p": Model(WAN21, to_image, i2v, text="F32", shift=3.0, present=look),
        "wan2.1-i2v-14b-720p": Model(WAN21, to_image, i2v, text="F32", shift=5.0, present=look),
        "wan2.1-flf2v-14b-720p": Model(WAN21_LATER, to_image, flf2v, text="BF16", shift=16.0, present=look),
        "wan2.1-vace-1.3b": Model(WAN21_LATER, vace, small_vace, text="BF16", shift=3.0),
        "wan2.1-vace-14b": Model(WAN21_LATER, vace, large_vace, text="BF16", shift=3.0),
        "wan2.2-t2v-a14b": Model(
            WAN22, "WanPipeline", transformer_config(WAN22, **LARGE), **experts, boundary_ratio=0.875
        ),
        "wan2.2-i2v-a14b": Model(
            WAN22, to_image, transformer_config(WAN22, **LARGE, inputs=36), **experts, absent=look, boundary_ratio=0.9
        ),
        "wan2.2-ti2v-5b": Model(WAN22, "WanPipeline", transformer_config(WAN22, **MIDDLE, inputs=48), **ti2v),
        "lucy-edit-dev": Model(LUCY, "LucyEditPipeline", transformer_config(LUCY, **MIDDLE, inputs=96), **ti2v),
    }


def original_models():
    """Those that are published in the original layout."""

    def model(version, size, inputs=16, task="t2v", **arguments):
        return OriginalModel(original_config(version, **size, inputs=inputs, task=task), **arguments)

    fun = dict(task="i2v", dtype="BF16", shard=ONE_FILE)
    return {
        "wan2.1-t2v-1.3b": model(ORIGINAL21, SMALL),
        "wan2.1-t2v-14b": model(ORIGINAL21, LARGE),
        "wan2.1-i2v-14b-480p": model(ORIGINAL21, LARGE, inputs=36, task="i2v"),
        "wan2.1-i2v-14b-720p": model(ORIGINAL21, LARGE, inputs=36, task="i2v"),
        "wan2.1-flf2v-14b-720p": model(ORIGINAL21, LARGE, inputs=36, task="flf2v"),
        "wan2.1-vace-1.3b": model(ORIGINAL21, SMALL, task="vace"),
        "wan2.1-vace-14b": model(ORIGINAL21, LARGE, task="vace"),
        "wan2.2-t2v-a14b": model(ORIGINAL22, LARGE, experts=True),
        "wan2.2-i2v-a14b": model(ORIGINAL22, LARGE, inputs=36, task="i2v", experts=True),
        "wan2.2-ti2v-5b": model(ORIGINAL22, MIDDLE, inputs=48, task="ti2v"),
        "wan2.1-fun-1.3b-inp": model(ORIGINAL21, SMALL, inputs=36, **fun),
        "wan2.1-fun-14b-inp": model(ORIGINAL21, LARGE, inputs=36, **fun),
        "wan2.1-fun-1.3b-control": model(ORIGINAL21, SMALL, inputs=48, **fun),
        "wan2.1-fun-14b-control": model(ORIGINAL21, LARGE, inputs=48, **fun),
    }


# Files.


def to_json(value):
    # The config of VaceWanModel ends with its own fields, its list on one line.
    last = {name: value[name] for name in ("vace_layers", "vace_in_dim") if "vace_in_dim" in value}
    text = json.dumps({name: value[name] for name in value if name not in last}, indent=2, sort_keys=True)
    for name in last:
        text = text[:-2] + f',\n  "{name}": {json.dumps(last[name])}\n}}'
    return (text + "\n").encode()


def bytes_of(tensors):
    return sum(math.prod(shape) * BYTES[dtype] for dtype, shape in tensors.values())


def stored_order(tensors):
    """The order in which the safetensors library writes: dtypes from wide to narrow, then names."""
    return sorted(tensors, key=lambda name: (-BYTES[tensors[name][0]], name))


def header(tensors):
    """The bytes of a safetensors file up to its tensors."""
    entries, end = {"__metadata__": {"format": "pt"}}, 0
    for name in stored_order(tensors):
        dtype, shape = tensors[name]
        start, end = end, end + math.prod(shape) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def files_of(tensors, stem, shard):
    """{name of a file: its tensors}, and the index if they are several. Cut as save_pretrained does, and where the
    dtype changes."""
    if bytes_of(tensors) <= shard:
        return {f"{stem}.safetensors": tensors}, None
    shards, size, last = [{}], 0, None
    for name, (dtype, shape) in tensors.items():
        more = math.prod(shape) * BYTES[dtype]
        if shards[-1] and (size + more > shard or dtype != last):
            shards.append({})
            size = 0
        shards[-1][name] = (dtype, shape)
        size, last = size + more, dtype
    files = {f"{stem}-{n:05}-of-{len(shards):05}.safetensors": shard for n, shard in enumerate(shards, 1)}
    places = {name: file for file, shard in files.items() for name in shard}
    return files, {"metadata": {"total_size": bytes_of(tensors)}, "weight_map": places}


# PyTorch checkpoints, as torch.save writes a state_dict (torch/serialization.py).


def torch_global(module, name):
    """Something that a pickle can name. PyTorch itself is not needed."""
    thing = type(name, (), {"__module__": module})
    parent = sys.modules.setdefault(module, type(sys)(module))
    setattr(parent, name, thing)
    return thing


STORAGES = {"F32": torch_global("torch", "FloatStorage"), "BF16": torch_global("torch", "BFloat16Storage")}
REBUILD_TENSOR = torch_global("torch._utils", "_rebuild_tensor_v2")


class Storage:
    def __init__(self, key, dtype, count):
        self.id = ("storage", STORAGES[dtype], key, "cpu", count)


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, tuple(shape)

    def __reduce__(self):
        strides = tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        return REBUILD_TENSOR, (self.storage, 0, self.shape, strides, False, collections.OrderedDict())


class StateDictPickler(pickle.Pickler):
    # What follows in the id of a storage.
    view = ()

    def persistent_id(self, value):
        return (*value.id, *self.view) if isinstance(value, Storage) else None


class OldStateDictPickler(StateDictPickler):
    view = (None,)


def pickled(tensors, pickler):
    state = collections.OrderedDict()
    for key, (name, (dtype, shape)) in enumerate(tensors.items()):
        state[name] = Tensor(Storage(str(key), dtype, math.prod(shape)), shape)
    data = io.BytesIO()
    pickler(data, protocol=2).dump(state)
    return data.getvalue()


def write_pth(file, tensors, values):
    """A zip archive of stored entries, each a multiple of 64 bytes from the beginning. Tensors have no checksums, which
    PyTorch does not look at."""
    archive = Path(file.name).stem
    directory = []

    def entry(name, size, write, checksum=0):
        offset, name = file.tell(), f"{archive}/{name}".encode()
        sizes = struct.pack("<HHQQ", 1, 16, size, size)
        padding = -(offset + 30 + len(name) + len(sizes) + 4) % 64
        # Version, flags, method, time, date, checksum, and sizes that stand elsewhere.
        head = struct.pack("<HHHHHIII", 45, 0, 0, 0, 33, checksum, 2**32 - 1, 2**32 - 1)
        file.write(b"PK\x03\x04" + head + struct.pack("<HH", len(name), len(sizes) + 4 + padding) + name)
        file.write(sizes + b"FB" + struct.pack("<H", padding) + b"Z" * padding)
        write()
        lengths = struct.pack("<HHHHHII", len(name), 28, 0, 0, 0, 0, 2**32 - 1)
        place = struct.pack("<HHQQQ", 1, 24, size, size, offset)
        directory.append(b"PK\x01\x02" + struct.pack("<H", 45) + head + lengths + name + place)

    def bytes_entry(name, data):
        entry(name, len(data), lambda: file.write(data), zlib.crc32(data))

    bytes_entry("data.pkl", pickled(tensors, StateDictPickler))
    for key, (name, (dtype, shape)) in enumerate(tensors.items()):
        size = math.prod(shape) * BYTES[dtype]
        entry(f"data/{key}", size, lambda: values.fill(file, name, shape, dtype))
    bytes_entry("version", b"3\n")

    start, count = file.tell(), len(directory)
    file.write(b"".join(directory))
    end = file.tell()
    file.write(b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, end - start, start))
    file.write(b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1))
    file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, 2**32 - 1, 2**32 - 1, 0))


def write_old_pth(file, tensors, values):
    """The format before PyTorch 1.6: pickles, and the storages one after the other."""
    sizes = dict(short=2, int=4, long=4)
    machine = dict(protocol_version=1001, little_endian=True, type_sizes=sizes)
    for value in (0x1950A86A20F9469CFC6C, 1001, machine):
        file.write(pickle.dumps(value, 2))
    file.write(pickled(tensors, OldStateDictPickler))
    file.write(pickle.dumps([str(key) for key in range(len(tensors))], 2))
    for name, (dtype, shape) in tensors.items():
        file.write(struct.pack("<Q", math.prod(shape)))
        values.fill(file, name, shape, dtype)
    file.truncate()


class Zeros:
    """Leaves holes in the files."""

    def fill(self, file, name, shape, dtype):
        file.seek(math.prod(shape) * BYTES[dtype], io.SEEK_CUR)


class Noise:
    """Writes a block of normal values over and over, from another place for each tensor."""

    # A prime: a multiple of a width would make rows equal.
    VALUES = 1_000_003
    STANDARD_DEVIATION = 0.02

    def __init__(self):
        self.random = random.Random(0)
        values = array.array("f", (self.random.gauss(0, self.STANDARD_DEVIATION) for _ in range(self.VALUES)))
        self.blocks = {dtype: as_dtype(values, dtype) for dtype in BYTES}

    def fill(self, file, name, shape, dtype):
        count = math.prod(shape)
        if name.endswith(".bias"):
            file.write(bytes(count * BYTES[dtype]))
        elif name.endswith(".gamma") or (name.endswith(".weight") and len(shape) == 1):
            file.write(as_dtype(array.array("f", [1.0]), dtype) * count)
        else:
            start = self.random.randrange(self.VALUES) * BYTES[dtype]
            self.repeat(file, self.blocks[dtype], start, count * BYTES[dtype])

    def repeat(self, file, block, start, left):
        while left:
            part = memoryview(block)[start : start + left]
            file.write(part)
            left -= len(part)
            start = 0


def as_dtype(values, dtype):
    """Little-endian bytes of an array of f32; to bf16 the values are cut."""
    values = array.array("f", values)
    if sys.byteorder == "big":
        values.byteswap()
    data = values.tobytes()
    if dtype == "F32":
        return data
    cut = bytearray(len(data) // 2)
    cut[0::2], cut[1::2] = data[2::4], data[3::4]
    return bytes(cut)


def write_safetensors(file, tensors, values):
    file.write(header(tensors))
    for name in stored_order(tensors):
        dtype, shape = tensors[name]
        values.fill(file, name, shape, dtype)
    file.truncate()


def write_model(model, folder, values):
    def write_json(path, value):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(to_json(value))

    for path, value in model.json.items():
        write_json(path, value)
    for network in model.networks:
        place = Path(network.folder)
        if network.has_config:
            write_json(place / "config.json", network.config)
        files, index = network.files()
        if index:
            write_json(place / f"{network.stem}.safetensors.index.json", index)
        for name, tensors in files.items():
            write = network.pth or write_safetensors
            (folder / place).mkdir(exist_ok=True)
            with open(folder / place / name, "wb") as file:
                write(file, tensors, values)
    tokenizer = folder / model.tokenizer
    tokenizer.mkdir(parents=True)
    real = ROOT / "target" / "umt5-tokenizer" / "tokenizer.json"
    stand_in = FIXTURES / "tokenizer"
    shutil.copy(real if real.exists() else stand_in / "tokenizer.json", tokenizer)
    shutil.copy(stand_in / "tokenizer_config.json", tokenizer)


def write_ghost(name, model, folder, values):
    """All or nothing: the folder gets its name at the end."""
    partial = partial_of(folder)
    partial.mkdir(parents=True)
    try:
        write_model(model, partial, values)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    # Not on Windows.
    taken = sum(getattr(stat, "st_blocks", 0) * 512 for stat in stats)
    print(f"{folder}: {name}, {size_of(sum(stat.st_size for stat in stats))}, on the disk {size_of(taken)}")


def partial_of(folder):
    return folder.with_name(folder.name + ".partial")


def size_of(count):
    return f"{count / 1e9:.2f} GB" if count >= 10**8 else f"{count / 1e6:.2f} MB"


def check_space(ghosts):
    """Says what will be written, and stops if there is no room for it."""
    need = sum(model.bytes() for model, _ in ghosts.values())
    place = next(iter(ghosts.values()))[1].absolute().parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    print(f"this writes {size_of(need)}; {size_of(free)} are free in {place}", flush=True)
    if need > free:
        sys.exit("there is not enough space")


# What is checked.

# Bytes of the files of weights in the repositories of Wan-AI. Wan 2.1's text encoder is in f32 there, Wan 2.2's
# in bf16; all transformers are in f32.
TEXT_F32 = [4_972_389_712, 4_899_225_672, 4_966_309_504, 4_999_880_704, 2_885_866_152]
TEXT_BF16 = [4_935_812_536, 4_983_103_192, 1_442_935_480]
VAE21 = [507_591_892]
SIZES = {
    "wan2.1-t2v-1.3b": {
        "transformer": [4_998_781_576, 677_289_072],
        "text_encoder": TEXT_F32,
        "vae": VAE21,
    },
    "wan2.1-i2v-14b-480p": {
        "transformer": [
            4_929_161_040, 4_951_011_392, 4_951_011_392, 4_951_093_744, *[4_846_133_208] * 9, 2_182_996_112,
        ],
        "text_encoder": TEXT_F32,
        "vae": VAE21,
        "image_encoder": [1_264_217_760],
    },
    "wan2.2-t2v-a14b": {"text_encoder": TEXT_BF16, "vae": VAE21},
    "wan2.2-i2v-a14b": {"text_encoder": TEXT_BF16, "vae": VAE21},
    "wan2.2-ti2v-5b": {
        "transformer": [4_978_254_344, 4_846_784_976, 4_972_658_392, 4_846_785_080, 354_751_840],
        "text_encoder": TEXT_BF16,
        "vae": [2_818_777_808],
    },
    "lucy-edit-dev": {"text_encoder": TEXT_BF16, "vae": [2_818_777_808]},
}
# The same in the original layout.
A14B = [9_943_937_936, 9_943_979_184, 9_839_059_744, 9_839_059_744, 7_595_559_224]
ORIGINAL_SIZES = {
    "wan2.1-t2v-1.3b": {"transformer": [5_676_070_424]},
    "wan2.1-i2v-14b-480p": {
        "transformer": [9_847_223_624, 9_797_021_016, 9_797_041_744, *[9_692_142_864] * 3, 7_061_933_536],
    },
    "wan2.1-vace-1.3b": {"transformer": [7_146_067_848]},
    "wan2.1-vace-14b": {
        "transformer": [9_887_603_256, 9_839_059_648, *[9_839_059_744] * 3, 7_910_235_256, 6_098_227_760],
    },
    "wan2.2-t2v-a14b": {part: [9_992_481_544, *A14B] for part in ("transformer", "transformer_2")},
    "wan2.2-i2v-a14b": {part: [9_994_119_944, *A14B] for part in ("transformer", "transformer_2")},
    "wan2.2-ti2v-5b": {"transformer": [9_825_014_472, 9_995_661_736, 178_558_176]},
    "wan2.1-fun-1.3b-inp": {"transformer": [3_128_957_992]},
}
# Bytes of PyTorch checkpoints. What they hold beside their tensors differs by a few bytes a tensor.
PTH_SIZES = {
    "models_t5_umt5-xxl-enc-bf16": 11_361_920_418,
    "models_clip_open-clip-xlm-roberta-large-vit-huge-14": 4_772_359_047,
    "Wan2.1_VAE": 507_609_880,
    "Wan2.2_VAE": 2_818_839_170,
}
BYTES_A_TENSOR = 150
# Bytes of JSON files, and the beginning of their SHA-256 where it is known.
JSON_FILES = {
    "wan2.1-t2v-1.3b": {
        "model_index.json": (400, ""),
        "scheduler/scheduler_config.json": (751, ""),
        "transformer/config.json": (465, ""),
        "transformer/diffusion_pytorch_model.safetensors.index.json": (73_296, ""),
        "text_encoder/config.json": (854, ""),
        "text_encoder/model.safetensors.index.json": (22_476, ""),
        "vae/config.json": (724, ""),
    },
    "wan2.2-ti2v-5b": {
        "model_index.json": (499, "6a72faeb564b0e89"),
        "scheduler/scheduler_config.json": (820, "571a3eed68bcd943"),
        "transformer/config.json": (495, "dc00d9866e72cf77"),
        "transformer/diffusion_pytorch_model.safetensors.index.json": (73_297, "d6c1f72d86fbddef"),
        "text_encoder/config.json": (855, "a2bcb24699f6c009"),
        "text_encoder/model.safetensors.index.json": (22_476, "31c4c7bcce679eaa"),
        "vae/config.json": (1_701, "d996c340fe9a7df5"),
    },
}
ORIGINAL_JSON_FILES = {
    "wan2.1-t2v-1.3b": {"config.json": (249, "ab37994c43740513")},
    "wan2.1-vace-14b": {
        "config.json": (325, ""),
        "diffusion_pytorch_model.safetensors.index.json": (118_655, ""),
    },
    "wan2.2-ti2v-5b": {"config.json": (251, "d1fea36899d00c25")},
}
# Tensors and parameters of transformers, in both layouts.
COUNTS = {
    "wan2.1-t2v-1.3b": (825, 1_418_996_800),
    "wan2.1-t2v-14b": (1095, 14_288_491_584),
    "wan2.2-t2v-a14b": (1095, 14_288_491_584),
    "wan2.2-ti2v-5b": (825, 4_999_787_712),
}


def shapes_in(path):
    if path.suffix == ".pth":
        return shapes_in_pth(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    return {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}


class ShapesUnpickler(pickle.Unpickler):
    """Makes a list of its shape of each tensor."""

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, *rest: list(shape)
        return collections.OrderedDict if name == "OrderedDict" else object

    def persistent_load(self, pid):
        return pid


def shapes_in_pth(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return dict(ShapesUnpickler(archive.open(name)).load())


def generate(config):
    """Names and shapes by the config of a fixture, or None of a network that no ghost has."""
    kind = config.get("_class_name") or (config.get("architectures") or [None])[0]
    return {
        "WanTransformer3DModel": transformer,
        "WanVACETransformer3DModel": transformer,
        "UMT5EncoderModel": text_encoder,
        "AutoencoderKLWan": vae,
        "CLIPVisionModel": lambda config: image_encoder(config, prefix=""),
        "CLIPVisionModelWithProjection": image_encoder,
    }.get(kind, lambda config: None)(config)


def compare(path, table):
    """Problems of a fixture's file, one a line."""
    found = {name: list(shape) for name, shape in shapes_in(path).items()}
    for name in sorted(table.keys() | found.keys()):
        if table.get(name) != found.get(name):
            yield f"{path}: {name} has the shape {found.get(name)}, not {table.get(name)}"
    print(f"{path.parent.relative_to(FIXTURES)}: {len(found)} tensors")


def check_fixtures():
    kinds = set()
    for path in sorted(FIXTURES.rglob("config.json")):
        weights = [path.with_name(f"{stem}.safetensors") for stem in ("model", "diffusion_pytorch_model")]
        weights = [file for file in weights if file.exists()]
        config = json.loads(path.read_text())
        table = generate(config) if "original_layout" not in path.parts else None
        if table is None or not weights:
            continue
        kinds.add(config.get("_class_name") or config["architectures"][0])
        yield from compare(weights[0], table)
    expected = {
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "UMT5EncoderModel",
        "AutoencoderKLWan",
        "CLIPVisionModel",
    }
    for kind in expected - kinds:
        yield f"no fixture has a {kind}"


def check_original_fixtures():
    """Those of `original_layout` have the weights of other fixtures."""
    folder = FIXTURES / "original_layout"

    def config_of(path):
        return json.loads((path / "config.json").read_text())

    text_dim = config_of(FIXTURES / "dit_t2v")["text_dim"]
    transformer_of = original_transformer(config_of(folder / "dit"), text_dim)
    yield from compare(folder / "dit" / f"{STEM}.safetensors", transformer_of)
    encoder = original_text_encoder(config_of(FIXTURES / "umt5"))
    yield from compare(folder / "t5" / "models_t5_umt5-enc-bf16.pth", encoder)
    yield from compare(folder / "vae" / "Wan2.1_VAE.pth", original_vae(config_of(FIXTURES / "vae21")))


def check_original_names():
    """What no fixture has in the original layout: as many tensors of the same shapes as in that of Diffusers, but for
    what they have in other forms."""

    def shapes(table):
        return sorted(shape for name, shape in table.items() if "norm_added_q" not in name)

    originals = original_models()
    for name, model in models().items():
        if name not in originals:
            continue
        parts = {network.part: network for network in originals[name].networks}
        for network in model.networks:
            original = parts[network.part].table
            if network.part != "image_encoder" and shapes(network.table) != shapes(original):
                yield f"{name}: the shapes of {network.part} differ between the layouts"


def check_published(layout, models, sizes, json_files):
    """Compares with what is published."""
    for name, model in models.items():
        texts = dict(model.json)
        for network in model.networks:
            part, table = network.part, network.table
            files, index = network.files()
            folder = f"{network.folder}/" if network.folder else ""
            texts[f"{folder}config.json"] = texts.get(f"{folder}config.json", network.config)
            texts[f"{folder}{network.stem}.safetensors.index.json"] = index
            if network.pth:
                yield from check_pth(name, network)
            else:
                found = [len(header(tensors)) + bytes_of(tensors) for tensors in files.values()]
                expected = sizes.get(name, {}).get(part, found)
                if found != expected:
                    yield f"{name}, {layout}: the files of {part} have {found} bytes, not {expected}"
            counts = (len(table), parameters(table))
            print(f"{name}, {layout}: {part}, {counts[0]} tensors, {counts[1]:,} parameters, {network.dtype}")
            if part.startswith("transformer") and COUNTS.get(name, counts) != counts:
                yield f"{name}, {layout}: {part} has {counts} tensors and parameters, not {COUNTS[name]}"
            if part == "text_encoder" and counts != (242, 5_680_910_336):
                yield f"{name}, {layout}: {part} has {counts} tensors and parameters"
        for path, (size, digest) in json_files.get(name, {}).items():
            data = to_json(texts[path])
            if len(data) != size or not hashlib.sha256(data).hexdigest().startswith(digest):
                yield f"{name}, {layout}: {path} is not the one published, of {size} bytes"


class Count(io.BytesIO):
    """A file that is only long, and whose name is that of a network."""

    def __init__(self, name):
        super().__init__()
        self.name, self.skipped = name, 0

    def seek(self, offset, whence=io.SEEK_SET):
        self.skipped += offset

    def tell(self):
        return super().tell() + self.skipped

    def truncate(self):
        pass


def check_pth(name, network):
    count = Count(f"{network.stem}.pth")
    network.pth(count, network.tensors, Zeros())
    size, expected = count.tell(), PTH_SIZES[network.stem]
    if abs(size - expected) > BYTES_A_TENSOR * len(network.table):
        yield f"{name}: {network.stem}.pth has {size} bytes, but the published one {expected}"


def check():
    """Problems, one a line."""
    yield from check_fixtures()
    yield from check_original_fixtures()
    yield from check_original_names()
    yield from check_published("diffusers", models(), SIZES, JSON_FILES)
    yield from check_published("original", original_models(), ORIGINAL_SIZES, ORIGINAL_JSON_FILES)


def main():
    names = sorted({*models(), *original_models()})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*names, "all"], help="a model, or all of them")
    parser.add_argument("folder", nargs="?", type=Path, help="the folder to make; with `all`, the one for all")
    parser.add_argument("--original", action="store_true", help="in the original layout instead of that of Diffusers")
    parser.add_argument("--random", action="store_true", help="normal values instead of holes: takes the disk space")
    parser.add_argument("--bf16", action="store_true", help="transformers and text encoder in bf16, as repackaged")
    parser.add_argument("--layers", type=int, metavar="N", help="only N layers, but for the image encoder of Diffusers")
    parser.add_argument("--only", metavar="PART", action="append", help="write only this part, such as vae; may be repeated")
    parser.add_argument("--check", action="store_true", help="compare with fixtures and with what is published")
    options = parser.parse_args()
    if options.check:
        problems = list(check())
        sys.exit("\n".join(problems) if problems else None)
    if options.folder is None:
        parser.error("NAME and FOLDER are needed, or --check")
    published = original_models() if options.original else models()
    if options.name == "all":
        ghosts = {name: (model, options.folder / name) for name, model in published.items()}
    elif options.name in published:
        ghosts = {options.name: (published[options.name], options.folder)}
    else:
        which = "that of Diffusers alone" if options.original else "the original layout alone: add --original"
        parser.error(f"{options.name} is published in {which}")
    for model, _ in ghosts.values():
        if options.layers is not None:
            model.keep_layers(options.layers)
        if options.bf16:
            model.use_bf16()
    if options.only:
        for model, _ in ghosts.values():
            model.networks = [network for network in model.networks if network.part in options.only]
    for _, folder in ghosts.values():
        for path in (folder, partial_of(folder)):
            if path.exists():
                sys.exit(f"{path} exists already; remove it, or name another folder")
    if options.random:
        check_space(ghosts)
    values = Noise() if options.random else Zeros()
    for name, (model, folder) in ghosts.items():
        write_ghost(name, model, folder, values)


if __name__ == "__main__":
    main()
