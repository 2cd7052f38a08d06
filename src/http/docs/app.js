// Shows /openapi.json. Whatever comes from there is put on the page as text, never as markup.

const METHODS = ["get", "post", "put", "delete"];

/** An element with attributes and children; a string is text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) {
      element.append(typeof child === "string" ? document.createTextNode(child) : child);
    }
  }
  return element;
}

const nameOf = (ref) => ref.split("/").pop();
const schemaLink = (name) => make("a", { href: `#schema-${name}` }, name);

/** A type in a few words; names of schemas are links. */
function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return ["anything"];
  if (schema.$ref) return [schemaLink(nameOf(schema.$ref))];
  for (const key of ["oneOf", "anyOf", "allOf"]) {
    if (schema[key] && !schema.properties) {
      const between = key === "allOf" ? " and " : " or ";
      return schema[key].flatMap((part, i) => (i ? [between, ...typeOf(part)] : typeOf(part)));
    }
  }
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" or ")];
  const types = [schema.type].flat().filter(Boolean);
  return types.flatMap((type, i) => {
    const before = i ? [" or "] : [];
    if (type === "array" && schema.prefixItems) {
      const parts = schema.prefixItems.flatMap((part, i) => (i ? [", ", ...typeOf(part)] : typeOf(part)));
      return [...before, "[", ...parts, "]"];
    }
    if (type === "array") return [...before, "list of ", ...typeOf(schema.items)];
    if (type === "object" && schema.additionalProperties) {
      return [...before, "map to ", ...typeOf(schema.additionalProperties)];
    }
    return [...before, type];
  });
}

/** What a value may be, beyond its type. */
function limitsOf(schema) {
  const told = [];
  const add = (text, value) => value !== undefined && told.push(`${text} ${value}`);
  if (!schema) return told;
  add("from", schema.minimum);
  add("to", schema.maximum);
  add("at least", schema.minLength ?? schema.minItems);
  add("at most", schema.maxLength ?? schema.maxItems);
  add("matches", schema.pattern);
  add("default", schema.default === undefined ? undefined : JSON.stringify(schema.default));
  return told;
}

function row(name, required, schema, description) {
  const limits = limitsOf(schema).join(", ");
  return make("tr", {},
    make("td", {}, make("code", {}, name), required ? "" : make("span", { class: "quiet" }, " optional")),
    make("td", {}, typeOf(schema), limits ? make("div", { class: "quiet" }, limits) : null),
    make("td", {}, description ?? schema?.description ?? ""));
}

function table(heads, rows) {
  if (rows.length === 0) return null;
  const head = make("tr", {}, heads.map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, rows));
}

function contentOf(content) {
  return Object.entries(content ?? {}).map(([type, { schema }]) =>
    make("div", {}, make("code", {}, type), " ", typeOf(schema)));
}

/** An example of a parameter or a body, as far as the document has one. */
function exampleOf(schema, schemas, depth = 0) {
  if (!schema || depth > 4) return null;
  if (schema.example !== undefined) return schema.example;
  if (schema.$ref) return exampleOf(schemas[nameOf(schema.$ref)], schemas, depth + 1);
  const part = (schema.oneOf ?? schema.anyOf)?.find((one) => one.type !== "null");
  if (part) return exampleOf(part, schemas, depth + 1);
  if (schema.enum) return schema.enum[0];
  if (schema.properties) {
    const shown = Object.entries(schema.properties)
      .filter(([name, of]) => schema.required?.includes(name) || of.example !== undefined);
    return Object.fromEntries(shown.map(([name, of]) => [name, exampleOf(of, schemas, depth + 1)]));
  }
  const type = [schema.type].flat()[0];
  return { array: [], object: {}, integer: schema.minimum ?? 0, number: 0, boolean: true, string: "text" }[type] ?? null;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curlOf(method, path, operation, schemas) {
  let url = path;
  for (const parameter of operation.parameters ?? []) {
    if (parameter.in === "path") {
      const value = parameter.example ?? exampleOf(parameter.schema, schemas);
      url = url.replace(`{${parameter.name}}`, encodeURIComponent(String(value)));
    }
  }
  const words = ["curl"];
  if (method !== "get") words.push("-X", method.toUpperCase());
  if (operation.responses["200"]?.content?.["text/event-stream"] && method === "get") words.push("-N");
  words.push(quoted(location.origin + url));
  const media = operation.requestBody?.content?.["application/json"];
  if (media) {
    const body = media.example ?? exampleOf(media.schema, schemas);
    words.push("-H", quoted("Content-Type: application/json"), "-d", quoted(JSON.stringify(body)));
  }
  return words.join(" ");
}

function showOperation(method, path, operation, schemas) {
  const parameters = (operation.parameters ?? []).map((parameter) =>
    row(`${parameter.name} (${parameter.in})`, parameter.required, parameter.schema, parameter.description));
  const body = operation.requestBody;
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const headers = Object.entries(response.headers ?? {}).map(([name, header]) =>
      make("div", { class: "quiet" }, make("code", {}, name), ` ${header.description ?? ""}`));
    return make("tr", {}, make("td", {}, make("code", {}, status)),
      make("td", {}, response.description, headers), make("td", {}, contentOf(response.content)));
  });
  return make("details", { id: operation.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method),
      make("span", { class: "path" }, path), operation.summary ?? ""),
    operation.description ? make("p", {}, operation.description) : null,
    parameters.length ? make("h3", {}, "Parameters") : null,
    table(["name", "value", "meaning"], parameters),
    body ? [make("h3", {}, "Body"), make("p", { class: "quiet" }, body.description ?? ""), contentOf(body.content)] : null,
    make("h3", {}, "Answers"), table(["status", "meaning", "content"], responses),
    make("h3", {}, "Try it"), make("pre", {}, curlOf(method, path, operation, schemas)));
}

function propertiesOf(schema) {
  const own = Object.entries(schema.properties ?? {}).map(([name, property]) =>
    row(name, schema.required?.includes(name), property));
  return [...own, ...(schema.allOf ?? []).flatMap(propertiesOf)];
}

function showSchema(name, schema) {
  const based = (schema.allOf ?? []).filter((part) => part.$ref);
  return make("details", { id: `schema-${name}` },
    make("summary", {}, make("span", { class: "path" }, name), schema.description ?? ""),
    based.length ? make("p", {}, "All of ", based.flatMap(typeOf), ", and:") : null,
    table(["field", "value", "meaning"], propertiesOf(schema)),
    schema.properties || schema.allOf ? null : make("p", {}, typeOf(schema)));
}

function section(title, about, items) {
  const id = `part-${title.replaceAll(" ", "-")}`;
  const link = make("li", {}, make("a", { href: `#${id}` }, title), ` (${items.length})`);
  return { link, part: make("section", { id }, make("h2", {}, title), about ? make("p", {}, about) : null, items) };
}

function sectionsOf(api) {
  const schemas = api.components?.schemas ?? {};
  const all = Object.entries(api.paths).flatMap(([path, item]) => METHODS.filter((method) => item[method])
    .map((method) => ({ method, path, operation: item[method] })));
  const parts = (api.tags ?? []).map((tag) => section(tag.name, tag.description,
    all.filter(({ operation }) => operation.tags?.includes(tag.name))
      .map(({ method, path, operation }) => showOperation(method, path, operation, schemas))));
  parts.push(section("schemas", "What requests and answers are made of", Object.entries(schemas)
    .map(([name, schema]) => showSchema(name, schema))));
  return parts;
}

/** A link into a closed part opens it. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}

function filterBy(text) {
  const wanted = text.trim().toLowerCase();
  for (const item of document.querySelectorAll("main details")) {
    item.hidden = !item.querySelector("summary").textContent.toLowerCase().includes(wanted);
  }
}

async function main() {
  const about = document.getElementById("about");
  const answer = await fetch("/openapi.json").catch((error) => error);
  if (!answer.ok) {
    about.textContent = `The document cannot be had: ${answer.status ?? answer}`;
    return;
  }
  const api = await answer.json();
  document.title = document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  about.replaceChildren(api.info.description ?? "", " The document: ", make("a", { href: "/openapi.json" }, "/openapi.json"));
  const parts = sectionsOf(api);
  document.getElementById("contents").replaceChildren(make("ul", {}, parts.map(({ link }) => link)));
  document.getElementById("operations").replaceChildren(...parts.map(({ part }) => part));
  document.getElementById("filter").addEventListener("input", (event) => filterBy(event.target.value));
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
}

main();
