"""report.html in a real browser, on records that were never trained."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fabricated import write_recipe

from senet_ablate.records import Provenance, Record
from senet_ablate.records.store import read_records
from senet_ablate.report.document import GLYPHS, WEB, Figure, Grid, Text, badge, inline, sort_key
from senet_ablate.report.pages import verify_recipe
from senet_ablate.report.recipe_page import report_files, write_report
from senet_ablate.spec.plan import read_plan

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
FLAGS += ["--disable-dev-shm-usage", "--no-first-run"]
MISSING = "squeeze/Max"  # a row without records: its cells are empty


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = write_recipe(tmp_path_factory.mktemp("results"), skip=(MISSING,))
    records = read_records(results, "cue")
    return write_report(read_plan("cue"), results, records).with_name("report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.heard = []
    opened.on("console", lambda message: opened.heard.append(message.text))
    opened.on("pageerror", lambda error: opened.heard.append(str(error)))
    opened.asked = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(page_file.as_uri())
    yield opened
    context.close()


def column(page: Any, section: str, heading: str) -> list[str]:
    """The cells below a heading of a section's table, as they stand."""
    table = page.locator(f"#{section} table").first
    heads = [text.strip() for text in table.locator("thead th").all_inner_texts()]
    place = next(i for i, text in enumerate(heads) if text.startswith(heading))
    return [row.locator("td").nth(place).inner_text() for row in table.locator("tbody tr").all()]


def click(page: Any, section: str, heading: str) -> None:
    page.locator(f"#{section} thead th", has_text=heading).first.click()
    page.wait_for_timeout(50)


def first_numbers(cells: list[str]) -> list[float]:
    return [float(re.split(r"[\s*\[]", cell)[0]) for cell in cells if cell]


def test_the_browser_has_nothing_to_complain_of_and_asks_for_nothing(
    page: Any, page_file: Path
) -> None:
    page.wait_for_load_state("networkidle")
    assert page.heard == []
    assert [url for url in page.asked if not url.startswith("data:")] == [page_file.as_uri()]


def test_no_script_but_the_pages_own_runs(page: Any) -> None:
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
    }""")
    assert page.evaluate("window.ran") is None and "script-src" in page.heard[0]


def test_every_plot_is_there_has_a_size_and_finds_its_own_parts(page: Any, page_file: Path) -> None:
    plots = page.locator("figure.plot svg")
    assert plots.count() == len(list(page_file.parent.rglob("*.svg"))) > 8
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["width"] > 300 and box["height"] > 100
        assert plot.locator("text").count() > 3
    broken = page.evaluate("""() => {
          const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
          const targets = [...document.querySelectorAll("svg use")].map((use) => use.href.baseVal.slice(1));
          const clips = [...document.querySelectorAll("svg [clip-path]")]
            .map((element) => element.getAttribute("clip-path").slice(5, -1));
          const links = [...document.querySelectorAll("a[href^='#']")].map((a) => a.getAttribute("href").slice(1));
          return {
            twice: ids.filter((id, place) => ids.indexOf(id) !== place),
            lost: [...targets, ...clips, ...links].filter((id) => !ids.includes(id)),
            used: targets.length,
          };
        }""")
    assert broken["twice"] == [] and broken["lost"] == [] and broken["used"] > 100
    assert page.evaluate("document.images.length") == 0


def test_a_click_sorts_by_the_number_in_front_of_the_interval_and_leaves_the_empty_last(
    page: Any,
) -> None:
    before = column(page, "reduction-ratio", "top-1")
    assert all("[" in cell for cell in before)
    click(page, "reduction-ratio", "top-1")
    rising = first_numbers(column(page, "reduction-ratio", "top-1"))
    assert rising == sorted(first_numbers(before))
    click(page, "reduction-ratio", "top-1")
    assert first_numbers(column(page, "reduction-ratio", "top-1")) == rising[::-1]
    click(page, "reduction-ratio", "against the control")  # the control itself has no difference
    effects = column(page, "reduction-ratio", "against the control")
    assert (
        effects[-1] == ""
        and first_numbers(effects) == sorted(first_numbers(effects))
        and len(effects) > 4
    )
    click(page, "reduction-ratio", "against the control")
    assert column(page, "reduction-ratio", "against the control")[-1] == ""
    click(page, "reduction-ratio", "row")
    assert column(page, "reduction-ratio", "row")[:5] == ["2", "4", "8", "16", "32"], (
        "back to the paper's order"
    )


def test_a_row_without_records_is_sorted_last(page: Any) -> None:
    for _ in range(2):
        click(page, "squeeze-operator", "top-1")
        cells = column(page, "squeeze-operator", "top-1")
        assert cells.count("") == 1 and cells[-1] == ""


def test_tables_are_sorted_from_the_keyboard_too(page: Any) -> None:
    head = page.locator("#reduction-ratio thead th", has_text="params").first
    head.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(50)
    sizes = first_numbers(column(page, "reduction-ratio", "params"))
    assert sizes == sorted(sizes) and head.get_attribute("aria-sort") == "ascending"


def test_space_sorts_and_leaves_the_page_where_it_is(page: Any) -> None:
    head = page.locator("#reduction-ratio thead th", has_text="params").first
    head.focus()
    before = page.evaluate("scrollY")
    page.keyboard.press(" ")
    page.wait_for_timeout(50)
    assert head.get_attribute("aria-sort") == "ascending" and page.evaluate("scrollY") == before


def test_a_claim_in_the_list_leads_to_its_evidence(page: Any) -> None:
    links = page.locator("#claims td.name a").all()
    assert len(links) > 20
    for link in links:
        target = page.locator(f"[id='claim-{link.inner_text()}']")
        assert target.count() == 1 and target.locator("strong").inner_text() == link.inner_text()
    links[-1].click()
    page.wait_for_timeout(50)
    box = page.locator(f"[id='claim-{links[-1].inner_text()}']").bounding_box()
    assert 0 <= box["y"] < 900 and page.heard == []


def test_an_enlarged_plot_moves_by_keys_and_buttons_and_closes_beside_it(page: Any) -> None:
    plot = page.locator("#reduction-ratio figure.plot")
    plot.locator(".enlarge").focus()
    page.keyboard.press("Enter")
    page.locator("[data-zoom=in]").click()
    page.wait_for_timeout(400)
    large = page.locator("dialog svg")
    seen = [large.bounding_box()]
    for move in (
        lambda: page.keyboard.press("ArrowLeft"),
        page.locator("[data-move=ArrowUp]").click,
    ):
        move()
        page.wait_for_timeout(400)
        seen.append(large.bounding_box())
    assert seen[1]["x"] > seen[0]["x"] and seen[2]["y"] > seen[1]["y"]
    page.mouse.click(4, 450)
    assert not page.locator("dialog").is_visible() and page.heard == []


def test_a_tile_filters_the_ledger_below_it_and_no_other(page: Any) -> None:
    ledgers = page.locator("#claims .filter + .scroll")
    filters = page.locator("#claims .filter")
    assert ledgers.count() == filters.count() == 4
    every = ledgers.nth(0).locator("tbody tr")
    others = ledgers.nth(1).locator("tbody tr")
    counted = 0
    for tile in filters.nth(0).locator("label.tile").all()[1:]:
        tile.click()
        name = tile.inner_text().split("\n")[-1].strip()
        badges = [row.locator(".badge").inner_text() for row in every.all() if row.is_visible()]
        assert name[0] in "✓✗?–" and badges
        assert all(badge.partition(",")[0] == name for badge in badges), "a sign and a word"
        assert all(row.is_visible() for row in others.all())
        assert int(tile.locator("b").inner_text()) == len(badges)
        counted += len(badges)
    assert counted == every.count() > 20
    filters.nth(0).locator("label.tile.all").click()
    assert all(row.is_visible() for row in every.all())


def test_a_plot_opens_large_zooms_and_goes_back(page: Any) -> None:
    plot = page.locator("#reduction-ratio figure.plot")
    small = plot.locator("svg").bounding_box()["width"]
    plot.scroll_into_view_if_needed()
    plot.locator(".canvas").click()
    assert page.locator("dialog").is_visible()
    large = page.locator("dialog svg")
    assert large.bounding_box()["width"] > small
    before = large.evaluate("svg => svg.getBoundingClientRect().width")
    page.locator("[data-zoom=in]").click()
    page.wait_for_timeout(400)
    assert large.evaluate("svg => svg.getBoundingClientRect().width") > 1.2 * before
    page.keyboard.press("Escape")
    page.wait_for_timeout(50)
    assert not page.locator("dialog").is_visible()
    assert plot.locator("svg").bounding_box()["width"] == small
    assert page.heard == []


@pytest.mark.parametrize("width", [1280, 768, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_the_page_sideways_and_text_keeps_its_contrast(
    page: Any, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#every-run summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    brightness = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (max(brightness) < 60) == (scheme == "dark")
    canvas = page.locator(".canvas").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert canvas == "rgb(255, 255, 255)", "plots are dark on white in both schemes"
    worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


CONTRAST = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const back = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 99 };
  const texts = "main p, main a, main td, main th, main dd, main dt, .badge, .tile, nav a";
  for (const element of document.querySelectorAll(texts)) {
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(back(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: element.textContent.slice(0, 60), tag: element.tagName };
  }
  return worst;
}"""


def test_printed_it_is_light_and_no_table_is_cut_off(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 less its margins
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_page_follows_from_the_records_alone(page_file: Path) -> None:
    results = page_file.parent.parent
    records = read_records(results, "cue")
    assert report_files(read_plan("cue"), results, records)["report.html"] == page_file.read_bytes()
    text = page_file.read_text()
    assert text.index("Made-up images") < text.index("<h1>"), "the warning comes first"
    for link in re.findall(r'href="([^"#:]+)"', text):
        assert (page_file.parent / link).exists(), link
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"|https://github.com/timmywil\S*', "", text)
    assert "](report.html)" in (page_file.parent / "README.md").read_text()


def test_a_recipe_without_records_has_a_page(tmp_path: Path) -> None:
    text = report_files(read_plan("cue"), tmp_path, {})["report.html"].decode()
    assert "0 runs." in text and "Not run yet" in text


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("33.47 [28.53, 38.40]", 33.47),
        ("-16.20* [-21.69, -10.71]", -16.2),
        ("", ""),
        ("45.7", 45.7),
        ("3x3", "3x3"),
    ],
)
def test_a_cell_is_sorted_by_the_number_that_it_begins_with(text: str, key: str | float) -> None:
    assert sort_key(text) == key


def test_what_an_experiment_file_says_cannot_become_markup() -> None:
    svg = (
        b'<?xml?><svg width="1pt" height="1pt" viewBox="0 0 1 1"><style>*{}</style><g id="a"/><use'
        b' xlink:href="#a"/></svg>'
    )
    text = inline(Figure("x/plot.svg", 'x"><b', svg))
    assert 'id="x-plot.a"' in text and 'href="#x-plot.a"' in text
    assert '"><b' not in text and "<style" not in text
    cells = pd.DataFrame({"<b>": ["<i>", "a"], "x*": ["`", "[a](javascript:b)"]})
    shown = Grid('"><b', cells).html() + Text("<script>").html()
    assert not re.search("<(b|i|a|code|script)[> ]", shown)


def test_what_a_record_says_of_its_machine_is_text(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    records = read_records(tmp_path, "cue")
    first, bad = next(iter(records)), "cpu\n\n## Claims\n<script>x</script> ![a](https://b.c/d)"

    def changed(provenance: Provenance) -> Record:
        return records[first].model_copy(update={"provenance": provenance})

    where = records[first].provenance.model_copy(
        update={"device": bad, "command": bad, "commit": "<script>"}
    )
    page = write_report(read_plan("cue"), tmp_path, records | {first: changed(where)}).read_text()
    assert "![a](" not in page and page.count("\n## Claims") == 1
    earliest = where.model_copy(
        update={"commit": bad, "data": bad, "plan": read_plan("cue").recipe.plan_id, "started": "1"}
    )
    page = write_report(
        read_plan("cue"), tmp_path, records | {first: changed(earliest)}
    ).read_text()
    assert "**Withheld**" in page and "on 1" in page
    assert "![a](" not in page and page.count("\n## Claims") == 1
    assert not re.search(r"(?<!\\)<script", page)


def test_a_damaged_note_of_the_first_page_hides_no_other_fault(tmp_path: Path) -> None:
    write_recipe(tmp_path, "cue-negative")
    records = read_records(tmp_path, "cue-negative")
    write_report(read_plan("cue-negative"), tmp_path, records)
    assert verify_recipe("cue-negative", tmp_path) == []
    one = tmp_path / "cue-negative" / "runs" / f"{next(iter(records))}.json"
    for path in (one, tmp_path / "cue-negative" / "claims.json"):
        path.write_text(path.read_text().replace("0", "1", 1))
    first, *_, last = verify_recipe("cue-negative", tmp_path)
    assert one.name in first and "claims.json" in last and "restore the file" in last


def test_curves_of_withheld_tables_are_not_shown(tmp_path: Path) -> None:
    write_recipe(tmp_path, "cue-negative")
    plan, records = read_plan("cue-negative"), read_records(tmp_path, "cue-negative")
    assert "curves.svg" in report_files(plan, tmp_path, records)
    plain = next(one for one in records.values() if one.run.se is None)
    elsewhere = plain.provenance.model_copy(update={"data": "1" * 64})
    other = {plain.id: plain.model_copy(update={"provenance": elsewhere})}
    files = report_files(plan, tmp_path, records | other)
    assert "curves.svg" not in files and b"Withheld" in files["README.md"]


def test_a_verdict_is_a_badge_on_the_page_and_a_word_in_markdown() -> None:
    cells = pd.DataFrame({"claim": ["T1"], "verdict": [badge("contradicted", "in part")]})
    grid = Grid("Ledger", cells, markup=("verdict",))
    assert "`✗ contradicted, in part`" in grid.markdown()
    assert '<span class="badge contradicted">✗ contradicted, in part</span>' in grid.html()
    assert "<code>contradicted</code>" in Text("`contradicted`").html()


def test_every_verdict_has_its_colour_and_its_filter() -> None:
    style = (WEB / "report.css").read_text()
    for words in GLYPHS:
        name = words.replace(" ", "-")
        assert re.search(rf"\.{name}\b[^{{]*{{ --ink", style), words
        assert f'[value="{name}"]:checked' in style, words
