"""The pages of the documentation, and what they name.

python tests/docs_pages.py      # copies the excerpts of the sources into the pages again
"""

import ast
import re
from pathlib import Path

from places import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXCERPT = re.compile(r"(<!-- excerpt: (\S+) ([\w.]+) -->\n```python\n)(.*?)(```\n<!-- end)", re.S)


def name_of(page: Path) -> str:
    """The page's path from the root of the repository."""
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[str]:
    """Targets of a page's links and pictures within the repository, code apart."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "code", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^()\s]+)\)", prose)
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = [heading.lower() for heading in re.findall(r"^#+ (.*)$", prose, re.M)]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    """What a page shows behind `unify`, in blocks and in lines of code, comments left out."""
    text = page.read_text().replace("\\\n", " ")
    code = [block for _, block in re.findall(r"```(\w*)\n(.*?)```", text, re.S)]
    code += re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    lines = re.findall(r"^(?:\.venv/bin/)?unify (.+)$", "\n".join(code), re.M)
    return [re.sub(r"\s#.*", "", line) for line in lines]


def defined(file: Path) -> set[str]:
    """What a module defines or imports at its top."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_there(dotted: str) -> bool:
    """Whether a dotted path is a package or a module, or a name that one defines."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = next(
        (f for f in (path.parent.with_suffix(".py"), path.parent / "__init__.py") if f.exists()),
        None,
    )
    return module is not None and path.name in defined(module)


def source_of(file: str, name: str) -> str:
    """The source of a class's method (`Class.method`), without its indentation."""
    text = (ROOT / file).read_text()
    nodes: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        node = next(n for n in nodes if getattr(n, "name", None) == part)
        nodes = getattr(node, "body", [])
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    return "".join(line[node.col_offset :] + "\n" for line in lines)


def with_excerpts(text: str) -> str:
    """A page's text with every excerpt as the source has it now."""
    return EXCERPT.sub(lambda m: m[1] + source_of(m[2], m[3]) + m[5], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_excerpts(page.read_text()))
