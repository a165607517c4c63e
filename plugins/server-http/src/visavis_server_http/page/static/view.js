// What is on the page, and nothing about rooms or sessions.

export const $ = (id) => document.getElementById(id);

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Say a sentence under the picture (read out by screen readers) and keep it in the journal. */
export function say(sentence, kind = "news") {
  $("status").textContent = sentence;
  $("status").dataset.kind = kind;
  note(sentence);
}

/** Keep a sentence in the journal alone. */
export function note(sentence) {
  const line = document.createElement("li");
  line.textContent = `${clock.format(new Date())}  ${sentence}`;
  $("log").append(line);
  while ($("log").childElementCount > 200) $("log").firstElementChild.remove();
}

/** The frame's state (idle, joining, live, speaking) and the words on its badge. */
export function frame(state, words) {
  $("frame").dataset.state = state;
  $("badge").textContent = words;
}

/** Show the avatar's moving picture, or its still. */
export function moving(on) {
  $("video").hidden = !on;
}

export function poster(address) {
  $("poster").hidden = !address;
  if (address) $("poster").src = address;
}

export function enable(ids, on) {
  for (const id of ids) $(id).disabled = !on;
}

export function pressed(id, on, words) {
  $(id).setAttribute("aria-pressed", String(on));
  $(id).textContent = words;
}

/** Which radio of a group is chosen. */
export function chosen(name) {
  return document.querySelector(`input[name="${name}"]:checked`)?.value ?? null;
}

/** The list of avatars: those that work as choices, those that do not with their reasons. */
export function avatars(rows, wanted, picture) {
  const good = rows.filter((row) => !row.problem);
  const bad = rows.filter((row) => row.problem);
  const first = good.find((row) => row.id === wanted) ?? good[0];
  const names = good.map((row) => row.name);
  const shown = (row) => (names.filter((name) => name === row.name).length > 1 ? `${row.name} (${row.id})` : row.name) || row.id;
  $("avatars").replaceChildren(...good.map((row) => choice(row, shown(row), row === first, picture)));
  if (!good.length) $("avatars").textContent = "There is none. Put .hvia files into the server's folder of avatars.";
  $("broken").hidden = !bad.length;
  const count = bad.length === 1 ? "1 file cannot be used" : `${bad.length} files cannot be used`;
  $("broken").querySelector("summary").textContent = count;
  $("broken").querySelector("ul").replaceChildren(...bad.map((row) => {
    const line = document.createElement("li");
    line.textContent = `${row.id}: ${row.problem}`;
    return line;
  }));
  return first ?? null;
}

function choice(row, words, checked, picture) {
  const label = Object.assign(document.createElement("label"), { title: `${words}: ${row.id}.hvia` });
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", value: row.id, checked });
  const name = Object.assign(document.createElement("span"), { textContent: words });
  const letter = Object.assign(document.createElement("b"), { textContent: words.slice(0, 1).toUpperCase() });
  letter.ariaHidden = "true";
  label.append(radio, letter, name);
  picture(row.id).then((address) => {
    if (address) letter.replaceWith(Object.assign(document.createElement("img"), { src: address, alt: "" }));
  });
  return label;
}
