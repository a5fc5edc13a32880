"""Makes a model of random weights with the widths of Wan 2.1 1.3B, so that kernels can be measured at
the sizes that they are for: the real VAE, the transformer with 4 of its 30 layers, and the text
encoder and tokenizer of tiny-wan.

    python benches/vs_diffusers/make_wide_model.py target/wide-model
    benches/vs_diffusers/run -- --model target/wide-model --width 256 --height 256 --frames 9 \
        --steps 4 --guidance 3 --shift 3 --fps 16 --negative ''
"""

import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

tiny = pathlib.Path(__file__).parents[2] / "tiny-wan" / "model"
out = pathlib.Path(sys.argv[1])
torch.manual_seed(0)

for part in ("text_encoder", "tokenizer", "scheduler"):
    shutil.copytree(tiny / part, out / part, dirs_exist_ok=True)
shutil.copy(tiny / "model_index.json", out)
width = json.loads((tiny / "text_encoder" / "config.json").read_text())["d_model"]
WanTransformer3DModel(
    num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=4, text_dim=width
).save_pretrained(out / "transformer")
AutoencoderKLWan().save_pretrained(out / "vae")
