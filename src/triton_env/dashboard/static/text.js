// What comes from databases and logs, as people may safely read it.

// Control characters, among them the escapes of terminals, and marks that reorder or hide what is around them. The
// joiners that emoji and some scripts need stay.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

function picture(character) {
  const code = character.charCodeAt(0);
  if (code < 0x20 || code === 0x7f) return `^${String.fromCharCode(code ^ 0x40)}`; // as terminals write it
  return `\u2039U+${code.toString(16).toUpperCase().padStart(4, "0")}\u203a`;
}

/** The text with what is invisible in it made visible. */
export function visible(text) {
  return String(text).replace(HIDDEN, picture);
}

/** The same in one line. */
export function inOneLine(text) {
  return visible(String(text).replace(/\r?\n/g, " \u21b5 ").replace(/\t/g, "  "));
}

/** The last part of a path. */
export function lastPart(path) {
  return path.replace(/[\\/]+$/, "").split(/[\\/]/).pop() || path;
}
