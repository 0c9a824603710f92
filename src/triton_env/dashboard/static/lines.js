// Lines that keep coming: bounded in number, filtered, and followed as long as the end is in view. Drawn apart from
// the rest of the page, since a busy log has hundreds of lines a second.

import { visible } from "./text.js";

const MOST = 5000;
const BAD = /\b(ERROR|FATAL|PANIC|CRITICAL|Traceback|Exception)\b|<(Error|Fatal|Critical)>/;
const WARN = /\b(WARN|WARNING)\b|<Warning>/;

export class Lines {
  /** @param {HTMLElement} element scrolls; the lines are its children. */
  constructor(element) {
    this.element = element;
    this.lines = [];
    this.waiting = [];
    this.isShown = () => true;
    this.needle = "";
    this.isFollowing = true;
    this.changed = () => {};
    element.addEventListener("scroll", () => this.scrolled());
  }

  /** @param {{label: string, className: string, text: string}[]} added */
  add(added) {
    this.waiting.push(...added);
    if (this.waiting.length > MOST) this.waiting = this.waiting.slice(-MOST);
    this.frame ??= requestAnimationFrame(() => this.flush());
  }

  flush() {
    this.frame = undefined;
    const added = this.waiting;
    this.waiting = [];
    this.lines.push(...added);
    if (this.lines.length > MOST) this.lines = this.lines.slice(-MOST);
    this.element.append(...added.filter((line) => this.matches(line)).map((line) => this.drawn(line)));
    while (this.element.childElementCount > MOST) this.element.firstElementChild.remove();
    this.toEnd();
    this.changed();
  }

  /** Show only some of them: those that `isShown` accepts and that have `needle` in them, in any case of letters. */
  filter(isShown, needle) {
    this.isShown = isShown;
    this.needle = needle.toLowerCase();
    this.element.replaceChildren(...this.lines.filter((line) => this.matches(line)).map((line) => this.drawn(line)));
    this.toEnd();
    this.changed();
  }

  clear() {
    [this.lines, this.waiting] = [[], []];
    this.element.replaceChildren();
    this.changed();
  }

  follow(isFollowing) {
    this.isFollowing = isFollowing;
    this.toEnd();
    this.changed();
  }

  get shown() {
    return this.element.childElementCount;
  }

  matches(line) {
    return this.isShown(line) && (!this.needle || line.text.toLowerCase().includes(this.needle));
  }

  toEnd() {
    if (!this.isFollowing) return;
    this.isMoving = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  scrolled() {
    const isAtEnd = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 8;
    const wasMoved = this.isMoving;
    this.isMoving = false;
    if (wasMoved || isAtEnd === this.isFollowing) return;
    this.isFollowing = isAtEnd;
    this.changed();
  }

  drawn({ label, className, text }) {
    const line = document.createElement("div");
    line.className = BAD.test(text) ? "line bad" : WARN.test(text) ? "line warn" : "line";
    if (label) {
      const name = document.createElement("span");
      name.className = `line-label ${className}`;
      name.textContent = label;
      line.append(name);
    }
    const words = document.createElement("bdi");
    words.append(...this.marked(visible(text)));
    line.append(words);
    return line;
  }

  *marked(text) {
    const lower = text.toLowerCase();
    let from = 0;
    while (this.needle && lower.length === text.length) {
      const at = lower.indexOf(this.needle, from);
      if (at < 0) break;
      yield text.slice(from, at);
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + this.needle.length);
      yield mark;
      from = at + this.needle.length;
    }
    yield text.slice(from);
  }
}
