#!/usr/bin/env python3
"""What bfloat16 costs the reference: the error of its umT5 and its VAE in that precision, for the fixtures.

    pip install torch diffusers==0.42.1 transformers==5.23.0 safetensors
    tests/parity/reference_bf16.py > tests/parity/reference_bf16.json

An error is the root of the mean square of the difference to the fixture's output, which is in float32, divided by
that of the output.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from transformers import UMT5EncoderModel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES / "vae_wide"))
import generate  # noqa: E402


def error(found, exact):
    difference = found.double() - exact.double()
    return float(difference.square().mean().sqrt() / exact.double().square().mean().sqrt())


def cases(inputs, suffix):
    return sorted(name.removesuffix(suffix) for name in inputs if name.endswith(suffix))


def umt5():
    folder = FIXTURES / "umt5"
    inputs, outputs = (load_file(folder / f"{name}.safetensors") for name in ("inputs", "outputs"))
    model = UMT5EncoderModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    for case in cases(inputs, ".input_ids"):
        mask = inputs[f"{case}.attention_mask"]
        states = model(inputs[f"{case}.input_ids"], attention_mask=mask).last_hidden_state
        name = f"{case}.last_hidden_state"
        for sample, length in enumerate(mask.sum(1).tolist()):
            yield f"umt5/{name}[{sample}]", error(states[sample, :length], outputs[name][sample, :length])


def vae(name):
    folder = FIXTURES / name
    inputs, outputs = (load_file(folder / f"{name}.safetensors") for name in ("inputs", "outputs"))
    if (folder / "weights.json").exists():
        model = generate.model().bfloat16()
    else:
        model = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.bfloat16).eval()
    for case in cases(inputs, ".latents"):
        if not case.startswith("tiled"):
            video = model.decode(inputs[f"{case}.latents"].bfloat16(), return_dict=False)[0]
            yield f"{name}/{case}.sample", error(video, outputs[f"{case}.sample"])
    for case in cases(inputs, ".video"):
        if not case.startswith("tiled"):
            latents = model.encode(inputs[f"{case}.video"].bfloat16()).latent_dist.mean
            yield f"{name}/{case}.mean", error(latents, outputs[f"{case}.mean"])


with torch.no_grad():
    torch.set_num_threads(1)
    parts = (umt5(), vae("vae21"), vae("vae22"), vae("vae_wide"))
    errors = {name: float(f"{value:.3g}") for part in parts for name, value in part}
print(json.dumps(errors, indent=2))
