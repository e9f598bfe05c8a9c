/* Viewer of mammograms: images with truth, boxes and maps of any systems; no library, no network.
 *
 * The page holds the data as JSON (#viewer-data, see viewer_data.py) and each image as base64 text of its own
 * (script elements "px-<n>" and "map-<n>"), which is decoded when it is shown. The script starts before the images have
 * been read, so that the page answers at once.
 *
 * Coordinates: boxes are [x, y, width, height] in pixels of the image. A view is {zoom, u, v}: zoom 1 shows the whole
 * image; (u, v) in [0, 1] is the place in the middle of the pane, u counted from the chest wall, so that one view fits
 * all images of an exam. Scores are compared as in a FROC curve: accepted at a threshold t means score >= t.
 */
"use strict";

const MammoViewer = (() => {
  const HIT = 0, NEITHER = 1, FALSE_POSITIVE = 2;  // what a box is, see viewer_data.py
  const MAX_ZOOM = 40, CACHE_PIXELS = 48e6, GRID_PANES = 12, ROW = 44;
  const DASHES = { [HIT]: [], [NEITHER]: [2, 4], [FALSE_POSITIVE]: [8, 4] };

  // ---- geometry: pure functions ------------------------------------------------------------------------------

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /** Scale at which an image of size [w, h] just fits into a pane. */
  const fitScale = (image, pane) => Math.min(pane.w / image.w, pane.h / image.h);

  /** {scale, x, y}: an image point (ix, iy) is drawn at (x + ix * scale, y + iy * scale). */
  function transformOf(view, image, pane) {
    const scale = fitScale(image, pane) * view.zoom;
    const across = image.chest === "right" ? 1 - view.u : view.u;
    return { scale, x: pane.w / 2 - across * image.w * scale, y: pane.h / 2 - view.v * image.h * scale };
  }

  /** The view with the same zoom whose transform has its origin at (x, y), kept so that no side of the image leaves
   *  its side of the pane; an image smaller than the pane is centred. */
  function viewAt(zoom, x, y, image, pane) {
    const scale = fitScale(image, pane) * zoom;
    const middle = (origin, length, side) => {
      const half = side / 2 / (length * scale);
      return half >= 0.5 ? 0.5 : clamp((side / 2 - origin) / (length * scale), half, 1 - half);
    };
    const across = middle(x, image.w, pane.w);
    return { zoom, u: image.chest === "right" ? 1 - across : across, v: middle(y, image.h, pane.h) };
  }

  /** The view zoomed by a factor about the pane's point (px, py), which keeps its place in the image. */
  function zoomedAt(view, factor, px, py, image, pane) {
    const before = transformOf(view, image, pane);
    const zoom = clamp(view.zoom * factor, 1, MAX_ZOOM);
    const ratio = zoom / view.zoom;
    return viewAt(zoom, px - (px - before.x) * ratio, py - (py - before.y) * ratio, image, pane);
  }

  /** The view moved by (dx, dy) pixels of the pane. */
  function movedBy(view, dx, dy, image, pane) {
    const before = transformOf(view, image, pane);
    return viewAt(view.zoom, before.x + dx, before.y + dy, image, pane);
  }

  /** 256 grey values: `level` becomes middle grey, `level` ± `width` / 2 black and white. */
  function windowTable(level, width, invert) {
    const table = new Uint8ClampedArray(256);
    for (let value = 0; value < 256; value++) {
      const grey = Math.round(255 * clamp((value - level) / Math.max(width, 1) + 0.5, 0, 1));
      table[value] = invert ? 255 - grey : grey;
    }
    return table;
  }

  /** Colour and opacity of a map's value in 0..255, flat RGBA: blue to red, opacity 0.6 times the value. */
  function heatTable() {
    const table = new Uint8ClampedArray(1024);
    for (let n = 0; n < 256; n++) {
      const value = n / 255;
      [3, 2, 1].forEach((middle, k) => { table[4 * n + k] = 255 * clamp(1.5 - Math.abs(4 * value - middle), 0, 1); });
      table[4 * n + 3] = 0.6 * n;
    }
    return table;
  }

  /** Where a point of one image lies in another image of the exam: {x, y}, or {x} alone, a line, between different
   *  views. Depth is counted from the breast's edge opposite to the chest wall (about the nipple), in millimetres
   *  where both know them, else in widths of the breast. */
  function linkedPoint(x, y, from, to) {
    const depth = from.chest === "right" ? x - from.breast[0] : from.breast[0] + from.breast[2] - x;
    const inMm = from.mm && to.mm;
    const scaleX = inMm ? from.mm[1] / to.mm[1] : to.breast[2] / from.breast[2];
    const scaleY = inMm ? from.mm[0] / to.mm[0] : to.breast[3] / from.breast[3];
    const nipple = to.chest === "right" ? to.breast[0] : to.breast[0] + to.breast[2];
    const place = { x: to.chest === "right" ? nipple + depth * scaleX : nipple - depth * scaleX };
    if (from.view === to.view) place.y = to.breast[1] + (y - from.breast[1]) * scaleY;
    return place;
  }

  // ---- scores and filters: pure functions --------------------------------------------------------------------

  /** How many entries of a falling list are >= t. */
  function countAtLeast(falling, t) {
    let low = 0, high = falling.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (falling[middle] >= t) low = middle + 1; else high = middle;
    }
    return low;
  }

  /** Score of the last false positive within a rate per image: the lowest threshold of that rate; Infinity for none. */
  function thresholdAtRate(falling, images, rate) {
    const allowed = Math.floor(rate * images * (1 + 1e-12));
    if (allowed >= falling.length) return -Infinity;
    let keep = allowed;  // equal scores come in together
    while (keep > 0 && falling[keep - 1] === falling[allowed]) keep--;
    return keep > 0 ? falling[keep - 1] : Infinity;
  }

  /** Role of box k and score at which lesion k is found, for a selection: a class number, or -1 for all together. */
  const roleOf = (result, k, selection) => selection < 0 ? result.pooled[k] : result.roles[k];
  const foundAt = (result, k, selection) => selection < 0 ? result.foundPooled[k] : result.found[k];
  const isSelected = (label, selection) => selection < 0 || label === selection;

  /** Falling scores of false positives and of found recall units for every data set and selection of a system, with
   *  the numbers of units and of images counted. */
  function collectScores(data, system, selection, dataset) {
    const falses = [], units = new Map();
    let lone = 0;
    data.images.forEach((image) => {
      const result = image.results[system];
      if (image.dataset !== dataset || !result) return;
      result.scores.forEach((score, k) => {
        if (isSelected(result.labels[k], selection) && roleOf(result, k, selection) === FALSE_POSITIVE) falses.push(score);
      });
      image.lesions.forEach((lesion, k) => {
        if (!isSelected(lesion[4], selection) || lesion[5]) return;
        const score = foundAt(result, k, selection), unit = image.unit === null ? `lesion ${lone++}` : image.unit;
        units.set(unit, Math.max(units.get(unit) ?? -Infinity, score ?? -Infinity));
      });
    });
    const falling = (a, b) => b - a;
    const known = [...units.values()];
    return {
      falses: falses.sort(falling), found: known.filter(Number.isFinite).sort(falling), units: known.length,
      images: data.systems[system].counted[dataset][selection < 0 ? data.classes.length : selection],
    };
  }

  /** What is found, missed and false at a threshold; `tables` from collectScores, of one or more data sets. */
  function countsAt(tables, t) {
    const sum = (of) => tables.reduce((total, table) => total + of(table), 0);
    const units = sum((table) => table.units), found = sum((table) => countAtLeast(table.found, t));
    const falses = sum((table) => countAtLeast(table.falses, t)), images = sum((table) => table.images);
    return { found, missed: units - found, falses, units, images, rate: images ? falses / images : NaN };
  }

  /** One image at a threshold: lesions found and missed, false positives with their highest score, whether it is
   *  positive without a box, known to be negative, or of unknown label. */
  function statusOf(image, system, selection, t) {
    const result = image.results[system];
    const status = { lesions: 0, found: 0, falses: 0, maxFalse: -Infinity, worst: Infinity, boxes: 0 };
    image.lesions.forEach((lesion, k) => {
      if (!isSelected(lesion[4], selection) || lesion[5]) return;
      const score = result && result.scores ? foundAt(result, k, selection) ?? -Infinity : NaN;
      status.lesions++;
      if (score >= t) status.found++;
      status.worst = Math.min(status.worst, Number.isNaN(score) ? Infinity : score);
    });
    (result ? result.scores : []).forEach((score, k) => {
      if (score < t || !isSelected(result.labels[k], selection)) return;
      status.boxes++;
      if (roleOf(result, k, selection) === FALSE_POSITIVE) {
        status.falses++;
        status.maxFalse = Math.max(status.maxFalse, score);
      }
    });
    status.missed = status.lesions - status.found;
    const labels = selection < 0 ? image.truth : [image.truth[selection]];
    const truth = labels.includes(1) ? 1 : labels.includes(null) ? null : 0;
    const anyBox = image.lesions.some((lesion) => isSelected(lesion[4], selection));
    status.kind = anyBox ? "boxed" : truth === 1 ? "unboxed" : truth === 0 ? "negative" : "unknown";
    return status;
  }

  const SHOWN = {
    all: () => true,
    missed: (s) => s.missed > 0,
    found: (s) => s.found > 0,
    falses: (s) => s.falses > 0,
    boxed: (s) => s.kind === "boxed",
    unboxed: (s) => s.kind === "unboxed",
    negative: (s) => s.kind === "negative",
    unknown: (s) => s.kind === "unknown",
  };

  /** Numbers of the images that pass the filters, in the order asked for.
   *  filters: {shown, dataset, view, side, density, text, order}; "" lets everything pass. */
  function chosenImages(data, filters, system, selection, t) {
    const text = filters.text.trim().toLowerCase(), found = [];
    data.images.forEach((image, n) => {
      if (!image.px && image.px !== 0) return;
      if (filters.dataset !== "" && image.dataset !== Number(filters.dataset)) return;
      if (filters.view !== "" && image.view !== filters.view) return;
      if (filters.side !== "" && image.side !== filters.side) return;
      if (filters.density !== "" && image.density !== filters.density) return;
      if (text && !`${image.id} ${image.patient} ${image.file}`.toLowerCase().includes(text)) return;
      const status = statusOf(image, system, selection, t);
      if (SHOWN[filters.shown](status)) found.push({ n, status, score: imageScore(image, system, selection) });
    });
    const keys = {
      false: (entry) => -entry.status.maxFalse, lesion: (entry) => entry.status.worst,
      score: (entry) => -(entry.score ?? -Infinity),
    };
    const key = keys[filters.order];
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);  // infinities have no difference
    if (key) found.sort((a, b) => compare(key(a), key(b)) || a.n - b.n);
    return found;
  }

  /** Image score of the selected class, the highest of several; null without. */
  function imageScore(image, system, selection) {
    const result = image.results[system];
    if (!result || !result.image) return null;
    const scores = selection < 0 ? result.image : [result.image[selection]];
    const known = scores.filter((score) => score !== null && score !== undefined);
    return known.length ? Math.max(...known) : null;
  }

  /** {dataset, id, layout, system} of a link "#case=<data set>/<image id>&layout=exam&system=2"; null of another. */
  function readLink(hash) {
    const fields = new URLSearchParams(hash.replace(/^#/, ""));
    const place = fields.get("case");
    if (place === null) return null;
    const cut = place.indexOf("/");
    return { dataset: place.slice(0, cut), id: place.slice(cut + 1), layout: fields.get("layout") || "single",
             system: Math.max(Number(fields.get("system")) || 1, 1) - 1 };
  }

  function writeLink(dataset, id, layout, system) {
    const fields = new URLSearchParams({ case: `${dataset}/${id}` });
    if (layout !== "single") fields.set("layout", layout);
    if (system > 0) fields.set("system", system + 1);
    return `#${fields}`;
  }

  /** A score in few digits. */
  const shortScore = (score) => (score === null || !Number.isFinite(score) ? "–"
    : score !== 0 && Math.abs(score) < 0.01 ? score.toPrecision(2) : score.toFixed(2));

  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

  // ---- images: decoded when shown, the latest ones kept --------------------------------------------------------

  class Pictures {
    constructor() {
      this.kept = new Map();  // key -> {bitmap, pixels}; the first is the longest unused
      this.waiting = new Map();
    }

    /** The bitmap of a block, or null: then `whenReady` is called once it is there (with an error where it is none). */
    get(key, whenReady) {
      const entry = this.kept.get(key);
      if (entry) {
        this.kept.delete(key);
        this.kept.set(key, entry);
        return entry.bitmap;
      }
      if (this.waiting.has(key)) this.waiting.get(key).push(whenReady);
      else {
        this.waiting.set(key, [whenReady]);
        this.decode(key);
      }
      return null;
    }

    async decode(key) {
      let problem = null;
      try {
        const block = await blockOf(key);
        if (block.dataset.problem) throw new Error(block.dataset.problem);
        const binary = atob(block.textContent.trim());
        const bytes = new Uint8Array(binary.length);
        for (let k = 0; k < binary.length; k++) bytes[k] = binary.charCodeAt(k);
        const bitmap = await createImageBitmap(new Blob([bytes], { type: block.dataset.type }));
        this.kept.set(key, { bitmap, pixels: bitmap.width * bitmap.height });
        this.forget();
      } catch (error) {
        problem = error;
      }
      const callers = this.waiting.get(key);
      this.waiting.delete(key);
      callers.forEach((call) => call && call(problem));
    }

    forget() {
      let total = 0;
      for (const entry of this.kept.values()) total += entry.pixels;
      for (const [key, entry] of this.kept) {
        if (total <= CACHE_PIXELS || this.kept.size <= GRID_PANES + 4) break;
        total -= entry.pixels;
        entry.bitmap.close();
        this.kept.delete(key);
      }
    }
  }

  /** The element of a block; waits while the page is still being read. */
  function blockOf(key) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = document.getElementById(key);
        // An element that is still being read has no sibling yet.
        if (found && (found.nextElementSibling || document.readyState !== "loading")) resolve(found);
        else if (document.readyState !== "loading") reject(new Error(`${key} is not in this file`));
        else setTimeout(look, 50);
      };
      look();
    });
  }

  // ---- page ------------------------------------------------------------------------------------------------------

  /** An element: h("button", {class: "x", onclick: f}, "text", child). Text is never read as HTML. */
  function h(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  /** A labelled <select> of [value, text] pairs. */
  function select(label, options, onchange) {
    const box = h("select", { onchange: () => onchange(box.value) },
      ...options.map(([value, text]) => h("option", { value }, text)));
    return { box, row: h("label", { class: "v-row" }, h("span", {}, label), box) };
  }

  function check(label, key, checked, onchange) {
    const box = h("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
    return { box, row: h("label", { class: "v-check" }, box, h("span", {}, label), h("kbd", {}, key)) };
  }

  class Pane {
    constructor(viewer) {
      this.viewer = viewer;
      this.base = h("canvas", { class: "v-base" });
      this.over = h("canvas", { class: "v-over" });
      this.label = h("div", { class: "v-label" });
      this.box = h("div", { class: "v-pane", role: "img", tabindex: "-1" }, this.base, this.over, this.label);
      this.n = -1;
      this.system = 0;
      this.grey = null;  // {key, canvas}: the image with the window applied
      this.heat = null;
      this.pointers = new Map();
      this.listen();
    }

    get image() { return this.viewer.data.images[this.n]; }

    get size() { return { w: this.width, h: this.height }; }

    show(n, system) {
      this.n = n;
      this.system = system;
      this.resize();
    }

    resize() {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      this.width = Math.max(Math.round(this.box.clientWidth * ratio), 1);
      this.height = Math.max(Math.round(this.box.clientHeight * ratio), 1);
      this.ratio = ratio;
      for (const canvas of [this.base, this.over]) {
        if (canvas.width !== this.width || canvas.height !== this.height) {
          canvas.width = this.width;
          canvas.height = this.height;
        }
      }
    }

    /** The bitmap, or a canvas with the window applied; null while it is being decoded. */
    pixels() {
      const key = `px-${this.image.px}`;
      const bitmap = this.viewer.pictures.get(key, (problem) => this.arrived(problem));
      if (!bitmap) return null;
      const { level, width, invert } = this.viewer.state.window;
      if (level === 127.5 && width === 255 && !invert) return bitmap;
      const wanted = `${key} ${level} ${width} ${invert}`;
      if (!this.grey || this.grey.key !== wanted) {
        const canvas = this.grey ? this.grey.canvas : document.createElement("canvas");
        canvas.width = bitmap.width;
        canvas.height = bitmap.height;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(bitmap, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height), table = windowTable(level, width, invert);
        const values = data.data;
        for (let k = 0; k < values.length; k += 4) values[k] = values[k + 1] = values[k + 2] = table[values[k]];
        context.putImageData(data, 0, 0);
        this.grey = { key: wanted, canvas };
      }
      return this.grey.canvas;
    }

    /** The map of the class that is shown, in colour; null without or while it is being decoded. */
    map() {
      const result = this.image.results[this.system], { mapClass, layers } = this.viewer.state;
      if (!layers.map || !result || !result.maps || result.maps[mapClass] === undefined) return null;
      const key = `map-${result.maps[mapClass]}`;
      if (this.heat && this.heat.key === key) return this.heat.canvas;
      if (this.viewer.withoutMap.has(key)) return null;
      const bitmap = this.viewer.pictures.get(key, (problem) => {
        if (problem) this.viewer.withoutMap.add(key); else this.viewer.redraw();
      });
      if (!bitmap) return null;
      const canvas = document.createElement("canvas");
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      const data = context.getImageData(0, 0, canvas.width, canvas.height), values = data.data;
      for (let k = 0; k < values.length; k += 4) values.set(HEAT.subarray(4 * values[k], 4 * values[k] + 4), k);
      context.putImageData(data, 0, 0);
      this.heat = { key, canvas };
      return canvas;
    }

    arrived(problem) {
      if (problem) this.label.textContent = `this image cannot be shown: ${problem.message}`;
      else this.viewer.redraw();
    }

    view() { return this.viewer.state.layout === "grid" ? { zoom: 1, u: 0.5, v: 0.5 } : this.viewer.state.view; }

    drawBase(isMoving) {
      const context = this.base.getContext("2d", { alpha: false }), image = this.image;
      context.fillStyle = "#000";
      context.fillRect(0, 0, this.width, this.height);
      const pixels = image && this.pixels();
      if (!pixels) return;
      const { scale, x, y } = transformOf(this.view(), image, this.size);
      // The part of the image that is visible, alone.
      const left = Math.max(Math.floor(-x / scale), 0), top = Math.max(Math.floor(-y / scale), 0);
      const right = Math.min(Math.ceil((this.width - x) / scale), image.w);
      const bottom = Math.min(Math.ceil((this.height - y) / scale), image.h);
      const fx = pixels.width / image.w, fy = pixels.height / image.h;
      const draw = (picture, sx, sy) => context.drawImage(
        picture, left * sx, top * sy, (right - left) * sx, (bottom - top) * sy,
        x + left * scale, y + top * scale, (right - left) * scale, (bottom - top) * scale);
      if (right <= left || bottom <= top) return;
      context.imageSmoothingEnabled = scale < 4 * this.ratio;
      context.imageSmoothingQuality = isMoving ? "low" : "high";
      draw(pixels, fx, fy);
      const map = this.map();
      if (map) {
        context.imageSmoothingEnabled = false;  // cells as they are
        draw(map, map.width / image.w, map.height / image.h);
      }
      this.box.dataset.drawn = image.id;
    }

    drawOver() {
      const context = this.over.getContext("2d");
      context.clearRect(0, 0, this.width, this.height);
      const image = this.image;
      if (!image) return;
      const { layers, selection } = this.viewer.state, threshold = this.viewer.thresholdOf(this.system);
      const place = transformOf(this.view(), image, this.size), result = image.results[this.system];
      const texts = [];
      const frame = (box, color, dash, width, text) => {
        const [left, top] = [place.x + box[0] * place.scale, place.y + box[1] * place.scale];
        const w = box[2] * place.scale, h = box[3] * place.scale, grow = width / 2;
        context.lineWidth = width;
        context.setLineDash(dash.map((length) => length * this.ratio));
        context.strokeStyle = color;
        context.strokeRect(left - grow, top - grow, w + 2 * grow, h + 2 * grow);
        if (text) texts.push([text, left, top, w, h, color]);
      };
      const thick = (this.viewer.state.layout === "grid" ? 1.5 : 2) * this.ratio;
      const several = this.viewer.data.classes.length > 1;
      if (layers.truth) {
        image.lesions.forEach((lesion, k) => {
          const chosen = isSelected(lesion[4], selection);
          const judged = chosen && !lesion[5] && result && result.scores && layers.boxes;
          const missed = judged && !((foundAt(result, k, selection) ?? -Infinity) >= threshold);
          const name = several ? this.viewer.data.classes[lesion[4]] : "";
          const words = [name, lesion[5] || "", missed ? "missed" : ""].filter(Boolean).join(", ");
          // Wider than a box, so that one at the same place leaves it visible.
          frame(lesion, TRUTH, lesion[5] || !chosen ? [1, 4] : [], chosen ? 2 * thick : thick / 2, words);
        });
      }
      if (layers.boxes && result) {
        for (let k = result.scores.length - 1; k >= 0; k--) {  // the best on top
          if (result.scores[k] < threshold || !isSelected(result.labels[k], selection)) continue;
          const role = image.lesions.length || image.truth.length ? roleOf(result, k, selection) : HIT;
          const name = several ? ` ${this.viewer.data.classes[result.labels[k]]}` : "";
          frame(result.boxes[k], this.viewer.data.colors[result.labels[k]], DASHES[role] || [], thick,
            `${shortScore(result.scores[k])}${name}`);
        }
        (result.given || []).forEach(([x, y, w, hh, score]) =>
          frame([x, y, w, hh], this.viewer.data.colors[0], [], thick, shortScore(score)));
      }
      context.setLineDash([]);
      if (layers.labels && this.viewer.state.layout !== "grid") this.drawTexts(context, texts);
      this.drawCursor(context, place);
    }

    drawTexts(context, texts) {
      const size = Math.round(12 * this.ratio), taken = [];
      context.font = `600 ${size}px system-ui, sans-serif`;
      context.textBaseline = "middle";
      for (const [text, left, top, w, h, color] of texts.reverse()) {
        const width = context.measureText(text).width + size * 0.6, height = size * 1.35, gap = 3 * this.ratio;
        const places = [[left, top - height - gap], [left, top + h + gap], [left + w + gap, top], [left - width - gap, top],
                        [left + w + gap, top + h - height]];
        const free = places.find(([x, y]) => x >= 0 && y >= 0 && x + width <= this.width && y + height <= this.height
          && !taken.some((t) => x < t[0] + t[2] && t[0] < x + width && y < t[1] + t[3] && t[1] < y + height));
        const [x, y] = free || places[0];
        taken.push([x, y, width, height]);
        context.fillStyle = color;
        context.fillRect(x, y, width, height);
        context.fillStyle = "#0a0a0a";
        context.fillText(text, x + size * 0.3, y + height / 2);
      }
    }

    drawCursor(context, place) {
      const cursor = this.viewer.state.cursor;
      if (!cursor || cursor.pane === this || this.viewer.state.layout === "grid") return;
      const point = cursor.pane.n === this.n ? cursor : linkedPoint(cursor.x, cursor.y, cursor.pane.image, this.image);
      const x = Math.round(place.x + point.x * place.scale) + 0.5;
      context.strokeStyle = "rgba(255,255,255,.75)";
      context.lineWidth = this.ratio;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, this.height);
      if (point.y !== undefined) {
        const y = Math.round(place.y + point.y * place.scale) + 0.5;
        context.moveTo(0, y);
        context.lineTo(this.width, y);
      }
      context.stroke();
    }

    /** Position of an event in pixels of the canvas. */
    at(event) {
      const frame = this.over.getBoundingClientRect();
      return [(event.clientX - frame.left) * this.ratio, (event.clientY - frame.top) * this.ratio];
    }

    listen() {
      const viewer = this.viewer, box = this.box;
      const still = () => !this.image || viewer.state.layout === "grid";
      box.addEventListener("wheel", (event) => {
        if (still() || (event.deltaY > 0 && viewer.state.view.zoom <= 1)) return;  // the page scrolls
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 30 : 1;
        viewer.setView(zoomedAt(viewer.state.view, Math.exp(-clamp(event.deltaY * lines, -240, 240) / 400),
          ...this.at(event), this.image, this.size));
      }, { passive: false });
      box.addEventListener("dblclick", (event) => {
        if (still()) return;
        const view = viewer.state.view;
        viewer.setView(view.zoom > 1 ? { zoom: 1, u: 0.5, v: 0.5 }
          : zoomedAt(view, 3, ...this.at(event), this.image, this.size));
      });
      box.addEventListener("click", () => {
        if (viewer.state.layout === "grid" && this.n >= 0) { viewer.state.layout = "single"; viewer.go(this.n); }
      });
      box.addEventListener("contextmenu", (event) => event.preventDefault());
      box.addEventListener("pointerdown", (event) => {
        if (still()) return;
        box.focus({ preventScroll: true });
        try { box.setPointerCapture(event.pointerId); } catch { /* an event that a test made has no pointer */ }
        this.pointers.set(event.pointerId, this.at(event));
      });
      const end = (event) => this.pointers.delete(event.pointerId);
      box.addEventListener("pointerup", end);
      box.addEventListener("pointercancel", end);
      box.addEventListener("pointerleave", () => viewer.setCursor(null));
      box.addEventListener("pointermove", (event) => {
        if (still()) return;
        const now = this.at(event), before = this.pointers.get(event.pointerId);
        if (before) this.drag(event, before, now);
        const place = transformOf(this.view(), this.image, this.size);
        viewer.setCursor({ pane: this, x: (now[0] - place.x) / place.scale, y: (now[1] - place.y) / place.scale });
      });
    }

    /** One pointer moves the image, with Shift or the right button the window; two zoom. */
    drag(event, before, now) {
      const viewer = this.viewer, [dx, dy] = [now[0] - before[0], now[1] - before[1]];
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
        const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
        const view = zoomedAt(viewer.state.view, far(now, other) / far(before, other), ...middle, this.image, this.size);
        viewer.setView(movedBy(view, dx / 2, dy / 2, this.image, this.size));
      } else if (event.shiftKey || event.buttons === 2) {
        const { level, width } = viewer.state.window;
        viewer.setWindow({ level: level + dy / 2 / this.ratio, width: width + dx / this.ratio });
      } else viewer.setView(movedBy(viewer.state.view, dx, dy, this.image, this.size));
      this.pointers.set(event.pointerId, now);
    }
  }

  const HEAT = heatTable(), TRUTH = "rgb(40,215,150)";
  const NO_WINDOW = { level: 127.5, width: 255, invert: false };

  class Viewer {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.pictures = new Pictures();
      this.withoutMap = new Set();
      const last = data.classes.length;  // thresholds of all classes together
      this.state = {
        n: -1, layout: data.layout, system: 0, selection: data.classes.length > 1 ? -1 : 0, mapClass: data.mapClass,
        layers: { truth: true, boxes: true, map: false, labels: true },
        view: { zoom: 1, u: 0.5, v: 0.5 }, window: { ...NO_WINDOW }, cursor: null, linked: true,
        filters: { shown: "all", dataset: "", view: "", side: "", density: "", text: "", order: "" },
        thresholds: data.systems.map((system) => Array.from({ length: last + 1 }, (_, k) => system.thresholds[k])),
      };
      this.tables = data.systems.map((_, system) => data.judged ? [...data.classes.keys(), -1].map((selection) =>
        data.datasets.map((_, dataset) => collectScores(data, system, selection, dataset))) : null);
      this.panes = [];
      if (!this.layouts().includes(data.layout)) this.state.layout = "single";
      this.build();
      const link = readLink(location.hash);
      this.choose();
      if (!this.follow(link)) this.go(this.chosen.length ? this.chosen[0].n : data.images.findIndex((i) => i.px !== null), true);
      window.addEventListener("hashchange", () => this.follow(readLink(location.hash)));
      new ResizeObserver(() => { this.layOut(); this.refresh(); }).observe(this.stage);
      this.root.dataset.ready = "true";
    }

    // --- thresholds and counts

    get slot() { return this.state.selection < 0 ? this.data.classes.length : this.state.selection; }

    thresholdOf(system) { return this.state.thresholds[system]?.[this.slot] ?? -Infinity; }

    scoreTables(system) {
      const dataset = this.state.filters.dataset, tables = this.tables[system]?.[this.slot] ?? [];
      return dataset === "" ? tables : [tables[Number(dataset)]];
    }

    setThreshold(value) {
      const { system, thresholds, linked } = this.state;
      thresholds[system][this.slot] = value;
      if (linked && this.data.judged) {
        const rate = countsAt(this.scoreTables(system), value).rate;
        thresholds.forEach((of, other) => {
          if (other === system || !Number.isFinite(rate)) return;
          const tables = this.scoreTables(other), falses = tables.flatMap((table) => table.falses).sort((a, b) => b - a);
          of[this.slot] = thresholdAtRate(falses, tables.reduce((sum, table) => sum + table.images, 0), rate);
        });
      }
      this.choose();
      this.refresh();
    }

    // --- which images

    choose() {
      const { filters, system, selection } = this.state;
      this.chosen = chosenImages(this.data, filters, system, selection, this.thresholdOf(system));
      this.position = new Map(this.chosen.map(({ n }, k) => [n, k]));
    }

    setFilter(name, value) {
      this.state.filters[name] = value;
      if (this.controls[name]) this.controls[name].value = value;
      if (name === "shown" && value === "falses") this.state.filters.order = this.controls.order.value = "false";
      this.choose();
      if (this.chosen.length && (name === "order" || !this.position.has(this.state.n))) this.go(this.chosen[0].n);
      else this.refresh();
    }

    /** Show image n; `quietly` without writing the link. */
    go(n, quietly = false) {
      this.state.n = n;
      this.state.view = { zoom: 1, u: 0.5, v: 0.5 };
      this.state.cursor = null;
      this.layOut();
      this.refresh();
      const image = this.data.images[n];
      if (!image) return;
      this.link = writeLink(this.data.datasets[image.dataset], image.id, this.state.layout, this.state.system);
      this.controls.link.href = this.link;
      if (!quietly) history.replaceState(null, "", this.link);
      const next = this.chosen[(this.position.get(n) ?? -1) + 1];
      if (next) this.pictures.get(`px-${this.data.images[next.n].px}`, null);
    }

    step(by) {
      const exam = this.state.layout === "exam" ? this.data.images[this.state.n]?.exam : null;
      let k = this.position.get(this.state.n) ?? -1;
      const first = k;
      do k += by; while (exam !== null && this.chosen[k] && this.data.images[this.chosen[k].n].exam === exam);
      if (this.state.layout === "grid") k = clamp(first + by * this.panes.length, 0, this.chosen.length - 1);
      if (this.chosen[k]) this.go(this.chosen[k].n);
    }

    /** Go where a link points to; false if there is no such image. */
    follow(link) {
      if (!link || `#${location.hash.slice(1)}` === this.link) return false;
      const dataset = this.data.datasets.indexOf(link.dataset);
      const n = this.data.images.findIndex((image) => image.dataset === dataset && String(image.id) === link.id);
      if (n < 0) return false;
      this.state.layout = this.layouts().includes(link.layout) ? link.layout : "single";
      this.state.system = clamp(link.system, 0, Math.max(this.data.systems.length - 1, 0));
      this.go(n, true);
      this.root.scrollIntoView({ block: "start" });
      return true;
    }

    // --- layout

    layouts() {
      const many = this.data.images.some((image, n) => n && image.exam === this.data.images[n - 1].exam);
      return ["single", ...(many ? ["exam"] : []), ...(this.data.systems.length > 1 ? ["compare"] : []), "grid"];
    }

    setLayout(layout) {
      if (!this.layouts().includes(layout)) return;
      this.state.layout = layout;
      this.go(this.state.n);
    }

    /** [image number, system] of each pane. */
    panesWanted() {
      const { n, layout, system } = this.state, images = this.data.images;
      if (n < 0 || !images[n]) return [];
      if (layout === "compare") return this.data.systems.map((_, k) => [n, k]);
      if (layout === "exam") {
        const order = (image) => (image.view === "CC" ? 0 : image.view === "MLO" ? 2 : 4) + (image.side === "R" ? 0 : 1);
        const mates = [...images.keys()].filter((k) => images[k].exam === images[n].exam && images[k].px !== null);
        return mates.sort((a, b) => order(images[a]) - order(images[b]) || a - b).slice(0, 6).map((k) => [k, system]);
      }
      if (layout === "grid") {
        const count = this.stage.clientWidth < 700 ? 6 : GRID_PANES, start = this.position.get(n) ?? 0;
        const page = Math.floor(start / count) * count;
        return this.chosen.slice(page, page + count).map(({ n: k }) => [k, system]);
      }
      return [[n, system]];
    }

    layOut() {
      const wanted = this.panesWanted(), narrow = this.stage.clientWidth < 700, { layout } = this.state;
      while (this.panes.length < wanted.length) {
        const pane = new Pane(this);
        this.panes.push(pane);
        this.stage.append(pane.box);
      }
      this.panes.splice(wanted.length).forEach((pane) => pane.box.remove());
      const columns = { single: 1, exam: 2, compare: narrow ? Math.ceil(wanted.length / 3) : wanted.length > 5 ? Math.ceil(wanted.length / 2) : wanted.length,
        grid: narrow ? 2 : 4 }[layout];
      const across = Math.min(Math.max(wanted.length, 1), layout === "exam" && wanted.length > 4 ? 3 : columns);
      this.stage.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
      this.stage.style.gridTemplateRows = `repeat(${Math.ceil(Math.max(wanted.length, 1) / across)}, minmax(0, 1fr))`;
      wanted.forEach(([n, system], k) => this.panes[k].show(n, system));
      this.redraw();
    }

    // --- drawing

    setView(view) {
      this.state.view = view;
      this.redraw(true);
    }

    setWindow(change) {
      const next = { ...this.state.window, ...change };
      next.level = clamp(Math.round(next.level * 2) / 2, 0, 255);
      next.width = clamp(Math.round(next.width), 1, 255);
      this.state.window = next;
      this.controls.level.value = next.level;
      this.controls.width.value = next.width;
      this.redraw();
    }

    setCursor(cursor) {
      if (this.panes.length < 2 || (!cursor && !this.state.cursor)) return;
      this.state.cursor = cursor;
      this.redraw(true, true);
    }

    setLayer(name, on) {
      this.state.layers[name] = on;
      if (this.controls[name]) this.controls[name].checked = on;
      this.redraw();
    }

    /** Draw in the next frame; while moving with less care, and once more with care when the motion ends. */
    redraw(isMoving = false, overlayOnly = false) {
      this.baseIsOld = this.baseIsOld || !overlayOnly;
      if (isMoving && !overlayOnly) {
        clearTimeout(this.settled);
        this.settled = setTimeout(() => this.redraw(), 140);
      }
      if (this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        const base = this.baseIsOld;
        this.baseIsOld = false;
        this.panes.forEach((pane) => {
          if (base) pane.drawBase(isMoving);
          pane.drawOver();
          pane.box.style.touchAction = this.state.view.zoom > 1 ? "none" : "pan-y";
        });
      });
    }

    /** Words of an image: which it is. */
    nameOf(image) {
      const side = [image.side, image.view].filter(Boolean).join(" ");
      return [`image ${image.id}`, image.patient !== null ? `patient ${image.patient}` : "", side].filter(Boolean).join(", ");
    }

    /** Words of an image: what is on it at the thresholds. */
    wordsOf(image, system) {
      const { selection } = this.state, status = statusOf(image, system, selection, this.thresholdOf(system));
      const words = [];
      const hasBoxes = this.data.systems[system]?.hasBoxes;
      if (this.data.judged || image.truth.length) {
        const kinds = { unboxed: "positive without box", negative: "negative", unknown: "label unknown" };
        if (!status.lesions) words.push(kinds[status.kind] || "no lesion to find");
        else if (hasBoxes && this.data.judged) words.push(`${status.found} of ${plural(status.lesions, "lesion")} found`);
        else words.push(plural(status.lesions, "lesion"));
        if (hasBoxes && this.data.judged) words.push(`${status.falses} false`);
      } else if (hasBoxes) words.push(status.boxes === 1 ? "1 box" : `${status.boxes} boxes`);
      const score = imageScore(image, system, selection);
      if (score !== null && this.state.layout !== "grid") words.push(`image score ${shortScore(score)}`);
      return words.join(", ");
    }

    /** Everything beside the pictures: counts, list, captions; then the pictures. */
    refresh() {
      const { state, data, controls } = this, image = data.images[state.n], system = data.systems[state.system];
      const k = this.position.get(state.n);
      controls.position.textContent = this.chosen.length
        ? `${k === undefined ? "–" : k + 1} of ${this.chosen.length}` : "no image passes the filters";
      controls.title.textContent = image ? this.nameOf(image) : "";
      controls.title.title = image ? `${image.file}${image.density ? `, density ${image.density}` : ""}` : "";
      const sideOf = (pane) => [pane.image?.side, pane.image?.view].filter(Boolean).join(" ");
      const isClear = new Set(this.panes.map(sideOf)).size === this.panes.length;
      this.panes.forEach((pane) => {
        if (!pane.image) return;
        const prefix = state.layout === "compare" ? data.systems[pane.system].name
          : (isClear && sideOf(pane)) || `image ${pane.image.id}`;
        const words = this.wordsOf(pane.image, pane.system);
        pane.label.textContent = state.layout === "grid" ? `${pane.image.id} · ${words}` : `${prefix} · ${words}`;
        pane.box.setAttribute("aria-label", `${this.nameOf(pane.image)}: ${words}`);
        pane.box.classList.toggle("v-current", this.panes.length > 1 && pane.n === state.n && state.layout !== "compare");
      });
      for (const [name, button] of Object.entries(controls.layouts)) {
        button.setAttribute("aria-pressed", String(name === state.layout));
      }
      if (controls.system) controls.system.value = state.system;
      if (system?.hasBoxes) this.refreshCounts(system);
      this.list.draw();
      this.redraw();
    }

    refreshCounts(system) {
      const { state, data, controls } = this, threshold = this.thresholdOf(state.system);
      controls.slider.value = this.slide(threshold);
      controls.threshold.textContent = Number.isFinite(threshold) ? shortScore(threshold) : threshold > 0 ? "none" : "all";
      controls.slider.setAttribute("aria-valuetext", `score ${controls.threshold.textContent}`);
      if (!data.judged) {
        const boxes = data.images.reduce((sum, image) => sum + statusOf(image, state.system, state.selection, threshold).boxes, 0);
        controls.counts.replaceChildren(h("div", {}, h("b", {}, String(boxes)), h("span", {}, "boxes")));
        return;
      }
      const counts = countsAt(this.scoreTables(state.system), threshold);
      const tile = (kind, value, text) => h("div", { class: kind }, h("b", {}, String(value)), h("span", {}, text));
      const rate = Number.isFinite(counts.rate) ? `${counts.rate.toFixed(2)} per image` : "";
      const share = counts.units ? `${Math.round(100 * counts.found / counts.units)} %` : "";
      controls.counts.replaceChildren(
        tile("v-found", counts.found, `found ${share}`), tile("v-missed", counts.missed, "missed"),
        tile("v-false", counts.falses, `false ${rate}`));
      const unboxed = this.unboxedFalses(threshold);
      controls.unboxed.textContent = unboxed
        ? `${unboxed} of the false ones are on positive images without a box, where they may be right.` : "";
      controls.rule.textContent = `${system.rule}${data.note ? ` ${data.note}` : ""}`;
    }

    unboxedFalses(threshold) {
      const { selection, system, filters } = this.state;
      return this.data.images.reduce((sum, image) => {
        if (filters.dataset !== "" && image.dataset !== Number(filters.dataset)) return sum;
        const status = statusOf(image, system, selection, threshold);
        return sum + (status.kind === "unboxed" ? status.falses : 0);
      }, 0);
    }

    // Position of the slider: the rank among all scores, so that every step changes something.
    ranked() {
      const key = `${this.state.system} ${this.slot}`;
      if (this.ranks?.key !== key) {
        const scores = new Set();
        for (const image of this.data.images) {
          image.results[this.state.system]?.scores.forEach((score, k) => {
            if (isSelected(image.results[this.state.system].labels[k], this.state.selection)) scores.add(score);
          });
        }
        this.ranks = { key, scores: Float64Array.from(scores).sort() };
      }
      return this.ranks.scores;
    }

    /** 0 (all boxes) to 1000 (none), half by value and half by rank: scores may be crowded at either end. */
    slide(threshold) {
      const scores = this.ranked();
      if (!scores.length || threshold <= scores[0]) return 0;
      if (threshold > scores[scores.length - 1]) return 1000;
      let low = 0, high = 999;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.thresholdAt(middle) < threshold) low = middle + 1; else high = middle;
      }
      return low;
    }

    thresholdAt(position) {
      const scores = this.ranked(), last = scores.length - 1;
      if (last < 0 || position >= 1000) return Infinity;
      const share = position / 999, byValue = scores[0] + share * (scores[last] - scores[0]);
      return (scores[Math.round(share * last)] + byValue) / 2;
    }

    // --- the elements

    build() {
      const controls = this.controls = { layouts: {} };
      const button = (text, label, key, onclick) =>
        h("button", { type: "button", title: key ? `${label} (${key})` : label, "aria-label": label, onclick }, text);
      controls.position = h("span", { class: "v-position", "aria-live": "polite" });
      controls.title = h("span", { class: "v-title" });
      controls.link = h("a", { href: "#", title: "link to this case: copy its address" }, "link");
      const names = { single: "one image", exam: "exam", compare: "compare", grid: "grid" };
      const layouts = this.layouts().map((name) => controls.layouts[name] =
        h("button", { type: "button", "aria-pressed": "false", onclick: () => this.setLayout(name) }, names[name]));
      const zoom = (factor) => () => this.zoom(factor);
      this.stage = h("div", { class: "v-stage" });
      const bar = h("div", { class: "v-bar" },
        button("‹", "previous image", "←", () => this.step(-1)), controls.position,
        button("›", "next image", "→", () => this.step(1)), controls.title, controls.link,
        h("span", { class: "v-group", role: "group", "aria-label": "layout" }, ...layouts),
        h("span", { class: "v-group v-zoom" }, button("−", "zoom out", "−", zoom(1 / 1.5)), button("fit", "whole image", "0", () => this.fit()),
          button("+", "zoom in", "+", zoom(1.5))),
        button("full", "full window", "F", () => this.fullWindow()));
      this.list = new CaseList(this);
      this.root.replaceChildren(bar, this.stage, h("div", { class: "v-side" },
        ...this.scoreControls(), ...this.layerControls(), ...this.windowControls(), ...this.filterControls(), this.list.box,
        h("details", { class: "v-keys" }, h("summary", {}, "Keys, mouse and touch"), keysTable())));
      // Keys work from anywhere but the page's own controls: none of them scrolls the page.
      document.addEventListener("keydown", (event) => {
        if (event.target === document.body || this.root.contains(event.target)) this.key(event);
      });
    }

    scoreControls() {
      const { data, state, controls } = this, parts = [];
      if (data.systems.length > 1) {
        const of = select("system", data.systems.map((system, k) => [k, system.name]), (value) => {
          state.system = Number(value);
          this.choose();
          this.go(state.n);
        });
        controls.system = of.box;
        parts.push(of.row);
      }
      if (data.classes.length > 1 && data.systems.length) {
        const options = [[-1, "all together"], ...data.classes.map((name, k) => [k, name])];
        parts.push(select("class", options, (value) => {
          state.selection = Number(value);
          this.choose();
          this.refresh();
        }).row);
      }
      if (!data.systems.some((system) => system.hasBoxes)) return parts;
      controls.counts = h("div", { class: "v-counts", "aria-live": "polite" });
      controls.threshold = h("output", {});
      controls.slider = h("input", { type: "range", min: 0, max: 1000, step: 1, "aria-label": "lowest accepted score",
        oninput: () => this.setThreshold(this.thresholdAt(Number(controls.slider.value))) });
      controls.rule = h("p", { class: "v-small" });
      controls.unboxed = h("p", { class: "v-small" });
      parts.push(h("label", { class: "v-slider" }, h("span", {}, "boxes from score "), controls.threshold, controls.slider));
      if (data.systems.length > 1 && data.judged) {
        const box = check("others at the same false positives per image", "", true, (on) => { state.linked = on; });
        parts.push(box.row);
      }
      parts.push(controls.counts, controls.unboxed, h("details", {}, h("summary", {}, "what counts as found"), controls.rule));
      return parts;
    }

    layerControls() {
      const { data, state, controls } = this, rows = [];
      const add = (name, label, key, there) => {
        if (!there) return;
        const made = check(label, key, state.layers[name], (on) => this.setLayer(name, on));
        controls[name] = made.box;
        rows.push(made.row);
      };
      add("truth", "truth", "T", data.images.some((image) => image.lesions.length));
      add("boxes", "boxes", "B", data.systems.some((system) => system.hasBoxes || system.hasGiven));
      add("labels", "labels", "L", rows.length > 0);
      add("map", "saliency map", "S", data.maps.length);
      if (data.maps.length > 1) {
        rows.push(select("map of", data.maps.map((name, k) => [k, name]), (value) => {
          state.mapClass = Number(value);
          this.setLayer("map", true);
        }).row);
      }
      return rows.length ? [h("fieldset", {}, h("legend", {}, "Shown"), h("div", { class: "v-layers" }, ...rows), legendOf(data))] : [];
    }

    windowControls() {
      const { controls } = this;
      const range = (name, label, high) => {
        controls[name] = h("input", { type: "range", min: name === "width" ? 1 : 0, max: high, step: name === "width" ? 1 : 0.5,
          value: NO_WINDOW[name], oninput: () => this.setWindow({ [name]: Number(controls[name].value) }) });
        return h("label", { class: "v-row" }, h("span", {}, label), controls[name]);
      };
      const invert = check("inverted", "I", false, (on) => this.setWindow({ invert: on }));
      controls.invert = invert.box;
      return [h("details", { class: "v-window" }, h("summary", {}, "Window"), range("level", "level", 255), range("width", "width", 255),
        invert.row, h("button", { type: "button", onclick: () => this.resetWindow() }, "reset (R)"))];
    }

    filterControls() {
      const { data, controls } = this;
      const there = (key) => [...new Set(data.images.map((image) => image[key]).filter(Boolean))].sort();
      const kinds = [["all", "all images"]];
      if (data.judged && data.systems.some((system) => system.hasBoxes)) {
        kinds.push(["missed", "with a missed lesion"], ["found", "with a found lesion"], ["falses", "with a false positive"]);
      }
      if (data.images.some((image) => image.truth.length)) {
        kinds.push(["boxed", "with a box of truth"], ["unboxed", "positive without box"], ["negative", "negative"],
          ["unknown", "label unknown"]);
      }
      const rows = [];
      const add = (name, label, options) => {
        const made = select(label, options, (value) => this.setFilter(name, value));
        controls[name] = made.box;
        rows.push(made.row);
      };
      if (kinds.length > 1) add("shown", "show", kinds);
      const orders = [["", "as in the data"]];
      if (data.judged && data.systems.length) orders.push(["false", "highest false positive first"], ["lesion", "worst lesion first"]);
      if (data.systems.some((system) => system.hasScores)) orders.push(["score", "highest image score first"]);
      if (data.datasets.length > 1) add("dataset", "data set", [["", "all"], ...data.datasets.map((name, k) => [k, name])]);
      for (const [name, label] of [["view", "view"], ["side", "side"], ["density", "density"]]) {
        const values = there(name);
        if (values.length > 1) add(name, label, [["", "all"], ...values.map((value) => [value, value])]);
      }
      if (orders.length > 1) add("order", "order", orders);
      else controls.order = { value: "" };
      const text = h("input", { type: "search", placeholder: "id, patient or file", "aria-label": "search",
        oninput: () => this.setFilter("text", text.value) });
      return [h("fieldset", {}, h("legend", {}, "Images"), h("div", { class: "v-filters" }, ...rows), text)];
    }

    // --- actions

    zoom(factor) {
      const pane = this.panes[0];
      if (pane?.image && this.state.layout !== "grid") {
        this.setView(zoomedAt(this.state.view, factor, pane.width / 2, pane.height / 2, pane.image, pane.size));
      }
    }

    fit() { this.setView({ zoom: 1, u: 0.5, v: 0.5 }); }

    pan(dx, dy) {
      const pane = this.panes[0];
      if (pane?.image) this.setView(movedBy(this.state.view, dx * pane.width, dy * pane.height, pane.image, pane.size));
    }

    resetWindow() {
      this.controls.invert.checked = false;
      this.setWindow({ ...NO_WINDOW });
    }

    fullWindow() {
      this.root.classList.toggle("v-full");
      document.documentElement.classList.toggle("v-noscroll", this.root.classList.contains("v-full"));
      this.layOut();
    }

    nudge(by) {
      if (this.controls.slider) this.setThreshold(this.thresholdAt(clamp(Number(this.controls.slider.value) + by, 0, 1000)));
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target;
      if (target.matches?.("select, input[type=search], input[type=range]") && event.key !== "Escape") return;
      const { layers } = this.state;
      const toggle = (name) => () => this.controls[name] && this.setLayer(name, !layers[name]);
      const arrows = { ArrowLeft: [-1, [0.1, 0]], ArrowRight: [1, [-0.1, 0]], ArrowUp: [0, [0, 0.1]], ArrowDown: [0, [0, -0.1]] };
      if (event.key in arrows) {
        const [step, move] = arrows[event.key];
        if (event.shiftKey) this.pan(...move);
        else if (step) this.step(step);
        else return;
        event.preventDefault();
        return;
      }
      const actions = {
        j: () => this.step(1), k: () => this.step(-1), "+": () => this.zoom(1.5), "=": () => this.zoom(1.5),
        "-": () => this.zoom(1 / 1.5), 0: () => this.fit(), t: toggle("truth"), b: toggle("boxes"), l: toggle("labels"),
        s: toggle("map"), i: () => { this.controls.invert.checked = !this.controls.invert.checked;
          this.setWindow({ invert: this.controls.invert.checked }); },
        r: () => this.resetWindow(), "[": () => this.nudge(-10), "]": () => this.nudge(10), f: () => this.fullWindow(),
        1: () => this.setLayout("single"), e: () => this.setLayout("exam"), c: () => this.setLayout("compare"),
        g: () => this.setLayout("grid"), m: () => this.setFilter("shown", "missed"), a: () => this.setFilter("shown", "all"),
        Escape: () => this.root.classList.contains("v-full") && this.fullWindow(),
      };
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || ("ma".includes(event.key) && !this.controls.shown)) return;
      event.preventDefault();
      action();
    }
  }

  /** The images that pass the filters, as a list of which only the visible rows exist. */
  class CaseList {
    constructor(viewer) {
      this.viewer = viewer;
      this.inner = h("div", { class: "v-rows" });
      this.box = h("div", { class: "v-list", role: "listbox", tabindex: "0", "aria-label": "images" }, this.inner);
      this.box.addEventListener("scroll", () => this.rows());
    }

    draw() {
      const { viewer, box } = this, k = viewer.position.get(viewer.state.n);
      this.inner.style.height = `${viewer.chosen.length * ROW}px`;
      if (k !== undefined && (k * ROW < box.scrollTop || (k + 1) * ROW > box.scrollTop + box.clientHeight)) {
        box.scrollTop = (k - 2) * ROW;
      }
      this.rows();
    }

    rows() {
      const { viewer, box } = this, first = Math.max(Math.floor(box.scrollTop / ROW) - 4, 0);
      const last = Math.min(first + Math.ceil(box.clientHeight / ROW) + 8, viewer.chosen.length);
      this.inner.replaceChildren(...viewer.chosen.slice(first, last).map(({ n }, k) => {
        const image = viewer.data.images[n], isCurrent = n === viewer.state.n;
        const row = h("div", { class: "v-case", role: "option", id: `v-case-${n}`, "aria-selected": String(isCurrent),
          onclick: () => viewer.go(n) }, h("span", {}, viewer.nameOf(image)), h("small", {}, viewer.wordsOf(image, viewer.state.system)));
        row.style.top = `${(first + k) * ROW}px`;
        return row;
      }));
      box.setAttribute("aria-activedescendant", `v-case-${viewer.state.n}`);
    }
  }

  function legendOf(data) {
    const entries = [];
    const add = (color, kind, text) => {
      const sample = h("i", { class: kind });
      sample.style.borderColor = color;
      entries.push(h("span", {}, sample, text));
    };
    if (data.images.some((image) => image.lesions.length)) add(TRUTH, "", "truth");
    if (data.systems.some((system) => system.hasBoxes)) {
      if (data.classes.length > 1) data.classes.forEach((name, k) => add(data.colors[k], "", name));
      else add(data.colors[0], "", data.judged ? "box that hits" : "box");
      if (data.judged) {
        add(data.colors[0], "v-dashed", "false");
        add(data.colors[0], "v-dotted", "neither");
      }
    }
    return h("p", { class: "v-legend" }, ...entries);
  }

  function keysTable() {
    const keys = [["← → or K J", "previous, next image"], ["wheel, pinch, + −", "zoom"], ["drag, Shift + arrows", "move"],
      ["0, double click", "whole image"], ["Shift + drag, right drag", "window: across width, down level"], ["R, I", "reset window, invert"],
      ["[ ]", "lower, raise the score"], ["T B L S", "truth, boxes, labels, map"], ["1 E C G", "one image, exam, compare, grid"],
      ["M A", "missed, all images"], ["F, Esc", "full window, back"]];
    return h("dl", {}, ...keys.flatMap(([key, text]) => [h("dt", {}, key), h("dd", {}, text)]));
  }

  function start() {
    const root = document.getElementById("viewer");
    if (!root) return null;
    const data = JSON.parse(document.getElementById("viewer-data").textContent);
    return new Viewer(root, data);
  }

  return {
    transformOf, viewAt, zoomedAt, movedBy, fitScale, windowTable, heatTable, linkedPoint, countAtLeast, thresholdAtRate,
    collectScores, countsAt, statusOf, chosenImages, imageScore, readLink, writeLink, shortScore, start,
  };
})();

const mammoViewer = MammoViewer.start();
