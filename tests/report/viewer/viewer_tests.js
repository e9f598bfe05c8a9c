// Tests of the pure functions of viewer.js; run in a page by test_viewer_block_script.py.
const failures = [];
let count = 0;
const same = (got, wanted, what) => {
  count++;
  const close = (a, b) => typeof a === "number" && typeof b === "number" ? Object.is(a, b) || Math.abs(a - b) < 1e-9
    : a && b && typeof a === "object" ? Object.keys(a).length === Object.keys(b).length && Object.keys(b).every((k) => close(a[k], b[k]))
    : a === b;
  if (!close(got, wanted)) failures.push(`${what}: ${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
};
const M = MammoViewer;

// --- geometry: an image of 200 x 100 in a pane of 400 x 400 is drawn at twice its size, in the middle
const image = { w: 200, h: 100, chest: "left" }, mirrored = { ...image, chest: "right" }, pane = { w: 400, h: 400 };
const whole = { zoom: 1, u: 0.5, v: 0.5 };
same(M.fitScale(image, pane), 2, "fit");
same(M.transformOf(whole, image, pane), { scale: 2, x: 0, y: 100 }, "whole image");
same(M.transformOf({ zoom: 2, u: 0.25, v: 0.5 }, image, pane), { scale: 4, x: 0, y: 0 }, "left half");
same(M.transformOf({ zoom: 2, u: 0.25, v: 0.5 }, mirrored, pane), { scale: 4, x: -400, y: 0 }, "u from the chest wall");
const zoomed = M.zoomedAt(whole, 2, 100, 200, image, pane);  // image point (50, 50)
same(zoomed, { zoom: 2, u: 0.375, v: 0.5 }, "zoom about a point");
const t = M.transformOf(zoomed, image, pane);
same([t.x + 50 * t.scale, t.y + 50 * t.scale], [100, 200], "the point keeps its place");
same(M.zoomedAt(whole, 0.5, 0, 0, image, pane), whole, "not smaller than the pane");
same(M.zoomedAt(whole, 1000, 0, 0, image, pane).zoom, 40, "largest zoom");
same(M.movedBy({ zoom: 2, u: 0.5, v: 0.5 }, 40, 99, image, pane), { zoom: 2, u: 0.45, v: 0.5 }, "moved; height fits");
same(M.movedBy({ zoom: 2, u: 0.5, v: 0.5 }, 9999, 0, image, pane), { zoom: 2, u: 0.25, v: 0.5 }, "stops at the side");
same(M.movedBy({ zoom: 2, u: 0.5, v: 0.5 }, 40, 0, mirrored, pane), { zoom: 2, u: 0.55, v: 0.5 }, "moved, mirrored");
same(M.zoomedAt(whole, 3, 5, 5, { w: 1, h: 1, chest: "left" }, { w: 1, h: 1 }).zoom, 3, "an image of one pixel");

// --- window
const table = M.windowTable(127.5, 255, false);
same([...table], [...Array(256).keys()], "the whole range changes nothing");
same([M.windowTable(100, 50, false)[75], M.windowTable(100, 50, false)[100], M.windowTable(100, 50, false)[125]], [0, 128, 255], "window");
same(M.windowTable(127.5, 255, true)[0], 255, "inverted");
same([...M.heatTable().slice(0, 4)], [0, 0, 128, 0], "no map, no colour");
same([...M.heatTable().slice(1020)], [128, 0, 0, 153], "the strongest map, opacity 0.6");

// --- linked cursor: the breast is 100 wide from the left, its nipple at x 100; in the other image from the right
const left = { chest: "left", view: "CC", breast: [0, 10, 100, 200], mm: null };
const right = { chest: "right", view: "CC", breast: [50, 0, 50, 100], mm: null };
same(M.linkedPoint(80, 110, left, right), { x: 60, y: 50 }, "20 of 100 from the nipple, half way down");
same(M.linkedPoint(60, 50, right, left), { x: 80, y: 110 }, "and back");
same(M.linkedPoint(80, 110, left, { ...right, view: "MLO" }), { x: 60 }, "another view: a line");
same(M.linkedPoint(80, 110, { ...left, mm: [0.1, 0.1] }, { ...right, mm: [0.2, 0.2] }), { x: 60, y: 50 }, "in millimetres");

// --- scores
same([0.95, 0.9, 0.5, 0.1, 0.05].map((s) => M.countAtLeast([0.9, 0.5, 0.5, 0.1], s)), [0, 1, 3, 4, 4], "count");
same(M.countAtLeast([], 0), 0, "nothing to count");
same(M.thresholdAtRate([0.9, 0.5, 0.5, 0.1], 4, 0.25), 0.9, "one of four images");
same(M.thresholdAtRate([0.9, 0.5, 0.5, 0.1], 4, 0.5), 0.9, "equal scores come together");
same(M.thresholdAtRate([0.9, 0.5, 0.5, 0.1], 4, 0.75), 0.5, "three");
same(M.thresholdAtRate([0.9], 4, 1), -Infinity, "never reached: everything");
same(M.thresholdAtRate([0.9], 4, 0), Infinity, "no false positive at all");
same([0, 0.5, 0.00123, 1e-9, Infinity, null].map(M.shortScore), ["0.00", "0.50", "0.0012", "1.0e-9", "–", "–"], "scores");

// --- links
same(M.readLink("#s1-images"), null, "a section");
same(M.readLink(M.writeLink("toy/x", "a/b&c=<i>ä #", "exam", 2)),
  { dataset: "toy", id: "x/a/b&c=<i>ä #", layout: "exam", system: 2 }, "data set up to the first slash");
same(M.writeLink("toy", "3", "single", 0), "#case=toy%2F3", "short link");

// --- filters and counts on the scene of scenes.py
const data = JSON.parse(document.getElementById("viewer-data").textContent);
const filters = { shown: "all", dataset: "", view: "", side: "", density: "", text: "", order: "" };
const chosen = (change, t = 0.5, selection = -1) =>
  M.chosenImages(data, { ...filters, ...change }, 0, selection, t).map(({ n }) => data.images[n].id).join("");
same(chosen({}), "abcd", "all");
same(chosen({ shown: "missed" }), "c", "the benign lesion has 0.4");
same(chosen({ shown: "missed" }, 0.4), "", "found at 0.4");
same(chosen({ shown: "missed" }, 0.95), "ac", "both missed; the crowd region is not");
same(chosen({ shown: "found" }), "a", "found");
same(chosen({ shown: "falses" }), "bd", "false positives");
same(chosen({ shown: "falses", order: "false" }), "bd", "the highest first");
same(chosen({ shown: "unboxed" }), "d", "positive without box");
same(chosen({ shown: "negative" }), "b", "negative");
same(chosen({ shown: "unknown" }, 0.5, 0), "d", "benign is unknown");
same(chosen({ shown: "boxed" }, 0.5, 0), "c", "with a benign box");
same([chosen({ view: "MLO" }), chosen({ side: "R" }), chosen({ density: "a" }), chosen({ text: "p2" }), chosen({ dataset: "0" })],
  ["c", "b", "", "d", "abcd"], "view, side, density, text, data set");
same(chosen({ order: "lesion" }), "cabd", "the worst lesion first");
same(chosen({ order: "score" }), "acbd", "the highest image score first");
same(M.imageScore(data.images[2], 0, 1), null, "no score of this class");

const counted = (t, selection) => M.countsAt([M.collectScores(data, 0, selection, 0)], t);
same(counted(0.5, -1), { found: 1, missed: 1, falses: 2, units: 2, images: 4, rate: 0.5 }, "all together");
same(counted(0.9, 1), { found: 1, missed: 0, falses: 0, units: 1, images: 4, rate: 0 }, "accepted at the threshold itself");
same(counted(0.91, 1).found, 0, "above it");
same(counted(0.4, 0), { found: 1, missed: 0, falses: 0, units: 1, images: 3, rate: 0 }, "benign");
const byPatient = structuredClone(data);
byPatient.images.forEach((entry) => { entry.unit = entry.patient; });
same(M.countsAt([M.collectScores(byPatient, 0, -1, 0)], 0.5), { found: 1, missed: 0, falses: 2, units: 1, images: 4, rate: 0.5 }, "patients");

return { count, failures };
