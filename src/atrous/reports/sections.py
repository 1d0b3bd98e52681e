"""Parts of a Markdown page that commands write."""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

from atrous.atomic_file import atomic_file


def section(page: Path, name: str, text: str, *, alt: str) -> str:
    """A part of a page: a figure for light and dark pages from the folder that is named after the page, and a text.

    Args:
        page: The page.
        name: Of the part, and of the figure's files.
        text: Markdown below the figure.
        alt: What the figure shows, for those who cannot see it.
    """
    files = f"{page.stem}/{name}"
    light, dark = (_element("img", src=f"{files}.svg", alt=alt), f"{files}_dark.svg")
    picture = f"<picture>{_element('source', media='(prefers-color-scheme: dark)', srcset=dark)}{light}</picture>"
    return f"<!-- {name} -->\n{picture}\n\n{text}<!-- end of {name} -->"


def _element(name: str, **attributes: str) -> str:
    """An element of HTML without content."""
    return f"<{name}{''.join(f' {key}={quoteattr(value)}' for key, value in attributes.items())}>"


def renew_section(page: Path, name: str, text: str, *, alt: str) -> None:
    """Put a part in the place of the one of that name, or at the end of the page; see ``section``."""
    before = page.read_text(encoding="utf-8")
    fresh = section(page, name, text, alt=alt)
    marked = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- end of {re.escape(name)} -->", re.DOTALL)
    after, count = marked.subn(lambda _: fresh, before)
    if not count:
        after = f"{before.rstrip()}\n\n{fresh}\n"
    with atomic_file(page) as file:
        file.write(after.encode())
