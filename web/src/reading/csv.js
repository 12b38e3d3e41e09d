// Tables of puzzles with a header.

const QUESTION = ["question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "unsolved", "sudoku", "maze"];

/** The delimiter and columns of a header with a column of questions, and the index of that column; or null. */
export function questions(header) {
  for (const delimiter of ",;\t") {
    const names = header.split(delimiter).map((name) => name.trim().replace(/^["']+|["']+$/g, "").toLowerCase());
    const name = QUESTION.find((question) => names.includes(question));
    if (name && names.length > 1) return { delimiter, columns: names.length, index: names.indexOf(name) };
  }
  return null;
}

/** The rows of numbered lines: {number of the last line, fields}. A quoted field may go over lines. */
export function* rows(lines, delimiter) {
  let [fields, field, quoted, begun] = [[], "", false, false];
  for (const [number, text] of lines) {
    for (let i = 0; i < text.length; i++) {
      const c = text[i];
      if (quoted && c === '"' && text[i + 1] === '"') {
        field += c;
        i++;
      } else if (quoted ? c === '"' : c === '"' && field === "") {
        quoted = !quoted;
        begun = true;
      } else if (!quoted && c === delimiter) {
        fields.push(field);
        field = "";
        begun = true;
      } else {
        field += c;
        begun = true;
      }
    }
    if (quoted) {
      field += "\n";
      continue;
    }
    if (begun) yield { number, fields: [...fields, field] };
    [fields, field, begun] = [[], "", false];
  }
}
