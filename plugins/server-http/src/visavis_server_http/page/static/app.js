// The page: who is chosen, which room, what is said. Each part knows its own; this file joins them.

import { answered, ask, preview, Refused, useKey } from "./api.js";
import { Call, plain } from "./call.js";
import { audio, Meter } from "./sound.js";
import { ended, Microphone, recording } from "./speech.js";
import { $, avatars, chosen, enable, frame, moving, note, poster, pressed, say } from "./view.js";

const wish = new URLSearchParams(location.hash.slice(1) || location.search);
const page = { facts: null, rows: [], stills: new Map(), call: null, session: null, busy: false, microphone: null, agent: false };
const meter = new Meter($("meter"), (loud) => page.call?.face && frame(loud ? "speaking" : "live", badge(loud)));

// -- what can be done now

const name = () => page.rows.find((row) => row.id === (page.session?.avatar_id ?? chosen("avatar")))?.name || "the avatar";
const badge = (loud) => `${name()} ${loud ? "speaks" : "is here"}`;

function refresh() {
  const { facts, call, session, busy } = page;
  const able = Boolean(facts?.client.present) && !busy;
  enable(["start"], able && !session && Boolean(chosen("avatar")));
  enable(["join"], able && !call);
  enable(["leave"], Boolean(call));
  enable(["mute"], Boolean(call));
  enable(["file", "mic", "interrupt"], Boolean(call && (session || call.face)) && !busy);
  $("room-field").disabled = busy;
  $("room-field").hidden = $("join").hidden = Boolean(call);
  $("start").hidden = Boolean(session);
  $("setup").hidden = Boolean(session) && page.rows.filter((row) => !row.problem).length < 2; // nobody to change to
  $("locked").inert = Boolean(call);
  $("start").textContent = call ? `Bring ${name()} in` : `Start with ${name()}`;
  $("speech-title").textContent = `Make ${name()} speak`;
  poster(page.stills.get(chosen("avatar")));
}

/** Run what a button asks for; whatever goes wrong becomes one sentence. */
async function doing(action) {
  page.busy = true;
  refresh();
  try {
    await action();
  } catch (error) {
    complain(error);
  } finally {
    page.busy = false;
    refresh();
  }
}

function complain(error) {
  const later = error instanceof Refused && error.after ? ` Try again in ${error.after} s.` : "";
  const words = plain(error);
  say(`${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}${later}`, "problem");
  if (error instanceof Refused && error.status === 401) {
    $("locked").hidden = false;
    $("key").focus();
  }
}

// -- before a room

async function open() {
  const facts = (page.facts = await ask("/v1/page"));
  $("version").textContent = `visavis ${facts.version}`;
  $("missing").hidden = facts.client.present;
  $("remedy").textContent = facts.client.remedy;
  $("locked").hidden = !facts.guarded;
  $("room").value = wish.get("room") || `room-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
  if (!facts.mints) {
    document.querySelector('input[name="where"][value="there"]').checked = true;
    document.querySelector('input[name="where"][value="here"]').disabled = true;
    where();
  }
  if (facts.guarded) return say("Enter this server's API key to begin.");
  await list();
}

async function list() {
  page.rows = (await ask("/v1/avatars")).avatars;
  const first = avatars(page.rows, wish.get("avatar"), async (id) => {
    const address = await preview(id).catch(() => null);
    if (address) page.stills.set(id, address);
    refresh();
    return address;
  });
  if (!page.facts.client.present) say("The server runs, but this page cannot join rooms yet.", "problem");
  else if (first) say(`Press Start to meet ${first.name || first.id}.`);
}

function where() {
  const here = chosen("where") === "here";
  $("here").hidden = !here;
  $("there").hidden = here;
}

/** Where to connect as a viewer, and what the server needs to send the avatar to the same room. */
async function seat() {
  if (chosen("where") === "here") {
    const given = await ask("/v1/page/viewers", { method: "POST", json: { room_name: $("room").value.trim() } });
    return { url: given.livekit_url, token: given.token, room: given.room_name, invite: { room_name: given.room_name } };
  }
  const [url, token, other] = ["url", "token", "avatar-token"].map((id) => $(id).value.trim());
  if (!url || !token) throw new Error("give the LiveKit server's URL and a token for yourself");
  const room = roomOf(token);
  const invite = other ? { livekit_url: url, livekit_token: other } : { livekit_url: url, room_name: room };
  return { url, token, room, invite };
}

function roomOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(claims)).video.room;
  } catch {
    throw new Error("your token is not one of LiveKit's: it names no room");
  }
}

// -- in a room

async function join() {
  audio();
  frame("joining", "joining");
  say("Joining the room.");
  const place = await seat();
  const call = new Call({ video: $("video"), sounds: $("sounds") });
  listen(call);
  await call.join(place.url, place.token);
  call.invite = place.invite;
  call.room = place.room;
  page.call = call;
  frame("live", "in the room");
  say(`You are in the room ${place.room}.`);
  if (call.face) here(call); // it was there before us
  if (chosen("where") === "here") {
    const words = new URLSearchParams({ room: place.room, avatar: chosen("avatar") ?? "" });
    history.replaceState(null, "", `#${words}`);
  }
}

const at = (session) => `/v1/sessions/${encodeURIComponent(session.id)}`;

async function start() {
  if (!page.call) await join();
  frame("joining", `${name()} is coming`);
  const call = page.call;
  const json = { avatar_id: chosen("avatar"), ...call.invite };
  const { status, said: session } = await answered("/v1/sessions", { method: "POST", json });
  const mine = status === 201; // otherwise it was there, and is not ours to end
  if (page.call !== call) {
    if (mine) await ask(at(session), { method: "DELETE" }).catch(() => {});
    throw new Error("you are no longer in the room: do both tokens name the same identity?");
  }
  page.session = { ...session, mine };
  call.expect(session.avatar_identity);
  const { max_duration_s: most, idle_timeout_s: idle } = page.session.limits;
  if (most) note(`It lasts ${most} s at most.`);
  if (idle) note(`It ends after ${idle} s without speech.`);
}

function listen(call) {
  const on = (type, then) => call.addEventListener(type, ({ detail }) => then(detail));
  on("face", (identity) => (identity ? here(call) : gone(call)));
  on("sound", (track) => meter.add(track));
  on("blocked", (yes) => ($("unblock").hidden = !yes));
  on("facts", (facts) => told(facts));
  on("words", caption);
  on("heard", ({ started, playback_position: seconds, interrupted }) =>
    started ? note("Heard in the room.") : say(ended(seconds ?? 0, interrupted)));
  on("link", (state) => say(state === "connected" ? "Connected again." : "The connection is lost; trying again."));
  on("left", (why) => over(call, why));
}

function here(call) {
  if (page.call && page.call !== call) return;
  frame("live", badge(false));
  say(`${name()} is here. Choose a recording, or speak by microphone.`);
  refresh();
  scrollTo(0, 0); // on a phone the button was below the picture
}

let lastFacts = {};

function told(facts) {
  const [before, ends] = [lastFacts["visavis.ends_in_s"], facts["visavis.ends_in_s"]];
  lastFacts = facts;
  if (ends && ends !== before) say(`${name()} leaves in ${ends} s: ${facts["visavis.reason"] || "its time is over"}.`);
}

async function gone(call) {
  moving(false);
  if (call !== page.call) return;
  const [session, facts] = [page.session, lastFacts];
  const who = name();
  page.session = null;
  lastFacts = {};
  frame("idle", "in the room, alone");
  await quiet();
  refresh();
  const ended = session && (await ask(at(session)).catch(() => null));
  if (ended && !ended.ended_at) page.session = session; // its picture is gone, but it still runs
  say(`${who} left: ${ended?.error || ended?.reason || facts["visavis.reason"] || "no reason was given"}.`);
  refresh();
}

function over(call, why) {
  if (page.call !== call && page.call) return;
  const { session } = page;
  const meant = why === "client initiated";
  page.call = page.session = null;
  meter.clear();
  moving(false);
  $("unblock").hidden = true;
  $("caption").hidden = true;
  frame("idle", "not in a room");
  say(meant ? "You left the room." : `The connection to the room is lost${why ? `: ${why}` : ""}.`, meant ? "news" : "problem");
  if (session?.mine) ask(at(session), { method: "DELETE" }).catch(() => {}); // nobody is left to see it
  quiet();
  refresh();
}

async function leave() {
  const { call, session } = page;
  page.session = null;
  await quiet();
  if (session?.mine) await ask(at(session), { method: "DELETE" }).catch(complain);
  await call?.leave();
}

let hiding = 0;

function caption(words) {
  $("caption").textContent = words;
  $("caption").hidden = !words.trim();
  clearTimeout(hiding);
  hiding = setTimeout(() => ($("caption").hidden = true), 6000);
}

// -- speech

async function speak(file) {
  if (!file || $("file").disabled) return;
  try {
    const { session, call } = page;
    const sentence = await recording(file, { way: chosen("way"), session, call, tell: say });
    if (sentence) say(sentence);
  } catch (error) {
    complain(error);
  }
}

async function interrupt() {
  const { session, call } = page;
  if (session) await ask(`${at(session)}/interrupt`, { method: "POST" });
  else await call.interrupt();
  note("Interrupted.");
}

/** The microphone off, whoever heard it. */
async function quiet() {
  const [microphone, agent] = [page.microphone, page.agent];
  page.microphone = null;
  page.agent = false;
  pressed("mic", false, "Microphone");
  await microphone?.off();
  if (agent) await page.call?.voice(false).catch(() => {});
}

async function microphone() {
  if (page.microphone || page.agent) return quiet();
  try {
    if (chosen("ear") === "agent") {
      await page.call.voice(true);
      page.agent = true;
    } else {
      page.microphone = new Microphone(page.call);
      await page.microphone.on((error) => quiet().then(() => complain(error)));
    }
    pressed("mic", true, "Microphone is on");
    say(page.agent ? "An agent in the room hears you." : `${name()} says what you say.`);
  } catch (error) {
    await quiet();
    complain(error);
  }
}

async function swap() {
  refresh();
  if (!page.session) return;
  const { mine } = page.session;
  const changed = await ask(`${at(page.session)}/avatar`, { method: "PUT", json: { avatar_id: chosen("avatar") } });
  page.session = { ...changed, mine };
  say(`${name()} took over.`);
}

// -- buttons

$("setup").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(async () => {
    const joined = Boolean(page.call);
    try {
      await start();
    } catch (error) {
      if (page.call && !joined) await page.call.leave();
      frame(page.call ? "live" : "idle", page.call ? "in the room" : "not in a room");
      throw error;
    }
  });
});
$("join").addEventListener("click", () => doing(() => join().catch((error) => {
  frame("idle", "not in a room");
  throw error;
})));
$("leave").addEventListener("click", () => doing(leave));
$("interrupt").addEventListener("click", () => interrupt().catch(complain));
$("mic").addEventListener("click", microphone);
$("unblock").addEventListener("click", () => page.call?.unblock());
$("mute").addEventListener("click", () => {
  const muted = $("sounds").dataset.muted !== "true";
  $("sounds").dataset.muted = String(muted);
  for (const element of $("sounds").children) element.muted = muted;
  pressed("mute", muted, muted ? "Muted" : "Mute");
});
$("key").addEventListener("change", () => {
  useKey($("key").value);
  doing(list);
});
$("where").addEventListener("change", where);
$("avatars").addEventListener("change", () => swap().catch(complain));
$("file").addEventListener("change", () => {
  speak($("file").files[0]);
  $("file").value = "";
});
for (const type of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").toggleAttribute("data-over", type === "dragover");
    if (type === "drop") speak(event.dataTransfer.files[0]);
  });
}
$("video").addEventListener("playing", () => moving(true));
$("video").addEventListener("resize", () => {
  const { videoWidth: width, videoHeight: height } = $("video");
  if (width > 16) $("frame").parentElement.style.setProperty("--ratio", width / height);
});
addEventListener("pagehide", () => {
  if (page.session?.mine) ask(at(page.session), { method: "DELETE", keepalive: true }).catch(() => {});
});

doing(open);
