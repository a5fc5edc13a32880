"""Writes prompt_clean.json: prompts, and what the reference's cleaning makes of them.

    python -m venv venv && venv/bin/pip install ftfy==6.3.1
    venv/bin/python make_prompt_clean.py > prompt_clean.json

Made with Python 3.11 (Unicode 14). Every entry is [text, cleaned, cleaned twice].
"""

import html
import json
import random
import re

import ftfy

assert ftfy.__version__ == "6.3.1"


def clean(text):
    """prompt_clean of diffusers' pipeline_wan.py, whitespace_clean(basic_clean(text)) of Wan."""
    text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text))
    return re.sub(r"\s+", " ", text.strip()).strip()


PROMPTS = [
    "",
    " ",
    "A cat walks on the grass, realistic style.",
    "  Two   foxes\tjump over\nthe wooden bridge ;  4K  ",
    "Two anthropomorphic cats in comfy boxing gear fight intensely on a spotlighted stage.",
    "一只猫走在草地上，写实风格。",
    "色调艳丽，过曝，静态，细节模糊不清，字幕，JPEG压缩残留，（丑陋的）！？：；“引号”‘单’【括号】《书》、…—",
    "電影感光線，逆光，景深",
    "夕暮れの海辺を走る犬、シネマティック。「はい」と言う",
    "노을 지는 해변을 달리는 개",
    "قطة تمشي على العشب، بأسلوب واقعي؟",
    "חתול הולך על הדשא, סגנון ריאליסטי",
    "एक बिल्ली घास पर चलती है, यथार्थवादी शैली।",
    "แมวเดินบนหญ้า",
    "Кошка идёт по траве, реалистичный стиль",
    "Μια γάτα περπατά στο γρασίδι",
    "Một con mèo đi trên cỏ",
    "Une façade à la française, déjà vu ; « crème brûlée » à 5 €",
    "El niño señaló al pingüino: ¿qué? ¡vamos!",
    "Zażółć gęślą jaźń, Škoda, Łódź, Ångström, ÅÄÖ",
    "emoji 🦊🚀 and rare 龘 字, zero\u200bwidth",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f ❤️ 1️⃣ ¯\\_(ツ)_/¯ (╯°□°)╯︵ ┻━┻",
    "ＦＵＬＬ　ｗｉｄｔｈ　ｔｅｘｔ and ① ½ ﬁ ligature",
    "ＬＯＵＤ！ ＃１ ￥１００ ￦ ￡ ～ ＂ ＇ ｟｠ ￠￣",
    "Ｕﾀｰﾝ ｶﾞｷﾞｸﾞ ﾊﾟﾋﾟ ｱｲｳ ﾞﾟ ｡｢｣､･ ﾡﾢ ￩￪￫￬￭￮",
    "it’s “quoted” ‘single’ „low“ ‚low‘ ‛rev‟ ʼn «guillemets» ‹x› ′prime″",
    "ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ Ĳ ĳ ŉ Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ æ œ ß",
    "CR\rLF\nCRLF\r\nNEL\x85LS\u2028PS\u2029VT\x0bFF\x0cend",
    "\ufeffBOM at the start, \ufeff inside",
    "controls \x00\x01\x02\x08\x0e\x1a\x1b\x1f\x7f and \u206a\u206f\ufff9\ufffa\ufffb\ufffc end",
    "separators a\x1cb\x1dc\x1ed\x1fe",
    "spaces a\u00a0b\u1680c\u2000d\u2003e\u200af\u202fg\u205fh\u3000i\u180ej\u200bk",
    "marks \u200e\u200f\u202a\u202e\u2066\u2069 soft\u00adhyphen",
    "\x1b[36;44mI am blue\x1b[0m, \x1b[1;31;40mred\x1b[m \x1b[2J \x1b[ \x1b[1 \x1b[;;H \x1b[٣m x\x1b]0;t",
    "cafe\u0301 A\u030a o\u0323\u0302 \u1112\u1161\u11ab \u0344 \u2126 \u212b \u0958 q\u0307\u0323",
    "é É ñ Ã õ \u00c5 ガ がﾞ",
    "\u0301 lone mark, \u0301\u0323\u0301",
    "Tom &amp; Jerry &lt;run&gt; through a neon city &amp;amp; laugh",
    "&amp;amp;amp;amp;lt; &AMP;AMP; &quot;x&quot; &apos; &nbsp; &hellip; &mdash; &rsquo;",
    "no semicolon: &amp &lt &copy2024 &notit; &notin; &not &times7 &Aacute &ampamp; &para",
    "capitals: P&EACUTE;REZ BUNDESSTRA&SZLIG;E &NTILDE; &nTILDE; &HELLIP; &COPY; &Copy; &LTIMES; &FRAC12;",
    "unknown &foo; &; & &&amp; &amp;foo; &x &#; &#x; &#xg; AT&T R&D a&b",
    "&CounterClockwiseContourIntegral; &NotEqualTilde; &fjlig; &bne; &ThickSpace;x",
    "numbers &#65; &#x42; &#X43; &#68 &#x45 &#0; &#9;x &#10;y &#13;z &#11; &#12;w &#31; &#59; &#38;amp;",
    "C1 &#128; &#x81; &#x93;q&#x94; &#133; &#x9f; &#160;",
    "out of range &#xD800; &#xDFFF; &#x110000; &#1114112; &#99999999999999999999; &#xFDD0; &#xFFFE; &#x1FFFF; &#x10FFFF;",
    "later line is HTML &eacute;\n<b>bold</b> &eacute; &amp;amp;\nand after &eacute; &eacute",
    "<i>&Eacute;</i> &amp;lt; &#233;",
    "&macr;\\_(ã\x83\x84)_/&macr;",
    "Broken text&hellip; it&#x2019;s ﬂubberiﬁc!",
    "âœ” No problems",
    "schÃ¶n cafÃ© — naïve façade’s “quotes”…",
    "The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t have eyebrows.",
    "l’humanitÃ© voilÃ le travail Ã la mode fÃ cil Ã quel point Ã quela Ãs 5",
    "â€œ like this â€� and â€˜ this â€™ and donâ€?t dÃ?jÃ¡",
    "ã“ã‚“ã«ã¡ã¯ ä½\xa0å¥½ ðŸ¦Š ðŸ˜\x8d ðŸ˜� í•œêµ\xad",
    "ÐºÐ¾Ñ‚ Ð¸ ÐºÐ¾ÑˆÐºÐ° РєРѕС‚ вЂ” вЂњРєРѕС€РєР°вЂќ",
    "Ã\xa0 Ã¡ Â© Â® Â° 20Â°C Â£5 Â 5 x Â ! Ã ± ×ª ×²",
    "‚Äú‚Äôs ‚Äî caf√© na√Øve ‚ô• √± ≈°",
    "├⌐ ΓÇ£quotedΓÇ¥ itΓÇÖs caf├⌐ ┬⌐",
    "â€”â€“â€¢ ā€“ β€™ Γ©Ξ΅ Ă© ĹĄ Ä…",
    "Ø§Ù„Ù‚Ø·Ø© ×—×ª×•×œ à¤¬à¤¿à¤²à¥\x8dà¤²à¥€ à¹\x81à¸¡à¸§",
    "\x93C1 quotes\x94 it\x92s \x80 5 \x85 \x81\x8d\x8f\x90\x9d",
    "Œ œ Œuvre œuvre ŒŒ Å“ Å’ Âœ",
    "\xed\xa0\xbd\xed\xb8\x8d CESU Ã­Â\xa0Â½Ã­Â¸Â\x8d and nul Ã\x80\x80 À\x80",
    "Ã© À\n",
    "é« ™ ®x €à €Ã ¢Ä a»«1 Å¡ Å½ ¼à ÷× «É1 »x",
    "ГўВЂВ™s ГўВЂВњ Р’В© В« В В°",
    "</s> special <pad> inside <unk> text",
    "机器人 robot 混合 mixed 文本 text 123 4567",
    "(best quality:1.2), [masterpiece], {8k|4k}, <lora:wan:0.8> #tag @user 100% $5 a_b *x* `c` ~ ^ \\n",
    "https://example.org/a?b=1&c=2&copy=3&lt=4 mail@example.org",
]

PHRASES = [
    "déjà vu: crème brûlée, señor, façade, œuvre",
    "Straße — “schön” … ‘Übung’ • 5 € ™",
    "Zażółć gęślą jaźń",
    "Příliš žluťoučký kůň",
    "привет, мир — «кошка»",
    "Καλημέρα κόσμε",
    "İstanbul’da güneşli bir gün",
    "Šī ir latviešu valoda, ąčęėįšųūž",
    "猫走在草地上，写实风格",
    "こんにちは世界",
    "고양이",
    "قطة على العشب",
    "חתול על הדשא",
    "बिल्ली घास पर",
    "🦊🚀 fox ❤️",
    "à la mode à 5 °C ½ × ² ©",
]
ENCODINGS = ftfy.chardata.CHARMAP_ENCODINGS


def misread():
    """Every phrase in UTF-8, read as every encoding; some of it twice, some with losses."""
    for phrase in PHRASES:
        for encoding in ENCODINGS:
            yield phrase.encode().decode(encoding)
        sloppy = phrase.encode().decode("sloppy-windows-1252")
        yield sloppy.encode().decode("sloppy-windows-1252")
        yield "猫 " + sloppy + " 猫"
        yield sloppy.replace("\xa0", " ")
        yield phrase.encode().decode("windows-1252", "replace")
        yield phrase.encode("utf-8").decode("latin-1").encode("cp1252", "replace").decode("cp1252")


def mixtures(count):
    """Pieces of all of the above in random order."""
    pick = random.Random(20260101)
    pieces = [piece for text in [*PROMPTS, *misread()] for piece in re.findall(r"\S+\s?", text)]
    for _ in range(count):
        yield "".join(pick.choice(pieces) for _ in range(pick.randint(1, 6)))


rows = []
for text in dict.fromkeys([*PROMPTS, *misread(), *mixtures(150)]):
    once = clean(text)
    rows.append(json.dumps([text, once, clean(once)]))
print("[\n" + ",\n".join(rows) + "\n]")
