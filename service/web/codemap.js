// The code map: an image's codes, a small picture for each channel, a colour for each code.

import { element } from "/static/element.js";

const GOLDEN_ANGLE = 137.508; // neighbouring numbers get hues far apart

/** Fill `root` with the maps of a codes document. */
export function showCodes(root, { codes }, codebookSize) {
  const [rows, columns] = [codes[0].length, codes[0][0].length];
  const title = element("h2", { textContent: "Code map" });
  const size = `${codes.length} × ${columns} × ${rows} codes, each one of ${codebookSize}. A colour is a code.`;
  const hint = element("p", { className: "hint", textContent: size });
  const maps = element("div", { className: "maps" }, ...codes.map((channel, index) => mapOf(channel, index, root)));
  const pointed = element("p", { className: "hint pointed", textContent: "\u00a0" });
  root.replaceChildren(title, hint, maps, pointed);
  root.hidden = false;
}

function mapOf(channel, index, root) {
  const different = new Set(channel.flat()).size;
  const name = `Channel ${index + 1}: ${different} different codes`;
  const canvas = element("canvas", { width: channel[0].length, height: channel.length, role: "img", "aria-label": name });
  const context = canvas.getContext("2d");
  channel.forEach((row, y) => row.forEach((code, x) => {
    context.fillStyle = colourOf(code);
    context.fillRect(x, y, 1, 1);
  }));
  canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
    const x = Math.min(canvas.width - 1, Math.floor((offsetX / canvas.clientWidth) * canvas.width));
    const y = Math.min(canvas.height - 1, Math.floor((offsetY / canvas.clientHeight) * canvas.height));
    root.querySelector(".pointed").textContent = `Channel ${index + 1}, row ${y + 1}, column ${x + 1}: code ${channel[Math.max(0, y)][Math.max(0, x)]}`;
  });
  return canvas;
}

function colourOf(code) {
  return `hsl(${(code * GOLDEN_ANGLE) % 360} ${52 + (code % 4) * 8}% ${46 + (code % 7) * 5}%)`;
}
