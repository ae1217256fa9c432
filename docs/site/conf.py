"""Sphinx's settings for `make docs` (scripts/docs.sh). The sources are a copy of what git has of the tree, in build-docs/source."""
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent / "build-docs" / "source"

project = "libfff"
author = copyright = "The libfff authors"  # pylint: disable=redefined-builtin
version = release = re.search(r"version: '([^']+)'", (SOURCE / "meson.build").read_text(encoding="utf-8")).group(1)
extensions = ["myst_parser", "breathe", "autoapi.extension"]
root_doc = "index"
html_theme = "furo"
html_title = f"libfff {version}"
html_show_sphinx = False

# Pages are Markdown as repositories show it.
myst_heading_anchors = 6
myst_enable_extensions = []
# "myst.header": sections below may begin at any level. Text highlighting: blocks are named for what checks them.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]
exclude_patterns = [".github/**", "docs/site/**"]

breathe_projects = {"fff": str(SOURCE.parent / "doxygen" / "xml")}
breathe_default_project = "fff"
breathe_domain_by_extension = {"h": "c"}

# The Python reference is read from the text of the package: neither the library nor PyTorch need be there.
autoapi_dirs = [str(SOURCE / "python" / "fff")]
autoapi_root = "reference/python"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "imported-members", "show-module-summary", "undoc-members"]
autoapi_python_class_content = "class"
autoapi_keep_files = True
autoapi_ignore = ["*/__main__.py"]


def literal_where_aligned(text):
    """The package's docstrings are plain text: paragraphs that are laid out in columns, or indented, stay as they are.
    Others become one line, since summaries show the first."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").split("\n")
        if any(re.search(r"\S {2,}\S", line) for line in lines) or all(line.startswith("    ") for line in lines):
            paragraphs.append("::\n\n" + "\n".join("    " + line for line in lines))
        else:
            paragraphs.append(" ".join(re.sub(r"([*`|\\])", r"\\\1", line.strip()) for line in lines))
            paragraphs[-1] = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", paragraphs[-1])
            paragraphs[-1] = re.sub(r"^\.\. ", r"\\.. ", paragraphs[-1])  # of a base class: no directive here
    return "\n\n".join(paragraphs)


def plain_docstring(_app, _what, _name, entry, skip, _options):
    if entry.docstring and not getattr(entry, "is_plain", False):
        entry.docstring = literal_where_aligned(entry.docstring)
        entry.is_plain = True
    return skip


def links_to_pages_only(app, docname, source):
    """Links to folders become their text, since a site has no listing of them; those to files that are no pages are downloads."""
    folder = (Path(app.srcdir) / docname).parent

    def shown(match):
        label, target = match.groups()
        return label if (folder / target.partition("#")[0]).is_dir() else match.group(0)

    source[0] = re.sub(r"(?<!!)\[([^]\[]*)\]\(([^)#:\s][^):\s]*)\)", shown, source[0])


def setup(app):
    app.connect("autoapi-skip-member", plain_docstring)
    app.connect("source-read", links_to_pages_only)
