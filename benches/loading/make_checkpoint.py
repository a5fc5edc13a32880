"""Makes a transformer of random weights with the shapes of Wan 2.1 1.3B, float32 (5.7 GB), in shards, as
save_pretrained writes them.

    python benches/loading/make_checkpoint.py target/transformer-1.3b
"""

import sys

import torch
from diffusers import WanTransformer3DModel

torch.manual_seed(0)
transformer = WanTransformer3DModel(
    num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=30, text_dim=4096
)
transformer.save_pretrained(sys.argv[1], max_shard_size="5GB")
