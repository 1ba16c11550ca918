// Draws the figures of rl.plotting.interactive with plotly's script, fetched once, when the first of them comes near.
// Their sliders and menus become the browser's own, which keyboard and screen reader can use.
(() => {
  const source = new URL("plotly.min.js", document.currentScript.src);
  const NARROW = 480;
  let library;

  function plotly() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => resolve(window.Plotly);
      script.onerror = reject;
      document.head.append(script);
    });
    return library;
  }

  function label(text, control) {
    const row = document.createElement("label");
    const name = document.createElement("span");
    name.textContent = text.replace(/<[^>]*>/g, "").replace(/[\s:=]+$/, "");
    row.append(name, control);
    return row;
  }

  function menu(spec, act) {
    const select = document.createElement("select");
    spec.buttons.forEach((button) => select.add(new Option(button.label)));
    select.selectedIndex = spec.active ?? 0;
    select.onchange = () => act(spec.buttons[select.selectedIndex]);
    return label(spec.name ?? "show", select);
  }

  function slider(spec, act) {
    const range = document.createElement("input");
    const value = document.createElement("output");
    Object.assign(range, { type: "range", min: 0, max: spec.steps.length - 1, step: 1 });
    range.value = spec.active ?? 0;
    const say = () => {
      value.textContent = spec.steps[range.value].label;
      range.setAttribute("aria-valuetext", value.textContent);
    };
    range.oninput = () => { say(); act(spec.steps[range.value]); };
    say();
    const row = label(spec.currentvalue?.prefix ?? "step", range);
    row.append(value);
    return row;
  }

  async function draw(box) {
    const Plotly = await plotly();
    const figure = JSON.parse(box.querySelector("script").textContent);
    const { sliders = [], updatemenus = [], ...layout } = figure.layout;
    const plot = document.createElement("div");
    const act = (step) => Plotly[step.method ?? "restyle"](plot, ...step.args);
    const controls = document.createElement("div");
    controls.className = "controls";
    controls.append(...updatemenus.map((spec) => menu(spec, act)), ...sliders.map((spec) => slider(spec, act)));
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", box.querySelector("img").alt);
    box.append(...(controls.children.length ? [controls] : []), plot);
    box.classList.add("drawn");
    layout.height = Math.min(layout.height, 1.25 * plot.clientWidth);
    // Beside the field a colour bar would take a third of a phone's width.
    if (plot.clientWidth < NARROW) figure.data.filter(({ colorbar }) => colorbar).forEach(({ colorbar }) => {
      colorbar.title = { ...colorbar.title, side: "top" };
      Object.assign(colorbar, { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", len: 1 });
    });
    await Plotly.newPlot(plot, figure.data, layout, figure.config);
    if (figure.frames) await Plotly.addFrames(plot, figure.frames);
  }

  const boxes = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
      boxes.unobserve(target);
      draw(target).catch(() => target.classList.remove("drawn"));
    }),
    { rootMargin: "1000px" },
  );
  document.querySelectorAll(".interactive-figure").forEach((box) => boxes.observe(box));
})();
