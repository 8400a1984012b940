/** A line of shares over counts, drawn to the size that it is shown at. */

import { svg } from "./dom.js";
import { percent } from "./words.js";

const [WIDE, HIGH] = [640, 240];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 12, 12, 30];

/**
 * @param {{reviewed: number, agreement: number}[]} points
 * @param {string} label
 */
export function growthChart(points, label) {
  const most = Math.max(1, points.at(-1)?.reviewed ?? 1);
  const x = (/** @type {number} */ count) => LEFT + ((WIDE - LEFT - RIGHT) * (count - 1)) / Math.max(1, most - 1);
  const y = (/** @type {number} */ share) => TOP + (HIGH - TOP - BOTTOM) * (1 - share);
  const lines = [0, 0.25, 0.5, 0.75, 1].map((share) => [
    svg("line", { class: "grid-line", x1: LEFT, x2: WIDE - RIGHT, y1: y(share), y2: y(share) }),
    svg("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share)),
  ]);
  const path = points.map(({ reviewed, agreement }) => `${x(reviewed).toFixed(1)},${y(agreement).toFixed(1)}`).join(" ");
  const last = points.at(-1);
  return svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label },
    ...lines.flat(),
    svg("text", { x: LEFT, y: HIGH - 8 }, "1"),
    svg("text", { x: WIDE - RIGHT, y: HIGH - 8, "text-anchor": "end" }, `${most} reviewed`),
    svg("polyline", { class: "line", points: path }),
    last && svg("circle", { class: "dot", cx: x(last.reviewed), cy: y(last.agreement), r: 4 }),
  );
}
