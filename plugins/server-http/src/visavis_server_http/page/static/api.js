// The server's API, as any client would use it. The key lives in this variable and nowhere else.

let key = "";

export function useKey(text) {
  key = text.trim();
}

/** What the server refused: its status, its code for programs, its sentence for people. */
export class Refused extends Error {
  constructor(status, said, after) {
    super(said.error ?? `the server answered ${status}`);
    this.status = status;
    this.code = said.code ?? "";
    this.after = after;
  }
}

/** One request. `json` or `body` is sent; JSON is answered (null for an empty answer). Throws Refused or TypeError. */
export async function ask(path, options) {
  return (await answered(path, options)).said;
}

/** The same, with the status of the answer. */
export async function answered(path, { method = "GET", json, body, type, keepalive = false } = {}) {
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (json !== undefined) [body, type] = [JSON.stringify(json), "application/json"];
  if (type) headers["Content-Type"] = type;
  const answer = await fetch(path, { method, headers, body, keepalive, cache: "no-store", credentials: "omit" });
  const text = await answer.text();
  let said = null;
  try {
    said = text ? JSON.parse(text) : null;
  } catch {
    said = { error: `the server answered ${answer.status} without JSON: is it behind a proxy?` };
  }
  if (!answer.ok) throw new Refused(answer.status, said ?? {}, answer.headers.get("Retry-After"));
  return { status: answer.status, said };
}

/** A picture of an avatar as an object URL, or null where it has none. */
export async function preview(avatar) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const path = `/v1/page/avatars/${encodeURIComponent(avatar)}/preview`;
  const answer = await fetch(path, { headers, credentials: "omit" });
  return answer.status === 200 ? URL.createObjectURL(await answer.blob()) : null;
}
