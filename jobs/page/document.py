"""The page as one HTML document with the client's modules and styles, and a policy that allows these alone.

The served page and the exported file are the same document; the file also contains the messages. Browsers load no
modules over file://, so the modules are joined into one script. `bundle` understands imports of the form
`import { names } from "./module.js";`, and `export` before a function, class or const.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

CLIENT = Path(str(files("jobs.page") / "client"))
ENTRY = "main"
STYLES = ("base", "survey", "galaxy", "about")
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./([\w-]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
UNKNOWN = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A page and its Content-Security-Policy, which allows the page's script and style by their digests."""

    html: str
    policy: str


def make_document(
    *,
    served: bool = False,
    first: Sequence[tuple[str, str]] = (),
    rest: Sequence[tuple[str, str]] = (),
    images: str,
    connect: str = "'none'",
) -> Document:
    """Document of the page.

    Args:
        served: whether a server sends it, with its policy; a file contains its policy.
        first: id and content (base64) of the messages that the first view needs.
        rest: id and content of the others; they come after the script, so that the first view need not wait for them.
        images: sources of the policy's `img-src`.
        connect: sources of the policy's `connect-src`.
    """
    script, style = bundle(), "".join((CLIENT / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src {images}; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "head": "" if served else _policy_meta(policy),
        "style": f"<style>{style}</style>",
        "first": _held(first),
        "rest": _held(rest),
    }
    parts["script"] = f'<script type="module" async>{script}</script>'
    html = (CLIENT / "index.html").read_text(encoding="utf-8")
    return Document(re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], html), policy)


def bundle(folder: Path = CLIENT) -> str:
    """Script that contains the modules of a folder, each in its own function and after the modules that it imports.

    Raises:
        ValueError: modules import each other in a circle, or one contains an import or export of another form, or text
            that would end the script element.
    """
    ordered: dict[str, str] = {}
    _collect(folder, ENTRY, ordered, ())
    parts = ['"use strict";']
    for name, source in ordered.items():
        body = IMPORT.sub(lambda match: f"const {{ {match[1]} }} = {_variable(match[2])};\n", source)
        exported = EXPORT.findall(body)
        body = EXPORT.sub("", body)
        if unknown := UNKNOWN.search(body):
            raise ValueError(f"{folder / name}.js: {unknown[0]!r} is not a form that the page's bundle takes")
        if "</script" in body.lower() or "<!--" in body:
            raise ValueError(f"{folder / name}.js: holds </script or <!--, which would end the page's script")
        if name != ENTRY:
            body = f"const {_variable(name)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();"
        parts.append(f"// {name}.js\n{body}")
    return "\n".join(parts)


def _collect(folder: Path, name: str, ordered: dict[str, str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"{folder}: modules import each other in a circle: {' -> '.join([*above, name])}")
    source = (folder / f"{name}.js").read_text(encoding="utf-8")
    for _, needed in IMPORT.findall(source):
        if needed not in ordered:
            _collect(folder, needed, ordered, (*above, name))
    ordered[name] = source


def _variable(module: str) -> str:
    return f"module_{module.replace('-', '_')}"


def _held(messages: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        f'<script type="application/octet-stream" id="message-{escape(name)}">{content}</script>'
        for name, content in messages
    )


def _policy_meta(policy: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
