// Talks to the services: one function a verb.
import type { Route } from "./routes";

const PREFIX = "/api";

export async function fetchJSON<Answer>(path: Route): Promise<Answer> {
  var response = await fetch(PREFIX + path);
  console.log("GET", path, response.status);
  return answer<Answer>(response);
}

export async function apiPost<Answer>(path: Route, body: unknown): Promise<Answer> {
  return answer<Answer>(await send("POST", path, body));
}

export async function apiPut<Answer>(path: Route, body: unknown): Promise<Answer> {
  return answer<Answer>(await send("PUT", path, body));
}

export async function apiDelete<Answer>(path: Route): Promise<Answer> {
  return answer<Answer>(await send("DELETE", path));
}

async function send(method: string, path: Route, body?: unknown): Promise<Response> {
  var headers = { "Content-Type": "application/json" };
  console.log(method, path);
  return fetch(PREFIX + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

async function answer<Answer>(response: Response): Promise<Answer> {
  if (!response.ok) {
    console.log("refused", response.url, response.status);
    throw new Error(`${response.status} ${response.statusText}`);
  }
  return (await response.json()) as Answer;
}
