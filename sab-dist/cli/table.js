/** Select Graphic Rendition, ECMA-48 8.3.117. */
const SGR = { red: '31', green: '32', yellow: '33', bold: '1', plain: '' };
const GAP = '  ';
export function painter(output, env) {
    const isColoured = output.isTerminal && (env['NO_COLOR'] ?? '') === '';
    return (text, colour) => (isColoured && colour !== 'plain' ? `\x1b[${SGR[colour]}m${text}\x1b[0m` : text);
}
/** One line per row under a line of headings, each ending with a newline. Control characters are shown as "?". */
export function renderTable(columns, rows, paint) {
    const cells = [
        columns.map(({ heading }) => ({ text: heading, colour: 'bold' })),
        ...rows.map((row) => row.map((cell) => (typeof cell === 'string' ? plain(cell) : cell))),
    ];
    const widths = columns.map((_, index) => Math.max(...cells.map((row) => width(row[index]?.text ?? ''))));
    const lines = cells.map((row) => columns
        .map(({ align }, index) => {
        const { text, colour } = row[index] ?? plain('');
        const shown = printable(text);
        const padding = ' '.repeat((widths[index] ?? 0) - width(text));
        return align === 'right' ? padding + paint(shown, colour) : paint(shown, colour) + padding;
    })
        .join(GAP)
        .trimEnd());
    return `${lines.join('\n')}\n`;
}
/** Names come from other machines: an escape sequence among them must not reach the terminal. */
export function printable(text) {
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}
/** The state of a group or volume, or a grade: what is well is green, what is lost or away is red. */
export function stateCell(state) {
    if (state === 'protected' || state === 'ordered')
        return { text: state, colour: 'green' };
    const isBad = state === 'disconnected' || state === 'damaged' || state === 'gap';
    return { text: state, colour: isBad ? 'red' : 'yellow' };
}
function plain(text) {
    return { text, colour: 'plain' };
}
/** Characters, not UTF-16 units. */
function width(text) {
    return Array.from(text).length;
}
//# sourceMappingURL=table.js.map