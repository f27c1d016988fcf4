/* Two repairs for people who read with a keyboard or a screen reader. */
"use strict";

const BOXES = "div.math, mjx-container[display], .pst-scrollable-table-container, .figure-scroll, div.cell_output .text_html";

/* Whatever scrolls inside its own box can be scrolled from the keyboard. */
function markScrollable() {
    for (const box of document.querySelectorAll(BOXES)) {
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
    }
}

/* Sphinx calls the bibliography a list and gives its entries a role that is no list item. */
for (const entry of document.querySelectorAll("div.citation-list > .citation")) entry.setAttribute("role", "listitem");

window.addEventListener("load", () => {
    markScrollable();
    window.addEventListener("resize", markScrollable);
});
