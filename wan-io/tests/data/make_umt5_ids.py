"""Writes umt5_ids.json: token ids of the real umT5 tokenizer, as the Python library gives them.

    python -m venv venv && venv/bin/pip install ftfy==6.3.1 tokenizers==0.23.3
    venv/bin/python make_umt5_ids.py TOKENIZER_JSON > umt5_ids.json

TOKENIZER_JSON is what .ci/fetch-umt5-tokenizer fetches. Every entry holds the text that is encoded,
the length that it may have and the ids without padding.
"""

import html
import json
import re
import sys

import ftfy
from tokenizers import Tokenizer

assert ftfy.__version__ == "6.3.1"
tokenizer = Tokenizer.from_file(sys.argv[1])


def clean(text):
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip()


def ids(text, max_length):
    tokenizer.enable_truncation(max_length)
    return tokenizer.encode(text).ids


NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，"
    "形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
RAW = [
    NEGATIVE,
    "",
    "A cat walks on the grass, realistic style.",
    "Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a spotlighted stage.",
    "一只猫走在草地上，写实风格。",
    "夕暮れの海辺を走る犬、シネマティック。ｶﾞﾗｽ",
    "노을 지는 해변을 달리는 개",
    "قطة تمشي على العشب، بأسلوب واقعي",
    "एक बिल्ली घास पर चलती है",
    "emoji 🦊🚀 👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 and rare 龘 字, zero\u200bwidth",
    "ＦＵＬＬ　ｗｉｄｔｈ　ｔｅｘｔ and ① ½ ﬁ ligature",
    "机器人 robot 混合 mixed 文本 text 123 4567, “quoted” it’s 5 €",
    "schÃ¶n cafÃ© — naïve façade’s “quotes”…",
    "Tom &amp; Jerry &lt;run&gt;",
    "  Two   foxes\tjump over\nthe wooden bridge ;  4K  ",
    "</s> special <pad> inside <unk> text <extra_id_0>",
    "A very long prompt, 很长的提示词. " * 60,
]

rows = []
for raw in RAW:
    for text in dict.fromkeys([raw, clean(raw)]):
        rows.append({"text": text, "max_length": 512, "ids": ids(text, 512)})
for max_length in (2, 3, 12, 126, 127):
    text = clean(NEGATIVE)
    rows.append({"text": text, "max_length": max_length, "ids": ids(text, max_length)})
print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
