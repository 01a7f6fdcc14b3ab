"""A hook of mkdocs: pages that lie in the repository's root, where readers look first, are pages of the site too."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

#: Files of the repository that the site has under the same path; the README is its index.
FILES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "LICENSE", "examples/README.md")
#: What says to the tests how a block is run (`tests/docs/blocks.py`); nothing for a reader, also of the page's source.
_MARK = re.compile(r"^<!-- (?:not run|not compared|ends): .* -->\n\n?", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them; a link to `docs/page.md` is one to `page.md` on the site."""
    root = Path(config.config_file_path).parent
    for page, source in {"index.md": "README.md", **{name: name for name in FILES}}.items():
        text = (root / source).read_text().replace("](docs/", "](").replace("](../docs/", "](../")
        text = text.replace(".ipynb)", ".md)")  # a notebook's page: site_notebooks.py
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links from docs/ to the root lead to the same page of the site."""
    for name in FILES:
        markdown = markdown.replace(f"](../{name}", f"]({name}")
    return _MARK.sub("", markdown)
