// The race: a lane for every start, which fills as the start settles. A lane can be chosen.

/** How settled starts are in the picture, from 0 (as far as ever) to 1, given residuals [start][iteration]. */
function settled(residuals) {
  const logs = residuals.map((values) => values.map(Math.log));
  const known = logs.flat().filter(Number.isFinite);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return logs.map((values) => values.map((value) => (Number.isFinite(value) && high > low ? (high - value) / (high - low) : 0)));
}

/** Lanes in `element`. `pick(start)` hears which one a person chooses. */
export class Lanes {
  constructor(element, pick) {
    this.element = element;
    element.addEventListener("change", (event) => pick(+event.target.value));
  }

  /** Makes lanes for so many starts and iterations. */
  use(starts, depth) {
    this.lanes = Array.from({ length: starts }, (_, start) => {
      const lane = document.createElement("label");
      lane.className = `lane start-${start}`;
      const choice = Object.assign(document.createElement("input"), { type: "radio", name: "start", value: start });
      const name = Object.assign(document.createElement("span"), { className: "name", textContent: `Start ${start + 1}` });
      const strip = Object.assign(document.createElement("span"), { className: "strip" });
      strip.append(...Array.from({ length: depth }, () => document.createElement("i")));
      const state = Object.assign(document.createElement("span"), { className: "state" });
      lane.append(choice, name, strip, state);
      return { lane, choice, strip, state };
    });
    this.element.replaceChildren(...this.lanes.map(({ lane }) => lane));
  }

  /** Draws residuals [start][iteration] and, for the iteration shown, which starts are right (since when, or 0). */
  draw(residuals, rightSince, shown, iteration) {
    const calm = settled(residuals);
    this.lanes.forEach(({ choice, strip, state, lane }, start) => {
      choice.checked = start === shown;
      [...strip.children].forEach((cell, i) => {
        const there = i < iteration;
        cell.style.setProperty("--v", there ? (0.12 + 0.88 * calm[start][i]).toFixed(2) : "0");
        cell.className = there && rightSince[start] && i + 1 >= rightSince[start] ? "right" : "";
      });
      lane.classList.toggle("is-right", rightSince[start] > 0);
      const value = residuals[start][iteration - 1];
      const words = rightSince[start] ? `right since ${rightSince[start]}` : value >= 0 ? value.toFixed(1) : "";
      if (state.textContent !== words) state.textContent = words;
    });
  }
}
