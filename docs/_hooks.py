"""For mkdocs: links that leave docs/. Wiring diagrams come along; other files are named, not linked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
FOLDER = re.compile(r"\[([^\]]+)\]\(([a-z]+)\)")
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the boards' wiring diagrams."""
    for path in sorted((ROOT / "boards").glob("*/wiring.svg")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """[text](../path): to its copy, to the first page for the README, else to the path in words. A link to a
    folder is its text."""

    def inside(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if files.get_file_from_path(target):
            return f"[{text}]({target})"
        if target == "README.md":
            return f"[{text}](index.md)"
        return text if target in text else f"{text} (`{target}`)"

    markdown = FOLDER.sub(
        lambda match: match[1] if (ROOT / "docs" / match[2]).is_dir() else match[0], markdown
    )
    return OUTSIDE.sub(inside, markdown)
