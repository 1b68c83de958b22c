"use strict";

const find = (id) => document.getElementById(id);
const MOST_AT_ONCE = 16;
const MOST_BYTES = 24 * 2 ** 20;
let tasks = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (response.status === 401 || response.status === 403) {
    find("access").hidden = false;
    find("main").hidden = true;
    find("token").focus();
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error || `The server answered ${response.status}.`);
  return found;
}

async function showTasks() {
  try {
    tasks = (await call("v1/tasks")).tasks;
  } catch (error) {
    if (find("access").hidden) complain(error.message);
    else if (sessionStorage.getItem("token")) complain("That token was not accepted.");
    return;
  }
  complain("");
  find("access").hidden = true;
  find("main").hidden = false;
  find("count").textContent = `${tasks.length} ${tasks.length === 1 ? "task" : "tasks"} loaded.`;
  const ready = tasks.filter((task) => task.ready).map((task) => task.name);
  fill(find("task"), ready, null);
  fill(find("other"), ready, "nothing");
  showRows();
}

function fill(select, names, none) {
  const before = select.value;
  const options = names.map((name) => element("option", { value: name }, name));
  select.replaceChildren(...(none === null ? [] : [element("option", { value: "" }, none)]), ...options);
  if (names.includes(before)) select.value = before;
}

function showRows() {
  const wanted = find("filter").value.trim().toLowerCase();
  const shown = tasks.filter((task) =>
    [task.name, ...(task.classes || [])].some((text) => text.toLowerCase().includes(wanted)));
  find("rows").replaceChildren(...shown.slice(0, 500).map(rowOf));
  const none = find("none");
  none.hidden = shown.length > 0 && shown.length <= 500;
  none.textContent = shown.length ? `${shown.length - 500} more; filter to see them.`
    : tasks.length ? "No task has these letters in its name or classes." : "No task is loaded yet.";
}

function rowOf(task) {
  const name = element("th", { scope: "row" }, task.name);
  if (!task.ready) return element("tr", {}, name, element("td", { colspan: 5 }, `not ready: ${task.reason || ""}`));
  const some = task.classes.slice(0, 6).join(", ") + (task.classes.length > 6 ? ", …" : "");
  const number = (value) => element("td", { class: "num" }, value);
  return element("tr", {}, name,
    element("td", { class: "classes" }, `${task.classes.length}: ${some}`),
    element("td", {}, task.method),
    number(task.image_size.join(" × ")),
    number(task.num_tuned.toLocaleString("en")),
    number(`${Math.max(1, Math.round(task.bytes / 1000)).toLocaleString("en")} kB`));
}

async function ask(files) {
  const names = [find("task").value, find("other").value].filter(Boolean);
  const pictures = [...files];
  if (!pictures.length) return;
  if (!names.length) { complain("There is no task to ask."); return; }
  complain("");
  let done = 0;
  for (const part of parts(pictures, names.length)) {
    find("status").textContent = `Asking about ${done + 1} to ${done + part.length} of ${pictures.length}`;
    done += part.length;
    const form = new FormData();
    for (const name of names) for (const picture of part) {
      form.append("images", picture, picture.name);
      form.append("task", name);
    }
    form.append("topk", find("topk").value);
    const began = performance.now();
    try {
      const { predictions } = await call("v1/predict", { method: "POST", body: form });
      const took = Math.round(performance.now() - began);
      part.forEach((picture, index) =>
        showAnswer(picture, names.map((_, which) => predictions[which * part.length + index])));
      find("status").textContent =
        `${predictions.length} ${predictions.length === 1 ? "answer" : "answers"} in ${took} ms, upload included.`;
    } catch (error) {
      complain(error.message);
      find("status").textContent = "";
      return;
    }
  }
}

function parts(pictures, copies) {
  const made = [];
  let bytes = Infinity;
  for (const picture of pictures) {
    bytes += picture.size * copies;
    if (bytes > MOST_BYTES || made.at(-1).length >= MOST_AT_ONCE / copies) {
      made.push([]);
      bytes = picture.size * copies;
    }
    made.at(-1).push(picture);
  }
  return made;
}

function showAnswer(picture, answers) {
  const address = URL.createObjectURL(picture);
  const image = element("img", { src: address, alt: `The picture ${picture.name}` });
  image.onload = image.onerror = () => URL.revokeObjectURL(address);
  const columns = answers.map((answer, index) => element("div", { class: index ? "column second" : "column" },
    element("h3", {}, answer.task),
    element("ol", { class: "bars" }, ...answer.classes.map((name, rank) => barOf(name, answer.scores[rank])))));
  const item = element("li", {}, image,
    element("div", { class: "answer" }, element("p", {}, picture.name), element("div", { class: "columns" }, ...columns)));
  find("results").prepend(item);
  find("answered").hidden = false;
}

function barOf(name, score) {
  const share = `${(100 * score).toFixed(1)} %`;
  return element("li", {}, element("span", { class: "name" }, name), element("span", { class: "share" }, share),
    element("meter", { min: 0, max: 1, value: score, "aria-label": `${name}: ${share}` }));
}

function take(event, over) {
  event.preventDefault();
  find("drop").classList.toggle("over", over);
}

find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", find("token").value);
  showTasks();
});
find("files").addEventListener("change", async (event) => {
  await ask(event.target.files);
  event.target.value = "";
});
find("drop").addEventListener("dragover", (event) => take(event, true));
find("drop").addEventListener("dragleave", (event) => take(event, false));
find("drop").addEventListener("drop", (event) => { take(event, false); ask(event.dataTransfer.files); });
find("filter").addEventListener("input", showRows);
find("clear").addEventListener("click", () => {
  find("results").replaceChildren();
  find("answered").hidden = true;
  find("status").textContent = "";
  find("files").focus();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !find("main").hidden) showTasks(); });
showTasks();
