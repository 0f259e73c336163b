// Labels of a galaxy: a click gives a label, a click on the current label withdraws it.
import { element, say } from "./dom.js";

// As in `cubescout label`, which reads them: numbers, true and false would count as detections.
const isWord = (label) => Number.isNaN(Number(label)) && !/^(true|false|[+-]?(nan|inf|infinity))$/i.test(label);

export function labelBar(survey, plateifu) {
  const bar = element("div", { class: "labels", role: "group", "aria-label": `Label of ${plateifu}` });
  const give = async (label) => {
    const withdrawn = survey.labels[plateifu] === label;
    try {
      survey.setLabels(await survey.source.addLabel(plateifu, withdrawn ? "" : label));
      const kept = survey.source.volatile ? ", kept in this tab only" : survey.source.exported ? ", kept in this browser" : "";
      // In a file, the label of the workspace comes back.
      const now = survey.labels[plateifu];
      say(withdrawn ? `${plateifu}: ${now ? `${now} again, as in the workspace` : "label withdrawn"}` : `${plateifu}: ${label}${kept}`);
    } catch (error) {
      say(error.message, true);
    }
    draw();
  };
  const draw = () => {
    const choices = survey.columns.get("label").categories;
    const had = bar.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    const own = element("form", { onsubmit: (event) => {
      event.preventDefault();
      const label = event.target.elements.label.value.trim();
      if (label && !isWord(label)) say(`The label is ${label}, expected a word such as artefact`, true);
      else if (label) give(label);
    } }, element("input", { name: "label", placeholder: "other label", "aria-label": "Another label", maxlength: 100, autocomplete: "off" }));
    bar.replaceChildren(element("span", { class: "soft" }, "Label"), ...choices.map((label, i) => element("button", {
      type: "button", class: "chip", "data-label": label, "aria-pressed": String(survey.labels[plateifu] === label), onclick: () => give(label),
      title: i < 9 ? `Key ${i + 1}` : undefined,
    }, label)), own);
    if (had) bar.querySelector(`[data-label="${CSS.escape(had)}"]`)?.focus();
  };
  draw();
  return bar;
}
