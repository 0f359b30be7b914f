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
}

document.addEventListener("click", (event) => {
  const figure = event.target.closest("figure.plot");
  if (figure) enlarge(figure);
  const action = event.target.closest("[data-zoom]");
  if (action) ({ in: () => zoom.zoomIn(), out: () => zoom.zoomOut(), reset: () => zoom.reset() })[action.dataset.zoom]();
  if (event.target.closest("[data-close]")) dialog.close();
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
