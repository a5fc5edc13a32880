"""Writes pictures/: files as Pillow writes them, what Pillow reads from each (NAME.png), and
expected.json with what Pillow, torch and diffusers make of them.

    pip install pillow numpy torch diffusers
    python make_pictures.py

Pillow 13.0.0, torch 2.15, diffusers 0.42.1.
"""

import hashlib
import json
import pathlib

import numpy
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "pictures"
FOLDER.mkdir(exist_ok=True)
random = numpy.random.default_rng(20_260)


def scene(width, height, channels):
    """Smooth waves with a hard edge, so that neither compression nor filters find it easy."""
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [127 + 120 * numpy.sin(x / (3 + c) + y / (5 - c) + c) for c in range(channels)]
    waves = numpy.stack(waves, -1)
    waves[height // 3 : height // 2, width // 4 : width // 2] = [250, 10, 120, 60][:channels]
    return waves.clip(0, 255).astype(numpy.uint8)


def save(name, image, **options):
    image.save(FOLDER / name, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


rgb = Image.fromarray(scene(40, 26, 3))
rgba = Image.fromarray(scene(40, 26, 4))
cmyk = Image.fromarray(scene(40, 26, 4), "CMYK")

save("cmyk.jpg", cmyk, quality=95, subsampling=0)
# The same bytes said to be YCCK, by the Adobe marker's last byte.
adobe = bytearray((FOLDER / "cmyk.jpg").read_bytes())
at = adobe.index(b"Adobe")
assert adobe[at + 11] == 0
adobe[at + 11] = 2
(FOLDER / "ycck.jpg").write_bytes(adobe)
# Without the Adobe marker.
start = at - 4
end = start + 2 + int.from_bytes(adobe[start + 2 : at], "big")
(FOLDER / "cmyk_unmarked.jpg").write_bytes(adobe[:start] + adobe[end:])
save("progressive.jpg", rgb, quality=90, progressive=True)
save("restart.jpg", rgb, quality=90, restart_marker_blocks=2)
save("exif.jpg", rgb, quality=95, subsampling=0, exif=exif(7))
save("exif.webp", rgb, lossless=True, exif=exif(8))
save("exif_chunk.png", rgb, exif=exif(5))
save("lossy.webp", rgb, quality=90)
save("lossy_alpha.webp", rgba, quality=90)
save("lossless_alpha.webp", rgba, lossless=True, exact=True)
other = Image.fromarray(255 - scene(40, 26, 3))
save("animated.webp", rgb, save_all=True, append_images=[other], lossless=True)
save("animated_chunks.png", rgb, save_all=True, append_images=[other])
save("default_picture.png", rgb, save_all=True, append_images=[other, rgb], default_image=True)
save("palette_alpha.png", rgb.quantize(7), transparency=b"\x00\x80\xff")
save("rgb_key.png", rgb, transparency=tuple(scene(40, 26, 3)[0, 0].tolist()))

for path in sorted(FOLDER.iterdir()):
    if path.suffix == ".json" or path.stem.endswith(".read"):
        continue
    read = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    read.save(FOLDER / f"{path.name}.read.png", optimize=True)


def digest(array):
    return hashlib.sha256(numpy.ascontiguousarray(array).tobytes()).hexdigest()


FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
SIZES = [(17, 33), (40, 9), (90, 26), (1, 1), (3, 70), (123, 61), (39, 25), (41, 27)]
resized = [
    {
        "filter": name,
        "size": size,
        "rgb": digest(numpy.asarray(rgb.resize(size, resample))),
        "mask": digest(numpy.asarray(rgb.convert("L").resize(size, resample))),
    }
    for name, resample in FILTERS.items()
    for size in SIZES
]

# Masks as VACE takes them.
processor = VideoProcessor(vae_scale_factor=8)
mask = rgb.convert("L")
video_mask = torch.clamp((processor.preprocess_video([mask], 32, 48) + 1) / 2, min=0, max=1)


def latents(frames, spatial=8, temporal=4):
    count, height, width = frames.shape
    new = ((count + temporal - 1) // temporal, height // spatial, width // spatial)
    grid = frames.view(count, new[1], spatial, new[2], spatial).permute(2, 4, 0, 1, 3).flatten(0, 1)
    return torch.nn.functional.interpolate(grid[None], size=new, mode="nearest-exact")[0]


counted = {}
for count in [1, 2, 4, 5, 7, 8, 9, 13, 17, 33, 49, 81, 121, 1001]:
    at = latents(torch.arange(count).float()[:, None, None].expand(-1, 8, 8))
    counted[count] = at[0, :, 0, 0].int().tolist()
frames = torch.from_numpy(random.integers(0, 256, (7, 16, 24))).float()
expected = {
    "luma": digest(numpy.asarray(mask)),
    "resized": resized,
    "video_mask_48x32": (video_mask.flatten() * 255).round().int().tolist(),
    "frames": frames.int().flatten().tolist(),
    "latents_of_frames": latents(frames).int().flatten().tolist(),
    "frames_of_latents": counted,
}
(FOLDER / "expected.json").write_text(json.dumps(expected))
