// Drop a photo, ask the service for boxes and maps, draw them over it. Nothing is loaded from elsewhere.

const $ = (id) => document.getElementById(id);
const canvas = $("picture");
const LONGEST = 1400; // of the picture on the page, in pixels
// Inferno (matplotlib, CC0) at nine places; between them it is as good as straight.
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

let top_ = null; // how many classes are asked for
let asked = 0; // photos so far: an answer to an earlier one is late
let photo = null; // its bitmap
let answer = null;
let maps = []; // a canvas for each class
let chosen = 0;

async function classes() {
  if (top_ === null) {
    const described = await (await fetch("openapi.json")).json();
    const parameters = described.paths["/localize"].post.parameters;
    top_ = Math.min(5, parameters.find((one) => one.name === "top").schema.maximum);
  }
  return top_;
}

async function take(file) {
  const number = ++asked;
  const before = performance.now();
  say("looking ...");
  $("drop").classList.add("busy");
  $("found").hidden = true;
  answer = null;
  try {
    photo = await createImageBitmap(file).catch(() => null);
    show();
    const key = sessionStorage.getItem("key");
    const response = await fetch(`localize?map=true&top=${await classes()}`, {
      method: "POST",
      body: file,
      headers: { "Content-Type": "application/octet-stream", ...(key && { Authorization: `Bearer ${key}` }) },
    });
    const said = await response.json();
    if (number !== asked) return;
    $("unlock").hidden = response.status !== 401;
    if (!response.ok) {
      if (response.status === 401) $("key").focus();
      again = file;
      throw new Error(`${said.error} ${said.fix}`);
    }
    const pictures = await Promise.all(said.results.map((one) => coloured(one.map_png)));
    if (number !== asked) return;
    [answer, maps] = [said, pictures];
    list();
    choose(0);
    const size = `${said.width} × ${said.height} pixels`;
    say(`${size}, ${Math.round(performance.now() - before)} ms` + (photo ? "" : "; this browser does not draw such files"));
  } catch (error) {
    if (number === asked) say(error.message, true);
  } finally {
    if (number === asked) $("drop").classList.remove("busy");
  }
}

let again = null; // the photo that was refused for want of a key

/** A map in grey as colours, as opaque as it is strong. */
async function coloured(base64) {
  const image = new Image();
  image.src = `data:image/png;base64,${base64}`;
  await image.decode();
  const made = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = made.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, made.width, made.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const place = (pixels.data[at] / 255) * (INFERNO.length - 1);
    const low = Math.min(Math.floor(place), INFERNO.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [INFERNO[low][channel], INFERNO[low + 1][channel]];
      pixels.data[at + channel] = from + (place - low) * (to - from);
    }
    pixels.data[at + 3] = (255 * place) / (INFERNO.length - 1);
  }
  context.putImageData(pixels, 0, 0);
  return made;
}

function list() {
  const rows = answer.results.map((one, place) => {
    const [row, button] = [document.createElement("li"), document.createElement("button")];
    for (const text of [one.label ?? `class ${one.class}`, one.score?.toFixed(2) ?? "?"]) {
      button.append(Object.assign(document.createElement("span"), { textContent: text }));
    }
    button.type = "button";
    button.addEventListener("click", () => choose(place));
    row.append(button);
    return row;
  });
  $("classes").replaceChildren(...rows);
  $("found").hidden = false;
}

function choose(place) {
  chosen = place;
  [...$("classes").querySelectorAll("button")].forEach((one, index) => {
    one.setAttribute("aria-pressed", String(index === place));
  });
  show();
}

function show() {
  $("drop").classList.toggle("full", photo !== null);
  canvas.hidden = photo === null;
  if (photo === null) return;
  const scale = Math.min(1, LONGEST / Math.max(photo.width, photo.height));
  canvas.width = Math.max(1, Math.round(photo.width * scale));
  canvas.height = Math.max(1, Math.round(photo.height * scale));
  const context = canvas.getContext("2d");
  context.drawImage(photo, 0, 0, canvas.width, canvas.height);
  if (answer === null) return;
  const [across, down] = [canvas.width / answer.width, canvas.height / answer.height];
  const rectangle = ([x0, y0, x1, y1]) => [x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down];
  context.imageSmoothingQuality = "high";
  context.globalAlpha = $("strength").value / 100;
  context.drawImage(maps[chosen], ...rectangle(answer.map_box));
  context.globalAlpha = 1;
  const box = answer.results[chosen].box;
  if (box === null || !$("boxed").checked) return;
  const thick = Math.max(2, canvas.width / 240);
  for (const [width, colour] of [[thick * 2, "#0008"], [thick, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.strokeRect(...rectangle(box));
  }
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

const first = (transfer) => [...transfer.files].find(Boolean);

$("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && first(event.dataTransfer)) take(first(event.dataTransfer));
  });
}
document.addEventListener("paste", (event) => first(event.clipboardData) && take(first(event.clipboardData)));
$("strength").addEventListener("input", show);
$("boxed").addEventListener("change", show);
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  if (again) take(again);
});
