// How far trajectories have settled, as evaluation/trajectory.py defines it.
// A row is a trajectory. Its logits stand cell by cell: cell * vocabulary + token.

/** The convergence score averages so many residuals. An answer has settled if it did not change for so long. */
export const WINDOW = 3;

/** How far an answer moved: the L2 norm over the vocabulary of the logits' change, mean over the cells. */
export function residual(logits, before, vocabulary) {
  let total = 0;
  for (let first = 0; first < logits.length; first += vocabulary) {
    let squares = 0;
    for (let i = first; i < first + vocabulary; i++) squares += (logits[i] - before[i]) ** 2;
    total += Math.sqrt(squares);
  }
  return total / (logits.length / vocabulary);
}

/** The mean of the last WINDOW residuals; NaN of iterations without one do not count. Lower is better. */
export function convergenceScore(residuals) {
  const last = residuals.slice(-WINDOW).filter((value) => !Number.isNaN(value));
  return last.reduce((sum, value) => sum + value, 0) / last.length;
}

/** The row with the lowest score. NaN comes last, ties go to the earlier. */
export function bestConverged(scores) {
  const rank = scores.map((score) => (Number.isNaN(score) ? Infinity : score));
  return rank.indexOf(Math.min(...rank));
}

/** The most likely token of each cell. Of equal ones, the first. */
export function answer(logits, vocabulary) {
  return Array.from({ length: logits.length / vocabulary }, (_, cell) => {
    let best = 0;
    for (let v = 1; v < vocabulary; v++) {
      if (logits[cell * vocabulary + v] > logits[cell * vocabulary + best]) best = v;
    }
    return best;
  });
}

/** The model's probability of every token in every cell: stablemax, which the shipped models are trained with. */
export function probabilities(logits, vocabulary) {
  const p = Float32Array.from(logits, (x) => (x >= 0 ? x + 1 : 1 / (1 - x)));
  for (let first = 0; first < p.length; first += vocabulary) {
    let sum = 0;
    for (let i = first; i < first + vocabulary; i++) sum += p[i];
    for (let i = first; i < first + vocabulary; i++) p[i] /= sum;
  }
  return p;
}

/** The model's own belief that its answer is right. */
export const confidence = (qHalt) => 1 / (1 + Math.exp(-qHalt));
