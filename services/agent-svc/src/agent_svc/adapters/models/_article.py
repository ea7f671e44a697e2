"""An article from a brief, by template: what the scripted model writes."""

import html
from typing import Any

NOTE = "Simulated text: written by BizOSaaS's scripted model from a template, without a language model."


def write_article(brief: dict[str, Any], published: list[str]) -> dict[str, Any]:
    """Title, body, excerpt and the like, in the words of the brief; `published` are titles that exist already."""
    topic = _text(brief, "topic", "subject", "title", "goal") or "What we do and for whom"
    audience = _text(brief, "audience", "readers", "target") or "our customers"
    tone = _text(brief, "tone", "style", "voice") or "plain"
    keywords = [str(k) for k in brief.get("keywords") or [] if isinstance(k, (str, int))][:8]
    title = _title(topic, audience, published)
    return {
        "title": title,
        "body": _body(topic, audience, tone, keywords, published),
        "excerpt": f"{topic}: what {audience} should know, and where to begin. (Simulated text.)"[:300],
        "summary": f"A simulated article on “{topic}” for {audience}.",
        "format": "html",
        "locale": _text(brief, "locale", "language") or "en",
        "confidence": 0.2,
        "evidence": [f"The brief, and {len(published)} published titles."],
        "checks": [NOTE],
    }


def _title(topic: str, audience: str, published: list[str]) -> str:
    plain = topic[0].upper() + topic[1:]
    taken = {title.casefold() for title in published}
    for title in (plain, f"{plain}: a guide for {audience}", f"{plain}: what is new"):
        if title.casefold() not in taken:
            return title[:200]
    return f"{plain} ({len(published) + 1})"[:200]


def _body(topic: str, audience: str, tone: str, keywords: list[str], published: list[str]) -> str:
    t, a = html.escape(topic), html.escape(audience)
    parts = [
        f"<p><em>{NOTE}</em></p>",
        f"<p>{_opening(tone)} This article is about {t}, and it is written for {a}. It says what matters first, "
        "gives the reasons, and ends with what can be done today.</p>",
        f"<h2>Why {t} matters to {a}</h2>",
        f"<p>Most questions about {t} come down to three: what it changes, what it costs, and what happens if nothing "
        f"is done. For {a} the first is the one that counts. A small change that is really made beats a large one "
        "that stays a plan.</p>",
    ]
    if keywords:
        items = "".join(
            f"<li><strong>{html.escape(k)}</strong>: where it shows in everyday work.</li>" for k in keywords
        )
        parts += ["<h2>What to look at</h2>", f"<ul>{items}</ul>"]
    parts += [
        "<h2>Where to begin</h2>",
        f"<ol><li>Write down what {t} means for you today, in one sentence.</li>"
        "<li>Choose the one thing that would help most, and give it a date.</li>"
        "<li>Look again after four weeks, and keep what worked.</li></ol>",
    ]
    if published:
        parts.append(f"<p>This adds to what is here already, such as “{html.escape(published[0])}”.</p>")
    parts.append(f"<p>Questions about {t}? Write to us: we answer every message.</p>")
    return "\n".join(parts)


def _opening(tone: str) -> str:
    lower = tone.casefold()
    if any(word in lower for word in ("friend", "warm", "casual", "playful")):
        return "Good to have you here."
    if any(word in lower for word in ("formal", "expert", "serious", "professional")):
        return "The subject deserves a careful look."
    return "Let us get to the point."


def _text(brief: dict[str, Any], *names: str) -> str:
    return next((brief[n].strip() for n in names if isinstance(brief.get(n), str) and brief[n].strip()), "")
