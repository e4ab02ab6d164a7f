"use strict";
// What the page does beyond being read: sorting, two views of a table, values on pointing, drawings as files,
// and a search of the captions. All of it is added here, so that nothing is offered that would not work.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, attributes, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };

  // Views of a table as tabs: arrows move between them, as the ARIA pattern has it.
  all(".views").forEach((views, number) => {
    const panels = all(":scope > .view", views);
    const list = make("div", { role: "tablist", class: "tabs", "aria-label": views.dataset.label });
    const tabs = panels.map((panel, place) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${number}-${place}` }, panel.dataset.name);
      panel.id = `view-${number}-${place}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      tab.setAttribute("aria-controls", panel.id);
      tab.addEventListener("click", () => choose(place));
      list.append(tab);
      return tab;
    });
    const choose = (chosen) => tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      panels[place].hidden = place !== chosen;
    });
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
      event.preventDefault();
    });
    views.prepend(list);
    choose(0);
  });

  // Sorting: rising, falling, then as it was; within each group, and what has no number comes last.
  const keyOf = (row, place) => {
    const cell = row.cells[place];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return place === 0 ? cell.textContent.trim() : NaN;
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : a - b;
  };
  all("table.numbers").forEach((table) => {
    const bodies = all("tbody", table).map((body) => [body, all("tr:not(.group)", body)]);
    const heads = all("thead th", table);
    heads.forEach((head, place) => {
      const numeric = bodies.some(([, rows]) => rows.some((row) => !Number.isNaN(keyOf(row, place))));
      if (!numeric || !head.textContent.trim()) return;
      const button = make("button", { type: "button", class: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        for (const [body, rows] of bodies) {
          const sorted = order ? [...rows].sort((a, b) => {
            const keys = [keyOf(a, place), keyOf(b, place)];
            return compare(...keys) * (keys.some(Number.isNaN) ? 1 : sign);
          }) : rows;
          body.append(...sorted);
        }
      });
    });
  });

  // Values: the disc under the pointer, or with a figure in focus the one that the arrows lead to.
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  const tell = (disc) => {
    const place = disc.getBoundingClientRect();
    tip.textContent = disc.dataset.told;
    tip.hidden = false;
    const left = Math.min(place.right + 4, document.documentElement.clientWidth - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(4, left) + scrollX}px`;
    tip.style.top = `${Math.max(4, place.top - tip.offsetHeight - 2) + scrollY}px`;
  };
  all("figure").forEach((figure) => {
    const drawing = figure.querySelector("svg");
    const discs = all(".points circle", drawing);
    let place = -1;
    discs.forEach((disc) => {
      disc.dataset.told = disc.textContent;
      disc.replaceChildren();  // or browsers would show it a second time
      disc.addEventListener("pointerenter", () => tell(disc));
      disc.addEventListener("pointerleave", () => { tip.hidden = true; });
    });
    if (discs.length) {
      drawing.tabIndex = 0;
      drawing.addEventListener("blur", () => { tip.hidden = true; });
      drawing.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (event.key === "Escape") tip.hidden = true;
        if (!step) return;
        place = (place + step + discs.length) % discs.length;
        tell(discs[place]);
        event.preventDefault();
      });
    }
    const button = make("button", { type: "button", class: "get" }, "SVG");
    button.setAttribute("aria-label", `${figure.dataset.heading} as SVG`);
    button.addEventListener("click", () => save(`${figure.dataset.name}.svg`, alone(figure), "image/svg+xml"));
    figure.querySelector("figcaption").append(" ", button);
  });

  // A drawing as a file of its own: colours in place of the page's variables, its heading and a ground.
  const alone = (figure) => {
    const drawing = figure.querySelector("svg").cloneNode(true);
    const look = getComputedStyle(document.documentElement);
    const [left, top, width, height] = drawing.getAttribute("viewBox").split(/\s+/).map(Number);
    drawing.setAttribute("viewBox", `${left} ${top - 22} ${width} ${height + 22}`);
    drawing.removeAttribute("tabindex");
    for (const disc of all(".points circle", drawing)) {
      const title = document.createElementNS(drawing.namespaceURI, "title");
      title.textContent = disc.dataset.told;
      disc.append(title);
      delete disc.dataset.told;
    }
    const text = new XMLSerializer().serializeToString(drawing);
    const heading = make("p", {}, figure.dataset.heading).innerHTML;
    const ground =
      '<style>text{font-family:system-ui,"Liberation Sans",sans-serif}</style>' +
      `<rect y="${top - 22}" width="100%" height="100%" fill="var(--page)"/>` +
      `<text x="8" y="-7" font-size="13" font-weight="600" fill="var(--ink)">${heading}</text>`;
    const end = text.indexOf(">") + 1;
    return (text.slice(0, end) + ground + text.slice(end)).replace(/var\((--[\w-]+)\)/g, (_, name) =>
      look.getPropertyValue(name).trim());
  };
  const save = (name, text, type) => {
    const address = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };

  // Captions: those that hold the words, of the method, of the kind; what is folded opens while searching.
  const explorer = document.querySelector(".explorer");
  if (explorer) {
    const [words, run, which] = all("input, select", explorer);
    const answers = all("#gallery .answer").map((answer) => [answer, answer.textContent.toLowerCase()]);
    const filter = () => {
      const wanted = words.value.trim().toLowerCase();
      const active = Boolean(wanted || run.value || which.value);
      let count = 0;
      for (const [answer, text] of answers) {
        const shown = text.includes(wanted) && (!run.value || answer.dataset.run === run.value) &&
          (!which.value || which.value in answer.dataset);
        answer.hidden = !shown;
        count += shown;
      }
      for (const part of all("#gallery .exhibit, #gallery details")) {
        part.hidden = !part.querySelector(".answer:not([hidden])");
        if (part.tagName === "DETAILS") part.open = active;
      }
      explorer.querySelector("output").textContent = active ? `${count} of ${answers.length} answers` : "";
    };
    for (const field of [words, run, which]) field.addEventListener("input", filter);
    explorer.hidden = false;
  }
})();
