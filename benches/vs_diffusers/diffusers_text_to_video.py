#!/usr/bin/env python3
"""A prompt becomes a video with diffusers: the job of examples/text_to_video.rs, as its
documentation would have one write it. The options are the example's."""

import time

started = time.perf_counter()

import argparse
import os

# A folder is loaded: there is nothing to look up, and no bars to draw.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--out", required=True, metavar="FILE.mp4")
    parser.add_argument("--negative", default="", metavar="TEXT")
    parser.add_argument("--steps", type=int, default=20, metavar="N")
    parser.add_argument("--guidance", type=float, default=3.0, metavar="X")
    parser.add_argument("--shift", type=float, default=3.0, metavar="X")
    parser.add_argument("--seed", type=int, default=42, metavar="N")
    parser.add_argument("--frames", type=int, default=97, metavar="N")
    parser.add_argument("--width", type=int, default=64, metavar="N")
    parser.add_argument("--height", type=int, default=64, metavar="N")
    parser.add_argument("--fps", type=int, default=24, metavar="N")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--save-latents", metavar="FILE.safetensors")
    return parser.parse_args()


def main():
    options = parse_options()
    times = [("import", started)]

    import torch
    from diffusers import UniPCMultistepScheduler, WanPipeline
    from diffusers.utils import export_to_video, logging

    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    times.append(("load", time.perf_counter()))

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    pipeline = WanPipeline.from_pretrained(options.model, dtype=dtype)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=options.shift
    )
    pipeline.set_progress_bar_config(disable=True)
    times.append(("text and denoise", time.perf_counter()))

    last_latents = None

    def after_step(_pipeline, step, _timestep, tensors):
        nonlocal last_latents
        if step == options.steps - 1:
            last_latents = tensors["latents"]
            times.append(("decode", time.perf_counter()))
        return tensors

    frames = pipeline(
        prompt=options.prompt,
        negative_prompt=options.negative,
        width=options.width,
        height=options.height,
        num_frames=options.frames,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        generator=torch.Generator("cpu").manual_seed(options.seed),
        callback_on_step_end=after_step,
    ).frames[0]
    times.append(("write", time.perf_counter()))

    export_to_video(frames, options.out, fps=options.fps)
    times.append(("", time.perf_counter()))

    if options.save_latents:
        from safetensors.torch import save_file

        save_file({"latents": last_latents.contiguous()}, options.save_latents)

    stages = zip(times, times[1:])
    print(", ".join(f"{name} {end - start:.2f} s" for (name, start), (_, end) in stages))


main()
