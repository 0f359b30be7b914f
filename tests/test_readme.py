"""What the README shows and names must exist, and must be what the records say."""

import re
from pathlib import Path

import pytest

from senet_ablate.spec.plan import list_recipes
from tools.paste_tables import pasted

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_its_tables_are_the_generated_ones(tmp_path: Path) -> None:
    shown = re.findall(r"<!-- (results/\S+) -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert shown
    for path, text in shown:
        assert text == (ROOT / path).read_text(), "python tools/paste_tables.py"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("newer\n")
    assert pasted(README) == README != pasted(README, tmp_path)
    assert pasted(README, tmp_path).count("-->\nnewer\n<!-- end -->") == len(shown)
    open_end = f"<!-- {shown[0][0]} -->\nprose\n"
    assert pasted(open_end + README, tmp_path).startswith(open_end)


LINK = r"\]\((?!http)([^)#]+)\)"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (page.relative_to(ROOT), target)
    for page in PAGES
    for target in re.findall(LINK, page.read_text())
]


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=[f"{page}: {target}" for page, target in LINKS]
)
def test_every_link_leads_somewhere(page: Path, target: str) -> None:
    assert ((ROOT / page).parent / target).exists()


def test_every_recipe_it_speaks_of_exists() -> None:
    for name in re.findall(r"--recipe ([\w-]+)", README):
        assert name in list_recipes()
    for name in re.findall(r"run_all\.sh (\w[\w-]+)", README):
        assert name in list_recipes()


def test_the_paths_in_its_text_exist() -> None:
    for path in re.findall(
        r"`((?:experiments|senet_ablate|results|tests|notebooks)/[\w./]*)`", README
    ):
        if not path.endswith("/runs"):
            assert (ROOT / path).exists(), path
