// Draws the `.drawn` and `.shapes` boxes from the data that a page puts into `gallery`, each when it comes into view.
const numbers = packed => new Float32Array(Uint8Array.from(atob(packed), one => one.charCodeAt(0)).buffer);
const opened = {};
const open = id => {
  const spec = gallery.drawings[id];
  return opened[id] ??= {...spec, x: numbers(spec.x), y: numbers(spec.y), g: numbers(spec.g)};
};
const curve = (spec, what, setting, at) => {
  const row = spec.knobs.reduce((sum, knob, k) => sum * knob.labels.length + setting[k], 0);
  const start = (row * spec.cases.length + at) * spec.x.length;
  return spec[what].subarray(start, start + spec.x.length);
};
const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
};
const panels = (box, layouts) => {
  const two = make("div", "panels"), plots = {};
  for (const [what, title] of [["y", "value"], ["g", "gradient"]]) {
    const side = make("figure", "panel");
    plots[what] = make("div", "plot");
    side.append(make("figcaption", "", title), plots[what]);
    two.append(side);
  }
  box.append(two);
  return plots;
};
const config = {displayModeBar: false, responsive: true};
const hover = label => `%{y:.4g}<extra>${label}</extra>`;
const escaped = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function traces(spec, what, setting) {
  const line = (at, when, ghost) => ({
    type: "scatter", mode: "lines", x: spec.x, y: curve(spec, what, when, at), hoverinfo: ghost ? "skip" : undefined,
    hovertemplate: ghost ? undefined : hover(escaped(spec.cases[at] || spec.loss)), opacity: ghost ? .55 : spec.soft[at],
    line: {color: ghost ? "#aab4bd" : spec.colour, width: ghost ? 1.5 : at ? 2 : 3, dash: spec.dashes[at], simplify: false}});
  const usual = spec.knobs.map(knob => knob.at), moved = usual.some((at, k) => at !== setting[k]);
  const ghosts = moved ? spec.cases.map((_, at) => line(at, usual, true)) : [];
  return [...ghosts, ...spec.cases.map((_, at) => line(at, setting, false))];
}

function picture(box, id) {
  const spec = open(id), setting = spec.knobs.map(knob => knob.at);
  const body = make("div", "picture"), controls = make("div", "controls");
  if (spec.cases.length > 1) {
    const key = make("div", "key");
    spec.cases.forEach((name, at) => {
      const entry = make("span", "", name), stroke = make("i");
      stroke.style.borderTop = `${at ? 2 : 3}px ${["solid", "dashed", "dotted"][at]} ${spec.colour}`;
      stroke.style.opacity = spec.soft[at];
      entry.prepend(stroke);
      key.append(entry);
    });
    controls.append(key);
  }
  const refresh = () => {
    for (const what of ["y", "g"]) Plotly.react(plots[what], traces(spec, what, setting), spec.layout, config);
    reset.hidden = spec.knobs.every((knob, k) => knob.at === setting[k]);
  };
  const inputs = spec.knobs.map((knob, k) => {
    const label = make("label", "knob"), value = make("output", "", knob.labels[knob.at]);
    const input = make(knob.words ? "select" : "input");
    input.dataset.parameter = knob.name;
    if (knob.words) knob.labels.forEach((word, at) => input.add(new Option(word, at)));
    else Object.assign(input, {type: "range", min: 0, max: knob.labels.length - 1, step: 1});
    input.value = knob.at;
    input.addEventListener("input", () => {
      setting[k] = Number(input.value);
      value.textContent = knob.labels[setting[k]];
      refresh();
    });
    label.append(make("b", "", knob.name), input, ...(knob.words ? [] : [value]));
    controls.append(label);
    return input;
  });
  const reset = make("button", "reset", "default settings");
  reset.type = "button";
  reset.addEventListener("click", () => inputs.forEach((input, k) => {
    input.value = spec.knobs[k].at;
    input.dispatchEvent(new Event("input"));
  }));
  controls.append(reset);
  body.append(controls);
  box.append(body);
  const plots = panels(body);
  refresh();
}

function tabs(box, titles, show) {
  if (titles.length > 1) {
    const row = make("div", "tabs");
    titles.forEach((title, k) => {
      const tab = make("button", "", title);
      tab.type = "button";
      tab.addEventListener("click", () => choose(k));
      row.append(tab);
    });
    box.append(row);
  }
  const choose = k => {
    [...box.querySelectorAll(":scope > .tabs > button")].forEach((tab, at) => tab.setAttribute("aria-pressed", at === k));
    box.querySelector(":scope > .picture")?.remove();
    show(k);
  };
  choose(0);
}

function overlay(box, id) {
  const spec = gallery.overlays[id], body = make("div", "picture"), chips = make("div", "chips");
  const off = new Set();
  let scaled = true, front = null;
  const lines = what => spec.losses.filter(one => !off.has(one.id)).map(one => {
    const from = open(one.id), y = curve(from, what, from.knobs.map(knob => knob.at), 0);
    return {type: "scatter", mode: "lines", x: from.x, y: scaled ? y.map(value => value * one.scale) : y,
            name: one.loss, hovertemplate: hover(escaped(one.loss)), opacity: front && front !== one.id ? .18 : .9,
            line: {color: one.colour, width: front === one.id ? 4 : 2.2, simplify: false}};
  });
  const refresh = () => {
    for (const what of ["y", "g"]) {
      const range = spec.ranges[scaled ? "scaled" : "plain"][what];
      const layout = {...spec.layout, height: 330, hovermode: "closest", yaxis: {...spec.layout.yaxis, range}};
      Plotly.react(plots[what], lines(what), layout, config);
    }
  };
  for (const one of spec.losses) {
    const chip = make("button", "chip", one.loss), dot = make("i", "dot");
    chip.type = "button";
    dot.style.background = one.colour;
    chip.prepend(dot);
    chip.setAttribute("aria-pressed", "true");
    chip.addEventListener("click", () => {
      off.has(one.id) ? off.delete(one.id) : off.add(one.id);
      chip.setAttribute("aria-pressed", String(!off.has(one.id)));
      refresh();
    });
    for (const [event, value] of [["mouseenter", one.id], ["mouseleave", null]])
      chip.addEventListener(event, () => { front = off.has(one.id) ? null : value; refresh(); });
    chips.append(chip);
  }
  const all = make("button", "plain", "all or none");
  all.type = "button";
  all.addEventListener("click", () => {
    const none = off.size === 0;
    off.clear();
    if (none) spec.losses.forEach(one => off.add(one.id));
    chips.querySelectorAll(".chip").forEach(chip => chip.setAttribute("aria-pressed", String(!none)));
    refresh();
  });
  const slope = make("button", "plain", "");
  slope.type = "button";
  const say = () => { slope.textContent = scaled ? `slopes scaled to 1 at ${spec.at}: show unscaled` : `unscaled: scale slopes to 1 at ${spec.at}`; };
  slope.addEventListener("click", () => { scaled = !scaled; say(); refresh(); });
  say();
  chips.append(all, slope);
  body.append(chips);
  box.append(body);
  const plots = panels(body);
  refresh();
}

const sight = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) {
    sight.unobserve(target);
    const ids = target.dataset.ids.split(" ").filter(Boolean);
    if (target.classList.contains("shapes"))
      tabs(target, ids.map(id => gallery.overlays[id].title), k => overlay(target, ids[k]));
    else tabs(target, ids.map(id => gallery.drawings[id].title), k => picture(target, ids[k]));
    target.dataset.ready = "";
  }
}, {rootMargin: "600px"});
document.querySelectorAll("[data-ids]").forEach(box => sight.observe(box));

const svg = document.querySelector("svg.tree"), limits = document.querySelector(".limits");
if (svg) {
  const usual = limits.textContent;
  const light = name => {
    const near = new Set([name]);
    const sentences = [...svg.querySelectorAll(".limit")].filter(one => {
      const ours = name && [one.dataset.loss, one.dataset.other].includes(name);
      one.classList.toggle("on", Boolean(ours));
      if (ours) near.add(one.dataset.loss).add(one.dataset.other);
      return ours;
    }).map(one => one.dataset.sentence);
    svg.classList.toggle("dim", Boolean(name));
    svg.querySelectorAll(".leaf").forEach(leaf => leaf.classList.toggle("on", near.has(leaf.dataset.loss)));
    limits.textContent = !name ? usual : sentences.length ? sentences.join(" · ") : `${name}: no known setting makes it equal to another loss`;
  };
  svg.querySelectorAll(".leaf").forEach(leaf => {
    for (const event of ["mouseenter", "focus"]) leaf.addEventListener(event, () => light(leaf.dataset.loss));
    for (const event of ["mouseleave", "blur"]) leaf.addEventListener(event, () => light(null));
  });
}
const links = new Map([...document.querySelectorAll(".index a")].map(link => [link.hash.slice(1), link]));
const now = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) {
    links.forEach(link => link.removeAttribute("aria-current"));
    for (const id of [target.id, target.closest("section.family")?.id]) links.get(id)?.setAttribute("aria-current", "true");
    const link = links.get(target.id), index = document.querySelector(".index");
    if (link && index.scrollHeight > index.clientHeight) {
      const place = link.getBoundingClientRect(), frame = index.getBoundingClientRect();
      if (place.top < frame.top || place.bottom > frame.bottom) index.scrollTop += place.top - frame.top - frame.height / 2;
    }
  }
}, {rootMargin: "-15% 0px -75%"});
if (links.size) document.querySelectorAll("article[id], section.family[id]").forEach(part => now.observe(part));
