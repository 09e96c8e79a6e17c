// What a run looks like: a fold over its events. Knows event types; draws nothing.

export const TYPES = ["queued", "opened", "submitted", "retried", "spawn", "retire", "instance-died", "started", "finished", "failed",
  "merged", "settled", "backoff", "checked", "landed", "closed", "resumed", "cancel-requested", "drain-requested", "granted",
  "refused", "rolled-back", "dropped", "charged", "told", "answered", "asked", "concluded", "end"];

const LIVE = new Set(["running", "merging"]);

export class Model {
  constructor() {
    this.tasks = new Map(); // id -> {id, specialist, state, after, writes, instance, error}
    this.orders = [];
    this.lanes = new Map(); // instance -> [span]
    this.open = new Map(); // task -> the span that goes on
    this.steals = 0;
    this.now = 0; // seconds since the run was opened, as its last event has it
    this.checks = [];
    this.usd = 0; // what models cost so far
    this.tokens = 0;
    this.landed = [];
    this.over = "";
    this.queued = null;
    this.begun = false;
    this.last = 0; // the highest sequence number there was,
    this.rows = 0; // how many rows of it,
    this.again = 0; // and how many of those may come once more
  }

  // A stream begins, perhaps again: behind the last whole number, or anywhere before.
  connected() { this.again = this.rows; }

  // Whether a row was there before; an event and the commands that followed from it have one number.
  known(seq) {
    if (seq < this.last) return true;
    if (seq === this.last && this.again > 0) { this.again -= 1; return true; }
    this.rows = seq === this.last ? this.rows + 1 : 1;
    this.last = seq;
    this.again = 0;
    return false;
  }

  take(kind, data) {
    if (data.seq !== undefined && this.known(data.seq)) return;
    if (data.at_s !== undefined) this.now = Math.max(this.now, data.at_s);
    const step = this["on_" + kind.replaceAll("-", "_")];
    if (step) step.call(this, data);
  }

  on_queued(data) { this.queued = data.waits; }
  on_opened() { this.queued = null; this.begun = true; this.over = ""; }
  on_submitted(data) {
    for (const task of data.tasks) {
      this.tasks.set(task.id, {
        id: task.id, specialist: task.specialist, state: "waiting", after: task.after || [], writes: task.writes || [],
        reads: task.reads || [], goal: task.goal || "", instance: "", error: "", waits: [],
      });
    }
    this.orders.push(...(data.orders || []));
  }
  on_retried(data) { for (const one of data.tasks || []) this.set(one.id, "waiting", ""); this.over = ""; }
  on_spawn(data) { if (!this.lanes.has(data.instance)) this.lanes.set(data.instance, []); }
  on_started(data) {
    this.end(data.task, "lost");
    const span = { task: data.task, instance: data.instance, attempt: data.attempt, from: data.stolen_from || "", start: data.at_s, end: null, how: "running" };
    if (!this.lanes.has(data.instance)) this.lanes.set(data.instance, []);
    this.lanes.get(data.instance).push(span);
    this.open.set(data.task, span);
    if (span.from) this.steals += 1;
    const task = this.tasks.get(data.task);
    if (task) { task.state = "running"; task.instance = data.instance; task.error = ""; }
  }
  on_finished(data) { this.end(data.task, "done"); this.set(data.task, "merging"); }
  on_failed(data) { this.end(data.task, data.kind === "cancelled" ? "lost" : "failed"); }
  on_backoff(data) { this.set(data.task, "backoff", data.error); }
  on_settled(data) { this.end(data.task, data.state === "done" ? "done" : "lost"); this.set(data.task, data.state, data.error || ""); }
  on_instance_died(data) { for (const [task, span] of this.open) if (span.instance === data.instance) this.end(task, "lost"); }
  on_resumed(data) {
    this.over = "";
    if (data.crashed === false) return;  // what goes on goes on; left out when it is true
    for (const task of [...this.open.keys()]) { this.end(task, "lost"); this.set(task, "ready"); }
  }
  on_checked(data) { this.checks = data.results || []; }
  on_answered(data) { this.spend(data.spent); }
  on_charged(data) { this.spend(data.spent); }
  on_landed(data) { this.landed = data.commits || []; }
  on_closed(data) { this.over = data.state; for (const task of [...this.open.keys()]) this.end(task, "lost"); }
  on_end(data) { this.over = data.state; }

  // What its events alone tell of the state of a run that has not ended: the daemon's own word for it comes a moment later.
  get state() { return this.over ? "" : this.queued ? "queued" : this.begun ? "running" : ""; }

  spend(spent) {
    if (!spent) return;
    this.usd += spent.usd || 0;
    this.tokens += (spent.input || 0) + (spent.cache_write || 0) + (spent.cache_read || 0) + (spent.output || 0);
  }

  set(id, state, error) {
    const task = this.tasks.get(id);
    if (task) { task.state = state; if (error !== undefined) task.error = error; }
  }
  end(id, how) {
    const span = this.open.get(id);
    if (span) { span.end = this.now; span.how = how; this.open.delete(id); }
  }

  counts() {
    const found = { done: 0, running: 0, failed: 0, lost: 0, waiting: 0 };
    for (const task of this.tasks.values()) {
      if (task.state === "done") found.done += 1;
      else if (LIVE.has(task.state)) found.running += 1;
      else if (task.state === "failed") found.failed += 1;
      else if (task.state === "skipped" || task.state === "cancelled") found.lost += 1;
      else found.waiting += 1;
    }
    return found;
  }
}

export function clock(seconds) {
  if (seconds < 10) return seconds.toFixed(1) + " s";
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return whole + " s";
  return whole < 3600 ? `${Math.floor(whole / 60)}:${two(whole % 60)}` : `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}
