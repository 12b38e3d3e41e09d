// Random numbers from a seed: whole numbers, and the normal ones of starts and noise.

const QUANTILES = 1 << 16;

/** A stream of random 32-bit numbers (Doty-Humphrey's sfc32). The same seed gives the same stream. */
export function random(seed) {
  let [a, b, c, counter] = [0x9e3779b9, 0x243f6a88, seed | 0, 1];
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

/** A whole number from 0 to n - 1. */
export const below = (next, n) => Math.floor((next() / 2 ** 32) * n);

/** The array in a random order; it is shuffled in place. */
export function shuffled(next, array) {
  for (let i = array.length - 1; i > 0; i--) {
    const j = below(next, i + 1);
    [array[i], array[j]] = [array[j], array[i]];
  }
  return array;
}

/** The quantiles of a normal distribution cut at -cut and cut, scaled to a standard deviation of 1. */
function quantiles(cut) {
  const step = 1e-4;
  const density = (x) => Math.exp((-x * x) / 2);
  let total = 0;
  for (let x = -cut + step / 2; x < cut; x += step) total += density(x);
  const table = new Float32Array(QUANTILES);
  let [filled, sum, squares] = [0, 0, 0];
  for (let x = -cut + step / 2; filled < QUANTILES; x += step) {
    sum += density(x);
    while (filled < QUANTILES && (filled + 0.5) / QUANTILES <= sum / total + 1e-12) {
      table[filled++] = x;
      squares += x * x;
    }
  }
  return table.map((x) => x / Math.sqrt(squares / QUANTILES));
}

const TABLES = { noise: quantiles(5), starts: quantiles(2) };

/** Fills a Float32Array with normal numbers of this standard deviation. Those of "starts" are cut at two of them,
 * as in training; "noise" is not. Two numbers out of 65,536 possible ones come from every draw: a cheap draw counts,
 * since an iteration may need a million. */
export function fillNormal(next, array, use, std = 1) {
  const table = TABLES[use];
  for (let i = 0; i < array.length; i += 2) {
    const bits = next();
    array[i] = std * table[bits & 0xffff];
    if (i + 1 < array.length) array[i + 1] = std * table[bits >>> 16];
  }
  return array;
}
