/**
 * What was dropped or chosen, sorted into requests: images and zips together, or each field with the table that says where
 * its cells are.
 *
 * @typedef {{images: File[], cells: string|null}} Request
 */

const TABLE = /\.(csv|tsv|txt|json|geojson)$/i;
const ZIP = /\.zip$/i;

/**
 * @param {File[]} files
 * @returns {Promise<Request[]>}
 * @throws {Error} where they do not go together
 */
export async function requestsOf(files) {
  const tables = files.filter((file) => TABLE.test(file.name));
  const images = files.filter((file) => !TABLE.test(file.name));
  if (!images.length) throw new Error(tables.length ? "The table needs its field image; send both together." : "Choose images, a zip of images, or a field with a table.");
  if (!tables.length) return [{ images, cells: null }];
  if (tables.length > 1) throw new Error("Send one table of coordinates at a time, with the field images that it is of.");
  if (images.some((file) => ZIP.test(file.name))) throw new Error("A table goes with field images, not with a zip.");
  const cells = await tables[0].text();
  return images.map((image) => ({ images: [image], cells }));
}

/**
 * @param {Request} request
 * @param {{keep: boolean, group: string}} choices
 */
export function formOf({ images, cells }, { keep, group }) {
  const form = new FormData();
  form.set("keep", String(keep));
  if (group) form.set("group", group);
  if (cells !== null) form.set("cells", cells);
  for (const image of images) form.append("image", image, image.name);
  return form;
}

/**
 * All files of a drop; folders are gone into.
 *
 * @param {DataTransfer} dropped
 * @returns {Promise<File[]>}
 */
export async function filesOf(dropped) {
  const entries = [...dropped.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry !== null && entry !== undefined);
  if (!entries.some((entry) => entry.isDirectory)) return [...dropped.files];
  return (await Promise.all(entries.map(below))).flat();
}

/**
 * @param {any} entry of a drop
 * @returns {Promise<File[]>}
 */
async function below(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  // A folder is told in parts; the last is empty.
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found;
    found.push(...(await Promise.all(part.map(below))).flat());
  }
}
