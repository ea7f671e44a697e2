"""Pages for people: one card each, without a script, a picture, or anything from elsewhere."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence

from .answers import HTML, Answer

_STYLE = """
:root { color-scheme: light dark; --text: #1d2433; --soft: #5b6475; --card: #fff; --page: #f3f4f7; --line: #dfe2e8 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8eaf0; --soft: #a3abbb; --card: #1b202b; --page: #12151c; --line: #2d3442 }
}
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, sans-serif }
main { box-sizing: border-box; width: min(36rem, 92vw); padding: 2rem 2.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem }
h1 { margin: 0 0 .75rem; font-size: 1.4rem }
p { margin: .5rem 0 0 }
code { font-size: .92em; padding: .1em .3em; border-radius: .25em; background: var(--page) }
footer { margin-top: 1.5rem; color: var(--soft); font-size: .85rem }
footer a { color: inherit }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · BizOSaaS</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{text}
<footer>{foot}</footer>
</main>
</body>
</html>
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest())
_CSP = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'sha256-" + _HASH + b"'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
)


def page(
    status: int, title: str, *paragraphs: str, foot: str = "BizOSaaS", headers: Sequence[tuple[bytes, bytes]] = ()
) -> Answer:
    """A page that says a few sentences. All of it is escaped but `foot`; what stands in `backticks` is code."""
    text = "\n".join(f"<p>{_marked(paragraph)}</p>" for paragraph in paragraphs if paragraph)
    body = _PAGE.format(title=html.escape(title), style=_STYLE, text=text, foot=foot)
    return Answer(status, body.encode(), [_CSP, *headers], media_type=HTML)


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
