/* Figures with a slider (symlib/interactive.py): what moves has one path or text for each position. */
"use strict";

for (const box of document.querySelectorAll(".interactive")) {
    const states = JSON.parse(box.querySelector("script").textContent);
    const moving = box.querySelectorAll("[data-moves]");
    const slider = box.querySelector("input");
    const button = box.querySelector("[data-play]");
    const last = Number(slider.max);
    let timer = null;

    function show(frame) {
        slider.value = frame;
        moving.forEach((element, i) => {
            if (element.tagName === "path") element.setAttribute("d", states[i][frame]);
            else element.textContent = states[i][frame];
        });
        const told = [...box.querySelectorAll(".numbers > span")].map((e) => e.textContent.trim());
        slider.setAttribute("aria-valuetext", told.join(", "));
    }

    function stop() {
        clearInterval(timer);
        timer = null;
        button.textContent = "Play";
    }

    function play() {
        if (slider.valueAsNumber === last) show(0);
        button.textContent = "Pause";
        timer = setInterval(() => {
            show(slider.valueAsNumber + 1);
            if (slider.valueAsNumber === last) stop();
        }, Math.max(60, 8000 / last));
    }

    slider.addEventListener("input", () => {
        if (timer) stop();
        show(slider.valueAsNumber);
    });
    if (button) button.addEventListener("click", () => (timer ? stop() : play()));
    box.querySelector(".controls").hidden = false;
    show(slider.valueAsNumber);
}
