/** Aligned tables and colour for people. */
import type { Output, Surroundings } from './surroundings.js';

export type Colour = 'red' | 'green' | 'yellow' | 'bold' | 'plain';
/** Select Graphic Rendition, ECMA-48 8.3.117. */
const SGR: Readonly<Record<Colour, string>> = { red: '31', green: '32', yellow: '33', bold: '1', plain: '' };
const GAP = '  ';

export interface Cell {
  text: string;
  colour: Colour;
}
export interface Column {
  heading: string;
  align: 'left' | 'right';
}

/** Colours text, or leaves it alone when `output` is no terminal or NO_COLOR is set (no-color.org). */
export type Paint = (text: string, colour: Colour) => string;

export function painter(output: Output, env: Surroundings['env']): Paint {
  const isColoured = output.isTerminal && (env['NO_COLOR'] ?? '') === '';
  return (text, colour) => (isColoured && colour !== 'plain' ? `\x1b[${SGR[colour]}m${text}\x1b[0m` : text);
}

/** One line per row under a line of headings, each ending with a newline. Control characters are shown as "?". */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (string | Cell)[][],
  paint: Paint,
): string {
  const cells = [
    columns.map(({ heading }): Cell => ({ text: heading, colour: 'bold' })),
    ...rows.map((row) => row.map((cell) => (typeof cell === 'string' ? plain(cell) : cell))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => width(row[index]?.text ?? ''))));
  const lines = cells.map((row) =>
    columns
      .map(({ align }, index) => {
        const { text, colour } = row[index] ?? plain('');
        const shown = printable(text);
        const padding = ' '.repeat((widths[index] ?? 0) - width(text));
        return align === 'right' ? padding + paint(shown, colour) : paint(shown, colour) + padding;
      })
      .join(GAP)
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** Names come from other machines: an escape sequence among them must not reach the terminal. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

/** The state of a group or volume, or a grade: what is well is green, what is lost or away is red. */
export function stateCell(state: string): Cell {
  if (state === 'protected' || state === 'ordered') return { text: state, colour: 'green' };
  const isBad = state === 'disconnected' || state === 'damaged' || state === 'gap';
  return { text: state, colour: isBad ? 'red' : 'yellow' };
}

function plain(text: string): Cell {
  return { text, colour: 'plain' };
}

/** Characters, not UTF-16 units. */
function width(text: string): number {
  return Array.from(text).length;
}
