"use strict";
const at = id => document.getElementById(id);
// A run: this page's own, or that of another report which is compared with it.
const read = (page, title) => ({ title, ...JSON.parse(page.getElementById("data").textContent),
  lines: page.getElementById("pictures").textContent.split("\n") });  // decoded only when an image is looked at
const own = read(document, document.title);
const { methods, metrics, images, colors, layout } = own;
const long = layout !== "photos", curve = layout === "signals";  // recordings, a line each; the curve shows through
const [thing, truth, whole, things] = own.recordings ? ["recording", "events", "recording", "recordings"]
  : ["photo", "gaze", "photograph", "images"];
const kept = own.lines[0] !== "";
let other = null, order = [], current = -1;
const hidden = new Set();
const picturesOf = (run, i) => (run.lines[i] || "").split(" ");
const jpeg = text => "data:image/jpeg;base64," + text;
const number = value => value === null ? "undefined" : value.toFixed(3);
const make = (tag, options) => Object.assign(document.createElement(tag), options);
const distinct = values => [...new Set(values)];

function option(select, text, value) { select.add(new Option(text, value)); }
metrics.forEach((metric, i) => option(at("metric"), metric.title, i));
methods.forEach((method, i) => option(at("method"), method, i));
distinct(images.flatMap(image => image.labels)).sort().forEach(name => option(at("class"), name, name));
for (const [id, unknown] of [["correct", images.every(image => image.correct === null)],
    ["least", images.every(image => image.clutter === null)], ["class", at("class").length === 1]])
  at(id).parentElement.hidden = unknown;
at("list").classList.toggle("bare", !kept);

const watcher = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    target.querySelector("img").src = jpeg(picturesOf(own, +target.dataset.image)[0]);
    watcher.unobserve(target);
  }
}, { root: at("list"), rootMargin: "300px" });

function fitting() {
  const metric = +at("metric").value, method = +at("method").value;
  const sign = +at("order").value * (metrics[metric].higher ? -1 : 1);
  const score = i => images[i].scores[method][metric];
  const find = at("find").value.toLowerCase(), correct = at("correct").value;
  const least = at("least").value, most = at("most").value;
  return [...images.keys()].filter(i => images[i].id.toLowerCase().includes(find)
    && (!correct || String(images[i].correct) === correct)
    && (!least || images[i].clutter !== null && images[i].clutter >= +least)
    && (!most || images[i].clutter !== null && images[i].clutter <= +most)
    && (!at("class").value || images[i].labels.includes(at("class").value)))
    .sort((a, b) => (score(a) === null) - (score(b) === null) || sign * (score(a) - score(b)) || a - b);
}

function row(i) {
  const item = document.createElement("li"), button = make("button", { type: "button", tabIndex: -1 });
  button.dataset.image = i;
  const score = images[i].scores[+at("method").value][+at("metric").value];
  if (kept) button.append(make("img", { alt: "" }));
  button.append(make("span", { textContent: images[i].id }), make("span", { textContent: number(score) }));
  button.onclick = () => show(i);
  item.append(button);
  if (kept) watcher.observe(button);
  return item;
}

function list() {
  order = fitting();
  watcher.disconnect();
  at("list").replaceChildren(...order.map(row));
  at("count").textContent = `${order.length} of ${images.length} ${things}`;
  at("list").scrollTop = 0;
  if (order.length) show(order[0]);
  else { current = -1; at("name").textContent = "No image fits"; at("about").textContent = ""; at("cards").replaceChildren(); }
}

function color(canvas, text) {
  const gray = new Image();
  gray.onload = () => {
    canvas.width = gray.width;
    canvas.height = gray.height;
    const context = canvas.getContext("2d");
    context.drawImage(gray, 0, 0);
    const pixels = context.getImageData(0, 0, gray.width, gray.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const entry = 3 * pixels.data[i];
      for (let channel = 0; channel < 3; channel++) pixels.data[i + channel] = colors[entry + channel];
    }
    context.putImageData(pixels, 0, 0);
  };
  gray.src = "data:image/png;base64," + text;
}

function card(title, photo, map, note) {
  const box = make("div", { className: "card" }), stack = make("div", { className: "stack" });
  if (photo) stack.append(make("img", { src: jpeg(photo), alt: map ? `${title}: map over the ${whole}` : title }));
  if (photo && map) {
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");  // the picture below it says what it is
    stack.append(canvas);
    color(canvas, map);
  }
  box.append(make("b", { textContent: title }), stack, make("small", { textContent: note }));
  return box;
}

function cardsOf(run, i) {
  const [photo, gaze, ...maps] = picturesOf(run, i);
  const note = scores => run.metrics.map((metric, k) => `${metric.title} ${number(scores[k])}`).join(" · ");
  return [...(photo ? [card(thing, photo, "", "")] : []), ...(photo && run.gaze ? [card(truth, photo, gaze, "")] : []),
    ...[...run.methods.keys()].filter(k => !hidden.has(run.methods[k]))
      .map(k => card(run.methods[k], photo, maps[k], note(run.images[i].scores[k])))];
}

function show(i) {
  current = i;
  const image = images[i];
  for (const button of at("list").querySelectorAll("button")) {
    const chosen = +button.dataset.image === i;
    button.setAttribute("aria-current", chosen);
    button.tabIndex = chosen ? 0 : -1;  // one stop for the whole list; arrows move within it
  }
  at("name").textContent = image.id;
  const verdict = make("span", { className: image.correct ? "good" : "bad" });
  verdict.textContent = image.correct === null ? "" : image.correct ? "correct · " : "wrong · ";
  at("about").replaceChildren(verdict, [`predicted ${image.prediction}`,
    ...(image.labels.length ? [`labels ${image.labels.join(", ")}`] : []),
    ...(image.clutter === null ? [] : [`clutter ${image.clutter}`])].join(" · "));
  const there = other ? other.images.findIndex(candidate => candidate.id === image.id) : -1;
  const heading = run => make("h4", { textContent: run.title });
  at("cards").replaceChildren(...(other ? [heading(own)] : []), ...cardsOf(own, i),
    ...(other ? [heading(other), ...(there < 0 ? ["This image is not in it."] : cardsOf(other, there))] : []));
  at("link").href = "#" + new URLSearchParams({ image: image.id, methods: methods.filter(m => !hidden.has(m)).join() });
}

function step(by) {
  const next = order[order.indexOf(current) + by];
  if (next === undefined) return;
  show(next);
  const button = at("list").querySelector(`button[data-image="${next}"]`);
  button.scrollIntoView({ block: "nearest" });
  if (at("list").contains(document.activeElement)) button.focus();
}

methods.forEach(method => {
  const label = document.createElement("label"), box = make("input", { type: "checkbox", checked: true });
  box.onchange = () => { box.checked ? hidden.delete(method) : hidden.add(method); if (current >= 0) show(current); };
  label.append(box, method);
  at("shown").append(label);
});
const boxes = [...at("shown").querySelectorAll("input")];
function choose(names) {
  boxes.forEach((box, k) => {
    box.checked = names.includes(methods[k]);
    box.checked ? hidden.delete(methods[k]) : hidden.add(methods[k]);
  });
}

// What a link says: the image and its methods.
function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("methods")) choose(asked.get("methods").split(","));
  const i = images.findIndex(image => image.id === asked.get("image"));
  if (i >= 0) { show(i); at("list").querySelector(`button[data-image="${i}"]`)?.scrollIntoView({ block: "nearest" }); }
}

// The shown cards as one picture, as they stand on the page, at twice the size.
function picture() {
  const scale = 2, gap = 12, text = 20, shown = [...at("cards").querySelectorAll(".card")].filter(c => c.querySelector("img"));
  const first = shown[0].querySelector("img"), width = long ? 960 : 240;
  const height = Math.round(width * first.naturalHeight / first.naturalWidth);
  const columns = Math.min(long ? 1 : 4, shown.length);
  const sheet = make("canvas", { width: scale * (columns * (width + gap) - gap),
    height: scale * Math.ceil(shown.length / columns) * (height + text + gap) });
  const context = sheet.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.font = "14px system-ui, sans-serif";
  shown.forEach((box, k) => {
    const x = k % columns * (width + gap), y = Math.floor(k / columns) * (height + text + gap);
    const canvas = box.querySelector("canvas");
    context.drawImage(box.querySelector("img"), x, y, width, height);
    context.globalAlpha = at("opacity").value / 100;
    if (curve) context.globalCompositeOperation = "multiply";
    if (canvas) context.drawImage(canvas, x, y, width, height);
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    context.fillStyle = "#000";
    context.fillText(box.querySelector("b").textContent, x, y + height + text - 4, width);
  });
  return sheet;
}

// Means over the images that both runs have, method by method: this run, the other, and how much it gains.
function compare() {
  const partner = new Map(other.images.map((image, i) => [image.id, i]));
  const pairs = [...images.keys()].filter(i => partner.has(images[i].id)).map(i => [i, partner.get(images[i].id)]);
  const table = document.createElement("table"), box = make("div", { className: "wide", tabIndex: 0 });
  const mean = values => values.length ? values.reduce((a, b) => a + b) / values.length : null;
  const shared = metrics.filter(metric => other.metrics.some(one => one.name === metric.name));
  const cells = (tag, texts) => texts.map(textContent => make(tag, { textContent }));
  table.createCaption().textContent = `Means over the ${pairs.length} images in both: this report, the other (${other.title})`;
  table.createTHead().insertRow().append(...cells("th", ["method", ...shared.map(metric => metric.title)]));
  const body = table.createTBody();
  methods.filter(method => other.methods.includes(method)).forEach(method => {
    const here = methods.indexOf(method), there = other.methods.indexOf(method);
    body.insertRow().append(...cells("th", [method]), ...cells("td", shared.map(metric => {
      const j = metrics.indexOf(metric), k = other.metrics.findIndex(one => one.name === metric.name);
      const both = pairs.map(([a, b]) => [images[a].scores[here][j], other.images[b].scores[there][k]])
        .filter(([a, b]) => a !== null && b !== null);
      return `${number(mean(both.map(([a]) => a)))}, ${number(mean(both.map(([, b]) => b)))}`;
    })));
  });
  box.append(table);
  at("compared").replaceChildren(box);
}

function take(page) {
  other = read(new DOMParser().parseFromString(page, "text/html"), "");
  other.title = new DOMParser().parseFromString(page, "text/html").title;
  compare();
  if (current >= 0) show(current);
}

at("cards").classList.toggle("long", long);
for (const id of ["cards", "list"]) at(id).classList.toggle("curve", curve);
const fade = () => at("cards").style.setProperty("--shown", at("opacity").value / 100);
if (kept) {
  at("opacity").oninput = fade;
  at("export").onclick = () => picture().toBlob(blob => {
    const link = make("a", { href: URL.createObjectURL(blob), download: `${images[current].id.replace(/[^\w.-]+/g, "_")}.png` });
    link.click();
  });
  fade();
}
at("other").onchange = async () => {
  try { take(await at("other").files[0].text()); }
  catch { at("compared").replaceChildren(make("p", { className: "note", textContent:
    `${at("other").files[0].name}: expected a report.html that mlfem report wrote` })); }
};
for (const id of ["metric", "method", "order", "correct", "least", "most", "class", "find"]) at(id).oninput = list;
document.onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input:not([type=checkbox])")) return;
  const steps = { ArrowRight: 1, ArrowLeft: -1, j: 1, k: -1, ...(at("list").contains(event.target) ? { ArrowDown: 1, ArrowUp: -1 } : {}) };
  if (event.key in steps) step(steps[event.key]);
  else if (event.key === "/") at("find").focus();
  else if (event.key === "a") { choose(methods); show(current); }
  else if (boxes[event.key - 1]) boxes[event.key - 1].click();
  else return;
  event.preventDefault();
};
list();
addEventListener("hashchange", follow);
follow();
