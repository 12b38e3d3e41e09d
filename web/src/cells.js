// Names of cells, for sentences.

/** Names the first three of some cells, as in "row 1 column 2". */
export function cellNames(cells, size) {
  const names = cells.slice(0, 3).map((cell) => `row ${Math.floor(cell / size) + 1} column ${(cell % size) + 1}`);
  return names.join(", ") + (cells.length > 3 ? ` and ${cells.length - 3} more` : "");
}
