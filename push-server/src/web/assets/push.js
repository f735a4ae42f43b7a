// Pages work without this. It adds four things: parts marked `data-live` are drawn anew when the server says that something
// changed; filters apply while one types; a plan counts the rows that are ticked; and `/` leads to the filter.
"use strict";

(() => {
  const live = () => document.querySelectorAll("[data-live]");

  // How long ago, in the same words as the server's.
  const words = (seconds) => {
    if (seconds < 0) return "0 s";
    if (seconds < 90) return `${seconds} s`;
    if (seconds < 5400) return `${Math.floor((seconds + 30) / 60)} min`;
    if (seconds < 129600) return `${Math.floor((seconds + 1800) / 3600)} h`;
    return `${Math.floor((seconds + 43200) / 86400)} d`;
  };

  const tick = () => {
    for (const time of document.querySelectorAll("time[data-ago], time[data-for]")) {
      const age = words(Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000));
      const text = time.hasAttribute("data-ago") ? `${age} ago` : age;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Servers that are ticked, whether or not the filter shows them: they are chosen with those that it shows.
  const chosen = new Set();
  const boxes = (part) => [...part.querySelectorAll("input[type=checkbox][name=server]")];
  document.addEventListener("change", ({ target }) => {
    if (!(target instanceof HTMLInputElement) || target.type !== "checkbox" || target.name !== "server") return;
    if (target.checked) chosen.add(target.value);
    else chosen.delete(target.value);
  });
  const tickAgain = (part) => {
    const shown = boxes(part);
    for (const box of shown) box.checked = chosen.has(box.value);
    const here = new Set(shown.map((box) => box.value));
    const hidden = [...chosen].filter((name) => !here.has(name));
    const actions = part.querySelector("form .actions");
    if (hidden.length === 0 || actions === null) return;
    const kept = document.createElement("p");
    kept.className = "kept";
    kept.append("Also selected:");
    for (const name of hidden) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "server", value: name, checked: true });
      label.append(box, ` ${name}`);
      kept.append(label);
    }
    actions.before(kept);
  };
  // A browser that comes back to a page ticks what was ticked.
  for (const box of boxes(document)) if (box.checked) chosen.add(box.value);

  // A plan's button says how many rows are ticked. Those that install the app, or are on hold, count if the box that says so is
  // ticked, or if there are no others.
  const count = (form) => {
    const boxes = (name) => [...form.querySelectorAll(`input[type=checkbox][name=${name}]`)];
    const ticked = (name) => boxes(name).filter((box) => box.checked).length;
    const alone = (name) => ["target", "install_target", "held_target"].every((other) => other === name || boxes(other).length === 0);
    const if_said = (box, name) => (ticked(box) > 0 || alone(name) ? ticked(name) : 0);
    const all = ticked("target") + if_said("install", "install_target") + if_said("held", "held_target");
    form.querySelector("[data-ticked]").textContent = `${all} server${all === 1 ? "" : "s"}`;
    form.querySelector("button[type=submit]").disabled = all === 0;
  };
  for (const place of document.querySelectorAll("[data-ticked]")) {
    count(place.closest("form"));
    place.closest("form").addEventListener("change", (event) => count(event.currentTarget));
  }

  // What somebody was doing in a part of the page: it must survive the part being drawn anew.
  const remember = (part) => {
    const ticked = [...part.querySelectorAll("input[type=checkbox]:checked:not([name=server])")].map((box) => box.value);
    const typed = [...part.querySelectorAll("input[type=text][id]")].map((input) => [input.id, input.value]);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const same = (element) =>
      focused !== null &&
      element.tagName === focused.tagName &&
      element.getAttribute("href") === focused.getAttribute("href") &&
      element.getAttribute("value") === focused.getAttribute("value") &&
      element.textContent === focused.textContent;
    return () => {
      for (const box of part.querySelectorAll("input[type=checkbox]:not([name=server])")) box.checked = ticked.includes(box.value);
      for (const [id, text] of typed) {
        const input = document.getElementById(id);
        if (input !== null) input.value = text;
      }
      tickAgain(part);
      if (focused !== null) [...part.querySelectorAll("a, button, input")].find(same)?.focus({ preventScroll: true });
    };
  };

  const put = (fresh) => {
    for (const part of live()) {
      const other = fresh.getElementById(part.id);
      if (other === null) continue;
      // Times differ on every drawing: what they are times of decides whether anything changed.
      if (still(part) === still(other)) continue;
      const restore = remember(part);
      part.replaceChildren(...document.importNode(other, true).childNodes);
      restore();
    }
    tick();
  };

  const still = (part) => {
    const copy = part.cloneNode(true);
    for (const time of copy.querySelectorAll("time")) time.textContent = "";
    copy.querySelector(".kept")?.remove();
    return copy.innerHTML;
  };

  let wanted = null;
  const draw = async (address) => {
    wanted?.abort();
    const mine = (wanted = new AbortController());
    try {
      const response = await fetch(address, { signal: mine.signal, credentials: "same-origin" });
      // A page that says what is wrong has the frame's parts all the same.
      if (!response.headers.get("content-type")?.startsWith("text/html")) return;
      put(new DOMParser().parseFromString(await response.text(), "text/html"));
    } catch {
      // Out of reach, or overtaken by a newer one: what is shown stays until the next change.
    }
  };

  // Follows the server's word that something changed. Hidden pages wait until they are looked at.
  let stale = false;
  const refresh = () => {
    if (document.hidden) stale = true;
    else void draw(location.href);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && stale) {
      stale = false;
      refresh();
    }
  });

  const follow = () => {
    // What has changed since the page was drawn is told at once.
    const source = new EventSource(`/events?seen=${document.body.dataset.seen}`);
    let lost = false;
    source.addEventListener("change", refresh);
    source.addEventListener("read", (event) => {
      const time = document.querySelector("#freshness time");
      if (time !== null && event.data !== "") time.dateTime = event.data;
      tick();
    });
    source.addEventListener("open", () => {
      if (lost) refresh();
      lost = false;
    });
    source.addEventListener("error", () => {
      lost = true;
      // The browser tries again by itself unless the server refused.
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000 + Math.random() * 5000);
    });
  };

  // Filters apply while one types; the address keeps up, so that it can be sent to somebody.
  let pause = 0;
  const filter = (input) => {
    const query = new URLSearchParams(new FormData(input.form));
    for (const [key, value] of [...query]) if (value === "") query.delete(key, value);
    // What is ticked is kept here, on the page of servers; on that of a choice the servers are what it is for.
    if (location.pathname === "/servers") query.delete("server");
    const address = `${location.pathname}${query.size > 0 ? `?${query}` : ""}`;
    history.replaceState(null, "", address);
    void draw(address);
  };
  document.addEventListener("input", (event) => {
    if (!(event.target instanceof HTMLInputElement) || !event.target.hasAttribute("data-filter")) return;
    clearTimeout(pause);
    pause = setTimeout(filter, 150, event.target);
  });

  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.closest("input, textarea, select") !== null;
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const input = document.querySelector("[data-filter]");
    if (input === null) return;
    event.preventDefault();
    input.focus();
    input.select();
  });

  setInterval(tick, 1000);
  if (live().length > 0) follow();
})();
