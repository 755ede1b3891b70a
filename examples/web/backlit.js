// A Backlit file in a browser or in node, run by onnxruntime-web. Nothing here touches the page.

// The JSON under the key `backlit` of an ONNX file. onnxruntime-web does not give metadata out, so
// it is read from the bytes: a ModelProto is a row of fields, each a tag (number << 3 | type), a
// length where the type is 2, and a value; field 14 holds a pair of texts (fields 1 and 2).
export function metadata(bytes) {
  const text = new TextDecoder();
  function* fields(at, end) {
    const varint = () => {
      let value = 0;
      for (let scale = 1; ; scale *= 128) {
        const byte = bytes[at++];
        value += (byte & 127) * scale;
        if (byte < 128) return value;
        if (!(at < end)) throw new Error("not an ONNX file");
      }
    };
    while (at < end) {
      const tag = varint(), type = tag & 7;
      const length = type === 2 ? varint() : 0;
      const start = at;
      if (type === 0) varint();
      else if (type === 1) at += 8;
      else if (type === 5) at += 4;
      else if (type === 2) at += length;
      if (![0, 1, 2, 5].includes(type) || at > end) throw new Error("not an ONNX file");
      yield { number: Math.floor(tag / 8), start, end: at };
    }
  }
  for (const entry of fields(0, bytes.length)) {
    if (entry.number !== 14) continue;
    const pair = {};
    for (const { number, start, end } of fields(entry.start, entry.end))
      pair[number] = text.decode(bytes.subarray(start, end));
    if (pair[1] === "backlit") return JSON.parse(pair[2]);
  }
  throw new Error("not a Backlit file: first backlit export MODEL -o FILE");
}

// Open a file from its bytes (Uint8Array) with the module onnxruntime-web.
export async function open(ort, bytes) {
  const about = metadata(bytes);
  if (about.schema !== 2) throw new Error(`metadata of another schema: ${about.schema}`);
  if (about.image.dtype !== "uint8")
    throw new Error("takes no pixels: export it with --input uint8");
  return { ort, about, session: await ort.InferenceSession.create(bytes) };
}

// Where the classifier looked. `picture` is { width, height, data } with RGBA bytes, as a canvas
// gives it; the answer is one { class, label, score, map } for each of the `top` best classes, the
// map float32 [H,W], and the pixels that the classifier was shown.
export async function explain({ ort, about, session }, picture, top = 1) {
  const { width, height, channels } = about.image;
  const shown = prepared(picture, about.image);
  const ranks = BigInt64Array.from({ length: top }, (_, rank) => BigInt(-1 - rank));
  const found = await session.run(
    {
      image: new ort.Tensor("uint8", shown, [1, height, width, channels]),
      class_index: new ort.Tensor("int64", ranks, [1, top]),
    },
    ["class", "score", "saliency"],
  );
  const size = width * height;
  const results = Array.from(found.class.data, (number, k) => ({
    class: Number(number),
    label: about.labels?.[Number(number)] ?? null,
    score: found.score.data[k],
    map: found.saliency.data.slice(k * size, (k + 1) * size),
  }));
  return { results, shown, width, height, channels };
}

// RGBA pixels as the classifier takes them, uint8 [H,W,C]: the metadata says which size and how.
export function prepared(picture, image) {
  const { width, height, channels } = image;
  let wide = width, high = height; // "stretch": all of it, whatever its shape
  if (image.resize === "crop") {
    // Cover the size over crop_fraction, then cut the centre.
    wide = Math.max(width, even(width / image.crop_fraction));
    high = Math.max(height, even(height / image.crop_fraction));
    if (picture.width * high >= picture.height * wide)
      wide = Math.max(wide, Math.floor((high * picture.width) / picture.height));
    else high = Math.max(high, Math.floor((wide * picture.height) / picture.width));
  }
  const cubic = image.interpolation === "bicubic";
  const { data } = resampled(resampled(picture, wide, true, cubic), high, false, cubic);
  const left = even((wide - width) / 2), top = even((high - height) / 2);
  const pixels = new Uint8Array(width * height * channels);
  for (let y = 0, to = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const from = ((top + y) * wide + left + x) * 4;
      const [r, g, b] = data.subarray(from, from + 3);
      const luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16; // ITU-R 601
      for (const value of channels === 1 ? [luma] : [r, g, b]) pixels[to++] = value;
    }
  return pixels;
}

// The nearest whole number, the even one of two.
function even(x) {
  const whole = Math.round(x);
  return whole - x === 0.5 && whole % 2 ? whole - 1 : whole;
}

// One side of RGBA pixels, `across` or down, at another size. As in Pillow the kernel is stretched
// to the step (which is antialiasing) and its weights have 22 bits: the pixels are the same.
function resampled({ width, height, data }, size, across, cubic) {
  const [length, lines] = across ? [width, height] : [height, width];
  const out = new Uint8ClampedArray(size * lines * 4);
  const step = length / size, stretch = Math.max(step, 1), reach = (cubic ? 2 : 1) * stretch;
  const place = (along, line, length) =>
    4 * (across ? line * length + along : along * lines + line);
  for (let target = 0; target < size; target++) {
    const centre = (target + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let i = first; i < last; i++)
      weights.push(kernel((i - centre + 0.5) * (1 / stretch), cubic));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const fixed = weights.map((weight) => Math.round((weight / total) * 2 ** 22));
    for (let line = 0; line < lines; line++)
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** 21;
        for (let i = first; i < last; i++)
          sum += fixed[i - first] * data[place(i, line, length) + c];
        out[place(target, line, size) + c] = sum >> 22;
      }
  }
  return across ? { width: size, height, data: out } : { width, height: size, data: out };
}

// Pillow's kernels, at x in pixels: the triangle, and Keys' cubic with a = -1/2.
function kernel(x, cubic) {
  x = Math.abs(x);
  if (!cubic) return Math.max(0, 1 - x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// A map as RGBA pixels: black, purple, orange, pale yellow. Its 99 % quantile is the brightest, so
// that single spikes do not leave the rest black.
export function heat(map) {
  const stops = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const top = Math.max(map.slice().sort()[Math.trunc(0.99 * (map.length - 1))], 1e-20);
  const pixels = new Uint8ClampedArray(map.length * 4);
  map.forEach((value, i) => {
    const at = 4 * Math.min(value / top, 1), below = Math.min(3, Math.trunc(at));
    const [from, to] = [stops[below], stops[below + 1]];
    pixels.set([...[0, 1, 2].map((c) => from[c] + (at - below) * (to[c] - from[c])), 255], 4 * i);
  });
  return pixels;
}
