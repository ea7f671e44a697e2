"""One page to read the messages on: what each service accepts, answers and emits. Needs neither network nor script."""

import json
from html import escape

from .codec import Codec, type_of
from .compatibility import Schema
from .envelope import Command, Event, Message, Result
from .schemas import answer_to, doc_of, kind_of, schema_of, sentence_of, service_of

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
nav a { margin-right: 1rem; }
h2 { border-bottom: 2px solid var(--line); margin-top: 3rem; }
article { border: 1px solid var(--line); border-radius: .4rem; margin: 1rem 0; padding: .5rem 1rem; overflow-x: auto; }
article:target { outline: 2px solid; }
h4 { margin: .3rem 0; } h4 code { font-weight: normal; margin-left: .7rem; opacity: .75; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td, th { border-top: 1px solid var(--line); padding: .2rem .6rem .2rem 0; text-align: left; vertical-align: top; }
code { background: var(--soft); border-radius: .2rem; padding: 0 .2rem; overflow-wrap: anywhere; }
.kind { float: right; opacity: .7; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>A command asks one service to do something and is answered with a result, or refused. An event says what happened;
it is kept for ever. <code>{{actor}}</code> in its sentence is whoever did it.</p>
<nav>{contents}</nav>
{services}
</body>
</html>
"""
_KINDS: dict[str, type[Message]] = {"Commands": Command, "Events": Event, "Results": Result}


def page(codec: Codec, *, title: str = "Messages") -> str:
    """The page as HTML, complete in itself; one inline style sheet is all it asks of a content security policy."""
    types = [cls for _, cls in sorted(codec.types.items())]
    services = sorted({service_of(cls) for cls in types})
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        contents="".join(f'<a href="#{escape(service)}">{escape(service)}</a>' for service in services),
        services="\n".join(_service(service, types) for service in services),
    )


def _service(service: str, types: list[type[Message]]) -> str:
    parts = [f'<h2 id="{escape(service)}">{escape(service)}</h2>']
    for heading, kind in _KINDS.items():
        if own := [cls for cls in types if service_of(cls) == service and issubclass(cls, kind)]:
            parts += [f"<h3>{heading}</h3>", *(_message(cls, types) for cls in own)]
    return "\n".join(parts)


def _message(cls: type[Message], types: list[type[Message]]) -> str:
    name, schema = type_of(cls), schema_of(cls)
    told = [sentence_of(cls), doc_of(cls)] if issubclass(cls, Event) else doc_of(cls).split("\n\n")
    parts = [
        f'<article id="{escape(name)}"><span class="kind">{kind_of(cls)}</span>',
        f"<h4>{escape(cls.__name__)}<code>{escape(name)}</code></h4>",
        *(f"<p>{escape(text)}</p>" for text in told if text),
    ]
    if issubclass(cls, Command):
        answer = answer_to(cls, types)
        result = (
            f'<a href="#{escape(type_of(answer))}">{escape(answer.__name__)}</a>' if answer else "only whether done"
        )
        parts.append(f"<p>Needs <code>{escape(cls.permission or 'a caller')}</code>; answers {result}.</p>")
    parts.append(_fields(schema))
    for structure, inner in schema.get("$defs", {}).items():
        parts += [f"<h5>{escape(structure)}</h5>", f"<p>{escape(inner.get('description', ''))}</p>", _fields(inner)]
    return "\n".join([*parts, "</article>"])


def _fields(schema: Schema) -> str:
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_words(node))}</td>"
        f"<td>{_default(node, name in schema.get('required', ()))}</td>"
        f"<td>{escape(node.get('description', ''))}</td></tr>"
        for name, node in schema["properties"].items()
        if name != "type" or "x-kind" not in schema
    ]
    return (
        f"<table><tr><th>field</th><th>type</th><th>default</th><th></th></tr>{''.join(rows)}</table>" if rows else ""
    )


def _default(node: Schema, required: bool) -> str:
    if required:
        return "required"
    return (
        f"<code>{escape(json.dumps(node['default'], ensure_ascii=False))}</code>" if "default" in node else "optional"
    )


def _words(node: Schema) -> str:
    match node:
        case {"$ref": str(reference)}:
            return reference.rpartition("/")[2]
        case {"anyOf": list(choices)}:
            return " or ".join(map(_words, choices))
        case {"enum": list(values)}:
            return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
        case {"type": "array"}:
            return f"list of {_words(node.get('items') or {})}"
        case {"type": "object"}:
            return f"map to {_words(node.get('additionalProperties') or {})}"
        case {"contentEncoding": str(encoding)}:
            return f"bytes ({encoding})"
        case {"format": str(format)}:
            return format
    return str(node.get("type", "anything"))
