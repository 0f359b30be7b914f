// Plots open large in a dialog, where Panzoom zooms and moves them; closing puts them back.
const dialog = document.getElementById("lightbox");
const stage = dialog.querySelector(".stage");
let home = null;
let zoom = null;

function enlarge(figure) {
  home = figure.querySelector(".canvas");
  home.style.minHeight = `${home.clientHeight}px`;
  dialog.querySelector(".title").textContent = figure.dataset.title;
  const svg = home.querySelector("svg");
  stage.append(svg);
  dialog.showModal();
  zoom = Panzoom(svg, { maxScale: 12, minScale: 1, cursor: "grab", canvas: true });
  if (stage.clientWidth < 640) zoom.zoom(2);
}

const STEPS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
function move(key) {
  const [x, y] = STEPS[key];
  zoom.pan(x / zoom.getScale(), y / zoom.getScale(), { relative: true });
}

document.addEventListener("click", (event) => {
  const figure = event.target.closest(".canvas")?.closest("figure.plot");
  if (figure) enlarge(figure);
  const action = event.target.closest("[data-zoom]");
  if (action) ({ in: () => zoom.zoomIn(), out: () => zoom.zoomOut(), reset: () => zoom.reset() })[action.dataset.zoom]();
  const arrow = event.target.closest("[data-move]");
  if (arrow) move(arrow.dataset.move);
  if (event.target.closest("[data-close]")) dialog.close();
});
dialog.addEventListener("pointerdown", (event) => {
  if (event.target === dialog) dialog.close(); // beside it
});
document.addEventListener("keydown", (event) => {
  const heading = event.key === " " && event.target.closest("thead th");
  const arrow = dialog.open && event.key in STEPS && !(event.altKey || event.ctrlKey || event.metaKey);
  if (heading || arrow) event.preventDefault();
  if (heading) heading.click();
  if (arrow) move(event.key);
});
// The sorting script names each header after what a click does; a reader should hear the column's name.
function describe() {
  for (const header of document.querySelectorAll("th[aria-label]")) {
    header.title = header.getAttribute("aria-label");
    header.removeAttribute("aria-label");
  }
}
describe();
new MutationObserver(describe).observe(document.body, { subtree: true, attributeFilter: ["aria-label"] });
stage.addEventListener("wheel", (event) => zoom?.zoomWithWheel(event), { passive: false });
dialog.addEventListener("close", () => {
  const svg = stage.querySelector("svg");
  zoom.destroy();
  svg.removeAttribute("style");
  stage.removeAttribute("style");
  home.prepend(svg);
  home.style.minHeight = "";
});
// A link in the list of all claims leads to the claim itself, which code hosts cannot: there, to its section.
for (const badge of document.querySelectorAll("li > .badge")) {
  const claim = badge.parentElement.querySelector("strong");
  if (claim) badge.parentElement.id = `claim-${claim.textContent}`;
}
for (const link of document.querySelectorAll("td.name a[href^='#']")) {
  const id = `claim-${link.textContent}`;
  if (document.getElementById(id)) link.setAttribute("href", `#${id}`);
}
