"""How a text is laid out: the marks of headings, lists, emphasis, tables, code, links, left-over gaps, emoji."""

import re
from typing import Literal

Layout = Literal["headers", "lists", "emphasis", "tables", "code", "links", "placeholders", "emoji"]

LAYOUTS: dict[Layout, re.Pattern[str]] = {
    "headers": re.compile(r"^ {0,3}#{1,6}[ \t]|^[ \t]*(?:={3,}|-{3,})[ \t]*$", re.MULTILINE),
    "lists": re.compile(r"^[ \t]*(?:[-*+•]|\(?\d{1,2}[.)])[ \t]+\S", re.MULTILINE),
    "emphasis": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
    "tables": re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE),
    "code": re.compile(r"```|`[^`\n]+`"),
    "links": re.compile(r"https?://|\[[^\[\]\n]{1,200}\]\([^)\n]"),
    "placeholders": re.compile(
        r"\[(?=[^\[\]\n]{0,60}\])[^\[\]\n]*?\b(?:name|number|date|company|address|email|phone|title|order|insert"
        r"|link|your)\b[^\[\]\n]*\](?!\()|\{\{[^{}\n]{1,60}\}\}|<(?:insert|your)\b[^<>\n]{0,60}>|\bX{3,}\b",
        re.IGNORECASE,
    ),
    "emoji": re.compile(r"[\U0001f1e6-\U0001faff\u2600-\u27bf]"),
}
"""Layout → what gives it away; each in linear time, for a reply may be made to slow them down."""
