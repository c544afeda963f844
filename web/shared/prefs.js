// What a page keeps in the browser.

/** Reads what was written; `otherwise` if nothing was, or it makes no sense. */
export function read(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch { /* full, or forbidden: the page works without */ }
}

/** What the person has chosen, of this name. */
export const preference = (name, otherwise) => read(localStorage, `parley.${name}`, otherwise);
export const prefer = (name, value) => write(localStorage, `parley.${name}`, value);
