/* Typesets TeX with MathJax in node, no browser needed. `node mathematics.js FOLDER`, FOLDER being MathJax's own;
   stdin: {"macros": {...}, "formulas": [[tex, display], ...]}; stdout: {"rendered": [...], "css": "..."}, where
   an entry is {"html": ...} or {"error": ...}. The HTML carries MathML for screen readers. */
"use strict";

const folder = process.argv[2];
const { macros, formulas } = JSON.parse(require("fs").readFileSync(0, "utf-8"));

function rethrow(jax, error) {
    throw error;
}

async function typeset(MathJax) {
    const { adaptor } = MathJax.startup;
    const rendered = [];
    for (const [tex, display] of formulas) {
        try {
            rendered.push({ html: adaptor.outerHTML(await MathJax.tex2chtmlPromise(tex, { display })) });
        } catch (error) {
            rendered.push({ error: error.message });
        }
    }
    return { rendered, css: adaptor.textContent(MathJax.chtmlStylesheet()) };
}

require(`${folder}/node-main.js`)
    .init({
        loader: {
            load: ["input/tex", "output/chtml", "adaptors/liteDOM", "a11y/assistive-mml"],
            paths: { mathjax: folder },
            versionWarnings: false,
        },
        // what loads more of MathJax by name is left out: a formula may come from a stranger
        tex: { macros, packages: { "[-]": ["noundefined", "autoload", "require"] }, formatError: rethrow },
        chtml: { fontURL: "fonts" },
    })
    .then(typeset)
    .then((answer) => process.stdout.write(JSON.stringify(answer)));
