// The page: which run is looked at, what it asks the daemon, what the keys and buttons do.

import { drawClaims } from "/claims.js";
import { drawDiff } from "/diff.js";
import { arrange, element } from "/draw.js";
import { drawGraph } from "/graph.js";
import { drawLanes } from "/lanes.js";
import { clock, Model, TYPES } from "/model.js";

const find = (id) => document.getElementById(id);
const VIEWS = ["lanes", "graph", "tasks", "diff", "claims"];
const OVER = new Set(["done", "partial", "failed", "cancelled", "collected"]), GOES_ON = new Set(["running", "queued"]);
const LISTED_MS = 2000, DRAWN_MS = 250;

const at = { repository: "", run: "", task: "", view: "lanes" };
let runs = [], queue = [], model = new Model(), status = null, source = null, seen = 0, dirty = true, asked = 0;
let ended = ""; // in which state the run was when its stream ended
let gone = false; // the daemon did not answer when it was last asked
let listed = "", listing = 0, newest = 0; // whose runs the list has; which answer is the newest

// --- asking --------------------------------------------------------------------------------------------------------

async function ask(path, body, method = "POST") {
  const options = body === undefined ? {} : { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const json = (answer.headers.get("content-type") || "").includes("json");
  const told = json ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(json ? told.detail : `the daemon answered with ${answer.status}`);
  return told;
}

const base = () => `/v1/repositories/${encodeURIComponent(at.repository)}/runs`;
const place = () => JSON.stringify([at.repository, at.run, at.task]);
const runPath = (verb = "") => `${base()}/${encodeURIComponent(at.run)}${verb && "/" + verb}`;

function tell(words) {
  const toast = find("toast");
  toast.textContent = words;
  toast.hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

// Whether it is really meant; with labels for amounts, those (NaN where none was given), or false. Whoever goes elsewhere says no.
function sure(question, labels = []) {
  const dialog = find("ask");
  find("question").textContent = question;
  const amounts = labels.map((label) => element("label", {}, element("span", {}, label), element("input", { type: "number", min: "0", step: "any", inputMode: "decimal" })));
  find("amounts").replaceChildren(...amounts);
  dialog.dataset.about = place();
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    resolve(dialog.returnValue === "yes" && (labels.length ? amounts.map((one) => one.lastChild.valueAsNumber) : true));
  }, { once: true }));
}

// --- the list ------------------------------------------------------------------------------------------------------

async function list() {
  const mine = ++listing;
  let of = at.repository;
  try {
    const [health, repositories, limits] = await Promise.all([ask("/v1/health"), ask("/v1/repositories"), ask("/v1/limits")]);
    find("daemon").textContent = `${health.state} · ${health.runs} open runs · ${health.attempts}/${limits.instances} attempts`;
    listRepositories(repositories);
    of ||= at.repository;
    if (of && of === at.repository) {
      const here = `/v1/repositories/${encodeURIComponent(at.repository)}`;
      const [rows, repository] = await Promise.all([ask(`${base()}?limit=200`), ask(here)]);
      if (of !== at.repository || mine < newest) return; // it is of another repository, or was asked before what is there
      newest = mine;
      listed = of;
      runs = rows.reverse();
      queue = repository.queue;
      listRuns();
      if (at.view === "claims") dirty = true;
    }
    const now = runs.find((one) => one.run === at.run), broken = gone || !(source || ended);
    gone = false;
    if (at.run && ((broken && (now || status)) || (ended && GOES_ON.has(now?.state) && now.state !== ended))) watch();
    else if (now && status && (now.state !== status.state || await moved())) await refresh();
  } catch (error) {
    if (of !== at.repository) return;
    find("daemon").textContent = `no answer: ${error.message}`;
    gone = true;
  }
}

// Whether somebody else has landed the run that is shown, or taken a step back: its state stays what it was.
async function moved() {
  const before = status;
  if (!OVER.has(before.state)) return false;
  const told = await ask(runPath());
  return status === before && ["commit", "on_branch", "redo"].some((name) => told[name] !== before[name]);
}

function listRepositories(repositories) {
  const select = find("repository");
  const wanted = repositories.map((one) => one.id).join();
  if (select.dataset.known !== wanted) {
    select.dataset.known = wanted;
    select.replaceChildren(...repositories.map((one) => element("option", { value: one.id, title: one.path }, one.name)));
  }
  if (!at.repository && repositories.length) at.repository = repositories[0].id;
  select.value = at.repository;
}

function listRuns() {
  find("none").hidden = runs.length > 0;
  const known = new Map([...find("list").children].map((item) => [item.dataset.run, item]));
  find("list").replaceChildren(...runs.map((one) => {
    let item = known.get(one.run);
    if (!item) {
      item = element("li", {}, element("button", {}, element("i"), element("span", { className: "name" }), element("small")));
      item.dataset.run = one.run;
      item.firstChild.addEventListener("click", () => go({ run: one.run, task: "" }));
    }
    const [dot, name, more] = item.firstChild.children;
    dot.className = `dot is-${one.state}`;
    name.textContent = one.title || one.run;
    more.textContent = [one.run, one.state, new Date(one.started_at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })].join(" · ");
    item.firstChild.setAttribute("aria-current", String(one.run === at.run));
    return item;
  }));
}

// --- one run -------------------------------------------------------------------------------------------------------

// From its first event on, to its end. A stream that breaks off is the browser's to mend; one that it gives up is tried again with the
// list, as is one that has ended of a run that goes on again: never by what the stream itself brings, that could go round and round.
function watch() {
  source?.close();
  source = null;
  ended = "";
  lost("");
  model = new Model();
  status = null;
  find("choose").hidden = Boolean(at.run);
  find("run").hidden = !at.run;
  if (!at.run) return;
  source = new EventSource(`${runPath("events")}?from=1`);
  const mine = source;
  source.addEventListener("open", () => {
    if (mine !== source) return;
    model.connected();
    lost("");
  });
  source.addEventListener("error", () => {
    if (mine !== source) return;
    const over = mine.readyState === EventSource.CLOSED;
    lost(`What happens is not told at the moment: the daemon ${over ? "refuses to" : "does not answer"}. It is asked again.`);
    if (over) source = null;
  });
  for (const kind of TYPES) {
    source.addEventListener(kind, (event) => {
      if (mine !== source) return;
      model.take(kind, JSON.parse(event.data));
      seen = performance.now();
      dirty = true;
      if (kind === "end") { mine.close(); ended = model.over; }
      if (["settled", "closed", "landed", "end", "opened"].includes(kind)) refreshSoon();
    });
  }
  refresh();
}

function lost(words) {
  find("lost").textContent = words;
  find("lost").hidden = !words;
}

function refreshSoon() {
  clearTimeout(refreshSoon.timer);
  refreshSoon.timer = setTimeout(refresh, 200);
}

async function refresh() {
  const mine = ++asked;
  if (!at.run) return;
  try {
    const [told, graph] = await Promise.all([ask(runPath()), ask(runPath("graph"))]);
    if (mine !== asked) return;
    status = told;
    for (const task of graph.tasks) {
      const known = model.tasks.get(task.id);
      if (known) { known.waits = task.waits_for; if (!model.open.has(task.id)) known.state = task.state; }
    }
    dirty = true;
    if (at.view === "diff") showDiff();
    if (at.task) showTask();
  } catch (error) { tell(error.message); }
}

function draw() {
  const live = !model.over;
  if (!at.run || !(dirty || (live && at.view === "lanes"))) return;
  dirty = false;
  const now = live && seen && model.open.size && find("lost").hidden ? model.now + (performance.now() - seen) / 1000 : model.now;
  drawHead(now);
  const width = find("run").clientWidth;
  if (at.view === "lanes") drawLanes(find("lanes"), model, now, width, at.task, choose);
  if (at.view === "graph") keepFocus(find("graph"), () => drawGraph(find("graph"), model, at.task, choose));
  if (at.view === "tasks") keepFocus(find("tasks"), drawTasks);
  if (at.view === "claims") keepFocus(find("view-claims"), () => drawClaims(find("view-claims"), model, queue, at, choose, (run) => go({ run, task: "" })));
}

function keepFocus(inside, redraw) {
  const focused = inside.contains(document.activeElement) ? document.activeElement.closest("[data-task]")?.dataset.task : undefined;
  redraw();
  if (focused === undefined) return;
  const again = inside.querySelector(`[data-task="${CSS.escape(focused)}"]`);
  (again?.querySelector("button") ?? again)?.focus();
}

// What is drawn can be acted on: a run whose lanes are there can be cancelled before its document has come.
const stateNow = () => status?.state ?? (model.state || "…");

function drawHead(now) {
  const state = stateNow();
  find("title").textContent = `${at.run} ${status?.title ?? ""}`;
  find("by").textContent = status ? `by ${status.client}, ${new Date(status.submitted_at * 1000).toLocaleString()}` : "";
  find("state").textContent = state;
  find("state").className = `badge is-${state}`;
  const why = status?.waits?.reason || status?.paused || status?.error || (status?.on_branch ? `landed as ${status.landed.at(-1).slice(0, 12)}` : "");
  find("why").textContent = why;
  find("why").className = status?.error ? "error" : "quiet";
  const counts = model.counts(), total = Math.max(1, model.tasks.size);
  const bar = find("bar");
  bar.setAttribute("aria-valuemax", model.tasks.size);
  bar.setAttribute("aria-valuenow", counts.done + counts.failed + counts.lost);
  const kinds = ["done", "running", "failed", "lost"];
  if (!bar.children.length) bar.append(...kinds.map((kind) => element("i", { className: kind })));
  kinds.forEach((kind, number) => { bar.children[number].style.width = `${(100 * counts[kind]) / total}%`; });
  const figures = [["tasks", `${counts.done} of ${model.tasks.size} done`], ["running", counts.running], ["waiting", counts.waiting],
    ["failed", counts.failed, counts.failed ? "is-failed" : ""], ["stolen", model.steals], ["time", clock(now)]];
  if (status?.makespan_s && model.over) figures.push(["bound", clock(status.bound_s)], ["busy", `${Math.round(status.utilization * 100)} %`]);
  const usd = Math.max(status?.cost?.usd ?? 0, model.usd), budget = status?.budget ?? {};
  if (usd || model.tokens || budget.usd) {
    figures.push(["cost", `${money(usd)}${budget.usd ? ` of ${money(budget.usd)}` : ""} USD`, budget.usd && usd > 0.9 * budget.usd ? "is-paused" : ""]);
  }
  if (model.tokens || budget.tokens) figures.push(["tokens", model.tokens.toLocaleString("en") + (budget.tokens ? ` of ${budget.tokens.toLocaleString("en")}` : "")]);
  find("figures").replaceChildren(...figures.map(([name, value, how]) =>
    element("div", {}, element("dt", {}, name), element("dd", { className: how || "" }, String(value)))));
  drawChecks();
  find("pause").disabled = !["running", "queued"].includes(state);
  find("resume").disabled = !["paused", "interrupted"].includes(state);
  find("retry").disabled = !["partial", "failed", "cancelled"].includes(state);
  find("cancel").disabled = !["running", "queued", "paused", "interrupted"].includes(state);
  find("undo").disabled = !OVER.has(state) || !status?.commit || (status.commit === status.base && !status.on_branch);
  find("redo").disabled = !OVER.has(state) || !status?.redo;
  find("land").disabled = !["done", "partial", "failed"].includes(state) || !status?.commit || status.commit === status.base || status.on_branch;
}

function money(usd) { return usd && usd < 0.1 ? usd.toFixed(4) : usd.toFixed(2); }

function drawChecks() {
  const made = JSON.stringify([at.run, model.checks]);
  if (find("checks").dataset.made === made) return;
  find("checks").dataset.made = made;
  find("checks").replaceChildren(...model.checks.map((check) => {
    const words = [element("b", { className: check.ok ? "is-done" : "is-failed" }, check.ok ? "✓ green" : "✗ red"), element("code", {}, check.command),
      element("span", { className: "quiet" }, clock(check.seconds))];
    if (check.ok || !check.output?.trim()) return element("p", {}, ...words);
    return element("details", {}, element("summary", {}, ...words), element("pre", {}, check.output.trim().split("\n").slice(-40).join("\n")));
  }));
}

function drawTasks() {
  find("tasks").tBodies[0].replaceChildren(...[...model.tasks.values()].map((task) => {
    const name = element("button", {}, task.id);
    name.addEventListener("click", () => choose(task.id));
    const waits = task.waits.length ? element("td", { className: "mono" }, task.waits.join(", ")) : element("td", { className: "error" }, task.error);
    const row = element("tr", { className: task.id === at.task ? "chosen" : "", "data-task": task.id }, element("td", {}, name),
      element("td", {}, element("span", { className: `badge is-${task.state.replaceAll(" ", "-")}` }, task.state)),
      element("td", { className: "nowrap" }, task.instance || task.specialist), element("td", { className: "mono" }, task.writes.join(", ")), waits);
    return row;
  }));
}

async function showDiff() {
  const mine = runPath();
  try {
    const text = await ask(`${mine}/diff`);
    if (mine === runPath()) drawDiff(find("view-diff"), text);
  } catch (error) {
    if (mine === runPath()) find("view-diff").replaceChildren(element("p", { className: "quiet" }, error.message));
  }
}

// --- one task ------------------------------------------------------------------------------------------------------

function choose(task) { go({ task }); }

// Nothing of the task that was chosen before stays under another's name, whether that can be told of or not.
function clearTask() {
  find("task-name").textContent = at.task;
  for (const part of ["state", "where", "goal", "error"]) find(`task-${part}`).textContent = "";
  find("task-state").className = "badge";
  for (const verb of ["cancel", "retry", "undo"]) find(`task-${verb}`).hidden = true;
  for (const part of ["story", "task-diff"]) find(part).replaceChildren();
}

async function showTask() {
  const panel = find("task");
  panel.hidden = !at.task;
  const mine = place();
  if (panel.dataset.of !== mine) { panel.dataset.of = mine; clearTask(); }
  if (!at.task) return;
  try {
    const path = at.task.split("/").map(encodeURIComponent).join("/");
    const [told, diff] = await Promise.all([ask(runPath(`tasks/${path}`)), ask(`${runPath("diff")}?task=${encodeURIComponent(at.task)}`)]);
    if (mine !== place()) return;
    find("task-state").textContent = told.state;
    find("task-state").className = `badge is-${told.state.replaceAll(" ", "-")}`;
    find("task-where").textContent = [told.specialist, told.instance, told.attempts > 1 ? `attempt ${told.attempts}` : "",
      told.stolen_from ? `stolen from ${told.stolen_from}` : ""].filter(Boolean).join(" · ");
    find("task-goal").textContent = told.goal || "";
    find("task-error").textContent = told.error || "";
    find("task-cancel").hidden = ["done", "failed", "skipped", "cancelled"].includes(told.state) || status?.state !== "running";
    find("task-retry").hidden = !["failed", "skipped", "cancelled"].includes(told.state) || !["partial", "failed", "cancelled"].includes(status?.state);
    find("task-undo").hidden = told.state !== "done" || !told.commit || !OVER.has(status?.state);
    drawStory(told.story);
    drawDiff(find("task-diff"), diff);
  } catch (error) { if (mine === place()) find("task-error").textContent = error.message; }
}

// It is only ever added to; a row that is there stays.
function drawStory(story) {
  const known = find("story").children;
  arrange(find("story"), story.map((row, number) => {
    const made = JSON.stringify(row);
    if (known[number]?.made === made) return known[number];
    return Object.assign(element("li", {}, element("time", {}, clock(row.at_s)), element("span", {}, ...inWords(row))), { made });
  }));
}

const SAID = {
  submitted: () => "handed over",
  started: (row) => `attempt ${row.attempt} started on ${row.instance}` + (row.stolen_from ? `, taken over from ${row.stolen_from}` : ""),
  finished: (row) => "finished" + (row.changeset?.changes ? `, ${row.changeset.changes.length} file${row.changeset.changes.length === 1 ? "" : "s"} changed` : ""),
  merge: () => "to the line",
  merged: (row) => (row.commit ? `on the line as ${row.commit.slice(0, 12)}` : "nothing to commit"),
  backoff: (row) => `again in ${clock(row.delay_s)}`,
  settled: (row) => row.state,
  asked: (row) => `asks for ${row.path}`,
  granted: (row) => `is given ${row.path}`,
  refused: (row) => `is refused ${row.path}: ${(row.holders || []).join(", ")} has it`,
  answered: (row) => `turn ${row.turn} of ${row.model}` + (row.spent?.usd ? `, ${row.spent.usd.toFixed(4)} USD` : ""),
  told: (row) => `is told the results of turn ${row.turn}`,
};

// What happened, as people say it; what went wrong stands below.
function inWords(row) {
  const { type, at_s, task, tasks, changeset, group, error, why, ...rest } = row;
  const words = SAID[type]?.(row) ?? [type, ...Object.entries(rest).filter(([, value]) => value !== null && typeof value !== "object").map(([name, value]) => `${name} ${value}`)].join(" · ");
  const wrong = type === "settled" || type === "backoff" ? "" : error || why || "";
  return [words, ...(wrong ? [element("span", { className: "error block" }, wrong)] : [])];
}

// --- what can be done ----------------------------------------------------------------------------------------------

// Whether a verb is possible now; a key that does nothing says why.
function possible(verb) {
  if (at.run && !find(verb).disabled) return true;
  tell(at.run ? `${at.run} is ${stateNow()}: ${verb} is not possible now` : "choose a run first");
  return false;
}

// The run is the one that was looked at when the key was pressed, whatever is looked at when it is answered.
async function act(verb, question, body = {}) {
  const run = at.run, path = runPath();
  if (possible(verb) && (!question || await sure(question))) await perform(run, path, verb, body);
}

// The same for the chosen task.
async function actOnTask(verb, question, words = "") {
  const run = at.run, path = runPath(), task = at.task;
  if (!question || await sure(question)) await perform(run, path, verb, { task }, words);
}

async function perform(run, path, verb, body, words = "") {
  try {
    const told = await ask(`${path}/${verb}`, body);
    tell(words || (body.task && verb === "undo" ? `taken back: ${told.off.join(", ")}` : verb === "land" ? `landed as ${told.commit.slice(0, 12)}` : `${run} is ${told.state}`));
    if (path !== runPath()) return;
    if (["resume", "retry", "undo", "redo"].includes(verb)) watch(); else await refresh();
    list();
  } catch (error) { tell(error.message); }
}

const ACTIONS = {
  pause: () => act("pause"),
  resume: async () => {
    if (!possible("resume")) return;
    const run = at.run, path = runPath(), budget = status?.budget ?? {};
    const given = ["usd", "tokens"].filter((unit) => budget[unit]);
    if (!status?.paused || !given.length) { await perform(run, path, "resume", {}); return; }
    const spent = given.filter((unit) => status.paused.includes(`--budget-${unit} `)); // its words say how to go on from a shell
    const units = spent.length ? spent : given;
    const more = await sure(`${run} is paused: ${status.paused}. Go on?`, units.map((unit) => `New budget in ${unit === "usd" ? "USD" : unit} (now ${budget[unit]})`));
    if (more === false) return;
    const asked = units.map((unit, number) => [`budget_${unit}`, unit === "usd" ? more[number] : Math.round(more[number])]);
    await perform(run, path, "resume", Object.fromEntries(asked.filter(([, amount]) => !Number.isNaN(amount))));
  },
  retry: () => act("retry"),
  cancel: () => act("cancel", `End run ${at.run}? What is done is kept on its line.`),
  undo: () => act("undo", status?.on_branch ? `Take ${at.run} off the branch again, by a reverting commit?` : `Take the last step of ${at.run} back?`),
  redo: () => act("redo"),
  land: () => act("land", `Bring the result of ${at.run} onto the branch that is checked out?`),
};

function go(change) {
  Object.assign(at, change);
  location.hash = [at.repository, at.run, at.view, at.task].map(encodeURIComponent).join("/");
  arrived(); // at once: a key that is pressed next is about what is chosen now
}

function arrived() {
  at.hash = location.hash;
  const [repository, run, view, task] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const other = (repository && repository !== at.shown?.repository) || run !== at.shown?.run;
  Object.assign(at, { repository: repository || at.repository, run: run || "", view: VIEWS.includes(view) ? view : "lanes", task: task || "" });
  if (find("ask").open && find("ask").dataset.about !== place()) find("ask").close("no");
  if (at.repository !== listed) { [runs, queue, listed] = [[], [], at.repository]; list(); }
  if (other) { at.shown = { repository: at.repository, run: at.run }; find("view-diff").replaceChildren(); watch(); }
  for (const name of VIEWS) {
    find(`view-${name}`).hidden = name !== at.view;
    find(`tab-${name}`).setAttribute("aria-selected", String(name === at.view));
    find(`tab-${name}`).tabIndex = name === at.view ? 0 : -1;
  }
  if (at.view === "diff" && at.run) showDiff();
  showTask();
  dirty = true;
  listRuns();
  draw();
}

function press(id) { if (!find("task").hidden && !find(id).hidden) find(id).click(); }

async function showLimits() {
  try {
    const told = await ask("/v1/limits"), dialog = find("limited");
    find("most-instances").value = told.instances;
    find("most-runs").value = told.runs;
    const { account } = told;
    const rows = [["in flight", `${account.in_flight} of ${account.concurrency} at once, ${account.waiting} waiting`], ["answered", account.answered]];
    for (const [kind, number] of Object.entries(account.refused)) rows.push([kind, number]);
    for (const [model, most] of Object.entries(account.limits_per_min)) {
      rows.push([model, Object.entries(most).map(([name, value]) => `${Math.round(value).toLocaleString("en")} ${name.replaceAll("_", " ")} a minute`).join(", ")]);
    }
    find("account").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
    dialog.returnValue = "no";
    dialog.showModal();
    dialog.addEventListener("close", async () => {
      if (dialog.returnValue !== "yes") return;
      try {
        const now = await ask("/v1/limits", { instances: find("most-instances").valueAsNumber, runs: find("most-runs").valueAsNumber }, "PUT");
        tell(`${now.instances} attempts at once, ${now.runs} runs in a repository`);
        list();
      } catch (error) { tell(error.message); }
    }, { once: true });
  } catch (error) { tell(error.message); }
}

function flip() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
}

function step(by) {
  const place = runs.findIndex((one) => one.run === at.run);
  const next = runs[Math.min(runs.length - 1, Math.max(0, place + by))];
  if (next) go({ run: next.run, task: "" });
}

const KEYS = {
  j: () => step(1), k: () => step(-1), p: ACTIONS.pause, r: ACTIONS.resume, a: ACTIONS.retry, u: ACTIONS.undo, U: ACTIONS.redo, x: ACTIONS.cancel, l: ACTIONS.land,
  m: () => showLimits(), c: () => press("task-cancel"), e: () => press("task-retry"), z: () => press("task-undo"),
  t: flip, "?": () => find("keys").showModal(), Escape: () => go({ task: "" }),
  1: () => go({ view: "lanes" }), 2: () => go({ view: "graph" }), 3: () => go({ view: "tasks" }), 4: () => go({ view: "diff" }),
  5: () => go({ view: "claims" }),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || /^(SELECT|INPUT)$/.test(event.target.tagName)) return;
  const tab = event.target.closest?.("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const next = VIEWS[(VIEWS.indexOf(at.view) + (event.key === "ArrowRight" ? 1 : VIEWS.length - 1)) % VIEWS.length];
    go({ view: next });
    find(`tab-${next}`).focus();
    return;
  }
  const does = KEYS[event.key];
  if (does) { event.preventDefault(); does(); }
});

for (const [name, does] of Object.entries(ACTIONS)) find(name).addEventListener("click", does);
for (const name of VIEWS) find(`tab-${name}`).addEventListener("click", () => go({ view: name }));
find("theme").addEventListener("click", flip);
find("limits").addEventListener("click", showLimits);
find("task-retry").addEventListener("click", () => actOnTask("retry", "", `${at.task} is tried again`));
find("task-cancel").addEventListener("click", () => actOnTask("cancel", `Cancel the task ${at.task}?`));
find("task-undo").addEventListener("click", () => actOnTask("undo", `Take back what ${at.task} changed, and what was built on it?`));
find("help").addEventListener("click", () => find("keys").showModal());
find("close").addEventListener("click", () => go({ task: "" }));
find("repository").addEventListener("change", (event) => go({ repository: event.target.value, run: "", task: "" }));
addEventListener("hashchange", () => { if (location.hash !== at.hash) arrived(); });
addEventListener("resize", () => { dirty = true; });

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;
await list();
if (!location.hash && runs.length) go({ run: runs[0].run }); else arrived();
setInterval(() => { if (!document.hidden) list(); }, LISTED_MS);
setInterval(draw, DRAWN_MS);
