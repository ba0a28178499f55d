(() => {
  const config = JSON.parse(document.getElementById("chart-config").textContent);
  const draw = async (place) => {
    if (place.dataset.state) return;
    place.dataset.state = "drawing";
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    try {
      // Vega names and describes the element it is given: the page's own words stay outside it.
      const inner = place.appendChild(document.createElement("div"));
      inner.setAttribute("aria-hidden", "true");
      await vegaEmbed(inner, spec, { config, renderer: "svg", actions: false, ast: true, tooltip: { theme: "page" } });
      place.dataset.state = "drawn";
    } catch (error) {
      place.dataset.state = "failed";
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
  };
  // A chart takes its width from its place, and a closed fold has none: it is drawn when opened.
  const drawVisible = async () => {
    for (const place of document.querySelectorAll(".chart")) {
      if (!place.closest("details:not([open])")) await draw(place);
    }
  };
  document.addEventListener("toggle", drawVisible, true);
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    const fold = target?.querySelector("details.fold") ?? target?.closest("details.fold");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", reveal);
  reveal();
  drawVisible();
})();
