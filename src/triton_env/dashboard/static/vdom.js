// Makes the page look like a tree of plain objects, by changing only what differs: focus, selection and scroll
// positions survive a sample every two seconds. Strings become text nodes and are never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const IS_PROPERTY = new Set(["value", "checked", "disabled", "indeterminate", "open", "selected"]);
const known = new WeakMap();

/**
 * Describe an element.
 *
 * @param {string} tag
 * @param {object|null} props attributes; `on...` is a listener, `style` an object of CSS properties, `key` distinguishes
 *   siblings, and `mount(element)` hands the inside of the element to a widget, which returns what closes it.
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flattened(children) };
}

function flattened(children) {
  const found = [];
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) continue;
    found.push(typeof child === "object" ? child : String(child));
  }
  return found;
}

/** Make the children of `parent` what `wanted` describes. */
export function patch(parent, ...wanted) {
  const keyed = new Map();
  const others = [];
  for (const node of parent.childNodes) {
    const key = known.get(node)?.props.key;
    if (key === undefined) others.push(node);
    else keyed.set(key, node);
  }
  let place = parent.firstChild;
  for (const each of flattened(wanted)) {
    const node = reused(each, keyed, others) ?? created(each, parent);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    if (typeof each === "object") update(node, each);
  }
  for (const node of [...keyed.values(), ...others]) remove(node);
}

function reused(wanted, keyed, others) {
  if (typeof wanted === "string") {
    const index = others.findIndex((node) => node.nodeType === Node.TEXT_NODE);
    if (index < 0) return null;
    const [node] = others.splice(index, 1);
    if (node.data !== wanted) node.data = wanted;
    return node;
  }
  const { key } = wanted.props;
  if (key !== undefined) {
    const node = keyed.get(key);
    if (!node || known.get(node).tag !== wanted.tag) return null;
    keyed.delete(key);
    return node;
  }
  const index = others.findIndex((node) => known.get(node)?.tag === wanted.tag && !known.get(node).props.mount === !wanted.props.mount);
  return index < 0 ? null : others.splice(index, 1)[0];
}

function created(wanted, parent) {
  if (typeof wanted === "string") return document.createTextNode(wanted);
  const isSvg = wanted.tag === "svg" || (parent.namespaceURI === SVG && parent.localName !== "foreignObject");
  return isSvg ? document.createElementNS(SVG, wanted.tag) : document.createElement(wanted.tag);
}

function update(node, wanted) {
  const before = known.get(node);
  const old = before?.props ?? {};
  for (const name of new Set([...Object.keys(old), ...Object.keys(wanted.props)])) {
    if (old[name] !== wanted.props[name]) set(node, name, wanted.props[name], old[name]);
  }
  const now = { tag: wanted.tag, props: wanted.props, close: before?.close };
  known.set(node, now);
  if (!wanted.props.mount) patch(node, wanted.children);
  else if (!before) now.close = wanted.props.mount(node);
}

function set(node, name, value, old) {
  if (name === "key" || name === "mount") return;
  if (name === "style") {
    for (const each of Object.keys({ ...old, ...value })) node.style.setProperty(each, value?.[each] ?? "");
  } else if (name.startsWith("on")) {
    node[name] = value ?? null;
  } else if (IS_PROPERTY.has(name)) {
    node[name] = value ?? false;
  } else if (value === null || value === undefined || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

function remove(node) {
  close(node);
  node.remove();
}

function close(node) {
  known.get(node)?.close?.();
  for (const child of node.childNodes) close(child);
}
