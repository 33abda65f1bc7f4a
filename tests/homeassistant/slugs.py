#!/usr/bin/env python3
"""What Home Assistant makes of names for entity ids; runs in Home Assistant's Python.

Without an argument: reads a JSON list of names and prints the list of their slugs.
With `table`: prints src/homeassistant/dashboard/slug_table.rs, what ASCII text each character becomes.
"""

import json
import sys
import unicodedata

import text_unidecode
from homeassistant.util import slugify

# Latin with accents and phonetic letters; combining marks; Greek and Cyrillic; more Latin and Greek with accents;
# punctuation, indices, currencies, letter-like symbols; variants of emoji.
RANGES = [
    (0x00A0, 0x036F),
    (0x0370, 0x052F),
    (0x1E00, 0x1FFF),
    (0x2000, 0x214F),
    (0x2600, 0x27BF),
    (0xFE00, 0xFE0F),
]


HEADER = """\
//! What ASCII text each character becomes in Home Assistant's entity ids, as JSON: by the first
//! character of each range, in hexadecimal (pure). Made by `tests/homeassistant/slugs.py`.

"""


def ascii_of(character):
    return text_unidecode.unidecode(unicodedata.normalize("NFKD", character))


def table():
    ranges = {
        f"{first:x}": [ascii_of(chr(code)) for code in range(first, last + 1)]
        for first, last in RANGES
    }
    lines = (f"{json.dumps(first)}: {json.dumps(texts, separators=(',', ':'))}" for first, texts in ranges.items())
    print(HEADER + 'pub(super) const TABLE: &str = r##"{\n' + ",\n".join(lines) + '\n}"##;')


if sys.argv[1:] == ["table"]:
    table()
else:
    print(json.dumps([slugify(name) for name in json.load(sys.stdin)]))
