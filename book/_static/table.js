/* The scoreboard: sorting, a search, and filters that stand in the address (?part=...&verdict=...&check=...&text=...).
   Without this script the whole table stands there in its own order. */
"use strict";

const FILTERS = { part: "Part", verdict: "Verdict", check: "Check" };

function labelled(title, control) {
    const label = document.createElement("label");
    label.append(title, control);
    return label;
}

function addFilters(table, rows) {
    const asked = new URLSearchParams(location.search);
    const bar = document.createElement("form");
    bar.className = "table-filter";
    bar.setAttribute("role", "search");
    const controls = Object.entries(FILTERS).map(([key, title]) => {
        const select = document.createElement("select");
        select.name = key;
        select.add(new Option("all", ""));
        for (const value of new Set(rows.map((row) => row.dataset[key]))) select.add(new Option(value, value));
        bar.append(labelled(title, select));
        return select;
    });
    const search = document.createElement("input");
    search.type = "search";
    search.name = "text"; // "q" belongs to the search of the site
    bar.append(labelled("Text", search));
    controls.push(search);
    for (const control of controls) control.value = asked.get(control.name) ?? "";
    const count = document.createElement("output");
    const clear = document.createElement("button");
    clear.type = "reset";
    clear.textContent = "Show all";
    bar.append(count, clear);

    const texts = new Map(rows.map((row) => [row, `${row.id} ${row.textContent}`.toLowerCase()]));
    const show = () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        for (const row of rows) {
            const kept = Object.keys(FILTERS).every((key) => [row.dataset[key], ""].includes(bar.elements[key].value));
            row.hidden = !kept || words.some((word) => !texts.get(row).includes(word));
        }
        const shown = rows.filter((row) => !row.hidden).length;
        count.textContent = `${shown} of ${rows.length} rows`;
        clear.hidden = controls.every((control) => !control.value);
    };
    const changed = () => {
        show();
        const chosen = controls.filter((control) => control.value).map((control) => [control.name, control.value]);
        const query = new URLSearchParams(chosen).toString();
        history.replaceState(null, "", location.pathname + (query && `?${query}`) + location.hash);
    };
    bar.addEventListener("input", changed);
    bar.addEventListener("submit", (event) => event.preventDefault());
    bar.addEventListener("reset", () => setTimeout(changed));
    table.before(bar);
    show();
    if (controls.some((control) => control.value) && !location.hash) bar.scrollIntoView();
    /* the row of an address is shown, whatever the filters say */
    const reveal = () => {
        const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
        if (row && row.hidden) {
            bar.reset();
            setTimeout(() => row.scrollIntoView());
        }
    };
    addEventListener("hashchange", reveal);
    reveal();
}

/* numbers first and by size, then words */
function compare(a, b) {
    const [x, y] = [a, b].map((text) => (/^-?[\d.]/.test(text) ? parseFloat(text) : Infinity));
    return (x === y ? 0 : x - y) || a.localeCompare(b, "en", { numeric: true });
}

function addSorting(table, rows) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => {
            const down = head.getAttribute("aria-sort") === "ascending";
            for (const other of heads) other.removeAttribute("aria-sort");
            head.setAttribute("aria-sort", down ? "descending" : "ascending");
            const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.replace("#", "").trim()]));
            const sorted = [...rows].sort((a, b) => compare(texts.get(a), texts.get(b)));
            table.tBodies[0].append(...(down ? sorted.reverse() : sorted));
        });
    });
}

const table = document.getElementById("rows");
if (table && table.tBodies[0].rows.length) {
    const rows = [...table.tBodies[0].rows];
    addSorting(table, rows);
    addFilters(table, rows);
}
