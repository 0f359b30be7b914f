"""Paste the generated tables that README.md shows again, from their files.

    python tools/paste_tables.py

A table stands between `<!-- results/.../table.md -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- (results/\S+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)


def pasted(text: str, root: Path = ROOT) -> str:
    """A text with every table as its file below `root` has it."""
    return TABLE.sub(
        lambda found: f"{found[1]}{(root / found[2]).read_text(encoding='utf-8')}{found[3]}", text
    )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(pasted(readme.read_text(encoding="utf-8")), encoding="utf-8")
