#!/usr/bin/env python3
"""Writes ghost checkpoints: folders with the configs, names, shapes and dtypes of a published Wan model, in
the layout of Diffusers, whose weights are holes in sparse files. They read as zeros and take next to no
disk space. Nothing is downloaded and nothing but Python 3.9 is needed.

    benches/ghosts/make_ghost.py wan2.1-t2v-1.3b target/ghosts/1.3b
    benches/ghosts/make_ghost.py all target/ghosts            one folder for each model
    benches/ghosts/make_ghost.py --random wan2.1-t2v-1.3b target/ghosts/1.3b-random
    benches/ghosts/make_ghost.py --random --only vae wan2.1-t2v-1.3b target/ghosts/vae
    benches/ghosts/make_ghost.py --check

`--bf16` and `--layers N` make variants: as the files that are repackaged for other programs, and the widths of
a model with a few of its layers.

With zeros some work is trivial: every hidden state is zero, pages of a hole are never read from a disk. Where
time matters, --random writes small normal values (norms 1, biases 0), which takes the whole disk space.

The tokenizer is the one in target/umt5-tokenizer (.ci/fetch-umt5-tokenizer) if it is there, else the small
one of tests/fixtures.

--check compares what the script knows with the headers of tests/fixtures, and with the sizes, numbers of
parameters and hashes of what is published. What could not be compared is marked "from memory" below.
"""

import argparse
import array
import hashlib
import json
import math
import random
import shutil
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
BYTES = {"F32": 4, "BF16": 2}
# The largest shard, in bytes: of every published repository.
SHARD = 5 * 10**9


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
    """WanTransformer3DModel."""
    table = Table()
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch, ffn, image = config["patch_size"], config["ffn_dim"], config.get("image_dim")
    added = config.get("added_kv_proj_dim")

    table["scale_shift_table"] = [1, 2, width]
    table.conv("patch_embedding", config["in_channels"], width, *patch)
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
        block = f"blocks.{index}"
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
        table.linear(f"{block}.ffn.net.0.proj", width, ffn)
        table.linear(f"{block}.ffn.net.2", ffn, width)
    table.linear("proj_out", width, config["out_channels"] * math.prod(patch))
    return table


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


def parameters(table):
    return sum(math.prod(shape) for shape in table.values())


# Configs, as published.


def transformer_config(version, layers, heads, ffn, inputs=16, outputs=16, image=False):
    config = {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": version,
        "added_kv_proj_dim": 5120 if image else None,
        "attention_head_dim": 128,
        "cross_attn_norm": True,
        "eps": 1e-06,
        "ffn_dim": ffn,
        "freq_dim": 256,
        "image_dim": 1280 if image else None,
        "in_channels": inputs,
        "num_attention_heads": heads,
        "num_layers": layers,
        "out_channels": outputs,
        "patch_size": [1, 2, 2],
        "pos_embed_seq_len": None,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": 4096,
    }
    if version == WAN21:
        del config["pos_embed_seq_len"]
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


def model_index(pipeline, version, parts, **fields):
    classes = {
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
        "image_processor": ("transformers", "CLIPImageProcessor"),
        "scheduler": ("diffusers", "UniPCMultistepScheduler"),
        "text_encoder": ("transformers", "UMT5EncoderModel"),
        "tokenizer": ("transformers", "T5TokenizerFast"),
        "transformer": ("diffusers", "WanTransformer3DModel"),
        "transformer_2": ("diffusers", "WanTransformer3DModel"),
        "vae": ("diffusers", "AutoencoderKLWan"),
    }
    index = {part: list(classes[part]) if parts[part] else [None, None] for part in parts}
    index.update(fields, _class_name=pipeline, _diffusers_version=version)
    return dict(sorted(index.items()))


# Models. From memory: the values of Wan 2.1's scheduler (flow_shift), the index, image encoder's config and
# image processor of I2V, and of both A14B whatever they do not share with TI2V-5B (boundary_ratio,
# flow_shift, the fields of their index).

WAN21 = "0.33.0.dev0"
WAN22 = "0.35.0.dev0"
ALL_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


class Model:
    def __init__(self, version, pipeline, network, *, text, shift, present=(), absent=(), ti2v=False, **fields):
        parts = dict.fromkeys([*ALL_PARTS, *present], True)
        parts.update(dict.fromkeys(absent, False))
        self.index = model_index(pipeline, version, parts, **fields)
        self.scheduler = scheduler_config(version, shift)
        self.processor = IMAGE_PROCESSOR if "image_processor" in present else None
        vae_of = vae_config(version, ti2v)
        encoder = text_encoder_config(text)
        stem = "diffusion_pytorch_model"
        # Folder, config, names and shapes, dtype, beginning of the names of files.
        self.networks = [("transformer", network, transformer(network), "F32", stem)]
        if "transformer_2" in present:
            self.networks.append(("transformer_2", network, transformer(network), "F32", stem))
        self.networks.append(("text_encoder", encoder, text_encoder(encoder), text, "model"))
        self.networks.append(("vae", vae_of, vae(vae_of), "F32", stem))
        if "image_encoder" in present:
            self.networks.append(("image_encoder", IMAGE_ENCODER, image_encoder(IMAGE_ENCODER), "BF16", "model"))

    def use_bf16(self):
        """All networks but the VAE in bf16."""
        self.networks = [
            (part, config, table, dtype if part == "vae" else "BF16", stem)
            for part, config, table, dtype, stem in self.networks
        ]

    def keep_layers(self, count):
        """The widths of the model, with fewer layers."""
        make = {"transformer": transformer, "transformer_2": transformer, "text_encoder": text_encoder}
        smaller = []
        for part, config, table, dtype, stem in self.networks:
            if part in make:
                config = {**config, "num_layers": count}
                table = make[part](config)
            smaller.append((part, config, table, dtype, stem))
        self.networks = smaller

    def bytes(self):
        return sum(parameters(table) * BYTES[dtype] for _, _, table, dtype, _ in self.networks)


def models():
    small = dict(layers=30, heads=12, ffn=8960)
    large = dict(layers=40, heads=40, ffn=13824)
    ti2v = dict(layers=30, heads=24, ffn=14336, inputs=48, outputs=48)
    image = ("image_encoder", "image_processor")
    return {
        "wan2.1-t2v-1.3b": Model(
            WAN21, "WanPipeline", transformer_config(WAN21, **small), text="F32", shift=3.0
        ),
        "wan2.1-t2v-14b": Model(
            WAN21, "WanPipeline", transformer_config(WAN21, **large), text="F32", shift=3.0
        ),
        "wan2.1-i2v-14b-480p": Model(
            WAN21, "WanImageToVideoPipeline", transformer_config(WAN21, **large, inputs=36, image=True),
            text="F32", shift=3.0, present=image,
        ),
        "wan2.2-t2v-a14b": Model(
            WAN22, "WanPipeline", transformer_config(WAN22, **large),
            text="BF16", shift=3.0, present=("transformer_2",), boundary_ratio=0.875,
        ),
        "wan2.2-i2v-a14b": Model(
            WAN22, "WanImageToVideoPipeline", transformer_config(WAN22, **large, inputs=36),
            text="BF16", shift=3.0, present=("transformer_2",), absent=image, boundary_ratio=0.9,
        ),
        "wan2.2-ti2v-5b": Model(
            WAN22, "WanPipeline", transformer_config(WAN22, **ti2v),
            text="BF16", shift=5.0, absent=("transformer_2",), ti2v=True,
            boundary_ratio=None, expand_timesteps=True,
        ),
    }


# Files.


def to_json(value):
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def header(table, dtype):
    """The bytes of a safetensors file up to its tensors, which follow sorted by name, as the safetensors
    library writes those of one dtype."""
    entries, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(table):
        start, end = end, end + math.prod(table[name]) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": table[name], "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def files_of(table, dtype, stem):
    """{name of a file: its tensors}, and the index if they are several. Cut as save_pretrained does."""
    shards, size = [{}], 0
    for name, shape in table.items():
        bytes_of = math.prod(shape) * BYTES[dtype]
        if size + bytes_of > SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += bytes_of
    if len(shards) == 1:
        return {f"{stem}.safetensors": table}, None
    files = {f"{stem}-{n:05}-of-{len(shards):05}.safetensors": shard for n, shard in enumerate(shards, 1)}
    places = {name: file for file, shard in files.items() for name in shard}
    return files, {"metadata": {"total_size": parameters(table) * BYTES[dtype]}, "weight_map": places}


class Zeros:
    """Leaves holes in the files."""

    def fill(self, file, table, dtype):
        bytes_of = parameters(table) * BYTES[dtype]
        file.truncate(file.tell() + bytes_of)


class Noise:
    """Writes a block of normal values over and over, from another place for each tensor."""

    # A prime: a multiple of a width would make rows equal.
    VALUES = 1_000_003
    STANDARD_DEVIATION = 0.02

    def __init__(self):
        self.random = random.Random(0)
        values = array.array("f", (self.random.gauss(0, self.STANDARD_DEVIATION) for _ in range(self.VALUES)))
        self.blocks = {dtype: as_dtype(values, dtype) for dtype in BYTES}

    def fill(self, file, table, dtype):
        for name in sorted(table):
            count = math.prod(table[name])
            if name.endswith(".bias"):
                file.write(bytes(count * BYTES[dtype]))
            elif name.endswith(".gamma") or (name.endswith(".weight") and len(table[name]) == 1):
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


def write_model(model, folder, values):
    def write_json(path, value):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(to_json(value))

    write_json("model_index.json", model.index)
    write_json("scheduler/scheduler_config.json", model.scheduler)
    if model.processor:
        write_json("image_processor/preprocessor_config.json", model.processor)
    for part, config, table, dtype, stem in model.networks:
        write_json(f"{part}/config.json", config)
        files, index = files_of(table, dtype, stem)
        if index:
            write_json(f"{part}/{stem}.safetensors.index.json", index)
        for name, tensors in files.items():
            with open(folder / part / name, "wb") as file:
                file.write(header(tensors, dtype))
                values.fill(file, tensors, dtype)
    (folder / "tokenizer").mkdir()
    real = ROOT / "target" / "umt5-tokenizer" / "tokenizer.json"
    stand_in = FIXTURES / "tokenizer"
    shutil.copy(real if real.exists() else stand_in / "tokenizer.json", folder / "tokenizer")
    shutil.copy(stand_in / "tokenizer_config.json", folder / "tokenizer")


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
}
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
# Tensors and parameters of transformers.
COUNTS = {
    "wan2.1-t2v-1.3b": (825, 1_418_996_800),
    "wan2.1-t2v-14b": (1095, 14_288_491_584),
    "wan2.2-t2v-a14b": (1095, 14_288_491_584),
    "wan2.2-ti2v-5b": (825, 4_999_787_712),
}


def shapes_in(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    return {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}


def generate(config):
    """Names and shapes by the config of a fixture, or None of a network that no ghost has."""
    kind = config.get("_class_name") or (config.get("architectures") or [None])[0]
    return {
        "WanTransformer3DModel": transformer,
        "UMT5EncoderModel": text_encoder,
        "AutoencoderKLWan": vae,
        "CLIPVisionModel": lambda config: image_encoder(config, prefix=""),
        "CLIPVisionModelWithProjection": image_encoder,
    }.get(kind, lambda config: None)(config)


def check():
    """Problems, one a line."""
    kinds = set()
    for path in sorted(FIXTURES.rglob("config.json")):
        weights = [path.with_name(f"{stem}.safetensors") for stem in ("model", "diffusion_pytorch_model")]
        weights = [file for file in weights if file.exists()]
        config = json.loads(path.read_text())
        table = generate(config)
        if table is None or not weights:
            continue
        kinds.add(config.get("_class_name") or config["architectures"][0])
        found = shapes_in(weights[0])
        for name in sorted(table.keys() | found.keys()):
            if table.get(name) != found.get(name):
                yield f"{weights[0]}: {name} has the shape {found.get(name)}, not {table.get(name)}"
        print(f"{path.parent.relative_to(FIXTURES)}: {len(found)} tensors")
    for kind in {"WanTransformer3DModel", "UMT5EncoderModel", "AutoencoderKLWan", "CLIPVisionModel"} - kinds:
        yield f"no fixture has a {kind}"

    for name, model in models().items():
        texts = {"model_index.json": model.index, "scheduler/scheduler_config.json": model.scheduler}
        for part, config, table, dtype, stem in model.networks:
            files, index = files_of(table, dtype, stem)
            texts[f"{part}/config.json"] = config
            texts[f"{part}/{stem}.safetensors.index.json"] = index
            sizes = [len(header(table, dtype)) + parameters(table) * BYTES[dtype] for table in files.values()]
            expected = SIZES.get(name, {}).get(part, sizes)
            if sizes != expected:
                yield f"{name}: the files of {part} have {sizes} bytes, not {expected}"
            counts = (len(table), parameters(table))
            print(f"{name}: {part}, {counts[0]} tensors, {counts[1]:,} parameters, {dtype}")
            if part.startswith("transformer") and COUNTS.get(name, counts) != counts:
                yield f"{name}: {part} has {counts} tensors and parameters, not {COUNTS[name]}"
            if part == "text_encoder" and counts != (242, 5_680_910_336):
                yield f"{name}: {part} has {counts} tensors and parameters"
        for path, (size, digest) in JSON_FILES.get(name, {}).items():
            data = to_json(texts[path])
            if len(data) != size or not hashlib.sha256(data).hexdigest().startswith(digest):
                yield f"{name}: {path} is not the one published, of {size} bytes"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=[*models(), "all"], help="a model, or all of them")
    parser.add_argument("folder", nargs="?", type=Path, help="the folder to make; with `all`, the one for all")
    parser.add_argument("--random", action="store_true", help="normal values instead of holes: takes the disk space")
    parser.add_argument("--bf16", action="store_true", help="transformers and text encoder in bf16, as repackaged")
    parser.add_argument("--layers", type=int, metavar="N", help="only N layers of transformers and text encoder")
    parser.add_argument("--only", metavar="PART", help="write the weights of one part alone, such as vae")
    parser.add_argument("--check", action="store_true", help="compare with fixtures and with what is published")
    options = parser.parse_args()
    if options.check:
        problems = list(check())
        sys.exit("\n".join(problems) if problems else None)
    if options.folder is None:
        parser.error("NAME and FOLDER are needed, or --check")
    if options.name == "all":
        ghosts = {name: (model, options.folder / name) for name, model in models().items()}
    else:
        ghosts = {options.name: (models()[options.name], options.folder)}
    for model, _ in ghosts.values():
        if options.layers is not None:
            model.keep_layers(options.layers)
        if options.bf16:
            model.use_bf16()
    if options.only:
        for model, _ in ghosts.values():
            model.networks = [network for network in model.networks if network[0] == options.only]
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
