/**
 * What was dropped or chosen, sorted into requests: images and zips together, or each field with the list that says where
 * its cells are.
 *
 * @typedef {{images: File[], cells: string|null}} Request
 */

const LIST = /\.(csv|tsv|txt|json|geojson)$/i;
const GEOJSON = /\.geojson$/i;
const ZIP = /\.zip$/i;
const IMAGE = /\.(png|jpe?g|bmp|tiff?|webp)$/i;

/**
 * @param {File[]} files
 * @returns {Promise<Request[]>}
 * @throws {Error} where they do not go together
 */
export async function requestsOf(files) {
  const lists = files.filter((file) => LIST.test(file.name));
  const images = files.filter((file) => !LIST.test(file.name));
  if (!images.length) throw new Error(lists.length ? "The list of cells needs its field image; send both together." : "Choose images, a zip of images, or a field with a list of its cells.");
  if (!lists.length) return [{ images, cells: null }];
  if (lists.length > 1) throw new Error("Send one list of cells at a time, with the field images that it is of.");
  if (images.some((file) => ZIP.test(file.name))) throw new Error("A list of cells goes with field images, not with a zip.");
  if (images.length > 1 && GEOJSON.test(lists[0].name)) throw new Error("GeoJSON does not say which image its cells are in; send each field with its own.");
  const cells = await lists[0].text();
  return images.map((image) => ({ images: [image], cells }));
}

/**
 * @param {Request} request
 * @param {{keep: boolean, group: string, microns: string, ignore: boolean}} choices the latter two are of fields' pixels
 */
export function formOf({ images, cells }, { keep, group, microns, ignore }) {
  const form = new FormData();
  form.set("keep", String(keep));
  if (group) form.set("group", group);
  if (cells !== null) {
    form.set("cells", cells);
    if (microns) form.set("microns_per_pixel", microns);
    if (ignore) form.set("ignore_pixel_size", "true");
  }
  for (const image of images) form.append("image", image, image.name);
  return form;
}

/**
 * All files of a drop. Folders are gone into, and what is no image, zip or list by its name is left there: contours and
 * notes lie beside cells, and nobody chose them.
 *
 * @param {DataTransfer} dropped
 * @returns {Promise<File[]>}
 */
export async function filesOf(dropped) {
  const entries = [...dropped.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry !== null && entry !== undefined);
  if (!entries.some((entry) => entry.isDirectory)) return [...dropped.files];
  return (await Promise.all(entries.map((entry) => below(entry, true)))).flat();
}

/** @param {string} name */
function ofUse(name) {
  return [IMAGE, ZIP, LIST].some((kind) => kind.test(name));
}

/**
 * @param {any} entry of a drop
 * @param {boolean} chosen it was dropped itself, not its folder
 * @returns {Promise<File[]>}
 */
async function below(entry, chosen = false) {
  if (entry.isFile) return chosen || ofUse(entry.name) ? [await new Promise((resolve, reject) => entry.file(resolve, reject))] : [];
  const reader = entry.createReader();
  const found = [];
  // A folder is told in parts; the last is empty.
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found;
    found.push(...(await Promise.all(part.map((one) => below(one)))).flat());
  }
}
