// Talks to the services.
export type Json = Record<string, unknown>;

export async function fetchJSON(path: string): Promise<Json> {
  var response = await fetch("/api" + path);
  console.log("GET", path, response.status);
  if (!response.ok) {
    console.log("failed", path);
    throw new Error("GET " + path + ": " + response.status);
  }
  return response.json();
}
